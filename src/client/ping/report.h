/* The lines of a ping and its summary, as ping(8) has them. */
#pragma once

#include "client/ping/stream.h"
#include "client/report/terminal.h"

#include <stdio.h>

struct ping_times {
    uint64_t count, minimum, maximum; /* usec, of answers */
    double sum, sum_of_squares;
};

void ping_times_add(struct ping_times *times, uint64_t usec);

/* "0.066", "1.25", "104": milliseconds, in as many digits as there is something to see. Returns `out`. */
#define PING_TIME_TEXT_SIZE 32
const char *ping_format_time(uint64_t usec, char out[static PING_TIME_TEXT_SIZE]);

/* One line. `usec` is how long the answer took. */
void ping_print_event(FILE *out, const struct terminal *terminal, const struct ping_event *event,
                      const char *peer, size_t size, uint64_t usec);

struct ping_summary {
    const char *host;
    const struct ping_stream *stream;
    const struct ping_times *times;
    uint64_t pending; /* messages that were under way when the user had enough: neither received nor lost */
    uint64_t dropped; /* that could not be sent: lost, too */
    uint64_t usec;
};

void ping_print_summary(FILE *out, const struct ping_summary *summary);
