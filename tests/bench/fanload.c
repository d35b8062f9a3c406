/* fanload: N WebSocket subscribers on 127.0.0.1, from one thread; prints one JSON object.
 *
 *   fanload -p PORT -n N -u PATH [-P SUBPROTOCOL] [-s FIRST_MESSAGE] [-k ANSWER] [-d SECONDS]
 *           [-a AT_ONCE] [-T TOKENS] [-q PUBLISH_PORT -W WINDOW -r RATE -w WARM_UP -i SERVER_PID]
 *
 * A subscriber is ready when a message has come that contains ANSWER, and every event from then on counts.
 * Every event carries "ts": 1e18 plus nanoseconds of CLOCK_MONOTONIC, 19 digits, which all processes share;
 * from it to the arrival is the latency. With -q, fanload publishes: it sends "ts\n" to that port so that at
 * most WINDOW events are not yet delivered to everybody, or with -r, RATE a second. Without, others publish;
 * it says "ready" and counts. AT_ONCE connections are on their way at a time. %T in the subprotocol and the
 * first message is the subscriber's line of the file TOKENS. "2" is answered with "3", as Engine.IO wants it.
 * Times are in milliseconds; per_cpu is deliveries per second of the server's CPU.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TS_BASE 1000000000000000000ULL
#define RECEIVE (1 << 18)
/* 32 buckets for each power of two: 3 % resolution. */
#define BUCKETS (64 * 32)

enum { CONNECTING, HANDSHAKE, ASKED, READY, DEAD };
typedef struct {
    int fd, state;
    uint8_t *rest; /* the beginning of a frame whose end has not come yet */
    size_t len, cap;
} conn;

static int port, publish_port, publisher = -1, ep, n, window = 1, at_once = 64, server_pid;
static const char *path = "/", *subprotocol, *first, *answer;
static char **tokens;
static double warm_up, rate, duration = 5;
static conn *conns;
static int n_opened, n_ready, n_lost;
static bool measuring;
static uint64_t published, received, frames, bytes, hist[BUCKETS], hist_n, hist_max;
static uint8_t in[RECEIVE];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}
static void die(const char *what) {
    fprintf(stderr, "fanload: %s (%s)\n", what, strerror(errno));
    exit(1);
}
static int bucket_of(uint64_t v) {
    int e = v < 32 ? 0 : 63 - __builtin_clzll(v);
    return v < 32 ? (int)v : (e - 4) * 32 + (int)((v >> (e - 5)) & 31);
}
static double value_of(int bucket) {
    return bucket < 32 ? bucket : (double)((32ULL + bucket % 32) << (bucket / 32 - 1));
}
static double percentile(double q) {
    uint64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += hist[i]) > (uint64_t)(hist_n * q)) return value_of(i) / 1e6;
    return hist_max / 1e6;
}
/* User and system time of the server's process alone, in seconds: proc(5), fields 14 and 15 of stat. */
static double server_cpu(void) {
    char name[64], line[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(name, sizeof name, "/proc/%d/stat", server_pid);
    FILE *f = fopen(name, "r");
    if (!f) return 0;
    char *at = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    if (at) sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    fclose(f);
    return (user + system) / (double)sysconf(_SC_CLK_TCK);
}

static int dial(int to_port, int flags) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(to_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) die("socket; is the limit of open files too low?");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) die("connect");
    return fd;
}
static void lose(conn *c) {
    if (c->state == DEAD) return;
    n_ready -= c->state == READY;
    n_lost++;
    c->state = DEAD;
    close(c->fd);
}
static void put(conn *c, const void *p, size_t size) {
    if (send(c->fd, p, size, MSG_NOSIGNAL) != (ssize_t)size) {
        fprintf(stderr, "fanload: cannot send (%s)\n", strerror(errno));
        lose(c);
    }
}
/* Frames of a client are masked; a mask of zeros is a mask. */
static void put_frame(conn *c, int op, const void *p, size_t size) {
    uint8_t frame[4096] = {0x80 | op, 0x80 | (size > 125 ? 126 : size)};
    size_t head = size > 125 ? 8 : 6;
    if (head + size > sizeof frame) die("message too long");
    if (size > 125) frame[2] = size >> 8, frame[3] = size;
    memcpy(frame + head, p, size);
    put(c, frame, head + size);
}
/* The text with the subscriber's own token in the place of %T. */
static const char *own(conn *c, const char *text) {
    static char filled[4000];
    const char *at = tokens ? strstr(text, "%T") : NULL;
    if (!at) return text;
    snprintf(filled, sizeof filled, "%.*s%s%s", (int)(at - text), text, tokens[c - conns], at + 2);
    return filled;
}
static void read_tokens(const char *name) {
    FILE *f = fopen(name, "r");
    tokens = calloc(n, sizeof *tokens);
    for (int i = 0; i < n; i++) {
        size_t cap = 0;
        ssize_t size = f ? getline(&tokens[i], &cap, f) : -1;
        if (size < 1) die("too few tokens");
        tokens[i][size - 1] = 0;
    }
}
static void upgrade(conn *c) {
    char request[4096];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
        path, port, subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol ? own(c, subprotocol) : "",
        subprotocol ? "\r\n" : "");
    c->state = HANDSHAKE;
    put(c, request, size);
}
static void become_ready(conn *c) {
    c->state = READY;
    n_ready++;
}

static void on_message(conn *c, const uint8_t *p, size_t size, uint64_t t) {
    const uint8_t *end = p + size;
    if (size == 1 && *p == '2') put_frame(c, 1, "3", 1);
    if (c->state == ASKED) {
        if (memmem(p, size, answer, strlen(answer))) become_ready(c);
        return;
    }
    if (!(p = memmem(p, size, "\"ts\":", 5))) return;
    uint64_t ts = 0;
    for (p += 5; p < end && !isdigit(*p); p++);
    for (; p < end && isdigit(*p); p++) ts = ts * 10 + (*p - '0');
    if (ts < TS_BASE) return;
    received++;
    if (!measuring) return;
    uint64_t late = t > ts - TS_BASE ? t - (ts - TS_BASE) : 0;
    hist[bucket_of(late)]++;
    hist_n++;
    bytes += size;
    if (late > hist_max) hist_max = late;
}
/* Handle the whole frames among the bytes; answer how many bytes those were. */
static size_t parse(conn *c, const uint8_t *b, size_t have, uint64_t t) {
    size_t at = 0;
    while (have - at >= 2 && c->state != DEAD) {
        const uint8_t *f = b + at;
        size_t size = f[1] & 127, head = size == 126 ? 4 : 2;
        if (size == 127) die("a frame that is longer than any of ours");
        if (have - at < head) break;
        if (size == 126) size = f[2] << 8 | f[3];
        if (have - at < head + size) break;
        switch (f[0] & 15) {
            case 1: case 2: on_message(c, f + head, size, t); break;
            case 8:
                fprintf(stderr, "fanload: closed by the server: %d %.*s\n", size < 2 ? 1005 : f[head] << 8 | f[head + 1],
                        size < 2 ? 0 : (int)size - 2, (const char *)f + head + 2);
                lose(c);
                break;
            case 9: put_frame(c, 10, f + head, size); break;
        }
        at += head + size;
    }
    return at;
}
static void on_readable(conn *c) {
    size_t have = c->len, at = 0;
    memcpy(in, c->rest, have);
    ssize_t got = recv(c->fd, in + have, RECEIVE - have, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        fprintf(stderr, "fanload: cut off (%s)\n", got ? strerror(errno) : "the end of the stream");
        lose(c);
        return;
    }
    have += got;
    frames += measuring;
    if (c->state == HANDSHAKE) {
        uint8_t *end = memmem(in, have, "\r\n\r\n", 4);
        if (end && memcmp(in, "HTTP/1.1 101", 12)) {
            fprintf(stderr, "fanload: refused: %.200s\n", in);
            lose(c);
            return;
        }
        if (end) {
            at = end + 4 - in;
            c->state = ASKED;
            const char *message = first ? own(c, first) : NULL;
            if (message) put_frame(c, 1, message, strlen(message));
            if (!answer) become_ready(c);
        }
    }
    if (c->state != HANDSHAKE) at += parse(c, in + at, have - at, now());
    if ((c->len = have - at) > c->cap && !(c->rest = realloc(c->rest, c->cap = c->len * 2))) die("memory");
    memcpy(c->rest, in + at, c->len);
}
static void pump(int timeout_ms) {
    struct epoll_event ready[512];
    int k = epoll_wait(ep, ready, 512, timeout_ms);
    for (int i = 0; i < k; i++) {
        conn *c = ready[i].data.ptr;
        if (c->state == DEAD) continue;
        if (c->state == CONNECTING) {
            struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
            epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
            upgrade(c);
        } else on_readable(c);
    }
    if (n_lost) die("a subscriber was lost");
}
static void connect_all(void) {
    for (uint64_t until = now() + 60e9; n_ready < n; pump(100)) {
        for (; n_opened < n && n_opened - n_ready < at_once; n_opened++) {
            conn *c = &conns[n_opened];
            struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
            c->fd = dial(port, SOCK_NONBLOCK);
            epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
        }
        if (now() > until) die("not all subscribers are ready after 60 s");
    }
}
static void publish(void) {
    char line[32];
    int size = sprintf(line, "%llu\n", (unsigned long long)(TS_BASE + now()));
    if (send(publisher, line, size, MSG_NOSIGNAL) != size) die("publish");
    published++;
}
static void run_until(uint64_t end) {
    uint64_t start = now(), before = published;
    for (uint64_t t; (t = now()) < end; pump(publisher < 0 || rate ? 1 : 20)) {
        if (publisher < 0) continue;
        if (rate) while (published - before < (t - start) / 1e9 * rate) publish();
        else while (published < window + received / n) publish();
    }
}

int main(int argc, char **argv) {
    const char *token_file = NULL;
    for (int o; (o = getopt(argc, argv, "p:n:u:P:s:k:d:a:T:q:W:r:w:i:")) != -1;) switch (o) {
        case 'p': port = atoi(optarg); break;
        case 'n': n = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'P': subprotocol = optarg; break;
        case 's': first = optarg; break;
        case 'k': answer = optarg; break;
        case 'd': duration = atof(optarg); break;
        case 'a': at_once = atoi(optarg); break;
        case 'T': token_file = optarg; break;
        case 'r': rate = atof(optarg); break;
        case 'q': publish_port = atoi(optarg); break;
        case 'W': window = atoi(optarg); break;
        case 'w': warm_up = atof(optarg); break;
        case 'i': server_pid = atoi(optarg); break;
        default: return 2;
    }
    if (n < 1) return 2;
    ep = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(n, sizeof *conns);
    if (token_file) read_tokens(token_file);
    uint64_t connecting = now();
    double connect_cpu = server_cpu();
    connect_all();
    double connect_seconds = (now() - connecting) / 1e9;
    connect_cpu = server_cpu() - connect_cpu;
    puts("ready");
    fflush(stdout);
    if (publish_port) publisher = dial(publish_port, 0);
    run_until(now() + warm_up * 1e9);

    uint64_t start = now(), received_before = received;
    double cpu = server_cpu();
    measuring = true;
    run_until(start + duration * 1e9);
    double seconds = (now() - start) / 1e9;
    cpu = server_cpu() - cpu;
    uint64_t deliveries = received - received_before;
    printf("{\"deliveries\":%llu,\"per_second\":%.0f,\"per_cpu\":%.0f,\"cpu\":%.3f,\"size\":%.0f,"
           "\"per_read\":%.2f,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,"
           "\"connect_seconds\":%.3f,\"connect_cpu\":%.3f}\n",
           (unsigned long long)deliveries, deliveries / seconds, cpu > 0 ? deliveries / cpu : 0,
           cpu / seconds, deliveries ? (double)bytes / deliveries : 0, frames ? (double)deliveries / frames : 0,
           percentile(.5), percentile(.99), hist_max / 1e6, connect_seconds, connect_cpu);
    return 0;
}
