/* Without it sd-journal.h's macros add CODE_FILE and friends: this file's name, for every message. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include "base/log_sink.h"

#include "base/clock.h"
#include "base/datagram.h"
#include "base/escape.h"
#include "base/json.h"
#include "base/plural.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket" /* libsystemd has it built in */
#define IDENTIFIER "SYSLOG_IDENTIFIER=tcpechod"

/* One message, one line, one write(2): up to PIPE_BUF bytes a pipe takes whole, so lines never mix with
 * another process's. */
#define LINE_MAX_BYTES 4096
#define ESCAPED_MAX 4 /* \xNN */
#define LINE_PREFIX_MAX 64
static_assert(LINE_PREFIX_MAX + LOG_MESSAGE_MAX * ESCAPED_MAX + 1 <= LINE_MAX_BYTES,
              "a line holds any message");

/* A line of JSON is as long at most. What its message takes of that leaves room for the fields; and while it
 * is written the buffer has room for everything, escaped. */
#define JSON_ESCAPED_MAX 6 /* \u00NN */
#define JSON_MESSAGE_MAX 3072
#define JSON_NAME_SIZE 64
#define JSON_BUFFER_SIZE (512 + JSON_ESCAPED_MAX * LOG_DATA_SIZE)
#define TIME_SIZE 64
static_assert(sizeof "MESSAGE=" + LOG_MESSAGE_MAX + 512 <= LOG_DATA_SIZE, "the fields have their room");
static_assert(LOG_DATA_SIZE <= UINT16_MAX, "struct log_record's used");

enum sink {
    SINK_UNKNOWN, /* nothing has been chosen yet */
    SINK_JOURNAL,
    SINK_STDERR,        /* lines with their time */
    SINK_STDERR_STREAM, /* stderr is journald's: "<6>message" (sd-daemon(3)), and the time is journald's own
                         */
};
static _Atomic int chosen = SINK_UNKNOWN;
static atomic_bool stderr_is_stream; /* journald's, when the sink was chosen */
static _Atomic int chosen_format = LOG_FORMAT_TEXT;

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

/* ---- Records ---- */

static void add_field(struct log_record *record, const struct log_field *field)
{
    char *at = record->data + record->used;
    size_t room = sizeof record->data - record->used;
    int length;
    if (field->text)
        length = snprintf(at, room, "%s=%s", field->name, field->text);
    else
        length = snprintf(at, room, "%s=%" PRIu64, field->name, field->number);
    if (length < 0 || (size_t)length >= room)
        return; /* half a value would be a wrong one */
    record->used = (uint16_t)(record->used + length + 1);
    if (!field->text)
        record->numbers = (uint16_t)(record->numbers | 1U << record->field_count);
    record->field_count++;
}

void log_record_set(struct log_record *record, const struct log_kind *kind, enum log_level level,
                    const struct log_field *fields, size_t field_count, const char *format, va_list arguments)
{
    static const char key[] = "MESSAGE=";
    char *text = record->data + sizeof key - 1;
    record->realtime_usec = clock_usec(CLOCK_REALTIME);
    record->lost_before = 0;
    record->message_id = kind ? kind->message_id : NULL;
    record->level = level;
    record->field_count = record->numbers = 0;

    strcpy(record->data, key);
    int wanted = vsnprintf(text, LOG_MESSAGE_MAX + 1, format, arguments);
    size_t length = (size_t)wanted;
    if (wanted < 0) /* %ls with a character that the locale has not */
        length = strlen(strcpy(text, "(a message that cannot be shown)"));
    else if (length > LOG_MESSAGE_MAX)
        length = escape_cut_short(text, LOG_MESSAGE_MAX);
    record->used = (uint16_t)(sizeof key + length);

    for (size_t i = 0; i < field_count && i < LOG_FIELDS_MAX; i++)
        add_field(record, &fields[i]);
}

void log_notice_set(struct log_record *record, const char *message_id, enum log_level level,
                    struct log_field field, const char *format, ...)
{
    const struct log_kind kind = {.message_id = message_id};
    va_list arguments;
    va_start(arguments, format);
    log_record_set(record, &kind, level, &field, 1, format, arguments);
    va_end(arguments);
}

/* ---- The choice ---- */

/* True when stderr is the stream that systemd connected to journald: $JOURNAL_STREAM is its "device:inode".
 * Compared, since a shell between systemd and us may have redirected stderr and left the variable. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char own[64];
    struct stat status;
    if (!stream || fstat(STDERR_FILENO, &status) < 0)
        return false;
    snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(own, stream) == 0;
}

void log_sink_choose(enum log_target target, enum log_format format)
{
    bool stream = stderr_is_journal();
    int sink = stream ? SINK_STDERR_STREAM : SINK_STDERR;
    if (target == LOG_TARGET_JOURNAL || (target == LOG_TARGET_AUTO && stream))
        sink = SINK_JOURNAL;
    atomic_store(&chosen, sink);
    atomic_store(&stderr_is_stream, stream);
    atomic_store(&chosen_format, (int)format);
}

static int current_sink(void)
{
    if (atomic_load(&chosen) == SINK_UNKNOWN)
        log_sink_choose(LOG_TARGET_AUTO, LOG_FORMAT_TEXT);
    return atomic_load(&chosen);
}

bool log_goes_to_journal(void)
{
    return current_sink() == SINK_JOURNAL;
}

bool log_shows_on_stderr(void)
{
    return !log_goes_to_journal() || atomic_load(&stderr_is_stream) || !datagram_has_reader(JOURNAL_SOCKET);
}

/* ---- journald ---- */

static struct iovec as_iovec(const char *text)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

static int write_journal(const struct log_record *record, const atomic_bool *give_up)
{
    struct iovec fields[LOG_FIELDS_MAX + 4];
    char priority[sizeof "PRIORITY=" + 11];
    char message_id[sizeof "MESSAGE_ID=" + 32];
    int count = 0, r;
    /* sd_journal_sendv(3) takes a message for a journald that is not there and says nothing. Should it go
     * between the two calls, one message goes uncounted. */
    if (access(JOURNAL_SOCKET, F_OK) < 0)
        return -errno;

    snprintf(priority, sizeof priority, "PRIORITY=%d", (int)record->level);
    fields[count++] = as_iovec(priority);
    fields[count++] = as_iovec(IDENTIFIER);
    if (record->message_id) {
        snprintf(message_id, sizeof message_id, "MESSAGE_ID=%s", record->message_id);
        fields[count++] = as_iovec(message_id);
    }
    const char *next = record->data;
    for (unsigned i = 0; i <= record->field_count; i++) { /* the message, then its fields */
        fields[count++] = as_iovec(next);
        next += strlen(next) + 1;
    }

    do
        r = sd_journal_sendv(fields, count);
    while (r == -EINTR && !atomic_load(give_up));
    return r;
}

/* ---- stderr ---- */

/* UTC, so that lines of several machines sort and no clock change makes an hour come twice (RFC 3339). */
static void format_time(const struct log_record *record, char out[static TIME_SIZE])
{
    time_t seconds = (time_t)(record->realtime_usec / USEC_PER_SEC);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc))
        memset(&utc, 0, sizeof utc); /* a clock beyond the year 2^31 */
    size_t length = strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + length, TIME_SIZE - length, ".%06uZ", (unsigned)(record->realtime_usec % USEC_PER_SEC));
}

/* Control characters are escaped: a newline would make two events of one, an escape sequence would run in
 * whatever terminal shows the log. Returns the line's length. */
static size_t format_text(const struct log_record *record, int sink, char line[static LINE_MAX_BYTES])
{
    char time[TIME_SIZE], *end = line;
    if (sink == SINK_STDERR_STREAM) {
        end += sprintf(end, "<%d>", (int)record->level);
    } else {
        format_time(record, time);
        end += snprintf(end, LINE_PREFIX_MAX, "%s %s: ", time, level_names[record->level]);
    }
    for (const char *in = record->data + strlen("MESSAGE="); *in; in++) {
        unsigned char byte = (unsigned char)*in;
        if (byte == '\n')
            end = stpcpy(end, "\\n");
        else if (byte < ' ' || byte == 0x7f)
            end += sprintf(end, "\\x%02x", byte);
        else
            *end++ = *in;
    }
    *end++ = '\n';
    return (size_t)(end - line);
}

/* Takes back what was written since `start` when it has gone beyond `end`. Returns whether it has. */
static bool take_back(FILE *out, long start, long end)
{
    bool is_over = ftell(out) > end;
    if (is_over)
        (void)fseek(out, start, SEEK_SET);
    return is_over;
}

/* A message of nothing but control characters would be longer than all else may be: it is cut. */
static void put_message(struct json *json, const struct log_record *record)
{
    const char *message = record->data + strlen("MESSAGE=");
    long start = ftell(json->out);
    json_text(json, "MESSAGE", message);
    if (!take_back(json->out, start, start + JSON_MESSAGE_MAX))
        return;
    char part[LOG_MESSAGE_MAX + 1];
    strcpy(part, message);
    escape_cut_short(part, JSON_MESSAGE_MAX / JSON_ESCAPED_MAX - sizeof ", \"MESSAGE\": \"\"");
    json_text(json, "MESSAGE", part);
}

/* `field` is "NAME=value". One that no longer fits is left out. */
static void put_field(struct json *json, const char *field, bool is_number)
{
    const char *value = strchr(field, '=') + 1;
    char name[JSON_NAME_SIZE];
    long start = ftell(json->out);
    snprintf(name, sizeof name, "%.*s", (int)(value - 1 - field), field);
    if (is_number)
        json_count(json, name, strtoull(value, NULL, 10));
    else
        json_text(json, name, value);
    (void)take_back(json->out, start, LINE_MAX_BYTES - (long)sizeof "}");
}

static void put_json(struct json *json, const struct log_record *record)
{
    char time[TIME_SIZE];
    format_time(record, time);
    json_open(json, NULL, '{');
    json_text(json, "time", time);
    json_text(json, "level", level_names[record->level]);
    json_count(json, "PRIORITY", record->level);
    put_message(json, record);
    if (record->message_id)
        json_text(json, "MESSAGE_ID", record->message_id);
    const char *field = record->data;
    for (unsigned i = 0; i < record->field_count; i++) {
        field += strlen(field) + 1;
        put_field(json, field, (record->numbers >> i & 1) != 0);
    }
    json_close(json, '}');
    fputc('\n', json->out);
}

/* Returns the line's length, or a negative errno. */
static int format_json(const struct log_record *record, int sink, char line[static JSON_BUFFER_SIZE])
{
    FILE *out = fmemopen(line, JSON_BUFFER_SIZE, "w");
    if (!out)
        return -errno;
    struct json json = {.out = out, .one_line = true};
    if (sink == SINK_STDERR_STREAM)
        fprintf(out, "<%d>", (int)record->level);
    put_json(&json, record);
    long length = ftell(out);
    return fclose(out) < 0 ? -errno : (int)length;
}

/* Returns the line's length, or a negative errno. */
static int format_line(const struct log_record *record, int sink, char line[static JSON_BUFFER_SIZE])
{
    return atomic_load(&chosen_format) == LOG_FORMAT_JSON ? format_json(record, sink, line)
                                                          : (int)format_text(record, sink, line);
}

static int write_stderr(const struct log_record *record, int sink, const atomic_bool *give_up)
{
    char line[JSON_BUFFER_SIZE];
    int length = format_line(record, sink, line);
    if (length < 0)
        return length;
    for (int done = 0; done < length;) {
        ssize_t n = write(STDERR_FILENO, line + done, (size_t)(length - done));
        if (n >= 0) {
            done += (int)n;
            continue;
        }
        if (errno == EAGAIN) {
            /* Another process that shares this open file made it non-blocking; it is not ours to change back.
             */
            struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
            if (poll(&writable, 1, -1) >= 0)
                continue;
        }
        if (errno != EINTR || atomic_load(give_up))
            return -errno;
    }
    return 0;
}

bool log_sink_ready(int timeout_msec)
{
    if (current_sink() == SINK_JOURNAL && datagram_has_reader(JOURNAL_SOCKET))
        return datagram_is_writable(JOURNAL_SOCKET, timeout_msec);
    /* POLLERR (nobody reads any more) and POLLNVAL (closed) count as ready: write(2) says it at once. */
    struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&writable, 1, timeout_msec) > 0;
}

/* ---- journald that is not there ---- */

/* Messages that went to stderr since the journal took the last one. The writer's. */
static uint64_t diverted;

/* To stderr instead, and the first time with the reason. A service in a root directory of its own has
 * journald's stream, and not its socket: nothing is diverted then. */
static int divert(const struct log_record *record, int error, const atomic_bool *give_up)
{
    if (atomic_load(&stderr_is_stream))
        return write_stderr(record, SINK_STDERR_STREAM, give_up);
    if (diverted == 0) {
        struct log_record notice;
        log_notice_set(&notice, LOG_DIVERTED_MESSAGE_ID, LOG_LEVEL_WARNING,
                       LOG_NUMBER("TCPECHOD_DIVERTED", 0),
                       "the journal takes no messages (%s: %s): they go to standard error until it does",
                       JOURNAL_SOCKET, strerrordesc_np(error));
        int r = write_stderr(&notice, SINK_STDERR, give_up);
        if (r < 0)
            return r;
    }
    int r = write_stderr(record, SINK_STDERR, give_up);
    if (r == 0)
        diverted++;
    return r;
}

/* The journal takes messages again, and is told which it lacks. */
static void report_diverted(const atomic_bool *give_up)
{
    struct log_record notice;
    log_notice_set(&notice, LOG_DIVERTED_MESSAGE_ID, LOG_LEVEL_NOTICE,
                   LOG_NUMBER("TCPECHOD_DIVERTED", diverted),
                   "%" PRIu64 " message%s went to standard error because the journal did not take %s",
                   diverted, plural(diverted), diverted == 1 ? "it" : "them");
    if (write_journal(&notice, give_up) == 0)
        diverted = 0;
}

int log_sink_write(const struct log_record *record, const atomic_bool *give_up)
{
    int sink = current_sink();
    if (sink != SINK_JOURNAL)
        return write_stderr(record, sink, give_up);
    if (diverted > 0)
        report_diverted(give_up);
    int r = write_journal(record, give_up);
    return r < 0 && r != -EINTR ? divert(record, -r, give_up) : r;
}
