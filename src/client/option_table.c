#include "client/options.h"

#include "base/clock.h"

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
};
