/* A fake replica that is fast: one thread, epoll, OpenAI chat completions from memory.
 *
 * usage: replica PORT COUNT        listens on COUNT ports of 127.0.0.1 from PORT on; 0: free ports, printed
 *
 * The prompt says what is wanted, as every gateway passes it on: "events=N every_us=U" streams N tokens, the first at
 * once and then one every U microseconds (0: as fast as the socket takes them), one send() per event, as an engine
 * does. Without "stream" the answer is one short JSON body. Each token's text is " INDEX@NANOSECONDS": its place, so
 * that a client can judge order, and when it left, by CLOCK_MONOTONIC, so that a client on the same machine can judge
 * delay. Only the first and last LOOK bytes of a body are searched, so that long prompts cost a replica little.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { MOST_FILES = 65536, LOOK = 512, MOST_BODY = 64 << 20, BATCH = 512 };

typedef struct {
    char *bytes;
    size_t length, capacity, taken;
} buffer;

typedef struct {
    int fd;
    bool listens, streams, usage, writable_wanted;
    int place;             /* in the heap, from 1; 0: not in it */
    buffer in, out;
    long events, sent;     /* of the running stream */
    int64_t every_ns, due; /* every_ns 0: as fast as it goes */
    unsigned long id;
} connection;

static connection *connections[MOST_FILES];
static connection *heap[MOST_FILES + 1]; /* by due time, from 1 */
static int heap_size, poller;
static unsigned long answers;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* -- the heap of streams, by when their next event is due */

static void place(connection *one, int at) {
    heap[at] = one;
    one->place = at;
}

static void sift(connection *one, int at) {
    while (at > 1 && heap[at / 2]->due > one->due) {
        place(heap[at / 2], at);
        at /= 2;
    }
    for (;;) {
        int child = 2 * at;
        if (child > heap_size)
            break;
        if (child < heap_size && heap[child + 1]->due < heap[child]->due)
            child++;
        if (heap[child]->due >= one->due)
            break;
        place(heap[child], at);
        at = child;
    }
    place(one, at);
}

static void schedule(connection *one, int64_t due) {
    one->due = due;
    sift(one, one->place ? one->place : ++heap_size);
}

static void unschedule(connection *one) {
    int at = one->place;
    if (!at)
        return;
    one->place = 0;
    connection *last = heap[heap_size--];
    if (last != one)
        sift(last, at);
}

/* -- bytes */

static void reserve(buffer *to, size_t more) {
    if (to->length + more <= to->capacity)
        return;
    to->capacity = (to->length + more) * 2;
    to->bytes = realloc(to->bytes, to->capacity);
    if (!to->bytes)
        die("realloc");
}

static void append(buffer *to, const char *bytes, size_t length) {
    reserve(to, length);
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void drop(buffer *from, size_t count) {
    from->taken += count;
    if (from->taken == from->length)
        from->taken = from->length = 0;
}

static void want_writable(connection *one, bool wanted) {
    if (one->writable_wanted == wanted)
        return;
    one->writable_wanted = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = one};
    epoll_ctl(poller, EPOLL_CTL_MOD, one->fd, &event);
}

/* Sends what waits; false: the connection is gone. */
static bool flush(connection *one) {
    while (one->out.taken < one->out.length) {
        ssize_t sent = send(one->fd, one->out.bytes + one->out.taken, one->out.length - one->out.taken,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            want_writable(one, true);
            return true;
        }
        if (sent < 0 && errno != EINTR)
            return false;
        if (sent > 0)
            drop(&one->out, (size_t)sent);
    }
    want_writable(one, false);
    return true;
}

static void close_connection(connection *one) {
    unschedule(one);
    close(one->fd);
    connections[one->fd] = NULL;
    free(one->in.bytes);
    free(one->out.bytes);
    free(one);
}

/* -- answers */

static void answer(connection *one, const char *body, size_t length) {
    char head[128];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", length);
    append(&one->out, head, (size_t)n);
    append(&one->out, body, length);
}

static void answer_completion(connection *one) {
    char body[512];
    int n = snprintf(body, sizeof body,
                     "{\"id\":\"chatcmpl-%lu\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
                     "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Two sources.\"},"
                     "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,"
                     "\"total_tokens\":15}}",
                     ++answers);
    answer(one, body, (size_t)n);
}

static void append_event(connection *one, const char *choices, const char *usage) {
    char event[640], framed[704];
    int n = snprintf(event, sizeof event,
                     "data: {\"id\":\"chatcmpl-%lu\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                     "\"model\":\"m\",\"choices\":[%s]%s}\n\n",
                     one->id, choices, usage);
    n = snprintf(framed, sizeof framed, "%x\r\n%s\r\n", (unsigned)n, event);
    append(&one->out, framed, (size_t)n);
}

static void append_token(connection *one) {
    char choice[192];
    snprintf(choice, sizeof choice,
             "{\"index\":0,\"delta\":{\"content\":\" %ld@%lld\"},\"logprobs\":null,\"finish_reason\":null}", one->sent++,
             (long long)now_ns());
    append_event(one, choice, "");
}

static void append_end(connection *one) {
    char usage[160];
    append_event(one, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}", "");
    snprintf(usage, sizeof usage,
             ",\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":%ld,\"total_tokens\":%ld}", one->events,
             one->events + 12);
    if (one->usage)
        append_event(one, "", usage);
    append(&one->out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);
}

/* Sends the next event of a stream; false: the connection is gone. */
static bool step(connection *one) {
    if (one->out.length) { /* the socket is full: the reader sets the pace */
        unschedule(one);
        return true;
    }
    append_token(one);
    if (one->sent < one->events) {
        schedule(one, one->every_ns ? one->due + one->every_ns : now_ns());
    } else {
        unschedule(one);
        if (!flush(one))
            return false;
        one->streams = false;
        append_end(one);
    }
    return flush(one);
}

static const char *find(const char *body, size_t length, const char *what) {
    size_t look = length < LOOK ? length : LOOK;
    const char *found = memmem(body, look, what, strlen(what));
    return found ? found : memmem(body + length - look, look, what, strlen(what));
}

static bool is_true(const char *body, size_t length, const char *name) {
    const char *found = find(body, length, name);
    if (!found)
        return false;
    found += strlen(name);
    size_t left = (size_t)(body + length - found);
    if (left && *found == ' ')
        found++, left--;
    return left >= 4 && !memcmp(found, "true", 4);
}

static long number(const char *body, size_t length, const char *name, long otherwise) {
    const char *found = find(body, length, name);
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void begin(connection *one, const char *body, size_t length) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    if (!is_true(body, length, "\"stream\":")) {
        answer_completion(one);
        return;
    }
    one->streams = true;
    one->usage = is_true(body, length, "\"include_usage\":");
    one->events = number(body, length, "events=", 10);
    one->every_ns = number(body, length, "every_us=", 0) * 1000;
    one->sent = 0;
    one->id = ++answers;
    append(&one->out, head, sizeof head - 1);
    append_event(one, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}", "");
    schedule(one, now_ns());
}

/* -- requests */

static const char MODELS[] = "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":1700000000,"
                             "\"owned_by\":\"bench\",\"max_model_len\":131072}]}";

/* Returns the bytes of a whole body of chunks, decoded in place; -1: not whole yet, -2: nonsense. */
static long unchunk(char *from, size_t length, size_t *taken) {
    size_t at = 0;
    long made = 0;
    for (;;) {
        char *end = memmem(from + at, length - at, "\r\n", 2);
        if (!end)
            return -1;
        size_t size = strtoul(from + at, NULL, 16);
        if (size > MOST_BODY)
            return -2;
        at = (size_t)(end - from) + 2;
        if (at + size + 2 > length)
            return -1;
        if (!size) {
            *taken = at + 2;
            return made;
        }
        memmove(from + made, from + at, size);
        made += (long)size;
        at += size + 2;
    }
}

static const char *header(const char *head, size_t length, const char *name) {
    const char *end = head + length;
    for (const char *line = memmem(head, length, "\r\n", 2); line && line + 2 < end;
         line = memmem(line + 2, (size_t)(end - line - 2), "\r\n", 2))
        if (!strncasecmp(line + 2, name, strlen(name)))
            return line + 2 + strlen(name);
    return NULL;
}

/* Answers the first request that waits; 0: none is whole, 1: answered, -1: nonsense. */
static int take_request(connection *one) {
    char *from = one->in.bytes + one->in.taken;
    size_t have = one->in.length - one->in.taken;
    char *end = have ? memmem(from, have, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    size_t head = (size_t)(end - from) + 4, taken = 0;
    const char *length_text = header(from, head - 2, "content-length:");
    long length = length_text ? strtol(length_text, NULL, 10) : 0;
    if (length < 0 || length > MOST_BODY)
        return -1;
    if (!length_text && header(from, head - 2, "transfer-encoding:")) {
        /* Decoding moves bytes, so it waits until the last chunk has come. */
        if (have - head < 5 || memcmp(from + have - 5, "0\r\n\r\n", 5))
            return 0;
        length = unchunk(from + head, have - head, &taken);
        if (length < 0)
            return length == -1 ? 0 : -1;
    } else {
        if (have - head < (size_t)length)
            return 0;
        taken = (size_t)length;
    }
    if (!strncmp(from, "POST ", 5))
        begin(one, from + head, (size_t)length);
    else
        answer(one, MODELS, sizeof MODELS - 1);
    drop(&one->in, head + taken);
    return 1;
}

/* Answers what has come; false: the connection is gone. */
static bool serve(connection *one) {
    int taken = 1;
    while (!one->streams && one->in.length && taken == 1)
        taken = take_request(one);
    return taken >= 0 && flush(one);
}

static bool read_some(connection *one) {
    reserve(&one->in, 65536);
    ssize_t got = recv(one->fd, one->in.bytes + one->in.length, one->in.capacity - one->in.length, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    one->in.length += (size_t)got;
    return got > 0 && serve(one);
}

static void accept_all(connection *listener) {
    int on = 1, fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST_FILES) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection *one = connections[fd] = calloc(1, sizeof *one);
        if (!one)
            die("calloc");
        one->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void handle(connection *one, uint32_t events) {
    bool open = true;
    if (one->listens) {
        accept_all(one);
        return;
    }
    if (events & EPOLLOUT) {
        open = flush(one);
        if (open && one->streams && !one->place && !one->out.length)
            schedule(one, now_ns());
        else if (open && !one->out.length)
            open = serve(one); /* a request that came while the answer before it was being sent */
    }
    if (open && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        open = read_some(one);
    if (!open)
        close_connection(one);
}

/* Sends what is due, at most one round of it, so that what arrives is read as well. */
static void run_due(void) {
    int64_t now = now_ns();
    for (int i = 0; i < BATCH && heap_size && heap[1]->due <= now; i++) {
        connection *one = heap[1];
        if (!step(one) || (!one->streams && !serve(one)))
            close_connection(one);
    }
}

static int wait_ms(void) {
    if (!heap_size)
        return -1;
    int64_t left = heap[1]->due - now_ns();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

static int listen_on(int port) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) || listen(fd, 4096))
        die("listen");
    connection *one = calloc(1, sizeof *one);
    if (!one)
        die("calloc");
    one->fd = fd;
    one->listens = true;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    getsockname(fd, (struct sockaddr *)&at, &size);
    return ntohs(at.sin_port);
}

int main(int count, char **words) {
    struct rlimit files;
    struct epoll_event ready[BATCH];
    if (count != 3) {
        fprintf(stderr, "usage: replica PORT COUNT\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    int port = atoi(words[1]);
    for (int i = 0; i < atoi(words[2]); i++)
        printf("%d\n", listen_on(port ? port + i : 0));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poller, ready, BATCH, wait_ms());
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            handle(ready[i].data.ptr, ready[i].events);
        run_due();
    }
}
