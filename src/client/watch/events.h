/* What happens to the two sides of a watch: counted, and printed as it happens. One thread. */
#pragma once

#include "client/options.h"
#include "client/report/output.h"
#include "client/watch/report.h"

struct watch_events {
    struct event_loop *loop;
    struct output *output;
    const struct client_options *options;
    struct terminal out, progress; /* stdout, stderr */
    struct watch_side steady, newcomers;
    uint64_t start_nsec;
    struct timer gap_timer; /* armed while a gap is open and has not been told */
    struct timer progress_timer;
    struct timer second_timer;
    struct chart chart;
    uint64_t life_nsec; /* when a sign of life was last printed */
    uint64_t line_second, lines, lines_left_out;
};

void watch_events_init(struct watch_events *events, struct event_loop *loop, struct output *output,
                       const struct client_options *options);

/* From now on each second is marked in the chart, and there is a line of progress, on a terminal; elsewhere a
 * sign of life each minute. */
void watch_events_start(struct watch_events *events);

/* What there is to tell by now, as a line on stderr. */
void watch_print_interim(struct watch_events *events);

/* Now is the end: what is still due has been a gap until now. */
void watch_events_stop(struct watch_events *events);

/* A message or a connection is due at that time. */
void watch_expect_answer(struct watch_events *events, struct watch_side *side, uint64_t due_nsec);

/* A message or a connection is served that was due at that time, and more are due or not. */
void watch_answered(struct watch_events *events, struct watch_side *side, uint64_t due_nsec, bool more);

/* A connection has ended; CONNECTION_SERVED is only counted. What fails has failed since `due_nsec`, when it,
 * or its first message without an answer, was due. */
void watch_ended(struct watch_events *events, struct watch_side *side, const struct connection *connection,
                 uint64_t due_nsec, enum connection_end end, int error);

/* A message or a connection that was due at that time has waited until now: it is answered, has failed, or
 * this is the end. */
void watch_waited(struct watch_side *side, uint64_t due_nsec);

/* A message or a connection could not be begun. Returns false, uncounted, unless the error is a shortage of
 * our own: of a local port, a descriptor or memory. */
bool watch_is_short(struct watch_events *events, struct watch_side *side, int error);
