/* One setting: what its row in the table says. All functions are pure and may be called from any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct setting_type;

enum setting_scope {
    SCOPE_GLOBAL,   /* at the top of the file; a field of struct settings */
    SCOPE_LOG,      /* in the group `log`; a field of struct settings */
    SCOPE_LISTENER, /* in a row of `listeners`; a field of struct listener_settings */
};

/* Which listeners have a use for a setting. */
enum setting_place {
    PLACE_ANY,
    PLACE_ADDRESS,
    PLACE_CLIENT_ADDRESS, /* also with a path, where a proxy says who its clients are */
    PLACE_PATH,
};

struct setting_choice {
    const char *name; /* NULL ends the array */
    int value;
};

struct setting_row {
    enum setting_scope scope;
    const struct setting_type *type;
    const char *name;
    size_t offset;             /* of the field */
    size_t own_offset;         /* of the bool that says "set by this listener, not inherited"; 0: none */
    uint64_t minimum, maximum; /* of a number; of a duration in usec; of a text in bytes */
    const char *zero;          /* what 0 means, where 0 is allowed below the minimum; else NULL */
    const char *fallback;      /* the default, as the file would have it; NULL: nothing is set */
    const struct setting_choice *choices;
    enum setting_place place;
    bool of_proxy;         /* only with proxy_protocol */
    bool is_fault;         /* of a listener that misbehaves */
    bool of_answers;       /* a fault that nobody sees where nothing is answered */
    size_t service_offset; /* of the bool in struct service that says "takes this"; 0: every service does */
    const char *unit;      /* for people: "threads"; NULL: none, or the type says it */
    const char *meaning;   /* for people: one paragraph, no line breaks */
    bool needs_restart;    /* a reload cannot change it */
};

/* Those whose value is further settings. */
extern const struct setting_type setting_group, setting_listeners;

/* Room for what setting_expectation writes. */
#define SETTING_EXPECTATION_SIZE 256

/* What is allowed, as a message says it: "must be 0 to 1024". Returns `out`. */
const char *setting_expectation(const struct setting_row *row, char out[static SETTING_EXPECTATION_SIZE]);

/* The field's value, as the file would have it; `base` is a struct settings or a struct listener_settings, as
 * the row's scope demands. Returns 0 or -ENOMEM; the stream's errors wait for print_finish (base/streams.h).
 */
int setting_print(const struct setting_row *row, const void *base, FILE *out);

/* The field's address. */
static inline void *setting_field(const struct setting_row *row, void *base)
{
    return (char *)base + row->offset;
}

static inline const void *setting_field_const(const struct setting_row *row, const void *base)
{
    return (const char *)base + row->offset;
}
