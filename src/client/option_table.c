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
    {"version", 'V', NULL, EVERY_MODE, OPTION_FLAG, FIELD(version), 0, 0, 0, "print the version and exit"},
    {"help", 'h', NULL, EVERY_MODE, OPTION_FLAG, FIELD(help), 0, 0, 0, "print this and exit"},
    {0},
};

const struct mode_row mode_table[MODE_COUNT] = {
    [MODE_TALK] =
        {"tcpecho [OPTIONS] HOST [PORT]",
         "Sends stdin to the server and writes its answer to stdout, both at once, until both have ended.",
         NULL},
};
