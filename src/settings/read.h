/* From libconfig's tree to struct settings, by the table. Main thread only. */
#pragma once

#include "settings/file.h"
#include "settings/table.h"

/* Rows of the table, a bit for each. */
typedef uint64_t row_set;

static inline row_set row_bit(const struct setting_row *row)
{
    return UINT64_C(1) << (row - setting_table);
}

/* Reads each member of a group into its field of `base` and reports those that are wrong or unknown. `where`
 * is put before each message: "", or "listener 2: ". Returns the rows of which nothing more is to be said:
 * their value was refused, or a misspelt name most likely meant them. */
row_set read_group(struct settings_file *file, const config_setting_t *group, enum setting_scope scope,
                   const char *where, void *base);

/* Sets the fields of the scope's rows to their defaults; `base` is all zeros. Returns 0 or -ENOMEM. */
int read_defaults(enum setting_scope scope, void *base);
