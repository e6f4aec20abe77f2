/* A check for Nagios and its like (the Monitoring Plugins' guidelines): one line on stdout with performance
 * data, and an exit status of 0 to 3. Main thread. */
#pragma once

#include <stdio.h>

enum nagios_state {
    NAGIOS_OK,
    NAGIOS_WARNING,
    NAGIOS_CRITICAL,
    NAGIOS_UNKNOWN,
};

/* What a mode returns that has printed its line: no exit status of any other kind. */
#define NAGIOS_STATUS(state) (200 + (int)(state))

/* "TCPECHO OK - TEXT | DATA". Returns NAGIOS_STATUS(state). */
int nagios_print(FILE *out, enum nagios_state state, const char *text, const char *data);

/* The worse of two; unknown is worse than a warning, and critical the worst. */
enum nagios_state nagios_worse(enum nagios_state a, enum nagios_state b);

/* The exit status of the check that a mode has ended with this one. When it has printed no line, `error` (of
 * print_error_hold) is what one says. */
int nagios_finish(int status, const char *error);
