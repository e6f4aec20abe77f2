/* A settings file, or a text in its syntax, as libconfig has read it; and what is said of it. Main thread
 * only. */
#pragma once

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct problems;

struct settings_file {
    const char *name; /* in messages; NULL: the text comes from elsewhere, and has no lines to speak of */
    struct problems *problems;
    char *text;    /* owned */
    bool *misread; /* owned; by line: libconfig has misread a number there, which is reported already */
    config_t config;
};

/* Reads the file, which is never waited for: what is no regular file (a FIFO, a device, a directory) is
 * refused. Returns 0 with the tree in out->config; -ENOENT when there is no such file, with nothing reported;
 * or -EINVAL after a report. Whatever it returns, settings_file_close follows. */
int settings_file_open(const char *name, struct problems *problems, struct settings_file *out);

/* The same of a text, whose problems have no line. */
int settings_file_from_text(const char *text, struct problems *problems, struct settings_file *out);

void settings_file_close(struct settings_file *file); /* also for CLEANUP() */

/* Adds a problem in this line. */
void settings_file_report(const struct settings_file *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A number that libconfig has misread, so that nothing more is to be said of it. */
bool settings_file_misread(const struct settings_file *file, const config_setting_t *setting);

int settings_line(const config_setting_t *setting);

/* Of an element of a list, where libconfig knows only the line of what comes after a text. */
int settings_element_line(const struct settings_file *file, const config_setting_t *element);

int64_t settings_whole_number(const config_setting_t *setting);

#define VALUE_TEXT_SIZE 280

/* The value as a message shows it, at most 64 bytes of it. Returns `out` or a constant. */
const char *settings_value_text(const config_setting_t *setting, char out[static VALUE_TEXT_SIZE]);
