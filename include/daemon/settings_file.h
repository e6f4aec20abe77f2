/* A settings file as libconfig's tree, with what the scan knows of each node. Main thread only. */
#pragma once

#include "daemon/settings_scan.h"

#include <libconfig.h>
#include <stdbool.h>

struct problems;

struct settings_source {
    const char *file; /* its name in messages; not owned */
    struct problems *problems;
    char *bytes; /* owned */
    size_t length;
    struct settings_scan scan;
    config_t config;
    bool config_ready; /* config is initialized */
    int error_line;    /* libconfig stopped here; 0: it read all */
};

/* Reads the file and adds to `problems` what is wrong with its text. Returns 0 with a tree, which may be a
 * part only, and out->file and out->problems set for settings_report; -ENOENT when there is no such file,
 * with nothing reported; -EINVAL when nothing can be read, after saying so. Call settings_source_clear in
 * each case. */
int settings_source_open(const char *file, struct problems *problems, struct settings_source *out);
void settings_source_clear(struct settings_source *source); /* also for CLEANUP() */

/* What the scan knows of the setting or element; NULL: nothing. */
const struct scan_node *settings_node(const config_setting_t *setting);

int settings_line(const config_setting_t *setting);

/* Adds a problem in this line. What stands in the line of a syntax error or behind it was not read as it is
 * meant, so nothing more is said of it. */
void settings_report(struct settings_source *source, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define VALUE_TEXT_SIZE 280

/* The value as a message shows it: numbers as they are written, text in quotes, at most 64 bytes of either.
 */
const char *settings_value_text(const struct settings_source *source, const config_setting_t *setting,
                                char out[static VALUE_TEXT_SIZE]);
