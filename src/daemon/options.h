/* The command line of tcpechod(8). Main thread, before anything else. */
#pragma once

#include "settings/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#define DEFAULT_SETTINGS_FILE "/etc/tcpechod.conf"

enum options_action {
    ACTION_RUN,
    ACTION_TEST,
    ACTION_DUMP,
    ACTION_RELOAD,
    ACTION_VERSION,
    ACTION_HELP,
};

struct options {
    enum options_action action;
    struct settings_source settings; /* the SPECs and their list are owned, the other texts argv's */
    pid_t daemon;                    /* of ACTION_RELOAD */
    const char *port_file;           /* argv's; NULL: none */
    char **command;                  /* argv's: COMMAND and its arguments, and NULL; NULL: none */
};

/* Exit statuses (sysexits.h), documented in tcpechod(8). */
#define EXIT_STATUS_USAGE 64
#define EXIT_STATUS_CANNOT_LISTEN 69
#define EXIT_STATUS_SYSTEM 71
#define EXIT_STATUS_HANDED_OVER 75 /* the unit has it started again, whatever has asked for it */
#define EXIT_STATUS_SETTINGS 78

/* Returns 0, or -EINVAL after one line on stderr that says what is wrong and points to --help. */
int options_parse(int argc, char *argv[], struct options *out);
void options_clear(struct options *options); /* also for CLEANUP() */

/* Both return 0 or a negative errno (stdout is full or gone). */
int options_print_help(FILE *out);
int options_print_version(FILE *out);
