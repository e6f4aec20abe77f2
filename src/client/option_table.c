#include "client/options.h"

#include "base/clock.h"
#include "client/ping_stream.h"

#include <stddef.h>

#define FIELD(name) offsetof(struct client_options, name)
#define HOUR (3600 * USEC_PER_SEC)

#define TALKS (MODE_BIT(MODE_TALK) | MODE_BIT(MODE_CHAT))
#define DIALS (EVERY_MODE & ~MODE_BIT(MODE_CHAT))

const struct option_row option_table[] = {
    {"listen", 'l', "[ADDRESS:]PORT", MODE_BIT(MODE_CHAT), OPTION_MODE, FIELD(listen), 0, 0, 0,
     "wait for one peer at this port of all addresses, or of one"},
    {"verbose", 'v', NULL, TALKS, OPTION_FLAG, FIELD(verbose), 0, 0, 0,
     "say who is connected, and at the end how much went each way"},
    {"wait", 'W', "TIME", TALKS, OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR, USEC_NEVER,
     "how long the other side may be silent once stdin has ended (default for ever)"},
    {"ping", 'p', NULL, MODE_BIT(MODE_PING), OPTION_MODE, 0, 0, 0, 0, "send a message each interval"},
    {"count", 'c', "N", MODE_BIT(MODE_PING), OPTION_COUNT, FIELD(count), 1, UINT32_MAX, 0,
     "how many messages (default no end)"},
    {"interval", 'i', "TIME", MODE_BIT(MODE_PING), OPTION_DURATION, FIELD(interval_usec), USEC_PER_MSEC, HOUR,
     USEC_PER_SEC, "from one message to the next (default 1 s)"},
    {"size", 's', "BYTES", MODE_BIT(MODE_PING), OPTION_SIZE, FIELD(size), PING_SIZE_MINIMUM,
     PING_SIZE_MAXIMUM, 64, "of a message, 16 to 1M (default 64)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_PING), OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR,
     2 * USEC_PER_SEC, "how long an answer may take before it counts as lost (default 2 s)"},
    {"quiet", 'q', NULL, MODE_BIT(MODE_PING), OPTION_FLAG, FIELD(quiet), 0, 0, 0, "print the summary only"},
    {"expect", 'e', "SERVICE", DIALS, OPTION_EXPECT, FIELD(expect), 0, 0, EXPECT_ANYTHING,
     "check every byte of the answer: echo, or upper for capitals"},
    {"connect-timeout", 't', "TIME", DIALS, OPTION_DURATION, FIELD(connect_timeout_usec), USEC_PER_MSEC, HOUR,
     10 * USEC_PER_SEC, "how long to try each address of HOST (default 10 s)"},
    {"version", 'V', NULL, EVERY_MODE, OPTION_FLAG, FIELD(version), 0, 0, 0, "print the version and exit"},
    {"help", 'h', NULL, EVERY_MODE, OPTION_FLAG, FIELD(help), 0, 0, 0, "print this and exit"},
    {0},
};

const struct mode_row mode_table[MODE_COUNT] = {
    [MODE_TALK] =
        {.synopsis = "tcpecho [OPTIONS] HOST [PORT]",
         .help = "sends stdin to the server and writes its answer to stdout, both at once, until both end",
         .has_host = true},
    [MODE_CHAT] = {.synopsis = "tcpecho --listen [ADDRESS:]PORT [OPTIONS]",
                   .help = "waits for one peer, then the same: two terminals, a chat",
                   .option = "listen"},
    [MODE_PING] = {.synopsis = "tcpecho --ping [OPTIONS] HOST [PORT]",
                   .help = "measures the round trip of a message each second; Ctrl-C ends it with a summary",
                   .option = "ping",
                   .has_host = true},
};
