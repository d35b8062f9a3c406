/* sendloop: the floor of fan-out: one send() of a ready frame for each subscriber, and nothing else.
 *
 * It says "publishing on PORT" and "ready on PORT". Whoever connects to the latter and sends a request has a
 * WebSocket, is told "subscribed" and hears everything; what it sends is ignored. "ts\n" on the former makes
 * an event of about 200 bytes. It verifies nothing, and what a subscriber's kernel does not take is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536

enum { NEW = 1, SUBSCRIBER, PUBLISHER };
static int state[MOST], subscribers[MOST], n_subscribers, ep;

static void die(const char *what) {
    fprintf(stderr, "sendloop: %s (%s)\n", what, strerror(errno));
    exit(1);
}
static int listen_on_any(const char *what) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    if (bind(fd, (void *)&at, size) || listen(fd, 4096) || getsockname(fd, (void *)&at, &size)) die(what);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    printf("%s on %d\n", what, ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}
static void accept_all(int listener, int as) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= MOST) die("too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        state[fd] = as;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}
static void drop(int fd) {
    for (int i = 0; i < n_subscribers; i++)
        if (subscribers[i] == fd) {
            subscribers[i] = subscribers[--n_subscribers];
            break;
        }
    state[fd] = 0;
    close(fd);
}
static void put(int fd, const void *p, size_t size) {
    if (send(fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size) die("send");
}
static void publish(unsigned long long stamp) {
    static unsigned number;
    char frame[512];
    number++;
    int size = snprintf(frame + 4, sizeof frame - 4,
        "{\"event\":\"bench_published\",\"data\":{\"ts\":%llu,\"publishedBy\":\"bench\",\"timestamp\":"
        "\"2026-01-01T00:00:00.000Z\"},\"namespace\":\"/real-time\",\"broadcast\":true,\"id\":\"e-%07u\","
        "\"topic\":\"episode:%07u\",\"offset\":1,\"epoch\":\"bench\"}", stamp, number, number);
    frame[0] = (char)0x81;
    frame[1] = 126;
    frame[2] = (char)(size >> 8);
    frame[3] = (char)size;
    for (int i = 0; i < n_subscribers; i++) put(subscribers[i], frame, size + 4);
}
static void on_readable(int fd) {
    static char in[4096], line[64];
    static size_t have;
    ssize_t got = recv(fd, in, sizeof in, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(fd);
        return;
    }
    if (state[fd] == PUBLISHER) {
        for (ssize_t i = 0; i < got; i++)
            if (in[i] == '\n') {
                line[have] = 0;
                have = 0;
                publish(strtoull(line, NULL, 10));
            } else if (have < sizeof line - 1) line[have++] = in[i];
    } else if (state[fd] == NEW) {
        /* The load generator always sends the same key, and does not look at the answer to it. */
        static const char answer[] =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x0asubscribed";
        put(fd, answer, sizeof answer - 1);
        state[fd] = SUBSCRIBER;
        subscribers[n_subscribers++] = fd;
    }
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(EPOLL_CLOEXEC);
    int publishing = listen_on_any("publishing"), ready = listen_on_any("ready");
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(ep, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == publishing) accept_all(fd, PUBLISHER);
            else if (fd == ready) accept_all(fd, NEW);
            else on_readable(fd);
        }
    }
}
