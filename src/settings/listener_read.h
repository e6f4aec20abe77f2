/* The groups of `listeners`: their settings one by one, and then what they mean for one another. Main thread
 * only. */
#pragma once

#include "settings/file.h"
#include "settings/values.h"

/* Each that can be read is added to settings->listeners; what is wrong is reported. */
void listeners_read(struct settings_file *file, const config_setting_t *list, struct settings *settings);

/* One of them. `where` begins its messages: "listener 2: ". Returns false after a report, with nothing to
 * clear then. */
bool listener_read(struct settings_file *file, const config_setting_t *group, const char *where,
                   struct listener_settings *out);

/* Reports that a listener before this one has its place. */
void listener_report_clash(struct settings_file *file, const char *where, const struct settings *settings,
                           const struct listener_settings *listener);
