/* One table of all settings: one row a setting. What a row says is what the reader accepts, what a message
 * about it calls allowed, what --dump and conf/tcpechod.conf print, and what --help lists.
 *
 * To add a setting: a field in struct settings (or struct listener_settings), one row here, and
 * `tcpechod` made to use it. `meson test` fails until conf/tcpechod.conf shows it too.
 *
 * All functions are pure and may be called from any thread. */
#pragma once

#include "daemon/settings.h"

#include <stdbool.h>
#include <stddef.h>

enum setting_scope {
    SCOPE_GLOBAL,   /* at the top of the file; a field of struct settings */
    SCOPE_LOG,      /* in the group `log`; a field of struct settings */
    SCOPE_LISTENER, /* in a row of `listeners`; a field of struct listener_settings */
    SCOPE_NONE,     /* nowhere: for readers that have lost their way in a broken file */
};

/* How a value is written, and the C type of its field. */
enum setting_type {
    SETTING_INTEGER,   /* int64_t */
    SETTING_PORT,      /* uint16_t */
    SETTING_SECONDS,   /* double */
    SETTING_BOOLEAN,   /* bool */
    SETTING_CHOICE,    /* int64_t, one of the row's `choices` */
    SETTING_TEXT,      /* char *, owned; minimum and maximum count bytes */
    SETTING_WORD,      /* the same without CR and LF */
    SETTING_ADDRESS,   /* char *, owned; a numeric address or "*" */
    SETTING_PATH,      /* char *, owned; an absolute path that fits a socket's address */
    SETTING_MODE,      /* mode_t, written as text of octal digits */
    SETTING_SERVICE,   /* const struct service * */
    SETTING_NETWORKS,  /* struct prefix_list, owned */
    SETTING_LISTENERS, /* the list of listeners */
    SETTING_GROUP,     /* the group `log`: its rows follow */
};

struct setting_choice {
    const char *name; /* NULL ends the array */
    int value;
};

struct setting_row {
    enum setting_scope scope;
    enum setting_type type;
    const char *name;
    size_t offset;     /* of the field */
    size_t own_offset; /* of the bool that says "set in this row, not inherited"; 0: the setting has none */
    double minimum, maximum;
    const char *zero; /* what 0 means, where 0 is allowed below the minimum; else NULL */
    double fallback;  /* the default, also of a choice (its value) and of a boolean (0 or 1) */
    const struct setting_choice *choices;
    const char *unit;    /* for people: "seconds"; NULL: none */
    const char *meaning; /* for people: one paragraph, no line breaks */
    bool needs_restart;  /* a reload cannot change it */
};

/* In the order in which they are shown; ended by a row without a name. */
extern const struct setting_row setting_table[];

/* Room for what setting_expectation writes. */
#define SETTING_EXPECTATION_SIZE 256

/* The row of this name, which need not end in a NUL; NULL when the scope has none. */
const struct setting_row *setting_find(enum setting_scope scope, const char *name, size_t length);

/* The scope's name that a misspelled one most likely means (base/nearest.h), or NULL when none is near. */
const char *setting_nearest(enum setting_scope scope, const char *name);

/* What is allowed, as a message says it: "must be 0 to 1024". Returns `out`. */
const char *setting_expectation(const struct setting_row *row, char out[static SETTING_EXPECTATION_SIZE]);

/* True when a number is within the row's bounds. */
bool setting_in_range(const struct setting_row *row, double value);

/* The field's address in a struct settings or a struct listener_settings, as the row's scope demands. */
static inline void *setting_field(const struct setting_row *row, void *base)
{
    return (char *)base + row->offset;
}

static inline const void *setting_field_const(const struct setting_row *row, const void *base)
{
    return (const char *)base + row->offset;
}

/* The next row behind `previous` (NULL: from the start) that a reload cannot change and that differs; NULL:
 * no more. */
const struct setting_row *setting_next_restart(const struct settings *before, const struct settings *after,
                                               const struct setting_row *previous);
