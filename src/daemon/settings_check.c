#include "daemon/settings_check.h"

#include "daemon/problems.h"

#include <stdio.h>
#include <string.h>

#define NAME_SHOWN 64

bool setting_is_readable(const config_setting_t *setting)
{
    const struct scan_node *node = settings_node(setting);

    return config_setting_type(setting) != CONFIG_TYPE_NONE && !(node && node->duplicate);
}

/* Where a name that is unknown here would be known; NULL: nowhere. */
static const char *other_place(enum setting_scope scope, const char *name)
{
    if (scope != SCOPE_LISTENER && setting_find(SCOPE_LISTENER, name, strlen(name)))
        return "it belongs to a listener";
    if (scope != SCOPE_LOG && setting_find(SCOPE_LOG, name, strlen(name)))
        return "it belongs into the group \"log\"";
    if (scope != SCOPE_GLOBAL && setting_find(SCOPE_GLOBAL, name, strlen(name)))
        return "it is set for the whole daemon, at the top of the file";
    return NULL;
}

/* "workers, queue_depth, ..." */
static void list_known(enum setting_scope scope, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (const struct setting_row *row = setting_table; row->name && used < size; row++) {
        if (row->scope == scope)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", row->name);
    }
}

void setting_report_unknown(struct settings_source *source, const config_setting_t *setting,
                            enum setting_scope scope, const char *where)
{
    const char *name = config_setting_name(setting);
    const char *nearest = setting_nearest(scope, name), *place = other_place(scope, name);
    int line = settings_line(setting);
    char known[512];

    if (place) {
        settings_report(source, line, "%sunknown setting \"%s\"; %s", where, name, place);
    } else if (nearest) {
        settings_report(source, line, "%sunknown setting \"%s\"; did you mean \"%s\"?", where, name, nearest);
    } else {
        list_known(scope, known, sizeof known);
        settings_report(source, line, "%sunknown setting \"%.*s\"; known are %s", where, NAME_SHOWN, name,
                        known);
    }
}

static void read_log(struct settings_source *source, const config_setting_t *group, struct settings *settings)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(setting);
        const struct setting_row *row = setting_find(SCOPE_LOG, name, strlen(name));
        char label[NAME_SHOWN];

        if (!setting_is_readable(setting))
            continue;
        if (!row) {
            setting_report_unknown(source, setting, SCOPE_LOG, "log: ");
            continue;
        }
        (void)snprintf(label, sizeof label, "log.%s", row->name);
        (void)setting_read(source, setting, row, label, settings);
    }
}

bool settings_check(struct settings_source *source, struct settings *settings)
{
    const config_setting_t *root = config_root_setting(&source->config);
    bool has_listeners = false;

    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        const char *name = config_setting_name(setting);
        const struct setting_row *row = setting_find(SCOPE_GLOBAL, name, strlen(name));

        if (row && row->type == SETTING_LISTENERS)
            has_listeners = true;
        if (!setting_is_readable(setting))
            continue;
        if (!row)
            setting_report_unknown(source, setting, SCOPE_GLOBAL, "");
        else if (!setting_read(source, setting, row, row->name, settings))
            continue;
        else if (row->type == SETTING_LISTENERS)
            listeners_read(source, setting, settings);
        else if (row->type == SETTING_GROUP)
            read_log(source, setting, settings);
    }
    return has_listeners;
}
