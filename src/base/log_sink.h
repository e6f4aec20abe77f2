/* Where the log's messages end up, and the form that they have on the way there. For log.c alone.
 *
 * A record is of fixed size, so that a ring of them needs no memory later. Its `data` holds what journald
 * wants to have, one after the other: "MESSAGE=text" NUL "NAME=value" NUL ... */
#pragma once

#include "base/log_kind.h"

#include <stdarg.h>
#include <stdatomic.h>

#define LOG_MESSAGE_MAX 767 /* bytes; longer ones end in "..." */
#define LOG_FIELDS_MAX 16   /* as many as struct log_record's numbers has bits */
#define LOG_DATA_SIZE 1344  /* leaves the fields of a connection's end room next to the longest message */

struct log_record {
    uint64_t realtime_usec; /* CLOCK_REALTIME of the event */
    uint64_t lost_before;   /* messages that found the ring full just ahead of this one */
    const char *message_id; /* NULL: none */
    enum log_level level;
    uint16_t used; /* bytes of data */
    uint16_t field_count;
    uint16_t numbers; /* the bit 1 << i: the field i is a number */
    char data[LOG_DATA_SIZE];
};

/* Fills in the record, the time with now. Any thread. */
void log_record_set(struct log_record *record, const struct log_kind *kind, enum log_level level,
                    const struct log_field *fields, size_t field_count, const char *format,
                    va_list arguments);

/* The same for what the log says about itself. */
void log_notice_set(struct log_record *record, const char *message_id, enum log_level level,
                    struct log_field field, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The bytes of the record that count; what follows them is not initialized. */
static inline size_t log_record_size(const struct log_record *record)
{
    return offsetof(struct log_record, data) + record->used;
}

/* From now on messages go there, and on stderr have this form. LOG_TARGET_AUTO looks at stderr and
 * $JOURNAL_STREAM now. Main thread, also while another writes. */
void log_sink_choose(enum log_target target, enum log_format format);

/* Waits at most `timeout_msec` until a message can be written without blocking, for a caller that must not
 * block. True also when writing will fail at once. Another process that writes to the same sink can make it
 * wrong. */
bool log_sink_ready(int timeout_msec);

/* Writes one message and blocks until the sink takes it. An interrupted system call is repeated unless
 * *give_up is set by then. What the journal does not take goes to stderr, with a notice ahead of the first.
 * One thread at a time. Returns 0 or a negative errno, and the message is lost: -EINTR after giving up,
 * -EPIPE, -ENOSPC and whatever else the sink comes up with. */
int log_sink_write(const struct log_record *record, const atomic_bool *give_up);
