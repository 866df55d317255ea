/*
 * A load generator for Engine.IO servers, revision 4 of the protocol, and for Socket.IO servers, revision 5.
 *
 *     gcc -O2 -Wall -Wextra -o load load.c
 *     ./load ws-echo --port 3000 --pid 1234 --connections 32 --depth 16
 *
 * One thread, epoll, requests and frames made in advance: it is to cost much less than the server it measures. What a
 * server sends back is compared, in content and order, with what was sent; a difference ends the run. One JSON object
 * on stdout says what was measured, or {"error": ...} with the exit code 1. docs/performance.md says what the modes do.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
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

#define SECOND 1000000000ULL
#define READ_SIZE (256 * 1024)
#define LARGEST_MESSAGE (1024 * 1024)
#define LARGEST_HEAD 4096
#define SCRATCH_SIZE (READ_SIZE + 2 * LARGEST_MESSAGE)
#define EVENTS 256
/* How many clients are on their way in at a time: fewer than the shortest queue of a listening server. */
#define OPENING_AT_ONCE 32
/* Addresses of loopback to connect from: one alone runs out of ports when connections are short. */
#define SOURCE_ADDRESSES 100
/* Seconds of quiet before memory is looked at. */
#define SETTLING 1.0
/* The part of that time that a server may be at work and count as quiet. */
#define BUSY 0.05

/* What a client sends as its key, and what the server makes of it (RFC 6455, 1.3). */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

typedef unsigned char byte;

struct bytes {
    byte *data;
    size_t length, capacity;
};

enum kind { TEXT, UTF8, BINARY };
enum role { RAW, READING, POSTING, WEBSOCKET };
enum opcode { OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };

struct connection {
    int fd; /* -1 while there is none */
    enum role role;
    bool isUpgraded;      /* a WebSocket that has got its 101 */
    bool isAwaited;       /* a request is out, and its answer isn't in */
    bool isDirty;         /* something is to be written at the end of this turn */
    bool waitsForWriting; /* the system takes nothing more at present */
    unsigned generation;  /* counts what it was opened for */
    size_t written;
    struct bytes out, rest;
    struct client *client;
};

/* How far a session of Socket.IO has come. */
enum stage { OPENING, CONNECTING, JOINING, CONNECTED };

/* A session, or what comes closest. */
struct client {
    size_t number;
    struct connection main, other;
    char sid[128];
    struct bytes poll, push; /* a GET that waits; the head of a POST of a message */
    uint64_t sent, received;
    uint64_t *times; /* when each message that is in flight was sent */
    uint64_t begun;
    bool isReady, isClosing;
    bool pongIsDue, messageIsDue, pongIsOut, isPosting;
    bool sawProbe, sawNoop;
    enum stage stage;
    bool attachmentIsDue; /* the text of a binary event is in */
};

struct response {
    int status;
    const byte *head;
    size_t headLength;
    const byte *body;
    size_t length;
};

struct mode {
    const char *name;
    enum role role;
    bool isIdle;
    void (*start)(struct client *client);
    void (*begin)(void);
    void (*answered)(struct client *client, struct connection *connection, const struct response *response);
    void (*upgraded)(struct client *client);
    void (*packet)(struct client *client, int type, const byte *data, size_t length);
    bool mayEnd; /* whether connections end in the course of an operation */
    const struct dialogue *dialogue; /* NULL without Socket.IO */
};

/* What a client of Socket.IO does in `/`. */
struct dialogue {
    const char *event; /* the name of what it sends */
    bool isAcknowledged, joins;
    void (*connected)(struct client *client);
    void (*packet)(struct client *client, int type, const byte *data, size_t length);
};

struct usage {
    double total, user, system; /* seconds */
};

struct snapshot {
    uint64_t now, operations, heartbeats;
    struct usage server, own;
};

static struct {
    const struct mode *mode;
    int port, pid, mixed;
    size_t connections, base, depth, inflight, size, operations, warmOperations, leavers;
    const char *event;
    enum kind kind;
    bool isPolling;
    double duration, warm, hold, stall;
} options = {.connections = 1, .base = 100, .depth = 1, .size = 32, .duration = 3, .warm = 1, .stall = 8};

/* Messages made in advance; the one that a client sends as its nth is messages[(its number * 7 + n) % messageCount]. */
struct message {
    struct bytes text;  /* what comes back on polling, or from a server of bytes */
    struct bytes frame; /* masked, as a client sends it; all frames of a binary event */
    const byte *payload;
    size_t length;          /* of the payload of a frame that comes back */
    const byte *attachment; /* of a binary event, what comes after that */
};
static struct message *messages;
static size_t messageCount;

static struct client *clients;
static size_t startedCount, openingCount, readyCount, targetCount, cursor;
static struct connection **dirty;
static size_t dirtyCount;
static int poller;
static byte *scratch;
static uint64_t now, lastProgress;
static uint64_t operations, heartbeats, broadcastDeliveries, *broadcastTimes, broadcastsSent;

static enum {
    SETTING_UP,
    SETTLING_BASE,
    ADDING,
    SETTLING_ALL,
    HOLDING,
    WARMING,
    MEASURING,
    SETTLING_REST,
    LEAVING,
    SETTLING_LEFT,
    DONE
} phase;
static const char *const phaseNames[] = {"setting up", "settling",  "adding sessions", "settling", "holding", "warming up",
                                         "measuring",  "settling", "leaving",         "settling", "done"};
static uint64_t phaseEnd;
static struct snapshot beginning;
static long baseMemory, allMemory;

/* Errors */

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *each = text; *each; each++)
        if ((byte)*each < ' ' || (byte)*each > '~' || *each == '"' || *each == '\\')
            *each = '.';
    printf("{\"error\": \"%s\"}\n", text);
    fflush(stdout);
    _exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static void append(struct bytes *bytes, const void *data, size_t length) {
    if (bytes->length + length > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + length);
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (!bytes->data)
            fail("out of memory");
    }
    if (length)
        memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

static void __attribute__((format(printf, 2, 3))) appendText(struct bytes *bytes, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append(bytes, text, (size_t)length);
}

/* Time, and what the processes have used */

static uint64_t clockNow(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void eachProcess(int pid, void (*visit)(int pid, void *result), void *result, int level) {
    visit(pid, result);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = level < 8 ? opendir(path) : NULL;
    if (!tasks)
        return;
    for (struct dirent *task; (task = readdir(tasks));) {
        char children[360];
        snprintf(children, sizeof children, "/proc/%d/task/%s/children", pid, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(children, "r");
        if (!file)
            continue;
        for (int child; fscanf(file, "%d", &child) == 1;)
            eachProcess(child, visit, result, level + 1);
        fclose(file);
    }
    closedir(tasks);
}

static void addUsage(int pid, void *result) {
    struct usage *usage = result;
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file))
        fail("the server's process %d has gone", pid);
    fclose(file);
    unsigned long user = 0, system = 0;
    /* The second field is the name of the program, which may hold anything but ends with the last parenthesis. */
    const char *fields = strrchr(line, ')');
    if (!fields || sscanf(fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail("%s isn't understood", path);
    double tick = (double)sysconf(_SC_CLK_TCK);
    usage->user += (double)user / tick;
    usage->system += (double)system / tick;
    /* Both come in steps of ten milliseconds; their sum can be had exactly. */
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0)
        usage->total += (double)time.tv_sec + (double)time.tv_nsec / 1e9;
    else
        usage->total += (double)(user + system) / tick;
}

static void addMemory(int pid, void *result) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        fail("the server's process %d has gone", pid);
    long kibibytes;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kibibytes) == 1)
            *(long *)result += kibibytes;
    fclose(file);
}

static long serverMemory(void) {
    long kibibytes = 0;
    eachProcess(options.pid, addMemory, &kibibytes, 0);
    return kibibytes;
}

static struct snapshot takeSnapshot(void) {
    struct snapshot snapshot = {.now = clockNow(), .operations = operations, .heartbeats = heartbeats};
    eachProcess(options.pid, addUsage, &snapshot.server, 0);
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    snapshot.own.user = (double)own.ru_utime.tv_sec + (double)own.ru_utime.tv_usec / 1e6;
    snapshot.own.system = (double)own.ru_stime.tv_sec + (double)own.ru_stime.tv_usec / 1e6;
    snapshot.own.total = snapshot.own.user + snapshot.own.system;
    return snapshot;
}

/* Latencies: counted in classes of which each is a 64th wider than its lower end */

#define CLASSES (64 * 60)
static uint64_t latencies[CLASSES], latencyCount;

static void countLatency(uint64_t begin) {
    uint64_t value = now - begin;
    size_t class = value;
    if (value >= 64) {
        int exponent = 63 - __builtin_clzll(value);
        class = (size_t)(exponent - 5) * 64 + ((value >> (exponent - 6)) & 63);
    }
    latencies[class < CLASSES ? class : CLASSES - 1]++;
    latencyCount++;
}

static double percentile(double fraction) {
    uint64_t wanted = (uint64_t)((double)latencyCount * fraction), seen = 0;
    for (size_t class = 0; class < CLASSES; class++) {
        seen += latencies[class];
        if (seen > wanted) {
            double lower = class < 64 ? (double)class : (double)((64 + class % 64) << (class / 64 - 1));
            return lower * (1 + 1.0 / 128) / 1000;
        }
    }
    return 0;
}

static void countOperation(uint64_t begin) {
    operations++;
    lastProgress = now;
    if (begin)
        countLatency(begin);
}

static void countHeartbeat(void) {
    heartbeats++;
    if (options.mode->isIdle)
        lastProgress = now;
}

/* Messages */

static void appendBase64(struct bytes *bytes, const byte *data, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        unsigned second = left > 1 ? data[i + 1] : 0, third = left > 2 ? data[i + 2] : 0;
        unsigned group = (unsigned)data[i] << 16 | second << 8 | third;
        char quartet[4] = {digits[group >> 18], digits[group >> 12 & 63], left > 1 ? digits[group >> 6 & 63] : '=',
                           left > 2 ? digits[group & 63] : '='};
        append(bytes, quartet, 4);
    }
}

/* Write a frame as a client does. The mask is as good as any other, and the same each time. */
static void appendFrame(struct bytes *bytes, enum opcode opcode, const void *payload, size_t length) {
    static const byte mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    byte head[14] = {(byte)(0x80 | opcode)};
    size_t headLength = 2;
    if (length < 126) {
        head[1] = (byte)(0x80 | length);
    } else {
        size_t width = length < 65536 ? 2 : 8;
        head[1] = 0x80 | (width == 2 ? 126 : 127);
        for (size_t i = 0; i < width; i++)
            head[2 + i] = (byte)((uint64_t)length >> 8 * (width - 1 - i));
        headLength += width;
    }
    memcpy(head + headLength, mask, 4);
    append(bytes, head, headLength + 4);
    append(bytes, payload, length);
    byte *masked = bytes->data + bytes->length - length;
    for (size_t i = 0; i < length; i++)
        masked[i] ^= mask[i % 4];
}

static void fillMessage(byte *data, size_t size, size_t number) {
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "x"};
    bool isBroadcast = strcmp(options.mode->name, "broadcast") == 0;
    char begin[64];
    size_t filled = (size_t)snprintf(begin, sizeof begin, "%s%zu ", isBroadcast ? "broadcast:" : "", number);
    if (options.kind == BINARY)
        for (size_t i = 0; i < size; i++)
            data[i] = (byte)(number * 31 + i * 7);
    if (options.kind == BINARY)
        return;
    for (size_t i = 0; i < size; i++)
        data[i] = i < filled ? (byte)begin[i] : (byte)('a' + (i + number) % 26);
    if (options.kind == TEXT)
        return;
    /* Where there is room for a character, there is one of one to four bytes. */
    for (size_t i = filled, next = number; i < size; next++) {
        size_t length = strlen(characters[next % 4]);
        if (i + length > size)
            break;
        memcpy(data + i, characters[next % 4], length);
        i += length;
    }
}

/*
 * Write the packet of an event, and what comes back: the same, or its acknowledgement with the same argument. The id of
 * an event is its place among the messages: no two that are in flight have the same.
 */
static void makeEvent(struct message *message, size_t id, const byte *argument) {
    bool isAcknowledged = options.mode->dialogue->isAcknowledged, isBinary = options.kind == BINARY;
    struct bytes value = {0}, event = {0}, answer = {0};
    if (isBinary) {
        appendText(&value, "{\"_placeholder\":true,\"num\":0}");
    } else {
        append(&value, "\"", 1);
        append(&value, argument, options.size);
        append(&value, "\"", 1);
    }
    appendText(&event, isBinary ? "451-" : "42");
    if (isAcknowledged)
        appendText(&event, "%zu", id);
    appendText(&event, "[\"%s\",", options.event ? options.event : options.mode->dialogue->event);
    append(&event, value.data, value.length);
    append(&event, "]", 1);
    appendText(&answer, isBinary ? "461-%zu[" : "43%zu[", id);
    append(&answer, value.data, value.length);
    append(&answer, "]", 1);
    appendFrame(&message->frame, OPCODE_TEXT, event.data, event.length);
    if (isBinary) {
        appendFrame(&message->frame, OPCODE_BINARY, argument, options.size);
        message->attachment = argument;
    }
    message->payload = isAcknowledged ? answer.data : event.data;
    message->length = isAcknowledged ? answer.length : event.length;
}

static void makeMessages(void) {
    messageCount = options.size > 20000 ? 17 : 61;
    messages = allocate(messageCount, sizeof *messages);
    for (size_t i = 0; i < messageCount; i++) {
        struct message *message = &messages[i];
        byte *whole = allocate(options.size + 1, 1);
        whole[0] = '4';
        fillMessage(whole + 1, options.size, i);
        if (options.mode->dialogue) {
            makeEvent(message, i, whole + 1);
            continue;
        }
        bool isBinary = options.kind == BINARY;
        message->payload = isBinary ? whole + 1 : whole;
        message->length = options.size + !isBinary;
        appendFrame(&message->frame, isBinary ? OPCODE_BINARY : OPCODE_TEXT, message->payload, message->length);
        if (options.mode->role == RAW) {
            append(&message->text, whole + 1, options.size);
        } else if (isBinary) {
            append(&message->text, "b", 1);
            appendBase64(&message->text, whole + 1, options.size);
        } else {
            append(&message->text, whole, options.size + 1);
        }
    }
}

static const struct message *messageOf(const struct client *client, uint64_t number) {
    return &messages[(client->number * 7 + number) % messageCount];
}

static void __attribute__((noreturn)) failByDifference(const struct client *client, const char *what, const byte *got,
                                                       size_t length, const byte *wanted, size_t wantedLength) {
    size_t same = 0;
    while (same < length && same < wantedLength && got[same] == wanted[same])
        same++;
    fail("%s number %llu of client %zu is wrong: %zu bytes instead of %zu, and they differ at byte %zu: '%.*s'", what,
         (unsigned long long)client->received, client->number, length, wantedLength, same,
         (int)(length - same > 60 ? 60 : length - same), (const char *)got + same);
}

static void compare(const struct client *client, const char *what, const byte *got, size_t length, const byte *wanted,
                    size_t wantedLength) {
    if (length != wantedLength || memcmp(got, wanted, length) != 0)
        failByDifference(client, what, got, length, wanted, wantedLength);
}

/* Connections */

static void watch(struct connection *connection, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (connection->waitsForWriting ? EPOLLOUT : 0),
                                .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void openConnection(struct client *client, struct connection *connection, enum role role) {
    static unsigned count;
    connection->client = client;
    connection->role = role;
    connection->isUpgraded = connection->isAwaited = false;
    connection->written = connection->out.length = connection->rest.length = 0;
    connection->generation++;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    int yes = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK + count++ % SOURCE_ADDRESSES)};
    if (bind(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("bind: %s", strerror(errno));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)options.port);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    connection->waitsForWriting = true;
    watch(connection, EPOLL_CTL_ADD);
}

static void closeConnection(struct connection *connection) {
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    connection->generation++;
}

/* Have something written at the end of this turn, together with what else there is by then. */
static void put(struct connection *connection, const struct bytes *bytes) {
    append(&connection->out, bytes->data, bytes->length);
    if (!connection->isDirty) {
        connection->isDirty = true;
        dirty[dirtyCount++] = connection;
    }
}

static void putFrame(struct connection *connection, enum opcode opcode, const void *payload, size_t length) {
    struct bytes frame = {0};
    appendFrame(&frame, opcode, payload, length);
    put(connection, &frame);
    free(frame.data);
}

static void request(struct connection *connection, const struct bytes *bytes) {
    if (connection->isAwaited)
        fail("the generator sends a request while another is out");
    connection->isAwaited = true;
    put(connection, bytes);
}

static void writeOut(struct connection *connection) {
    bool waited = connection->waitsForWriting;
    connection->waitsForWriting = false;
    while (connection->written < connection->out.length) {
        ssize_t count = send(connection->fd, connection->out.data + connection->written,
                             connection->out.length - connection->written, MSG_NOSIGNAL);
        if (count < 0 && (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN)) {
            connection->waitsForWriting = true;
            break;
        }
        if (count < 0)
            fail("a connection of client %zu was lost: %s", connection->client->number, strerror(errno));
        connection->written += (size_t)count;
    }
    if (connection->written == connection->out.length)
        connection->written = connection->out.length = 0;
    if (waited != connection->waitsForWriting)
        watch(connection, EPOLL_CTL_MOD);
}

static void writeAll(void) {
    for (size_t i = 0; i < dirtyCount; i++) {
        dirty[i]->isDirty = false;
        if (dirty[i]->fd >= 0 && !dirty[i]->waitsForWriting)
            writeOut(dirty[i]);
    }
    dirtyCount = 0;
}

/* HTTP */

static const byte *lineEnd(const byte *begin, const byte *end) {
    const byte *found = memmem(begin, (size_t)(end - begin), "\r\n", 2);
    return found;
}

/* Find a header's value; its length is 0 where there is none. */
static size_t header(const struct response *response, const char *name, const byte **value) {
    size_t nameLength = strlen(name);
    const byte *end = response->head + response->headLength;
    for (const byte *line = response->head, *next; line < end && (next = lineEnd(line, end)); line = next + 2) {
        if ((size_t)(next - line) <= nameLength || line[nameLength] != ':' ||
            strncasecmp((const char *)line, name, nameLength) != 0)
            continue;
        for (*value = line + nameLength + 1; *value < next && **value == ' '; ++*value)
            ;
        return (size_t)(next - *value);
    }
    return 0;
}

static bool headerIs(const struct response *response, const char *name, const char *wanted) {
    const byte *value;
    size_t length = header(response, name, &value);
    return length == strlen(wanted) && strncasecmp((const char *)value, wanted, length) == 0;
}

/* Join the chunks of a body in place. Return the bytes that were used, 0 where there are more to come. */
static size_t joinChunks(byte *data, size_t length, size_t *bodyLength) {
    size_t position = 0, filled = 0;
    for (;;) {
        const byte *end = lineEnd(data + position, data + length);
        if (!end)
            return 0;
        size_t size = strtoul((const char *)data + position, NULL, 16);
        position = (size_t)(end - data) + 2;
        if (length - position < size + 2)
            return 0;
        if (size == 0)
            break;
        memmove(data + filled, data + position, size);
        filled += size;
        position += size + 2;
    }
    *bodyLength = filled;
    return position + 2;
}

/* Return the bytes of a response, 0 where it isn't complete. */
static size_t parseResponse(byte *data, size_t length, struct response *response) {
    const byte *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) {
        if (length > LARGEST_HEAD)
            fail("the head of a response is longer than %d bytes", LARGEST_HEAD);
        return 0;
    }
    if (length < 12 || memcmp(data, "HTTP/1.1 ", 9) != 0)
        fail("no response: '%.*s'", (int)(end - data), (const char *)data);
    response->status = atoi((const char *)data + 9);
    response->head = data;
    response->headLength = (size_t)(end - data) + 2;
    size_t head = (size_t)(end - data) + 4;
    response->body = data + head;
    response->length = 0;
    if (response->status == 101)
        return head;
    const byte *value;
    if (header(response, "content-length", &value)) {
        response->length = strtoul((const char *)value, NULL, 10);
        if (response->length > LARGEST_MESSAGE + LARGEST_MESSAGE / 2)
            fail("a response has %zu bytes", response->length);
        return length - head >= response->length ? head + response->length : 0;
    }
    if (!headerIs(response, "transfer-encoding", "chunked"))
        fail("a response with neither a length nor chunks: '%.*s'", (int)response->headLength, (const char *)data);
    /* The chunks are joined in a copy, as there may be more to come for which they have to be as they were. */
    static byte *copy;
    if (!copy)
        copy = allocate(SCRATCH_SIZE, 1);
    memcpy(copy, response->body, length - head);
    size_t used = joinChunks(copy, length - head, &response->length);
    response->body = copy;
    return used ? head + used : 0;
}

static void makeRequest(struct bytes *bytes, const char *method, const char *query, const char *headers) {
    appendText(bytes, "%s /%s/?EIO=4&transport=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", method,
               options.mode->dialogue ? "socket.io" : "engine.io", query, options.port, headers);
}

static struct bytes openingPoll, openingWebSocket;

static void prepareRequests(void) {
    makeRequest(&openingPoll, "GET", "polling", "");
    makeRequest(&openingWebSocket, "GET", "websocket",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY
                "\r\n");
}

/* Learn the id of a session, or of its socket, from its open packet, without the packet's type. */
static void readOpenPacket(struct client *client, const byte *data, size_t length) {
    static const char before[] = "\"sid\":\"";
    const byte *begin = memmem(data, length, before, sizeof before - 1);
    const byte *end = begin ? memchr(begin + sizeof before - 1, '"', length - (size_t)(begin - data) - 7) : NULL;
    if (!end || length < 2 || data[0] != '{')
        fail("no open packet: '%.*s'", (int)(length > 200 ? 200 : length), (const char *)data);
    begin += sizeof before - 1;
    if ((size_t)(end - begin) >= sizeof client->sid || end == begin)
        fail("a session's id has %d characters", (int)(end - begin));
    memcpy(client->sid, begin, (size_t)(end - begin));
    client->sid[end - begin] = 0;
}

static void readOpenAnswer(struct client *client, const struct response *response) {
    if (response->length < 1 || response->body[0] != '0')
        fail("no open packet: '%.*s'", (int)(response->length > 200 ? 200 : response->length),
             (const char *)response->body);
    readOpenPacket(client, response->body + 1, response->length - 1);
}

/* Make the requests in which the session's id is. */
static void prepareSession(struct client *client) {
    char query[256], length[128];
    snprintf(query, sizeof query, "polling&sid=%s", client->sid);
    client->poll.length = client->push.length = 0;
    makeRequest(&client->poll, "GET", query, "");
    snprintf(length, sizeof length, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %zu\r\n",
             messages[0].text.length);
    makeRequest(&client->push, "POST", query, length);
}

static void postPong(struct client *client, struct connection *connection) {
    char query[256];
    snprintf(query, sizeof query, "polling&sid=%s", client->sid);
    struct bytes pong = {0};
    makeRequest(&pong, "POST", query, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 1\r\n");
    append(&pong, "3", 1);
    request(connection, &pong);
    free(pong.data);
}

/* What all modes share */

static void becameReady(struct client *client) {
    if (client->isReady)
        fail("a second open packet");
    client->isReady = true;
    openingCount--;
    readyCount++;
    lastProgress = now;
}

static void startWebSocket(struct client *client) {
    openConnection(client, &client->main, WEBSOCKET);
    put(&client->main, &openingWebSocket);
    client->begun = now;
}

static void startPolling(struct client *client) {
    openConnection(client, &client->main, READING);
    request(&client->main, &openingPoll);
    client->begun = now;
}

static void sendMessage(struct client *client) {
    size_t capacity = options.depth > options.inflight ? options.depth : options.inflight;
    client->times[client->sent % capacity] = now;
    const struct message *message = messageOf(client, client->sent++);
    put(&client->main, client->main.role == RAW ? &message->text : &message->frame);
}

static void sendNext(struct client *client) {
    if (options.inflight) {
        client = &clients[cursor];
        cursor = (cursor + 1) % options.connections;
    }
    sendMessage(client);
}

static void beginEcho(void) {
    size_t total = options.inflight ? options.inflight : options.connections * options.depth;
    for (size_t i = 0; i < total; i++)
        sendNext(&clients[i / options.depth % options.connections]);
}

static void tookEcho(struct client *client) {
    size_t capacity = options.depth > options.inflight ? options.depth : options.inflight;
    countOperation(client->times[client->received++ % capacity]);
}

static void unexpected(const char *what, const byte *data, size_t length) {
    fail("unexpected %s: '%.*s'", what, (int)(length > 100 ? 100 : length), (const char *)data);
}

/* ws-echo */

static void echoPacket(struct client *client, int type, const byte *data, size_t length) {
    if (type == '0') {
        readOpenPacket(client, data + 1, length - 1);
        becameReady(client);
        return;
    }
    if (type != (options.kind == BINARY ? 'b' : '4'))
        unexpected("packet", data, length);
    if (client->received >= client->sent)
        unexpected("echo of nothing", data, length);
    const struct message *message = messageOf(client, client->received);
    compare(client, "message", data, length, message->payload, message->length);
    tookEcho(client);
    sendNext(client);
}

/* raw-echo */

static void startRaw(struct client *client) {
    openConnection(client, &client->main, RAW);
    becameReady(client);
}

static size_t takeRaw(struct client *client, const byte *data, size_t length) {
    if (client->received >= client->sent)
        unexpected("echo of nothing", data, length);
    const struct message *message = messageOf(client, client->received);
    if (length < message->text.length)
        return 0;
    compare(client, "message", data, message->text.length, message->text.data, message->text.length);
    tookEcho(client);
    sendNext(client);
    return message->text.length;
}

/* broadcast: the first client has it sent, and all get it */

static void sendBroadcast(void) {
    broadcastTimes[broadcastsSent % options.depth] = now;
    put(&clients[0].main, &messages[broadcastsSent++ % messageCount].frame);
}

static void beginBroadcast(void) {
    for (size_t i = 0; i < options.depth; i++)
        sendBroadcast();
}

static void tookBroadcast(struct client *client) {
    countOperation(broadcastTimes[client->received++ % options.depth]);
    if (++broadcastDeliveries % options.connections == 0)
        sendBroadcast();
}

static void broadcastPacket(struct client *client, int type, const byte *data, size_t length) {
    if (type == '0') {
        readOpenPacket(client, data + 1, length - 1);
        becameReady(client);
        return;
    }
    if (type != '4' || client->received >= broadcastsSent)
        unexpected("packet", data, length);
    const struct message *message = &messages[client->received % messageCount];
    compare(client, "broadcast", data, length, message->payload, message->length);
    tookBroadcast(client);
}

/* polling-echo: a GET always waits, and a message is posted when the one before has come back */

/* With --mixed the POSTs of all sessions share their connections, as behind a proxy with a pool: any that is free carries
 * the next one, whichever session it is of. In a fixed order all of them could come to the wrong worker, or none. */
static struct connection **freeConnections;
static size_t countFree;

static void putFree(struct connection *connection) {
    freeConnections[countFree++] = connection;
}

static struct connection *takeFree(void) {
    static unsigned state = 1;
    state = state * 1103515245u + 12345u;
    size_t chosen = (state >> 16) % countFree;
    struct connection *connection = freeConnections[chosen];
    freeConnections[chosen] = freeConnections[--countFree];
    return connection;
}

static struct connection *connectionToPost(struct client *client) {
    struct connection *connection = &client->other;
    if (options.mixed) {
        /* There are as many as sessions, and each session needs one at a time. */
        connection = takeFree();
        connection->client = client;
    }
    client->isPosting = true;
    return connection;
}

static void postMessage(struct client *client) {
    client->times[0] = now;
    struct connection *connection = connectionToPost(client);
    request(connection, &client->push);
    put(connection, &messageOf(client, client->sent++)->text);
}

static void pollingGoesOn(struct client *client) {
    if (client->isPosting)
        return;
    if (client->pongIsDue) {
        client->pongIsDue = false;
        postPong(client, connectionToPost(client));
    } else if (client->messageIsDue) {
        client->messageIsDue = false;
        postMessage(client);
    }
}

static void beginPolling(void) {
    freeConnections = allocate(options.connections, sizeof *freeConnections);
    for (size_t i = 0; i < options.connections; i++) {
        request(&clients[i].main, &clients[i].poll);
        openConnection(&clients[i], &clients[i].other, POSTING);
        putFree(&clients[i].other);
    }
    for (size_t i = 0; i < options.connections; i++)
        postMessage(&clients[i]);
}

static void takePayload(struct client *client, const byte *data, size_t length) {
    const byte *end = data + length;
    for (const byte *next; data <= end; data = next + 1) {
        next = memchr(data, 0x1e, (size_t)(end - data));
        if (!next)
            next = end;
        size_t size = (size_t)(next - data);
        if (size == 1 && *data == '2') {
            countHeartbeat();
            client->pongIsDue = true;
        } else if (size == 1 && *data == '6') {
            client->sawNoop = true;
        } else {
            if (client->received >= client->sent)
                unexpected("payload", data, size);
            const struct message *message = messageOf(client, client->received++);
            compare(client, "message", data, size, message->text.data, message->text.length);
            countOperation(client->times[0]);
            client->messageIsDue = true;
        }
    }
}

static void pollingAnswered(struct client *client, struct connection *connection, const struct response *response) {
    if (!client->isReady) {
        readOpenAnswer(client, response);
        prepareSession(client);
        becameReady(client);
        return;
    }
    if (connection == &client->main) {
        takePayload(client, response->body, response->length);
        request(&client->main, &client->poll);
    } else {
        if (response->length != 2 || strncasecmp((const char *)response->body, "ok", 2) != 0)
            unexpected("answer to a POST", response->body, response->length);
        client->isPosting = false;
        if (options.mixed)
            putFree(connection);
    }
    pollingGoesOn(client);
}

/* handshake */

static void startHandshake(struct client *client) {
    startPolling(client);
    becameReady(client);
}

static void handshakeAnswered(struct client *client, struct connection *connection, const struct response *response) {
    readOpenAnswer(client, response);
    countOperation(client->begun);
    client->begun = now;
    request(connection, &openingPoll);
}

/* ws-handshake, and the end of upgrade */

static void startShortWebSocket(struct client *client) {
    if (!client->isReady)
        becameReady(client);
    startWebSocket(client);
}

static void endWebSocket(struct client *client, struct connection *connection) {
    static const byte normal[] = {1000 >> 8, 1000 & 255};
    client->isClosing = true;
    putFrame(connection, OPCODE_CLOSE, normal, sizeof normal);
}

static void shortWebSocketPacket(struct client *client, int type, const byte *data, size_t length) {
    if (type != '0' || client->isClosing)
        unexpected("packet", data, length);
    readOpenPacket(client, data + 1, length - 1);
    countLatency(client->begun);
    endWebSocket(client, &client->main);
}

/* upgrade: a session opened on polling moves to a WebSocket, and a message comes back there */

static void startUpgrade(struct client *client) {
    if (!client->isReady) {
        becameReady(client);
        startPolling(client);
    } else {
        client->begun = now;
        request(&client->main, &openingPoll);
    }
    client->sid[0] = 0;
    client->sawProbe = client->sawNoop = client->isClosing = false;
}

static void upgradeGoesOn(struct client *client) {
    if (!client->sawProbe || !client->sawNoop)
        return;
    putFrame(&client->other, OPCODE_TEXT, "5", 1);
    put(&client->other, &messageOf(client, client->sent++)->frame);
}

static void upgradeAnswered(struct client *client, struct connection *connection, const struct response *response) {
    if (client->sid[0]) {
        client->pongIsDue = false;
        takePayload(client, response->body, response->length);
        if (!client->sawNoop)
            fail("a waiting GET was ended without a noop");
        upgradeGoesOn(client);
        return;
    }
    readOpenAnswer(client, response);
    prepareSession(client);
    request(connection, &client->poll);
    struct bytes opening = {0};
    char query[256];
    snprintf(query, sizeof query, "websocket&sid=%s", client->sid);
    makeRequest(&opening, "GET", query,
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY
                "\r\n");
    openConnection(client, &client->other, WEBSOCKET);
    put(&client->other, &opening);
    free(opening.data);
}

static void upgradeUpgraded(struct client *client) {
    putFrame(&client->other, OPCODE_TEXT, "2probe", 6);
}

static void upgradePacket(struct client *client, int type, const byte *data, size_t length) {
    if (length == 6 && memcmp(data, "3probe", 6) == 0 && !client->sawProbe) {
        client->sawProbe = true;
        upgradeGoesOn(client);
        return;
    }
    if (type == '6' && length == 1)
        return;
    if (client->received >= client->sent)
        unexpected("packet", data, length);
    const struct message *message = messageOf(client, client->received++);
    compare(client, "message", data, length, message->payload, message->length);
    countLatency(client->begun);
    endWebSocket(client, &client->other);
}

/* idle, and what its clients do about heartbeats on polling */

static void startIdle(struct client *client) {
    if (options.isPolling)
        startPolling(client);
    else
        startWebSocket(client);
}

static void idlePacket(struct client *client, int type, const byte *data, size_t length) {
    if (type != '0')
        unexpected("packet", data, length);
    becameReady(client);
}

static void idleAnswered(struct client *client, struct connection *connection, const struct response *response) {
    if (!client->isReady) {
        readOpenAnswer(client, response);
        prepareSession(client);
        becameReady(client);
        request(connection, &client->poll);
    } else if (client->pongIsOut) {
        client->pongIsOut = false;
        request(connection, &client->poll);
    } else {
        takePayload(client, response->body, response->length);
        if (client->pongIsDue) {
            client->pongIsDue = false;
            client->pongIsOut = true;
            postPong(client, connection);
        } else {
            request(connection, &client->poll);
        }
    }
}

/* http-get and http-post-get: any server that answers a GET of a path with what was posted there */

static void startHttp(struct client *client) {
    openConnection(client, &client->main, READING);
    appendText(&client->poll, "GET /%zu HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", client->number, options.port);
    appendText(&client->push, "POST /%zu HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %zu\r\n\r\n", client->number,
               options.port, messages[0].text.length);
    becameReady(client);
}

static void putHttp(struct client *client, bool posts) {
    request(&client->main, posts ? &client->push : &client->poll);
    if (posts) {
        client->times[0] = now;
        put(&client->main, &messageOf(client, client->sent++)->text);
    }
    client->isClosing = posts;
}

static bool postsToo(void) { return strcmp(options.mode->name, "http-post-get") == 0; }

static void beginHttp(void) {
    for (size_t i = 0; i < options.connections; i++) {
        clients[i].times[0] = now;
        putHttp(&clients[i], postsToo());
    }
}

static void httpAnswered(struct client *client, struct connection *connection, const struct response *response) {
    (void)connection;
    if (client->isClosing) {
        putHttp(client, false);
        return;
    }
    if (postsToo()) {
        const struct message *message = messageOf(client, client->received++);
        compare(client, "body", response->body, response->length, message->text.data, message->text.length);
    }
    countOperation(client->times[0]);
    client->times[0] = now;
    putHttp(client, postsToo());
}

/* Socket.IO */

static void startSocketIO(struct client *client) {
    client->stage = OPENING;
    startWebSocket(client);
}

/* Have a client join `/`, and the room that broadcasts go to, before anything is measured. */
static void socketIOPacket(struct client *client, int type, const byte *data, size_t length) {
    static const char joining[] = "420[\"join\"]", joined[] = "430[]";
    const struct dialogue *dialogue = options.mode->dialogue;
    if (client->stage == CONNECTED && !client->isClosing) {
        dialogue->packet(client, type, data, length);
    } else if (client->stage == OPENING && type == '0') {
        readOpenPacket(client, data + 1, length - 1);
        client->stage = CONNECTING;
        putFrame(&client->main, OPCODE_TEXT, "40", 2);
    } else if (client->stage == CONNECTING && length > 2 && memcmp(data, "40", 2) == 0) {
        readOpenPacket(client, data + 2, length - 2);
        client->stage = dialogue->joins ? JOINING : CONNECTED;
        if (dialogue->joins)
            putFrame(&client->main, OPCODE_TEXT, joining, sizeof joining - 1);
        else
            dialogue->connected(client);
    } else if (client->stage == JOINING) {
        compare(client, "acknowledgement", data, length, (const byte *)joined, sizeof joined - 1);
        client->stage = CONNECTED;
        dialogue->connected(client);
    } else {
        unexpected("packet", data, length);
    }
}

static void unexpectedPacket(struct client *client, int type, const byte *data, size_t length) {
    (void)client;
    (void)type;
    unexpected("packet", data, length);
}

/* Compare the next part of an event, or of an acknowledgement. Return whether it was the last. */
static bool tookParts(struct client *client, const struct message *message, int type, const byte *data, size_t length) {
    if (type != (client->attachmentIsDue ? 'b' : '4'))
        unexpected("packet", data, length);
    if (client->attachmentIsDue)
        compare(client, "attachment", data, length, message->attachment, options.size);
    else
        compare(client, "event", data, length, message->payload, message->length);
    client->attachmentIsDue = message->attachment && !client->attachmentIsDue;
    return !client->attachmentIsDue;
}

static void eventPacket(struct client *client, int type, const byte *data, size_t length) {
    if (client->received >= client->sent)
        unexpected("answer to nothing", data, length);
    if (tookParts(client, messageOf(client, client->received), type, data, length)) {
        tookEcho(client);
        sendNext(client);
    }
}

static void roomPacket(struct client *client, int type, const byte *data, size_t length) {
    if (client->received >= broadcastsSent)
        unexpected("broadcast", data, length);
    if (tookParts(client, &messages[client->received % messageCount], type, data, length))
        tookBroadcast(client);
}

static void startShortSocketIO(struct client *client) {
    if (!client->isReady)
        becameReady(client);
    startSocketIO(client);
}

static void endSocketIO(struct client *client) {
    countLatency(client->begun);
    endWebSocket(client, &client->main);
}

/* sio-disconnect: every so many-th client leaves, all of them at once */

static void leave(void) {
    size_t step = options.connections / options.leavers;
    for (size_t i = 0; i < options.leavers; i++) {
        struct client *client = &clients[i * step];
        client->isReady = false;
        readyCount--;
        client->begun = now;
        endWebSocket(client, &client->main);
    }
}

static const struct dialogue echoing = {"m", false, false, becameReady, eventPacket};
static const struct dialogue acknowledged = {"a", true, false, becameReady, eventPacket};
static const struct dialogue inRoom = {"b", false, true, becameReady, roomPacket};
static const struct dialogue connecting = {"", false, false, endSocketIO, unexpectedPacket};
static const struct dialogue silent = {"", false, false, becameReady, unexpectedPacket};

static const struct mode modes[] = {
    {"ws-echo", WEBSOCKET, false, startWebSocket, beginEcho, NULL, NULL, echoPacket, false, NULL},
    {"raw-echo", RAW, false, startRaw, beginEcho, NULL, NULL, NULL, false, NULL},
    {"broadcast", WEBSOCKET, false, startWebSocket, beginBroadcast, NULL, NULL, broadcastPacket, false, NULL},
    {"polling-echo", READING, false, startPolling, beginPolling, pollingAnswered, NULL, NULL, false, NULL},
    {"handshake", READING, false, startHandshake, NULL, handshakeAnswered, NULL, NULL, false, NULL},
    {"ws-handshake", WEBSOCKET, false, startShortWebSocket, NULL, NULL, NULL, shortWebSocketPacket, true, NULL},
    {"upgrade", READING, false, startUpgrade, NULL, upgradeAnswered, upgradeUpgraded, upgradePacket, true, NULL},
    {"idle", WEBSOCKET, true, startIdle, NULL, idleAnswered, NULL, idlePacket, false, NULL},
    {"http-get", READING, false, startHttp, beginHttp, httpAnswered, NULL, NULL, false, NULL},
    {"http-post-get", READING, false, startHttp, beginHttp, httpAnswered, NULL, NULL, false, NULL},
    {"sio-echo", WEBSOCKET, false, startSocketIO, beginEcho, NULL, NULL, socketIOPacket, false, &echoing},
    {"sio-ack", WEBSOCKET, false, startSocketIO, beginEcho, NULL, NULL, socketIOPacket, false, &acknowledged},
    {"sio-broadcast", WEBSOCKET, false, startSocketIO, beginBroadcast, NULL, NULL, socketIOPacket, false, &inRoom},
    {"sio-connect", WEBSOCKET, false, startShortSocketIO, NULL, NULL, NULL, socketIOPacket, true, &connecting},
    {"sio-disconnect", WEBSOCKET, false, startSocketIO, NULL, NULL, NULL, socketIOPacket, false, &silent},
    {"sio-idle", WEBSOCKET, true, startSocketIO, NULL, NULL, NULL, socketIOPacket, false, &silent},
};

/* What comes in */

/* Go on with a client whose WebSocket is over, where that is the end of an operation. */
static void webSocketEnded(struct connection *connection) {
    struct client *client = connection->client;
    if (!client->isClosing)
        fail("a connection of client %zu was closed by the server", client->number);
    closeConnection(connection);
    client->isClosing = false;
    if (phase == LEAVING) {
        countOperation(client->begun);
        return;
    }
    countOperation(0);
    options.mode->start(client);
}

static void takeFrame(struct connection *connection, enum opcode opcode, const byte *data, size_t length) {
    struct client *client = connection->client;
    if (opcode == OPCODE_CLOSE) {
        webSocketEnded(connection);
    } else if (opcode == OPCODE_PING) {
        putFrame(connection, OPCODE_PONG, data, length);
    } else if (opcode == OPCODE_TEXT && length == 1 && *data == '2') {
        countHeartbeat();
        putFrame(connection, OPCODE_TEXT, "3", 1);
    } else if (opcode == OPCODE_TEXT && length > 0) {
        options.mode->packet(client, *data, data, length);
    } else if (opcode == OPCODE_BINARY) {
        options.mode->packet(client, 'b', data, length);
    } else if (opcode != OPCODE_PONG) {
        fail("a frame with the opcode %d and %zu bytes", opcode, length);
    }
}

static size_t takeWebSocket(struct connection *connection, byte *data, size_t length) {
    if (!connection->isUpgraded) {
        struct response response;
        size_t used = parseResponse(data, length, &response);
        if (!used)
            return 0;
        if (response.status != 101 || !headerIs(&response, "sec-websocket-accept", ACCEPT))
            fail("a WebSocket wasn't opened: '%.*s'", (int)(used > 300 ? 300 : used), (const char *)data);
        connection->isUpgraded = true;
        if (options.mode->upgraded)
            options.mode->upgraded(connection->client);
        return used;
    }
    if (length < 2)
        return 0;
    if ((data[0] & 0xf0) != 0x80 || data[1] & 0x80)
        fail("a frame that is masked, compressed or a part of a message: %02x %02x", data[0], data[1]);
    size_t size = data[1], width = size < 126 ? 0 : size == 126 ? 2 : 8;
    if (length < 2 + width)
        return 0;
    if (width)
        size = 0;
    for (size_t i = 0; i < width; i++)
        size = size << 8 | data[2 + i];
    if (size > LARGEST_MESSAGE + 1)
        fail("a frame of %zu bytes", size);
    if (length < 2 + width + size)
        return 0;
    takeFrame(connection, data[0] & 15, data + 2 + width, size);
    return 2 + width + size;
}

static size_t takeResponse(struct connection *connection, byte *data, size_t length) {
    struct response response;
    size_t used = parseResponse(data, length, &response);
    if (!used)
        return 0;
    if (!connection->isAwaited)
        fail("an answer to no request");
    if (response.status != 200)
        fail("an answer with %d: '%.*s'", response.status, (int)(response.length > 200 ? 200 : response.length),
             (const char *)response.body);
    connection->isAwaited = false;
    options.mode->answered(connection->client, connection, &response);
    return used;
}

static size_t take(struct connection *connection, byte *data, size_t length) {
    switch (connection->role) {
    case RAW:
        return takeRaw(connection->client, data, length);
    case WEBSOCKET:
        return takeWebSocket(connection, data, length);
    default:
        return takeResponse(connection, data, length);
    }
}

static void readIn(struct connection *connection) {
    size_t length = connection->rest.length;
    if (length > SCRATCH_SIZE - READ_SIZE)
        fail("a message without an end");
    if (length)
        memcpy(scratch, connection->rest.data, length);
    ssize_t count = recv(connection->fd, scratch + length, READ_SIZE, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    now = clockNow();
    if (count <= 0) {
        bool isLost = count < 0 && errno != ECONNRESET;
        if (isLost || connection->role != WEBSOCKET)
            fail("a connection of client %zu was lost: %s", connection->client->number,
                 count < 0 ? strerror(errno) : "closed by the server");
        webSocketEnded(connection);
        return;
    }
    length += (size_t)count;
    size_t position = 0;
    unsigned generation = connection->generation;
    while (position < length) {
        size_t used = take(connection, scratch + position, length - position);
        if (generation != connection->generation)
            return;
        if (!used)
            break;
        position += used;
    }
    connection->rest.length = 0;
    append(&connection->rest, scratch + position, length - position);
}

/* The course of a run */

static void enter(int next, double seconds) {
    phase = next;
    now = clockNow();
    lastProgress = now;
    phaseEnd = now + (uint64_t)(seconds * (double)SECOND);
}

static void reportMemory(void) {
    size_t added = options.connections;
    printf("\"sessions\": %zu, \"baseSessions\": %zu, ", added, options.base);
    printf("\"baseKiB\": %ld, \"allKiB\": %ld, \"kibPerSession\": %.3f, ", baseMemory, allMemory,
           (double)(allMemory - baseMemory) / (double)added);
}

static void report(void) {
    struct snapshot end = takeSnapshot();
    long memory = serverMemory();
    double seconds = (double)(end.now - beginning.now) / 1e9;
    double server = end.server.total - beginning.server.total;
    double user = end.server.user - beginning.server.user, system = end.server.system - beginning.server.system;
    double own = end.own.total - beginning.own.total;
    bool countsHeartbeats = options.mode->isIdle;
    uint64_t count = countsHeartbeats ? end.heartbeats - beginning.heartbeats : end.operations - beginning.operations;
    if (count == 0 && (!countsHeartbeats || options.hold > 0))
        fail("nothing happened in the measured time");
    double each = count ? 1e6 / (double)count : 0;
    double userPart = user + system > 0 ? user / (user + system) : 0;
    printf("{\"mode\": \"%s\", \"connections\": %zu, \"depth\": %zu, \"inflight\": %zu, \"size\": %zu, ",
           options.mode->name, options.connections, options.depth, options.inflight, options.size);
    if (options.mode->isIdle)
        reportMemory();
    printf("\"ops\": %llu, \"seconds\": %.4f, \"opsPerSecond\": %.1f, \"cpuPerOp\": %.4f, \"userPerOp\": %.4f, "
           "\"systemPerOp\": %.4f, \"p50\": %.1f, \"p99\": %.1f, \"serverUtilisation\": %.4f, "
           "\"generatorUtilisation\": %.4f, \"heartbeats\": %llu, \"rssKiB\": %ld}\n",
           (unsigned long long)count, seconds, (double)count / seconds, server * each, server * each * userPart,
           server * each * (1 - userPart), percentile(0.5), percentile(0.99), server / seconds, own / seconds,
           (unsigned long long)heartbeats, memory);
    phase = DONE;
}

/* Whether the server has done what it had to: a second ago it was told of the last, and has hardly done a thing since. */
static bool isAtRest(void) {
    static double before;
    struct usage usage = {0};
    eachProcess(options.pid, addUsage, &usage, 0);
    bool isBusy = usage.total - before > SETTLING * BUSY;
    before = usage.total;
    return !isBusy;
}

static void startMeasuring(void) {
    memset(latencies, 0, sizeof latencies);
    latencyCount = 0;
    beginning = takeSnapshot();
}

static void startClients(void) {
    size_t most = options.mode->mayEnd ? targetCount : OPENING_AT_ONCE;
    for (; startedCount < targetCount && openingCount < most; startedCount++) {
        if (clients[startedCount].isReady)
            continue;
        clients[startedCount].number = startedCount;
        openingCount++;
        options.mode->start(&clients[startedCount]);
    }
}

static void allAreReady(void) {
    if (options.mode->isIdle) {
        enter(phase == SETTING_UP ? SETTLING_BASE : SETTLING_ALL, SETTLING);
        return;
    }
    if (options.leavers) {
        enter(SETTLING_REST, SETTLING);
        return;
    }
    bool isForFaults = options.operations && !options.warmOperations;
    enter(WARMING, options.operations ? 0 : options.warm);
    if (options.mode->begin)
        options.mode->begin();
    if (isForFaults) {
        /* Every one of the operations counts. */
        phase = MEASURING;
        startMeasuring();
    }
}

/* Whether the server has done what is to be done before anything is measured. */
static bool isWarm(void) {
    if (options.mode->isIdle && options.hold <= 0)
        return true;
    return (options.mode->isIdle ? heartbeats : operations) >= options.warmOperations;
}

/* See whether the time has come for what is next. */
static void goOn(void) {
    /* A broadcast counts as a whole: the server may have sent all of it before the first client has read its own. */
    bool isBetween = options.depth > 1 || broadcastDeliveries % options.connections == 0;
    bool isOver = now >= phaseEnd && isBetween;
    switch (phase) {
    case SETTING_UP:
    case ADDING:
        startClients();
        if (readyCount == targetCount)
            allAreReady();
        break;
    case SETTLING_BASE:
        if (isOver) {
            baseMemory = serverMemory();
            targetCount += options.connections;
            enter(ADDING, 0);
        }
        break;
    case SETTLING_ALL:
        if (isOver) {
            allMemory = serverMemory();
            enter(WARMING, options.hold > 0 ? options.warm : 0);
        }
        break;
    case WARMING:
        if (isOver && isWarm()) {
            startMeasuring();
            if (options.mode->isIdle)
                enter(HOLDING, options.hold);
            else
                enter(MEASURING, options.duration);
        }
        break;
    case HOLDING:
        if (isOver)
            report();
        break;
    case MEASURING:
        if (options.operations ? operations - beginning.operations >= options.operations : isOver)
            report();
        break;
    case SETTLING_REST:
        if (isOver && !isAtRest()) {
            enter(SETTLING_REST, SETTLING);
        } else if (isOver) {
            startMeasuring();
            enter(LEAVING, 0);
            leave();
        }
        break;
    case LEAVING:
        /* What a server does about those that have left may come long after their connections' end. */
        if (operations - beginning.operations == options.leavers)
            enter(SETTLING_LEFT, SETTLING);
        break;
    case SETTLING_LEFT:
        if (isOver && !isAtRest()) {
            enter(SETTLING_LEFT, SETTLING);
        } else if (isOver && beginning.operations >= options.warmOperations) {
            report();
        } else if (isOver) {
            startedCount = 0;
            enter(SETTING_UP, 0);
        }
        break;
    case DONE:
        break;
    }
    bool isQuiet = phase == SETTLING_BASE || phase == SETTLING_ALL || phase == HOLDING || phase == SETTLING_REST ||
                   phase == SETTLING_LEFT || phase == DONE || (options.mode->isIdle && phase == WARMING && !isOver);
    if (!isQuiet && now > lastProgress + (uint64_t)(options.stall * (double)SECOND))
        fail("no progress for %.0f s while %s: %zu of %zu clients are ready, %llu operations", options.stall,
             phaseNames[phase], readyCount, targetCount, (unsigned long long)operations);
}

static void run(void) {
    enter(SETTING_UP, 0);
    struct epoll_event events[EVENTS];
    while (phase != DONE) {
        writeAll();
        int count = epoll_wait(poller, events, EVENTS, 10);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait: %s", strerror(errno));
        now = clockNow();
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->fd >= 0 && events[i].events & EPOLLOUT)
                writeOut(connection);
            if (connection->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
                readIn(connection);
                writeAll();
            }
        }
        goOn();
    }
}

/* Options */

static double number(const char *name, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || value < 0)
        fail("%s: '%s' is no number", name, text);
    return value;
}

static void choose(const char *name, const char *value) {
    static const char *const kinds[] = {"text", "utf8", "binary"};
    if (strcmp(name, "--kind") == 0) {
        for (size_t i = 0; i < 3; i++)
            if (strcmp(value, kinds[i]) == 0) {
                options.kind = (enum kind)i;
                return;
            }
        fail("--kind: text, utf8 or binary, not '%s'", value);
    }
    if (strcmp(name, "--event") == 0) {
        options.event = value;
        return;
    }
    if (strcmp(name, "--transport") == 0) {
        options.isPolling = strcmp(value, "polling") == 0;
        if (!options.isPolling && strcmp(value, "websocket") != 0)
            fail("--transport: websocket or polling, not '%s'", value);
        return;
    }
    const struct {
        const char *name;
        size_t *count;
        double *seconds;
        int *integer;
    } numbers[] = {
        {"--port", NULL, NULL, &options.port},
        {"--pid", NULL, NULL, &options.pid},
        {"--mixed", NULL, NULL, &options.mixed},
        {"--connections", &options.connections, NULL, NULL},
        {"--base", &options.base, NULL, NULL},
        {"--depth", &options.depth, NULL, NULL},
        {"--inflight", &options.inflight, NULL, NULL},
        {"--size", &options.size, NULL, NULL},
        {"--ops", &options.operations, NULL, NULL},
        {"--warm-ops", &options.warmOperations, NULL, NULL},
        {"--leavers", &options.leavers, NULL, NULL},
        {"--duration", NULL, &options.duration, NULL},
        {"--warm", NULL, &options.warm, NULL},
        {"--hold", NULL, &options.hold, NULL},
        {"--stall", NULL, &options.stall, NULL},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        double given = number(name, value);
        if (numbers[i].count)
            *numbers[i].count = (size_t)given;
        else if (numbers[i].seconds)
            *numbers[i].seconds = given;
        else
            *numbers[i].integer = (int)given;
        return;
    }
    fail("unknown option '%s'", name);
}

static void readArguments(int count, char **arguments) {
    for (size_t i = 0; count > 1 && i < sizeof modes / sizeof *modes; i++)
        if (strcmp(arguments[1], modes[i].name) == 0)
            options.mode = &modes[i];
    if (!options.mode || count % 2)
        fail("usage: load MODE --port PORT --pid PID [--connections N] [--depth N] [--inflight N] [--size BYTES] "
             "[--kind text|utf8|binary] [--warm S] [--warm-ops N] [--duration S | --ops N] [--stall S]; idle: [--base N] "
             "[--hold S] "
             "polling-echo: [--mixed 1]; [--transport websocket|polling]; sio-disconnect: --leavers N; sio-echo, sio-ack: [--event NAME]");
    for (int i = 2; i < count; i += 2)
        choose(arguments[i], arguments[i + 1]);
    if (!options.port || !options.pid || !options.connections || !options.depth)
        fail("--port, --pid, --connections and --depth are at least 1");
    if (options.size > LARGEST_MESSAGE / 2)
        fail("--size: %d at most", LARGEST_MESSAGE / 2);
    if (strcmp(options.mode->name, "broadcast") == 0 && (options.kind == BINARY || options.size < 10))
        fail("a broadcast is text of 10 bytes or more");
    if (options.mode->role == RAW && options.size == 0)
        fail("raw-echo: --size is 1 at least");
    bool isLeaving = strcmp(options.mode->name, "sio-disconnect") == 0;
    if (isLeaving ? options.leavers == 0 || options.leavers > options.connections : options.leavers > 0)
        fail("--leavers: for sio-disconnect, 1 at least and not more than there are connections");
    if (options.mode->dialogue && options.depth > 17)
        fail("--depth: 17 at most, as each event in flight has an id of its own");
}

static void raiseLimit(size_t needed) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < needed) {
        limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < needed)
        fail("%zu open files are needed, and the limit is %zu", needed, (size_t)limit.rlim_cur);
}

int main(int count, char **arguments) {
    readArguments(count, arguments);
    size_t total = options.connections + (options.mode->isIdle ? options.base : 0);
    bool usesTwo = options.mode->begin == beginPolling || options.mode->mayEnd;
    raiseLimit(total * (usesTwo ? 2 : 1) + 32);
    makeMessages();
    prepareRequests();
    clients = allocate(total, sizeof *clients);
    dirty = allocate(2 * total, sizeof(struct connection *));
    scratch = allocate(SCRATCH_SIZE + 1, 1);
    broadcastTimes = allocate(options.depth, sizeof *broadcastTimes);
    size_t capacity = options.depth > options.inflight ? options.depth : options.inflight;
    for (size_t i = 0; i < total; i++) {
        clients[i].times = allocate(capacity, sizeof(uint64_t));
        clients[i].main.fd = clients[i].other.fd = -1;
    }
    targetCount = options.mode->isIdle ? options.base : total;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1: %s", strerror(errno));
    run();
    return 0;
}
