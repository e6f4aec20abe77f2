/* What a message is: its level, its kind, its fields, and where it is to go. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are syslog's (RFC 5424) and journald's PRIORITY. */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

enum log_target {
    LOG_TARGET_AUTO, /* journald when stderr is connected to it ($JOURNAL_STREAM, systemd.exec(5)), else
                        stderr */
    LOG_TARGET_JOURNAL,
    LOG_TARGET_STDERR,
};

/* Of the messages on stderr. */
enum log_format {
    LOG_FORMAT_TEXT, /* for people: the time, the level and the message; fields are left out */
    LOG_FORMAT_JSON, /* for collectors: one object a line, with all fields */
};

/* Where the messages are to go, and whether somebody who looks at stderr sees them: they go there, stderr is
 * journald's, or there is no journald now. Main thread. */
bool log_goes_to_journal(void);
bool log_shows_on_stderr(void);

/* One kind of event. Kinds are constants of the program; the catalog explains each MESSAGE_ID. */
struct log_kind {
    const char *message_id; /* 32 hex digits */
    bool by_clients;        /* clients can cause any number of them, so log.rate bounds them */
    bool always;            /* somebody has asked for it: whatever the level */
};

/* What the log says about itself; all are written whatever the level. */
#define LOG_LOST_MESSAGE_ID "8e24615adac94fb9ada0d798708c7853"      /* TCPECHOD_LOST=N */
#define LOG_HELD_BACK_MESSAGE_ID "8318817a9a1845f18d1a10f3871d6eab" /* TCPECHOD_HELD_BACK=N */
#define LOG_DIVERTED_MESSAGE_ID "67df34521d4549a99c3d66fc20e8ac98"  /* TCPECHOD_DIVERTED=N */

/* A structured field, of journald's and of JSON; text leaves fields out, since the message says the same. */
struct log_field {
    const char *name; /* "TCPECHOD_REASON" */
    const char *text; /* or NULL: the number counts */
    uint64_t number;
};
#define LOG_TEXT(name, text) ((struct log_field){(name), (text), 0})
#define LOG_NUMBER(name, number) ((struct log_field){(name), NULL, (number)})
