/* restload: HTTP/1.1 keep-alive requests to 127.0.0.1 from one thread; prints one JSON object.
 *
 *   restload -p PORT [-m METHOD] [-u PATH] [-b BODY] [-H 'Name: value']…
 *            [-c CONNECTIONS] [-d SECONDS] [-r RATE]
 *
 * Closed loop: each connection sends its next request when it has its answer. With -r, open loop: RATE
 * requests a second whatever the server does, on whichever connection is idle; latency counts from the tick.
 * %N in the path and the body is the number of the request. Times are in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd;
    bool busy, dead;
    char *buf;
    size_t len, cap;
    double since;
} conn;

static int port, epfd, timer = -1, n_conns = 1;
static const char *method = "GET", *url = "/", *body;
static char headers[8192];
static double duration = 5, rate, t_stop;
static long sent, ok, refused, errors, in_window;
static conn *conns;
static struct { double *v; size_t n, cap; } latencies;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
static void die(const char *what) {
    fprintf(stderr, "restload: %s (%s)\n", what, strerror(errno));
    exit(1);
}
static void *grow(void *p, size_t n) {
    if (!(p = realloc(p, n))) die("memory");
    return p;
}
static void note(double seconds) {
    if (latencies.n == latencies.cap)
        latencies.v = grow(latencies.v, (latencies.cap = latencies.cap * 2 + 4096) * sizeof(double));
    latencies.v[latencies.n++] = seconds;
}
static int ascending(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return (x > y) - (x < y);
}
static double percentile(double q) {
    return latencies.n ? latencies.v[(size_t)(q * (latencies.n - 1) + 0.5)] * 1e3 : 0;
}

static void dial(conn *c) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->len = 0;
    c->busy = false;
    if ((c->dead = c->fd < 0 || connect(c->fd, (void *)&to, sizeof to) < 0)) return;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &e);
}
/* The peer has closed: that is its right while nothing is asked of it. */
static void lose(conn *c) {
    close(c->fd);
    errors += c->busy;
    dial(c);
}
static size_t expand(char *to, size_t cap, const char *from) {
    size_t n = 0;
    for (; *from; from++) {
        if (n + 32 >= cap) die("the request is too long");
        if (from[0] == '%' && from[1] == 'N') n += sprintf(to + n, "%ld", sent), from++;
        else to[n++] = *from;
    }
    to[n] = 0;
    return n;
}
static void fire(conn *c, double since) {
    static char request[65536], path[4096], content[32768];
    expand(path, sizeof path, url);
    size_t n = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s",
                        method, path, port, headers);
    if (body)
        n += snprintf(request + n, sizeof request - n,
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      expand(content, sizeof content, body));
    n += snprintf(request + n, sizeof request - n, "\r\n%s", body ? content : "");
    sent++;
    c->since = since;
    c->busy = true;
    /* Requests are small: a full socket buffer is a failure. */
    if (send(c->fd, request, n, MSG_NOSIGNAL) != (ssize_t)n) lose(c);
}

/* Length of the first whole response in the buffer, 0 while there is more to come. Ours are not chunked. */
static size_t whole(conn *c, int *status, bool *closing) {
    char *end = memmem(c->buf, c->len, "\r\n\r\n", 4);
    size_t length = 0;
    if (!end || c->len < 12) return 0;
    *status = atoi(c->buf + 9);
    *closing = false;
    for (char *p = memchr(c->buf, '\n', end - c->buf); p && p < end; p = memchr(p, '\n', end - p)) {
        p++;
        if (!strncasecmp(p, "content-length:", 15)) length = atol(p + 15);
        else if (!strncasecmp(p, "connection: close", 17)) *closing = true;
    }
    length += end + 4 - c->buf;
    return c->len >= length ? length : 0;
}
static void on_answer(conn *c, double t) {
    int status;
    bool closing;
    size_t n;
    while ((n = whole(c, &status, &closing))) {
        if (status / 100 == 2) ok++;
        else if (!refused++)
            fprintf(stderr, "restload: first refusal: %.*s\n", (int)(n < 600 ? n : 600), c->buf);
        note(t - c->since);
        in_window += t <= t_stop;
        memmove(c->buf, c->buf + n, c->len -= n);
        c->busy = false;
        if (closing) lose(c);
        if (c->dead) return;
        if (!rate && t < t_stop) fire(c, t);
    }
}
static void on_tick(double t) {
    uint64_t due;
    if (read(timer, &due, sizeof due) != sizeof due) return;
    for (; due && t < t_stop; due--) {
        int k = 0;
        while (k < n_conns && (conns[k].busy || conns[k].dead)) k++;
        if (k < n_conns) fire(&conns[k], t);
        else errors++;
    }
}
static void pump(int timeout_ms) {
    struct epoll_event ready[256];
    int n = epoll_wait(epfd, ready, 256, timeout_ms);
    for (int i = 0; i < n; i++) {
        conn *c = ready[i].data.ptr;
        if (!c) {
            on_tick(now());
            continue;
        }
        if (c->cap - c->len < 65536) c->buf = grow(c->buf, c->cap = c->cap * 2 + 65536);
        ssize_t got = recv(c->fd, c->buf + c->len, c->cap - c->len, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) {
            lose(c);
            if (!c->dead && !rate && now() < t_stop) fire(c, now());
            continue;
        }
        c->len += got;
        on_answer(c, now());
    }
}
static void start_ticking(void) {
    long ns = 1e9 / rate;
    struct timespec every = {ns / 1000000000, ns % 1000000000};
    struct itimerspec when = {every, every};
    struct epoll_event e = {.events = EPOLLIN};
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, 0, &when, NULL);
    epoll_ctl(epfd, EPOLL_CTL_ADD, timer, &e);
}
static bool any(bool (*is)(conn *)) {
    for (int i = 0; i < n_conns; i++)
        if (is(&conns[i])) return true;
    return false;
}
static bool is_alive(conn *c) { return !c->dead; }
static bool is_waiting(conn *c) { return c->busy && !c->dead; }

int main(int argc, char **argv) {
    size_t used = 0;
    for (int o; (o = getopt(argc, argv, "p:m:u:b:H:c:d:r:")) != -1;) switch (o) {
        case 'p': port = atoi(optarg); break;
        case 'm': method = optarg; break;
        case 'u': url = optarg; break;
        case 'b': body = optarg; break;
        case 'c': n_conns = atoi(optarg); break;
        case 'd': duration = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'H':
            used += snprintf(headers + used, sizeof headers - used, "%s\r\n", optarg);
            if (used >= sizeof headers) die("headers too long");
            break;
        default: return 2;
    }
    epfd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(n_conns, sizeof *conns);
    for (int i = 0; i < n_conns; i++) {
        dial(&conns[i]);
        if (conns[i].dead) die("cannot connect");
    }
    double start = now();
    t_stop = start + duration;
    if (rate) start_ticking();
    else for (int i = 0; i < n_conns; i++) fire(&conns[i], now());
    while (now() < t_stop && any(is_alive)) pump((int)((t_stop - now()) * 1e3) + 1);
    double seconds = (now() < t_stop ? now() : t_stop) - start;
    for (double end = now() + 2; now() < end && any(is_waiting);) pump(50);

    qsort(latencies.v, latencies.n, sizeof(double), ascending);
    printf("{\"sent\":%ld,\"ok\":%ld,\"refused\":%ld,\"errors\":%ld,\"rps\":%.1f,"
           "\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}\n",
           sent, ok, refused, errors, in_window / seconds, percentile(.5), percentile(.99), percentile(1));
    return 0;
}
