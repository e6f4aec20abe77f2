/* --dump: the settings in the file's own syntax. */
#include "settings/settings.h"

#include "base/cleanup.h"
#include "base/streams.h"
#include "settings/read.h"
#include "settings/table.h"
#include "settings/types.h"

#include <string.h>

/* "INDENT NAME = VALUE;" and what ends it. */
static int print_setting(const struct setting_row *row, const void *base, const char *indent, const char *end,
                         FILE *out)
{
    fprintf(out, "%s%s = ", indent, row->name);
    int r = setting_print(row, base, out);
    fprintf(out, ";%s", end);
    return r;
}

/* What a listener is, and what it has not left at its default. A text that is set counts as set, whatever it
 * says. */
static bool is_shown(const struct setting_row *row, const struct listener_settings *listener,
                     const struct listener_settings *defaults)
{
    if (row->own_offset > 0)
        return *(const bool *)((const char *)listener + row->own_offset);
    if (row->place != PLACE_ANY && (row->place == PLACE_PATH) != (listener->path != NULL))
        return false;
    return row->always_shown || memcmp(setting_field_const(row, listener), setting_field_const(row, defaults),
                                       row->type->size) != 0;
}

static int print_listeners(const struct settings *settings, FILE *out)
{
    CLEANUP(listener_settings_clear) struct listener_settings defaults = {0};
    int r = read_defaults(SCOPE_LISTENER, &defaults);
    fputs("listeners = (", out);
    for (size_t i = 0; r == 0 && i < settings->listener_count; i++) {
        const struct listener_settings *listener = &settings->listeners[i];
        fputs(i ? ",\n    {" : "\n    {", out);
        for (const struct setting_row *row = setting_table; r == 0 && row->name; row++)
            if (row->scope == SCOPE_LISTENER && is_shown(row, listener, &defaults))
                r = print_setting(row, listener, " ", "", out);
        fputs(" }", out);
    }
    fputs("\n);\n", out);
    return r;
}

int settings_print_faults(const struct listener_settings *listener, FILE *out)
{
    CLEANUP(listener_settings_clear) struct listener_settings defaults = {0};
    int r = read_defaults(SCOPE_LISTENER, &defaults);
    const char *separator = "";
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (!row->is_fault || strcmp(row->name, "seed") == 0 || !is_shown(row, listener, &defaults))
            continue;
        fprintf(out, "%s%s = ", separator, row->name);
        r = setting_print(row, listener, out);
        separator = ", ";
    }
    return r;
}

static int print_group(const struct settings *settings, FILE *out)
{
    int r = 0;
    fputs("log = {\n", out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++)
        if (row->scope == SCOPE_LOG)
            r = print_setting(row, settings, "    ", "\n", out);
    fputs("};\n", out);
    return r;
}

int settings_dump(const struct settings *settings, FILE *out)
{
    int r = 0;
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope != SCOPE_GLOBAL)
            continue;
        if (row->type == &setting_listeners)
            r = print_listeners(settings, out);
        else if (row->type == &setting_group)
            r = print_group(settings, out);
        else
            r = print_setting(row, settings, "", "\n", out);
    }
    return r < 0 ? r : print_finish(out);
}
