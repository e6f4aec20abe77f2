#include "settings/read.h"

#include "base/cleanup.h"
#include "settings/problems.h"
#include "settings/suggest.h"
#include "settings/table.h"
#include "settings/types.h"

#include <errno.h>
#include <stdio.h>

#define LABEL_SIZE 192
#define NAME_SHOWN 64

static bool read_setting(struct settings_file *file, const config_setting_t *setting,
                         const struct setting_row *row, const char *where, void *base)
{
    char label[LABEL_SIZE];
    snprintf(label, sizeof label, "%s%s%s", where, row->scope == SCOPE_LOG ? "log." : "", row->name);
    const struct setting_value value = {.file = file, .setting = setting, .row = row, .label = label};
    if (settings_file_misread(file, setting) || !row->type->read(&value, setting_field(row, base)))
        return false;
    if (row->own_offset > 0)
        *(bool *)((char *)base + row->own_offset) = true;
    return true;
}

/* Returns what it was most likely meant to be; 0: nobody knows. */
static row_set report_unknown(struct settings_file *file, const config_setting_t *setting,
                              enum setting_scope scope, const char *where)
{
    const char *name = config_setting_name(setting);
    char suggestion[SUGGESTION_SIZE];
    const struct setting_row *meant = suggest_setting(scope, name, suggestion);
    settings_file_report(file, settings_line(setting), "%s%sunknown setting \"%.*s\"; %s", where,
                         scope == SCOPE_LOG ? "log: " : "", NAME_SHOWN, name, suggestion);
    return meant ? row_bit(meant) : 0;
}

row_set read_group(struct settings_file *file, const config_setting_t *group, enum setting_scope scope,
                   const char *where, void *base)
{
    row_set refused = 0;
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const struct setting_row *row = setting_find(scope, config_setting_name(setting));
        if (!row)
            refused |= report_unknown(file, setting, scope, where);
        else if (!read_setting(file, setting, row, where, base))
            refused |= row_bit(row);
    }
    return refused;
}

int read_defaults(enum setting_scope scope, void *base)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(free_pointer) char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope == scope && row->fallback)
            fprintf(out, "%s = %s;\n", row->name, row->fallback);
    if (fclose(out) != 0)
        return -ENOMEM;
    CLEANUP(settings_file_close) struct settings_file file;
    if (settings_file_from_text(text, &problems, &file) == 0)
        read_group(&file, config_root_setting(&file.config), scope, "", base);
    return problems.count == 0 ? 0 : -ENOMEM;
}
