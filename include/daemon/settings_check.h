/* From libconfig's tree to struct settings, by the table. Main thread only. */
#pragma once

#include "daemon/setting_table.h"
#include "daemon/settings_file.h"

/* Reads the whole tree into `settings`, which holds the defaults, and reports what is wrong. Returns true
 * when the file has `listeners`. */
bool settings_check(struct settings_source *source, struct settings *settings);

/* Reads one value into its field of `base`. `label` is what messages call the setting: "workers", "listener
 * 2: port". Returns false after a report, or without one when the scan has made it, with the field untouched.
 */
bool setting_read(struct settings_source *source, const config_setting_t *setting,
                  const struct setting_row *row, const char *label, void *base);

/* False when there is nothing to be read in this setting: its name is a duplicate, or its value never came.
 */
bool setting_is_readable(const config_setting_t *setting);

/* Reports a name that the scope does not know. `where` is "", or "listener 2: ". */
void setting_report_unknown(struct settings_source *source, const config_setting_t *setting,
                            enum setting_scope scope, const char *where);

/* The list of `listeners`: each row that can be read is added to settings->listeners. */
void listeners_read(struct settings_source *source, const config_setting_t *list, struct settings *settings);
