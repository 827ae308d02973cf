/* The pump: moves the commonplace events of streamed answers from their replicas' sockets to their clients', on a
 * thread of its own that never waits for the interpreter.
 *
 * A stream is given to it in the middle of a chunked answer, where a chunk begins. It passes on chunks that are each
 * one event of one known shape - a beginning, the inside of a JSON string, an end, of which less may leave than
 * came - and keeps the texts until it is asked for them. Whatever else comes, it stops there and wants to give the
 * stream back, with all that it has read and not passed on: it judges nothing. Each stream has two descriptors of the
 * pump's own, so that a number that the process uses again can never lead to another client.
 *
 * Everything is guarded by one lock, which is held for one read and one write at a time. */

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    AT_ONCE = 64,             /* sockets that one wait may tell of */
    READ_BYTES = 16 * 1024,   /* the most that one read takes */
    LONGEST_EVENT = 8 * 1024, /* a longer one is not commonplace */
    SIZE_BYTES = 8,           /* a chunk's size in hexadecimal digits, and its line's end */
    HELD_BYTES = SIZE_BYTES + LONGEST_EVENT + 2 + READ_BYTES, /* part of a chunk, and a read after it */
    TEXT_BYTES = 32 * 1024,   /* of texts that are kept until somebody asks */
    READS_A_TURN = 4,
};

#define WATCHED (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* What must be known to ask: the sizes of the buffers that are filled. */
size_t pump_text_bytes(void) { return TEXT_BYTES; }
size_t pump_held_bytes(void) { return HELD_BYTES; }
size_t pump_longest_event(void) { return LONGEST_EVENT; }

struct told { /* what is known of a stream since it was last asked for */
    uint64_t events;
    uint64_t last_event_ns; /* CLOCK_MONOTONIC; 0: none yet */
    uint64_t text_bytes;    /* texts, a NUL after each */
    uint64_t unsent_bytes;  /* passed on, and not taken by the client's socket */
    uint64_t unread_bytes;  /* read, and not passed on */
};

struct count { /* of a stream, in a file that outlives the process */
    uint64_t tokens, last_event_ns;
};

struct stream {
    uint32_t generation; /* odd while it is one */
    int next;            /* in the list of free ones, or of those to be given back */
    int stopped;         /* wants to be given back */
    int upstream, client;
    char *shape; /* what an event begins with and ends with, then what it is sent with before and after its text */
    size_t before, after, sent_before, sent_after, longest;
    int as_it_came; /* what is sent is what came */
    char *held; /* unsent, then unread */
    size_t unsent, unread;
    char *text;
    size_t text_bytes;
    uint64_t events, last_event_ns;
    struct count *count; /* NULL: nowhere */
};

struct pump {
    pthread_mutex_t lock;
    pthread_t thread;
    int epoll, notice, halt;
    int count, free, stopped;
    struct stream *streams;
    int most;
    char buffer[HELD_BYTES], rewritten[HELD_BYTES];
};

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How many bytes the character at `at` has, as RFC 3629 allows; 0 where it is none. */
static size_t character(const unsigned char *at, size_t left) {
    unsigned char lead = at[0], low = 0x80, high = 0xBF;
    size_t size;
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) size = 2;
    else if (lead >= 0xE0 && lead <= 0xEF) size = 3;
    else if (lead >= 0xF0 && lead <= 0xF4) size = 4;
    else return 0;
    if (left < size) return 0;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return size;
}

/* How many bytes the escape at `at` has, a whole character of JSON's; 0 where it is none, or half of one. */
static size_t escape(const unsigned char *at, size_t left) {
    if (left < 2) return 0;
    if (at[1] != 'u') return at[1] && strchr("\"\\/bfnrt", at[1]) ? 2 : 0;
    if (left < 6) return 0;
    for (size_t i = 2; i < 6; i++)
        if (!isxdigit(at[i])) return 0;
    return (at[2] == 'd' || at[2] == 'D') && at[3] > '7' ? 0 : 6;
}

/* Whether these bytes are the inside of a JSON string, and not empty. */
static int is_text(const char *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes;
    size_t done = 0;
    while (done < size) {
        if (at[done] < 0x20 || at[done] == '"') return 0;
        size_t step = at[done] == '\\' ? escape(at + done, size - done) : character(at + done, size - done);
        if (!step) return 0;
        done += step;
    }
    return size > 0;
}

enum { NOT_OURS = -1, MORE = 0 };

/* Read a chunk's size: digits of one case, no zeros before them, no extension. Returns the line's length. */
static int read_size(const char *at, size_t left, size_t *size) {
    size_t value = 0, digits = 0;
    int upper = 0, lower = 0;
    for (; digits < left; digits++) {
        char c = at[digits];
        if (c >= '0' && c <= '9') value = value * 16 + (size_t)(c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (size_t)(c - 'a' + 10), lower = 1;
        else if (c >= 'A' && c <= 'F') value = value * 16 + (size_t)(c - 'A' + 10), upper = 1;
        else break;
        if (digits + 2 >= SIZE_BYTES) return NOT_OURS;
    }
    if (digits && at[0] == '0') return NOT_OURS;
    if (upper && lower) return NOT_OURS;
    if (digits == left) return MORE;
    if (!digits || at[digits] != '\r') return NOT_OURS;
    if (digits + 1 == left) return MORE;
    if (at[digits + 1] != '\n') return NOT_OURS;
    *size = value;
    return (int)digits + 2;
}

/* Look at the chunk at `at`: its length if it is one event of the shape, with its text; MORE; or NOT_OURS. */
static int read_chunk(const struct stream *stream, const char *at, size_t left, const char **text, size_t *text_size) {
    size_t size = 0;
    int line = read_size(at, left, &size);
    if (line <= 0) return line;
    if (size > stream->longest || size <= stream->before + stream->after) return NOT_OURS;
    const char *event = at + line;
    size_t here = left - (size_t)line, known = here < stream->before ? here : stream->before;
    if (memcmp(event, stream->shape, known)) return NOT_OURS;
    if (here < size + 2) return MORE;
    const char *end = event + size - stream->after;
    if (memcmp(end, stream->shape + stream->before, stream->after) || event[size] != '\r' || event[size + 1] != '\n')
        return NOT_OURS;
    *text = event + stream->before;
    *text_size = (size_t)(end - *text);
    return is_text(*text, *text_size) ? line + (int)size + 2 : NOT_OURS;
}

static void stop(struct pump *pump, struct stream *stream) {
    stream->stopped = 1;
    epoll_ctl(pump->epoll, EPOLL_CTL_DEL, stream->upstream, NULL);
    int first = pump->stopped < 0;
    stream->next = pump->stopped;
    pump->stopped = (int)(stream - pump->streams);
    uint64_t one = 1;
    if (first && write(pump->notice, &one, sizeof one) < 0) return; /* it is told already, and not yet heard */
}

/* Write a chunk as it is sent; it is no longer than it came. Returns the end. */
static char *rewrite(const struct stream *stream, char *at, const char *text, size_t text_size) {
    const char *before = stream->shape + stream->before + stream->after;
    at += sprintf(at, "%zx\r\n", stream->sent_before + text_size + stream->sent_after);
    at = mempcpy(at, before, stream->sent_before);
    at = mempcpy(at, text, text_size);
    at = mempcpy(at, before + stream->sent_before, stream->sent_after);
    return mempcpy(at, "\r\n", 2);
}

/* Read once, pass on what is of the shape, and hold the rest. Returns whether there may be more: sockets tell of what
 * is new to them only, and of their end once. */
static int move(struct pump *pump, struct stream *stream, int ends) {
    char *buffer = pump->buffer, *end = pump->rewritten;
    size_t size = stream->unread;
    if (size) memcpy(buffer, stream->held, size);
    ssize_t got = recv(stream->upstream, buffer + size, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) { /* ended or broken, which its owner finds out again */
        stop(pump, stream);
        return 0;
    }
    size += (size_t)got;
    size_t taken = 0, events = 0;
    int found = MORE;
    while (taken < size) {
        const char *text;
        size_t text_size;
        found = read_chunk(stream, buffer + taken, size - taken, &text, &text_size);
        if (found <= 0) break;
        if (stream->text_bytes + text_size + 1 > TEXT_BYTES) {
            found = NOT_OURS; /* nobody has asked for long */
            break;
        }
        memcpy(stream->text + stream->text_bytes, text, text_size);
        stream->text_bytes += text_size;
        stream->text[stream->text_bytes++] = 0;
        if (!stream->as_it_came) end = rewrite(stream, end, text, text_size);
        taken += (size_t)found;
        events++;
    }
    const char *leaving = stream->as_it_came ? buffer : pump->rewritten;
    size_t sent = 0, to_send = stream->as_it_came ? taken : (size_t)(end - pump->rewritten);
    if (taken) {
        ssize_t put = send(stream->client, leaving, to_send, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent = put < 0 ? 0 : (size_t)put;
        stream->events += events;
        stream->last_event_ns = now_ns();
        if (stream->count) {
            stream->count->tokens += events;
            stream->count->last_event_ns = stream->last_event_ns;
        }
    }
    stream->unsent = to_send - sent;
    stream->unread = size - taken;
    memcpy(mempcpy(stream->held, leaving + sent, stream->unsent), buffer + taken, stream->unread);
    if (stream->unsent || (taken < size && found == NOT_OURS)) stop(pump, stream);
    return !stream->stopped && (ends || got == READ_BYTES);
}

static struct stream *find(struct pump *pump, uint64_t id) {
    uint32_t slot = (uint32_t)id, generation = (uint32_t)(id >> 32);
    if (slot >= (uint32_t)pump->count) return NULL;
    struct stream *stream = &pump->streams[slot];
    return stream->generation == generation && (generation & 1) ? stream : NULL;
}

/* Move what has come; where there is much more, others go first, and it is told again. */
static void take_turn(struct pump *pump, struct stream *stream, struct epoll_event *told) {
    int ends = (told->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0, more = 1;
    for (int reads = 0; more && reads < READS_A_TURN; reads++) more = move(pump, stream, ends);
    struct epoll_event again = {.events = WATCHED, .data.u64 = told->data.u64};
    if (more) epoll_ctl(pump->epoll, EPOLL_CTL_MOD, stream->upstream, &again);
}

static void *run(void *given) {
    struct pump *pump = given;
    struct epoll_event ready[AT_ONCE];
    for (;;) {
        int count = epoll_wait(pump->epoll, ready, AT_ONCE, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.u64 == 0) return NULL;
            pthread_mutex_lock(&pump->lock);
            struct stream *stream = find(pump, ready[i].data.u64);
            if (stream && !stream->stopped) take_turn(pump, stream, &ready[i]);
            pthread_mutex_unlock(&pump->lock);
        }
    }
}

static uint64_t id_of(struct pump *pump, struct stream *stream) {
    return (uint64_t)stream->generation << 32 | (uint64_t)(stream - pump->streams);
}

/* Start the thread, which leaves signals to the interpreter's. */
static int begin(struct pump *pump) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&pump->thread, NULL, run, pump);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) pthread_setname_np(pump->thread, "pump");
    return failed;
}

/* Start a pump for at most so many streams; NULL where it cannot be. */
struct pump *pump_start(int most) {
    struct pump *pump = calloc(1, sizeof *pump);
    if (!pump) return NULL;
    pump->streams = calloc((size_t)most, sizeof *pump->streams);
    pump->most = most;
    pump->free = pump->stopped = -1;
    pump->epoll = epoll_create1(EPOLL_CLOEXEC);
    pump->notice = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pump->halt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event halt = {.events = EPOLLIN, .data.u64 = 0};
    pthread_mutex_init(&pump->lock, NULL);
    if (pump->streams && pump->epoll >= 0 && pump->notice >= 0 && pump->halt >= 0 &&
        !epoll_ctl(pump->epoll, EPOLL_CTL_ADD, pump->halt, &halt) && !begin(pump))
        return pump;
    close(pump->epoll), close(pump->notice), close(pump->halt);
    free(pump->streams), free(pump);
    return NULL;
}

/* The descriptor that becomes readable when streams are to be given back. */
int pump_notice(struct pump *pump) { return pump->notice; }

static void clear(struct stream *stream) {
    close(stream->upstream), close(stream->client);
    free(stream->shape), free(stream->held), free(stream->text);
    uint32_t generation = stream->generation;
    memset(stream, 0, sizeof *stream);
    stream->generation = generation + 1;
}

/* Take a stream; returns its id, or 0 where that cannot be. */
uint64_t pump_take(struct pump *pump, int upstream, int client, const char *before, size_t before_bytes,
                   const char *after, size_t after_bytes, const char *sent_before, size_t sent_before_bytes,
                   const char *sent_after, size_t sent_after_bytes, size_t longest, struct count *count) {
    struct stream new = {.next = -1, .before = before_bytes, .after = after_bytes};
    new.sent_before = sent_before_bytes, new.sent_after = sent_after_bytes;
    new.count = count;
    new.as_it_came = sent_before_bytes == before_bytes && sent_after_bytes == after_bytes &&
                     !memcmp(before, sent_before, before_bytes) && !memcmp(after, sent_after, after_bytes);
    size_t came = before_bytes + after_bytes, leaves = sent_before_bytes + sent_after_bytes;
    new.longest = longest < LONGEST_EVENT ? longest : LONGEST_EVENT;
    if (came >= new.longest || leaves > came) return 0;
    new.shape = malloc(came + leaves);
    new.held = malloc(HELD_BYTES);
    new.text = malloc(TEXT_BYTES);
    new.upstream = fcntl(upstream, F_DUPFD_CLOEXEC, 0);
    new.client = fcntl(client, F_DUPFD_CLOEXEC, 0);
    uint64_t id = 0;
    pthread_mutex_lock(&pump->lock);
    int slot = pump->free >= 0 ? pump->free : pump->count < pump->most ? pump->count : -1;
    if (new.shape && new.held && new.text && new.upstream >= 0 && new.client >= 0 && slot >= 0) {
        char *end = mempcpy(mempcpy(new.shape, before, before_bytes), after, after_bytes);
        memcpy(mempcpy(end, sent_before, sent_before_bytes), sent_after, sent_after_bytes);
        struct stream *stream = &pump->streams[slot];
        int next_free = stream->next;
        new.generation = stream->generation + 1;
        id = (uint64_t)new.generation << 32 | (uint64_t)slot;
        struct epoll_event event = {.events = WATCHED, .data.u64 = id};
        if (epoll_ctl(pump->epoll, EPOLL_CTL_ADD, new.upstream, &event)) id = 0;
        else {
            if (slot == pump->count) pump->count++;
            else pump->free = next_free;
            *stream = new;
        }
    }
    pthread_mutex_unlock(&pump->lock);
    if (!id) {
        if (new.upstream >= 0) close(new.upstream);
        if (new.client >= 0) close(new.client);
        free(new.shape), free(new.held), free(new.text);
    }
    return id;
}

/* Return the id of a stream that is to be given back, or 0. */
uint64_t pump_next(struct pump *pump) {
    uint64_t counted, id = 0;
    pthread_mutex_lock(&pump->lock);
    if (pump->stopped >= 0) {
        struct stream *stream = &pump->streams[pump->stopped];
        pump->stopped = stream->next;
        stream->next = -1;
        id = id_of(pump, stream);
    } else if (read(pump->notice, &counted, sizeof counted) < 0) {
        id = 0; /* nothing was told: there is none */
    }
    pthread_mutex_unlock(&pump->lock);
    return id;
}

static void tell(struct stream *stream, struct told *told, char *text) {
    told->events = stream->events;
    told->last_event_ns = stream->last_event_ns;
    told->text_bytes = stream->text_bytes;
    told->unsent_bytes = stream->unsent;
    told->unread_bytes = stream->unread;
    memcpy(text, stream->text, stream->text_bytes);
    stream->events = stream->text_bytes = 0;
}

/* Tell what has been passed on since the last time; `text` has TEXT_BYTES. Returns whether there is such a stream. */
int pump_tell(struct pump *pump, uint64_t id, struct told *told, char *text) {
    pthread_mutex_lock(&pump->lock);
    struct stream *stream = find(pump, id);
    if (stream) tell(stream, told, text);
    pthread_mutex_unlock(&pump->lock);
    return stream != NULL;
}

/* Tell the same for the last time and let go; `held` (HELD_BYTES) gets what is unsent, then what is unread. */
int pump_leave(struct pump *pump, uint64_t id, struct told *told, char *text, char *held) {
    pthread_mutex_lock(&pump->lock);
    struct stream *stream = find(pump, id);
    if (stream) {
        tell(stream, told, text);
        memcpy(held, stream->held, stream->unsent + stream->unread);
        if (!stream->stopped) epoll_ctl(pump->epoll, EPOLL_CTL_DEL, stream->upstream, NULL);
        else { /* perhaps it is still in the list of those to be given back */
            int *link = &pump->stopped, slot = (int)(stream - pump->streams);
            while (*link >= 0 && *link != slot) link = &pump->streams[*link].next;
            if (*link == slot) *link = stream->next;
        }
        clear(stream);
        stream->next = pump->free;
        pump->free = (int)(stream - pump->streams);
    }
    pthread_mutex_unlock(&pump->lock);
    return stream != NULL;
}

/* End the thread and let go of everything. */
void pump_stop(struct pump *pump) {
    uint64_t one = 1;
    if (write(pump->halt, &one, sizeof one) == sizeof one) pthread_join(pump->thread, NULL);
    for (int slot = 0; slot < pump->count; slot++)
        if (pump->streams[slot].generation & 1) clear(&pump->streams[slot]);
    close(pump->epoll), close(pump->notice), close(pump->halt);
    pthread_mutex_destroy(&pump->lock);
    free(pump->streams), free(pump);
}
