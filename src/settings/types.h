/* How values are written: a type is a row of functions. Main thread only. */
#pragma once

#include "settings/file.h"
#include "settings/setting.h"

/* A value on its way into its field. */
struct setting_value {
    struct settings_file *file;
    const config_setting_t *setting;
    const struct setting_row *row;
    const char *label; /* what messages call it: "workers", "listener 2: port" */
};

struct setting_type {
    size_t size;  /* of the field */
    bool is_text; /* always between quotes, so that --listen may leave them out */

    /* Returns false after a report, with the field untouched. */
    bool (*read)(const struct setting_value *value, void *field);

    /* The way back. Returns 0 or -ENOMEM. */
    int (*print)(const struct setting_row *row, const void *field, FILE *out);

    /* What is allowed, after "must be": a format for the row's minimum and maximum, or a function that writes
     * at most `size` bytes. */
    const char *expectation;
    void (*expect)(const struct setting_row *row, char *out, size_t size);

    /* Of fields that own memory; NULL: they are plain bytes. `to` is empty. Returns 0 or -ENOMEM. */
    int (*copy)(void *to, const void *from);
    void (*clear)(void *field);
};

extern const struct setting_type setting_integer;  /* unsigned */
extern const struct setting_type setting_port;     /* uint16_t */
extern const struct setting_type setting_duration; /* uint64_t, usec; USEC_NEVER for the row's `zero` */
extern const struct setting_type setting_seconds;  /* unsigned: whole seconds, or text with a unit */
extern const struct setting_type setting_size;     /* uint64_t, bytes; a number, or text with a unit */
extern const struct setting_type setting_share;    /* double, 0 to 1 */
extern const struct setting_type setting_boolean;  /* bool */
extern const struct setting_type setting_choice;   /* an enum with the row's choices */
extern const struct setting_type setting_text;     /* char *, owned */
extern const struct setting_type setting_word;     /* the same without CR and LF */
extern const struct setting_type setting_address;  /* char *, owned; a numeric address or "*" */
extern const struct setting_type setting_path;     /* char *, owned; absolute, and fits a socket's address */
extern const struct setting_type setting_mode;     /* mode_t, written as text of octal digits */
extern const struct setting_type setting_service;  /* const struct service * */
extern const struct setting_type setting_networks; /* struct prefix_list, owned */
