#include "client/options.h"

#include "base/clock.h"

#include <stddef.h>

#define FIELD(name) offsetof(struct client_options, name)
#define HOUR (3600 * USEC_PER_SEC)

const struct option_row option_table[] = {
    {"connect-timeout", 't', "TIME", EVERY_MODE, OPTION_DURATION, FIELD(connect_timeout_usec), USEC_PER_MSEC,
     HOUR, 10 * USEC_PER_SEC, "how long to try each address of HOST (default 10 s)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_TALK), OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR,
     USEC_NEVER, "how long the server may be silent once stdin has ended (default for ever)"},
    {"verbose", 'v', NULL, MODE_BIT(MODE_TALK), OPTION_FLAG, FIELD(verbose), 0, 0, 0,
     "say who is connected, and at the end how much went each way"},
    {"expect", 'e', "SERVICE", EVERY_MODE, OPTION_EXPECT, FIELD(expect), 0, 0, EXPECT_ANYTHING, "x"},
    {"bench", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_MODE, 0, MODE_BENCH, 0, 0,
     "load the server and measure it"},
    {"connections", 'n', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(connections), 1, 10000000, 10,
     "how many at once (default 10)"},
    {"size", 's', "BYTES", MODE_BIT(MODE_BENCH) | MODE_BIT(MODE_WATCH), OPTION_SIZE, FIELD(size), 1,
     UINT64_C(1) << 30, 64, "of a message (default 64)"},
    {"duration", 'd', "TIME", MODE_BIT(MODE_BENCH) | MODE_BIT(MODE_WATCH), OPTION_DURATION,
     FIELD(duration_usec), USEC_PER_MSEC, 8760 * HOUR, USEC_NEVER,
     "how long (default 10 s for --bench, until Ctrl-C for --watch)"},
    {"rate", 'r', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(rate), 1, 100000000, 0,
     "send N messages a second on a schedule (default: the next when the answer is there)"},
    {"count", 'c', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(count), 1, UINT64_C(1000000000000000), 0,
     "end after N messages"},
    {"threads", 'T', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(threads), 1, 1024, 1,
     "that drive the connections (default 1)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_BENCH) | MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(wait_usec),
     USEC_PER_MSEC, HOUR, 5 * USEC_PER_SEC, "how long to wait for the last answers (default 5 s)"},
    {"json", 'j', NULL, MODE_BIT(MODE_BENCH) | MODE_BIT(MODE_WATCH), OPTION_FLAG, FIELD(json), 0, 0, 0,
     "print the result as JSON"},
    {"watch", 0, NULL, MODE_BIT(MODE_WATCH), OPTION_MODE, 0, MODE_WATCH, 0, 0, "look out for outages"},
    {"interval", 'i', "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(interval_usec), USEC_PER_MSEC,
     HOUR, 20 * USEC_PER_MSEC, "between messages, and between new connections (default 20 ms)"},
    {"gap", 'g', "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(gap_usec), USEC_PER_MSEC, HOUR,
     USEC_PER_SEC, "the longest time without an answer that is no outage (default 1 s)"},
    {"version", 'V', NULL, EVERY_MODE, OPTION_FLAG, FIELD(version), 0, 0, 0, "print the version and exit"},
    {"help", 'h', NULL, EVERY_MODE, OPTION_FLAG, FIELD(help), 0, 0, 0, "print this and exit"},
    {0},
};

const struct mode_row mode_table[MODE_COUNT] = {
    [MODE_TALK] =
        {"tcpecho [OPTIONS] HOST [PORT]",
         "Sends stdin to the server and writes its answer to stdout, both at once, until both have ended.",
         NULL},
    [MODE_BENCH] = {"tcpecho --bench [OPTIONS] HOST [PORT]", "Loads the server and measures it.", "bench"},
    [MODE_WATCH] = {"tcpecho --watch [OPTIONS] HOST [PORT]", "Looks out for outages.", "watch"},
};
