/* What tcpecho --watch has seen, for people and for programs. */
#pragma once

#include "client/net/connection.h"
#include "client/report/histogram.h"
#include "client/report/terminal.h"
#include "client/watch/chart.h"
#include "client/watch/gap.h"

/* Why something that was due was not begun. None of it is the server's fault alone. */
enum not_begun {
    NOT_BEGUN_LATE,  /* tcpecho was stopped or starved itself */
    NOT_BEGUN_FULL,  /* too many were under way */
    NOT_BEGUN_SHORT, /* no local port, descriptor or memory: with short_error */
};
#define NOT_BEGUN_REASONS (NOT_BEGUN_SHORT + 1)

/* The steady client, or the new connections. */
struct watch_side {
    const char *name, *unserved; /* "no answer": what a gap of it is */
    struct gap gap;
    bool is_gap_told;       /* the one that is open */
    uint64_t last_gap_nsec; /* that was open at the end */
    uint64_t begun;         /* messages, or connections */
    uint64_t answered;      /* of these */
    uint64_t not_begun[NOT_BEGUN_REASONS];
    uint64_t ends[CONNECTION_ENDS]; /* connections, by how they ended */
    uint64_t wrong_bytes;
    int connect_error; /* the last of each */
    int break_error, short_error;
    struct histogram latency;               /* from when it was due until it was answered */
    uint64_t slowest_nsec, slowest_at_nsec; /* the longest that one message or connection took until it was
                                               answered, or failed, or the end; and when it was due */

    /* Since something went wrong, until it goes right again. What was due before `recovered_nsec` and fails
     * later belongs to what is over. */
    bool is_failing;
    uint64_t failing_nsec, failures, recovered_nsec;
};

struct watch_summary {
    const char *peer;
    const char *tried; /* other addresses; "": none */
    uint64_t interval_usec, allowed_usec;
    uint64_t start_nsec, elapsed_nsec;
    uint64_t
        late_nsec;    /* how late tcpecho itself came to its schedule at most: part of a gap may be its own */
    bool reader_gone; /* nobody read stdout any more, perhaps before the first answer */
    int status;       /* an exit status when the watch could not begin, or go on: nothing is up */
    const struct watch_side *steady, *newcomers;
    const struct chart *chart;
};

/* Whether there was an outage: a gap over what is allowed, or something refused, broken, late or wrong. */
bool watch_has_outage(const struct watch_summary *summary);

/* Whether there was none, and nothing is missing that would have shown one. */
bool watch_is_clean(const struct watch_summary *summary);

/* Whether this host was short of something, and could not begin all that was due. */
bool watch_was_short(const struct watch_summary *summary);

/* Write errors stay in the stream. */
void watch_print(const struct watch_summary *summary, const struct terminal *terminal, FILE *out);

/* What counts as an outage, in the order of the report. */
struct watch_failure {
    enum connection_end end;
    const char *text, *key;
};
#define WATCH_FAILURES 4
extern const struct watch_failure watch_failures[WATCH_FAILURES];

/* Of both sides. */
uint64_t watch_total(const struct watch_summary *summary, enum connection_end end);

/* The side with the longer gap, and that with the slower client; and when it was, in seconds from the
 * beginning of the watch. */
const struct watch_side *watch_worse(const struct watch_summary *summary);
const struct watch_side *watch_slower(const struct watch_summary *summary);
double watch_into_run(const struct watch_summary *summary, uint64_t at_nsec);

/* Seconds, rounded up to 1/`parts` of one: the time watched, of which every other figure is a part. */
double watch_seconds_up(uint64_t nsec, unsigned parts);

/* A moment of CLOCK_MONOTONIC as one of CLOCK_REALTIME, in milliseconds. */
int64_t watch_wall_msec(uint64_t monotonic_nsec);

/* "2026-11-28 16:01:04.094", local time, of a moment of CLOCK_MONOTONIC. Returns `out`. */
#define CLOCK_TEXT_SIZE 40
const char *clock_format(uint64_t monotonic_nsec, char out[static CLOCK_TEXT_SIZE]);

/* The same, without the date where it is that of today. */
const char *clock_format_since(uint64_t monotonic_nsec, char out[static CLOCK_TEXT_SIZE]);
