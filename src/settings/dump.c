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

/* Whatever it has a use for, but what it takes from the global settings. */
static bool is_shown(const struct setting_row *row, const struct listener_settings *listener)
{
    if (row->own_offset > 0)
        return *(const bool *)((const char *)listener + row->own_offset);
    if (row->place != PLACE_ANY && (row->place == PLACE_PATH) != (listener->path != NULL))
        return false;
    if ((row->of_proxy && !listener->proxy_protocol) ||
        (row->is_fault && !misbehaviour_is_any(&listener->misbehaviour)))
        return false;
    /* A text without a default is not set. */
    return !row->type->is_text || row->fallback || *(char *const *)setting_field_const(row, listener) != NULL;
}

static int print_listener(const struct listener_settings *listener, FILE *out)
{
    int r = 0;
    bool has_faults = false;
    fputs("\n    {", out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope != SCOPE_LISTENER || !is_shown(row, listener))
            continue;
        r = print_setting(row, listener, row->is_fault && !has_faults ? "\n      " : " ", "", out);
        has_faults = row->is_fault;
    }
    fputs(" }", out);
    return r;
}

static int print_listeners(const struct settings *settings, FILE *out)
{
    int r = 0;
    fputs("listeners = (", out);
    for (size_t i = 0; r == 0 && i < settings->listener_count; i++) {
        fputs(i ? "," : "", out);
        r = print_listener(&settings->listeners[i], out);
    }
    fputs("\n);\n", out);
    return r;
}

static bool is_default(const struct setting_row *row, const struct listener_settings *listener,
                       const struct listener_settings *defaults)
{
    return memcmp(setting_field_const(row, listener), setting_field_const(row, defaults), row->type->size) ==
           0;
}

int settings_print_faults(const struct listener_settings *listener, FILE *out)
{
    CLEANUP(listener_settings_clear) struct listener_settings defaults = {0};
    int r = read_defaults(SCOPE_LISTENER, &defaults);
    const char *separator = "";
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (!row->is_fault || strcmp(row->name, "seed") == 0 || is_default(row, listener, &defaults))
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
