/* The command line of tcpecho(1). Main thread, before anything else.
 *
 * Each mode is a row of mode_table, each option a row of option_table: what it is called, what may be said,
 * what it means unless said, and where that is kept. Parsing, checking, --help and the completions of shells
 * follow from the rows. A letter is of another option in another mode: each mode has the letters of the
 * programs that people know for it.
 */
#pragma once

#include "client/check/expectation.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of a message of --ping; the least has room for its mark and its number. */
#define PING_SIZE_MINIMUM 16
#define PING_SIZE_MAXIMUM ((size_t)1 << 20)

enum client_mode {
    MODE_TALK,
    MODE_CHAT,
    MODE_PING,
    MODE_BENCH,
    MODE_WATCH,
    MODE_COUNT,
};

struct client_options {
    enum client_mode mode;
    bool mode_given;
    bool help, version;
    const char *host; /* this and all other text points into argv */
    char **hosts;     /* of --ping: all of them, of which `host` is the first */
    size_t host_count;
    const char *port;        /* NULL: the default */
    const char *listen;      /* of --listen: [ADDRESS:]PORT */
    const char *source;      /* of -I: an interface, or addresses separated by commas */
    uint64_t proxy_protocol; /* version; 0: no header */
    const char *proxy_source;
    bool skip_line;
    uint64_t skip; /* bytes of the greeting */
    uint64_t tos;  /* with tos_given */
    bool tos_given;
    bool ipv4, ipv6;
    enum expectation expect;
    bool verbose;
    uint64_t connect_timeout_usec;
    uint64_t wait_usec; /* USEC_NEVER: for ever */
    bool no_half_close, crlf, hex;
    bool quiet;
    uint64_t count;         /* 0: no end */
    uint64_t interval_usec; /* USEC_NEVER: not said */
    uint64_t deadline_usec; /* the same */
    bool connect, flood, timestamps;
    uint64_t size;          /* of a message, in bytes; 0: not said, of --bench */
    uint64_t duration_usec; /* USEC_NEVER: not said */
    bool json, csv;
    const char *prometheus; /* a file; NULL: none */
    const char *nagios;     /* WARN,CRIT; NULL: no check */
    uint64_t warning_usec, critical_usec;
    bool reconnect, send, receive;
    uint64_t connections, threads;
    uint64_t rate;     /* messages a second; 0: the next when the answer is there */
    uint64_t gap_usec; /* a longer time without an answer is an outage */
};

enum option_type {
    OPTION_FLAG,  /* bool */
    OPTION_MODE,  /* selects the only one of its modes; keeps its argument, a const char *, if it takes one */
    OPTION_COUNT, /* uint64_t, things */
    OPTION_SIZE,  /* uint64_t, bytes */
    OPTION_DURATION, /* uint64_t, microseconds */
    OPTION_EXPECT,   /* enum expectation */
    OPTION_TEXT,     /* const char * */
    OPTION_LIMITS,   /* const char *, with warning_usec and critical_usec: two durations */
    OPTION_TOS,      /* uint64_t and tos_given: 0 to 255, also "0x10", "ef", "af11", "cs1" */
    OPTION_PORT,     /* const char *, the number of a port or a name of services(5) */
};

struct option_row {
    const char *name;
    char letter;          /* 0: none */
    const char *argument; /* as --help calls it; NULL: takes none */
    unsigned modes;       /* MODE_BIT of those that have it */
    enum option_type type;
    size_t offset; /* in struct client_options */
    uint64_t minimum, maximum;
    uint64_t fallback;
    const char *help;
};

/* What else somebody may have meant by a letter: it was another option's once. */
struct option_hint {
    char letter;
    const char *text;
};

/* Which option of these modes does what `name` does in others. */
struct option_substitute {
    const char *name;
    unsigned modes;
    const char *substitute;
};

#define MODE_BIT(mode) (1U << (mode))
#define EVERY_MODE (MODE_BIT(MODE_COUNT) - 1)

struct mode_row {
    const char *synopsis;
    const char *help;
    const char *option; /* that selects it; NULL: the one without */
    bool has_host;      /* takes HOST and PORT */
};

extern const struct option_row option_table[];              /* ended by a row without a name */
extern const struct option_hint option_hints[];             /* ended by one without a letter */
extern const struct option_substitute option_substitutes[]; /* ended by one without a name */
extern const struct mode_row mode_table[MODE_COUNT];

/* Returns 0, or -EINVAL after one line on stderr that says what is wrong and points to --help. */
int client_options_parse(int argc, char *argv[], struct client_options *out);

/* Of the mode that was given, or of all when none was. Both are the first that is written there, and
 * return 0 or a negative errno (stdout is full or gone). */
int client_options_print_help(const struct client_options *options, FILE *out);
int client_options_print_version(FILE *out);
