#include "daemon/settings_print.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "base/streams.h"
#include "daemon/listener_settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The fewest decimals that read back as the same number, and at least one, which makes libconfig see a float.
 */
static void print_seconds(double value, FILE *out)
{
    char text[400]; /* the largest double has 309 digits */

    for (int decimals = 1; decimals <= 25; decimals++) {
        (void)snprintf(text, sizeof text, "%.*f", decimals, value);
        if (strtod(text, NULL) == value)
            break;
    }
    (void)fputs(text, out);
}

static int print_text(const char *text, FILE *out)
{
    CLEANUP(free_pointer) char *quoted = escape_quoted(text);

    if (!quoted)
        return -ENOMEM;
    (void)fputs(quoted, out);
    return 0;
}

static void print_networks(const struct prefix_list *list, FILE *out)
{
    char text[ADDRESS_TEXT_SIZE];

    (void)fputs("[", out);
    for (size_t i = 0; i < list->count; i++)
        (void)fprintf(out, "%s \"%s\"", i ? "," : "", prefix_format(&list->items[i], text));
    (void)fputs(" ]", out);
}

static void print_choice(const struct setting_row *row, int64_t value, FILE *out)
{
    const struct setting_choice *choice = row->choices;

    while (choice[1].name && choice->value != value)
        choice++;
    (void)fprintf(out, "\"%s\"", choice->name);
}

/* The value of one field. Returns 0 or -ENOMEM. */
static int print_value(const struct setting_row *row, const void *field, FILE *out)
{
    switch (row->type) {
    case SETTING_INTEGER:
        (void)fprintf(out, "%lld", (long long)*(const int64_t *)field);
        return 0;
    case SETTING_PORT:
        (void)fprintf(out, "%u", *(const uint16_t *)field);
        return 0;
    case SETTING_SECONDS:
        print_seconds(*(const double *)field, out);
        return 0;
    case SETTING_BOOLEAN:
        (void)fputs(*(const bool *)field ? "true" : "false", out);
        return 0;
    case SETTING_CHOICE:
        print_choice(row, *(const int64_t *)field, out);
        return 0;
    case SETTING_TEXT:
    case SETTING_WORD:
    case SETTING_ADDRESS:
    case SETTING_PATH:
        return print_text(*(char *const *)field, out);
    case SETTING_MODE:
        (void)fprintf(out, "\"%04o\"", *(const mode_t *)field);
        return 0;
    case SETTING_SERVICE:
        (void)fprintf(out, "\"%s\"", (*(const struct service *const *)field)->name);
        return 0;
    case SETTING_NETWORKS:
        print_networks(field, out);
        return 0;
    case SETTING_LISTENERS:
    case SETTING_GROUP:
        break; /* printed row by row */
    }
    return 0;
}

int setting_print(const struct setting_row *row, const void *base, const char *indent, FILE *out)
{
    int r;

    (void)fprintf(out, "%s%s = ", indent, row->name);
    r = print_value(row, setting_field_const(row, base), out);
    (void)fputs(";\n", out);
    return r;
}

/* Whether a listener sets this itself. */
static bool is_set(const struct setting_row *row, const struct listener_settings *listener)
{
    const void *field = setting_field_const(row, listener);

    switch (row->type) {
    case SETTING_PORT:
        return listener->address != NULL;
    case SETTING_MODE:
        return listener->path != NULL;
    case SETTING_SERVICE:
        return true;
    case SETTING_BOOLEAN:
        return *(const bool *)field;
    case SETTING_TEXT:
    case SETTING_WORD:
    case SETTING_ADDRESS:
    case SETTING_PATH:
        return *(char *const *)field != NULL;
    default:
        return row->own_offset > 0 && *(const bool *)((const char *)listener + row->own_offset);
    }
}

static int print_listener(const struct listener_settings *listener, FILE *out)
{
    int r = 0;

    (void)fputs("    {", out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope != SCOPE_LISTENER || !is_set(row, listener))
            continue;
        (void)fprintf(out, " %s = ", row->name);
        r = print_value(row, setting_field_const(row, listener), out);
        (void)fputs(";", out);
    }
    (void)fputs(" }", out);
    return r;
}

static int print_listeners(const struct settings *settings, FILE *out)
{
    int r = 0;

    (void)fputs("listeners = (", out);
    for (size_t i = 0; r == 0 && i < settings->listener_count; i++) {
        (void)fputs(i ? ",\n" : "\n", out);
        r = print_listener(&settings->listeners[i], out);
    }
    (void)fputs("\n);\n", out);
    return r;
}

/* The group `log`, whole. */
static int print_group(const struct settings *settings, FILE *out)
{
    int r = 0;

    (void)fputs("log = {\n", out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope == SCOPE_LOG)
            r = setting_print(row, settings, "    ", out);
    }
    (void)fputs("};\n", out);
    return r;
}

int settings_dump(const struct settings *settings, FILE *out)
{
    int r = 0;

    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope != SCOPE_GLOBAL)
            continue;
        if (row->type == SETTING_LISTENERS)
            r = print_listeners(settings, out);
        else if (row->type == SETTING_GROUP)
            r = print_group(settings, out);
        else
            r = setting_print(row, settings, "", out);
    }
    return r < 0 ? r : print_finish(out);
}
