/* Between watch.c, which runs tcpecho --watch, and watch_events.c, which counts and tells what happens. One
 * thread. */
#pragma once

#include "client/options.h"
#include "client/report/output.h"
#include "client/net/precise_timer.h"
#include "client/watch/report.h"

/* Messages of the steady client, and new connections, that may be under way: with the default interval, 20
 * seconds without an answer. A gap goes on behind them; only no more are added to it. */
#define MOST_UNANSWERED 1024
#define MOST_COMERS 1000

struct comer {
    struct probe probe;
    struct list link; /* in watch->idle, or a ring of its own */
    uint64_t due_nsec;
};

struct watch {
    struct event_loop loop;
    struct event_source interrupt;
    struct precise_timer tick;
    struct timer end_timer, progress_timer, last_timer;
    struct timer gap_timer; /* armed while a gap is open and has not been told */
    const struct client_options *options;
    struct endpoint endpoint;
    uint64_t start_nsec, next_nsec, end_nsec;
    bool stopping, deserted;

    struct probe steady;
    uint64_t due_nsec[MOST_UNANSWERED]; /* of each message of this connection, by its number */
    uint64_t sent;                      /* of this connection */
    struct comer *comers;
    size_t comer_count;
    struct list idle;
    uint64_t under_way;        /* comers */
    uint64_t run, connections; /* make the bytes of each connection its own */
    uint64_t late_nsec;
    uint64_t orderly_nsec; /* when the last comer was due that closes in order */
    struct watch_side steady_side, comer_side;

    struct output output;
    struct terminal out, progress; /* stdout, stderr */
    uint64_t line_second, lines, lines_left_out;
};

/* A message or a connection is due at that time. */
void watch_owe(struct watch *watch, struct watch_side *side, uint64_t due_nsec);

/* Tells once of each gap that is open and longer than allowed: `gap_timer`. */
void watch_look_for_gaps(struct timer *timer);

/* What is owed at the end, which is `end_nsec`, has been a gap until then. */
void watch_close_gap(struct watch *watch, struct watch_side *side);

/* A message or a connection is served that was due at that time, with or without more that are owed. */
void watch_served(struct watch *watch, struct watch_side *side, uint64_t due_nsec, bool more);

/* A connection has ended; PROBE_SERVED is only counted. What fails has failed since `due_nsec`, when it, or
 * its first message without an answer, was due. */
void watch_ended(struct watch *watch, struct watch_side *side, const struct probe *probe, uint64_t due_nsec,
                 enum probe_end end, int error);

/* The line on a terminal, again and again: `progress_timer`. */
void watch_show_progress(struct timer *timer);
