/* The settings: read, given up, shown. Main thread only. */
#pragma once

#include "settings/listener_settings.h"
#include "settings/values.h"

#include <stdio.h>

struct problems;

/* Where settings come from: a file, and the command line over it. The texts are the caller's. */
struct settings_source {
    const char *file;
    bool file_is_named;  /* that it cannot be read is an error; otherwise it may be absent */
    const char **listen; /* SPECs of --listen, which replace the file's listeners */
    size_t listen_count;
    int64_t workers; /* -1: not given */
    int log_level;   /* enum log_level; -1: not given */
    bool is_quiet;   /* log.level is "warning" unless it is set, and see struct settings */
};

/* Reads the file, or the built-in defaults when the default file is absent, and lays the command line over
 * it. Returns 0 with *out owned by the caller (settings_free), or -EINVAL with every problem that was found
 * added to `problems`, in order, and *out untouched. Nothing is opened but the file. */
int settings_load(const struct settings_source *source, struct problems *problems, struct settings **out);

/* All defaults and no listeners. NULL when memory is short. */
struct settings *settings_new(void);

void settings_free(struct settings *settings);
void settings_freep(struct settings **settings); /* for CLEANUP() */

/* --dump: every setting with its value, in the file's syntax. Returns 0 or a negative errno (a full disk). */
int settings_dump(const struct settings *settings, FILE *out);

/* "delay = 0.2, limit = 100", without the seed. Returns 0 or -ENOMEM. */
int settings_print_faults(const struct listener_settings *listener, FILE *out);

/* Puts back in `command` what a reload cannot change, and calls `tell` for each setting that differs. */
void settings_keep_until_restart(const struct settings *in_force, struct settings *wanted,
                                 void (*tell)(const char *name, const char *in_force, const char *wanted));
