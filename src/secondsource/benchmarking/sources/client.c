/* A load client for streams: one thread, epoll, every event judged.
 *
 * usage: client PORT CONNECTIONS EVENTS EVERY_US WARM_S WINDOW_S KEY
 *
 * Each connection asks for one stream after another; the first ones are spread over the time that one stream takes, so
 * that the load is steady. "window" on standard output marks the start of the measured window, and one line of JSON
 * its end. Judged are the status, the order of every token, and that each answer ends in [DONE] and in a last chunk;
 * what falls short is counted, never passed over. Delay is from the replica's send() to our recv(), by the time that
 * each token carries (see replica.c).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512, READ = 65536, MOST_LINE = 65536 };
typedef enum { RESTING, AWAITED, HEAD, SIZE, DATA, DATA_END, LAST, BODY } state;

typedef struct {
    int fd;
    state state;
    int64_t asked, due;    /* due: when a resting connection asks next */
    size_t left;           /* of a chunk, or of a body of known length */
    char line[MOST_LINE];  /* the head's, a chunk's size's or an event's line that is not whole yet */
    size_t length;
    char event[MOST_LINE]; /* a line of an event's: chunks may cut it anywhere */
    size_t event_length;
    int status;
    bool chunked, closes, ended, answered;
    long next;             /* the token that must come next */
} connection;

typedef struct {
    int64_t *ns;
    size_t count, capacity;
} samples;

static connection *connections;
static samples first_bytes, delays;
static char request[2048];
static int poller, port, request_length;
static long wanted_events;
static bool in_window;
static struct {
    long streams, events, refused, disordered, cut, unconnected;
} seen;
static char example[256]; /* the first answer that was refused */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void add(samples *to, int64_t ns) {
    if (!in_window)
        return;
    if (to->count == to->capacity) {
        to->capacity = to->capacity ? to->capacity * 2 : 65536;
        to->ns = realloc(to->ns, to->capacity * sizeof *to->ns);
        if (!to->ns)
            die("realloc");
    }
    to->ns[to->count++] = ns;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Nearest rank; sorts. In microseconds; -1 where there is none. */
static double percentile(samples *of, double share) {
    if (!of->count)
        return -1;
    qsort(of->ns, of->count, sizeof *of->ns, compare);
    size_t rank = (size_t)(share * (double)of->count + 0.999999);
    return (double)of->ns[rank ? rank - 1 : 0] / 1000.0;
}

/* -- asking */

static void rest(connection *one, int64_t until) {
    one->state = RESTING;
    one->due = until;
}

static void hang_up(connection *one) {
    if (one->fd >= 0)
        close(one->fd);
    one->fd = -1;
}

/* Ends an answer that is not whole, and asks again a little later. */
static void give_up(connection *one, long *counted) {
    if (in_window)
        ++*counted;
    hang_up(one);
    rest(one, now_ns() + 20000000);
}

static bool dial(connection *one) {
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&to, sizeof to))
        return false;
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    return !epoll_ctl(poller, EPOLL_CTL_ADD, one->fd, &event);
}

static void ask(connection *one) {
    if (one->fd < 0 && !dial(one)) {
        give_up(one, &seen.unconnected);
        return;
    }
    one->state = AWAITED;
    one->length = one->event_length = one->left = 0;
    one->next = 0;
    one->status = 0;
    one->chunked = one->closes = one->ended = one->answered = false;
    one->asked = now_ns();
    if (send(one->fd, request, (size_t)request_length, MSG_NOSIGNAL) != request_length)
        give_up(one, &seen.unconnected);
}

/* -- judging an answer */

static void judge_line(connection *one, int64_t now) {
    char *found;
    one->event[one->event_length] = 0;
    one->event_length = 0;
    if (strncmp(one->event, "data:", 5))
        return;
    if (strstr(one->event, "[DONE]")) {
        one->ended = true;
        return;
    }
    found = strstr(one->event, "\"content\":");
    if (!found)
        return;
    found += 10;
    found += *found == ' ';
    if (*found++ != '"' || *found++ != ' ')
        return; /* the first event's empty text, or none */
    char *at;
    long index = strtol(found, &at, 10);
    if (index != one->next || *at != '@') {
        if (in_window)
            seen.disordered++;
        one->next = index;
    }
    one->next++;
    if (in_window)
        seen.events++;
    add(&delays, now - strtoll(at + 1, NULL, 10));
}

static void judge_payload(connection *one, const char *bytes, size_t length, int64_t now) {
    while (length) {
        const char *end = memchr(bytes, '\n', length);
        size_t some = end ? (size_t)(end - bytes) : length;
        if (one->event_length + some < MOST_LINE) {
            memcpy(one->event + one->event_length, bytes, some);
            one->event_length += some;
        }
        if (!end)
            return;
        judge_line(one, now);
        bytes += some + 1;
        length -= some + 1;
    }
}

static void finish(connection *one) {
    bool whole = one->ended && one->next == wanted_events;
    if (one->status != 200) {
        if (!example[0])
            snprintf(example, sizeof example, "%d %.200s", one->status, one->event);
        give_up(one, &seen.refused);
        return;
    }
    if (!whole) {
        give_up(one, &seen.cut);
        return;
    }
    if (in_window)
        seen.streams++;
    if (one->closes)
        hang_up(one);
    rest(one, 0);
}

/* -- HTTP */

/* Adds to the line until its end; returns the bytes taken, and sets `whole` at the end of a line. */
static size_t take_line(connection *one, const char *bytes, size_t length, bool *whole) {
    const char *end = memchr(bytes, '\n', length);
    size_t some = end ? (size_t)(end - bytes) + 1 : length;
    if (one->length + some < MOST_LINE) {
        memcpy(one->line + one->length, bytes, some);
        one->length += some;
    }
    *whole = end != NULL;
    if (end)
        one->line[one->length] = 0;
    return some;
}

static void read_head_line(connection *one) {
    if (!one->status) {
        one->status = one->length > 9 ? atoi(one->line + 9) : -1;
    } else if (!strncasecmp(one->line, "content-length:", 15)) {
        one->left = strtoul(one->line + 15, NULL, 10);
    } else if (!strncasecmp(one->line, "transfer-encoding:", 18)) {
        one->chunked = true;
    } else if (!strncasecmp(one->line, "connection:", 11) && strcasestr(one->line, "close")) {
        one->closes = true;
    } else if (one->line[0] == '\r' || one->line[0] == '\n') {
        one->state = one->chunked ? SIZE : BODY;
        if (one->state == BODY && !one->left)
            finish(one);
    }
}

static void read_line(connection *one) {
    switch (one->state) {
    case HEAD:
        read_head_line(one);
        break;
    case SIZE:
        one->left = strtoul(one->line, NULL, 16);
        one->state = one->left ? DATA : LAST;
        break;
    case DATA_END:
        one->state = SIZE;
        break;
    default: /* LAST: trailers, then an empty line */
        if (one->line[0] == '\r' || one->line[0] == '\n')
            finish(one);
    }
    one->length = 0;
}

static void take_bytes(connection *one, const char *bytes, size_t length, int64_t now) {
    while (length && one->state != RESTING) {
        size_t some;
        if (one->state == DATA || one->state == BODY) {
            some = length < one->left ? length : one->left;
            judge_payload(one, bytes, some, now);
            one->left -= some;
            if (!one->left && one->state == BODY)
                finish(one);
            else if (!one->left)
                one->state = DATA_END;
        } else {
            bool whole;
            some = take_line(one, bytes, length, &whole);
            if (whole)
                read_line(one);
        }
        bytes += some;
        length -= some;
    }
}

static void read_some(connection *one) {
    static char bytes[READ];
    ssize_t got = recv(one->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        if (one->state == RESTING)
            hang_up(one);
        else
            give_up(one, &seen.cut);
        return;
    }
    int64_t now = now_ns();
    if (one->state == AWAITED) {
        one->state = HEAD;
        add(&first_bytes, now - one->asked);
    }
    take_bytes(one, bytes, (size_t)got, now);
    if (one->state == RESTING && !one->due)
        ask(one);
}

/* -- the run */

static void make_request(const char *key, long every_us) {
    char body[1024];
    int n = snprintf(body, sizeof body,
                     "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"events=%ld every_us=%ld Tell me of "
                     "second sources.\"}],\"max_tokens\":%ld,\"stream\":true}",
                     wanted_events, every_us, wanted_events + 8);
    request_length = snprintf(request, sizeof request,
                              "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\n"
                              "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                              port, key, n, body);
}

static void ask_the_rested(int count, int64_t *soonest) {
    int64_t now = now_ns();
    *soonest = now + 1000000000;
    for (int i = 0; i < count; i++) {
        connection *one = &connections[i];
        if (one->state == RESTING && one->due <= now)
            ask(one);
        if (one->state == RESTING && one->due < *soonest)
            *soonest = one->due;
    }
}

static void run_until(int64_t end, int count) {
    struct epoll_event ready[BATCH];
    int64_t soonest = 0;
    for (int64_t now = now_ns(); now < end; now = now_ns()) {
        if (soonest <= now)
            ask_the_rested(count, &soonest);
        int64_t left = (soonest < end ? soonest : end) - now_ns();
        int n = epoll_wait(poller, ready, BATCH, left <= 0 ? 0 : (int)((left + 999999) / 1000000));
        for (int i = 0; i < n; i++) {
            connection *one = ready[i].data.ptr;
            if (one->fd >= 0)
                read_some(one);
            if (one->state == RESTING && one->due < soonest)
                soonest = one->due;
        }
    }
}

static void report(double seconds) {
    for (char *at = example; *at; at++) /* it goes into a JSON string */
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ' || (unsigned char)*at > '~')
            *at = '\'';
    printf("{\"seconds\":%.6f,\"streams\":%ld,\"events\":%ld,\"refused\":%ld,\"disordered\":%ld,\"cut\":%ld,"
           "\"unconnected\":%ld,\"first_byte_us_p50\":%.1f,\"first_byte_us_p99\":%.1f,\"delay_us_p50\":%.1f,"
           "\"delay_us_p99\":%.1f,\"example\":\"%s\"}\n",
           seconds, seen.streams, seen.events, seen.refused, seen.disordered, seen.cut, seen.unconnected,
           percentile(&first_bytes, 0.5), percentile(&first_bytes, 0.99), percentile(&delays, 0.5),
           percentile(&delays, 0.99), example);
}

int main(int words, char **word) {
    struct rlimit files;
    if (words != 8) {
        fprintf(stderr, "usage: client PORT CONNECTIONS EVENTS EVERY_US WARM_S WINDOW_S KEY\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    port = atoi(word[1]);
    int count = atoi(word[2]);
    long every_us = atol(word[4]);
    wanted_events = atol(word[3]);
    make_request(word[7], every_us);
    poller = epoll_create1(0);
    connections = calloc((size_t)count, sizeof *connections);
    if (!connections || poller < 0)
        die("start");
    int64_t start = now_ns(), stream_ns = wanted_events * every_us * 1000;
    for (int i = 0; i < count; i++) {
        connections[i].fd = -1;
        rest(&connections[i], start + 1 + stream_ns / count * i);
    }
    run_until(start + (int64_t)(atof(word[5]) * 1e9), count);
    puts("window");
    fflush(stdout);
    in_window = true;
    int64_t began = now_ns();
    run_until(began + (int64_t)(atof(word[6]) * 1e9), count);
    int64_t ended = now_ns();
    puts("end");
    fflush(stdout);
    in_window = false;
    report((double)(ended - began) / 1e9);
    return 0;
}
