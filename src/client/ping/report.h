/* What a ping tells: a line for each answer and a summary, in the words of ping(8), or for programs. */
#pragma once

#include "client/ping/stream.h"
#include "client/report/terminal.h"

#include <stdio.h>

struct ping_times {
    uint64_t count, minimum, maximum; /* usec, of answers */
    double sum, sum_of_squares;
    double ewma; /* the recent ones weigh most, by 1/8 as in ping(8) */
};

void ping_times_add(struct ping_times *times, uint64_t usec);
double ping_times_mean(const struct ping_times *times); /* usec; 0 when there are none */
double ping_times_mdev(const struct ping_times *times);

/* "0.066", "1.25", "104": milliseconds, in as many digits as there is something to see. Returns `out`. */
#define PING_TIME_TEXT_SIZE 32
const char *ping_format_time(uint64_t usec, char out[static PING_TIME_TEXT_SIZE]);

enum ping_line_kind {
    /* Of messages: an answer, in the order of enum ping_event_kind. */
    PING_LINE_REPLY,
    PING_LINE_DUPLICATE,
    PING_LINE_CORRUPT,
    PING_LINE_TOO_LATE,
    PING_LINE_SILENT,      /* no answer in time, to a message or a handshake */
    PING_LINE_BROKEN,      /* the connection; with an errno, 0 for a plain end */
    PING_LINE_RECONNECTED, /* with the time it took */
    PING_LINE_UNCONNECTED, /* with an errno */
    /* Of handshakes. */
    PING_LINE_MADE,
    PING_LINE_REFUSED,
    PING_LINE_UNREACHABLE, /* with an errno */
};

struct ping_line {
    enum ping_line_kind kind;
    const char *host, *peer;
    uint64_t number;
    uint64_t usec;
    const struct fault *fault; /* CORRUPT */
    int error;
    const char *text; /* UNCONNECTED: what is told in place of the errno; NULL: nothing else */
};

/* Why it is bad, where that is an error; else NULL. Valid until the next call. */
const char *ping_line_error(const struct ping_line *line);

/* How to tell it. */
struct ping_report {
    FILE *out;
    struct terminal terminal; /* where `out` goes */
    size_t size;              /* of a message */
    bool quiet, timestamps, flood, connect;
};

/* Write errors stay in the stream. */
void ping_print_line(const struct ping_report *report, const struct ping_line *line);

/* A message has left, which only --flood shows. */
void ping_print_sent(const struct ping_report *report);

/* What has become of all of one host. */
struct ping_counts {
    uint64_t sent, received; /* messages, or handshakes that were begun and that were completed */
    uint64_t lost;           /* have no right answer, and are not pending; also those that were not sent */
    uint64_t duplicates, corrupted, too_late;
    uint64_t not_sent; /* given up before it was sent */
    uint64_t own;      /* of these: this host was short of something, with `own_error` */
    int own_error;
    uint64_t late;    /* times at which nothing was sent, since the one before was late; not in not_sent */
    uint64_t pending; /* under way when the user had enough: neither received nor lost */
    int failure;      /* the exit status of all handshakes, when all failed in one way; else 0 */
    uint64_t broken, reconnected, unconnected; /* connections of messages */
    uint64_t refused, silent, unreachable;     /* handshakes */
    struct ping_times times, refusals;         /* of answers, or of handshakes; and how long a refusal took */
    uint64_t usec;
};

/* Of those that are not pending. */
double ping_lost_percent(const struct ping_counts *counts);

/* Everything was answered, once and right, and no connection broke. */
bool ping_is_clean(const struct ping_counts *counts);

void ping_print_summary(const struct ping_report *report, const char *host, const struct ping_counts *counts);

/* What there is to tell by now (SIGQUIT), in `width` columns. */
void ping_print_interim(FILE *out, unsigned width, const char *host, const struct ping_counts *counts);
