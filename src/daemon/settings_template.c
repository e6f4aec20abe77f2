/* conf/tcpechod.conf: each setting with its meaning, its bounds and its default. */
#include "base/cleanup.h"
#include "base/streams.h"
#include "daemon/settings_print.h"
#include "serve/services.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 100

static const char head[] =
    "# Settings of tcpechod(8); tcpechod.conf(5) says more about each.\n"
    "#\n"
    "# All of them are optional. Those that are commented out show the default. After a change:\n"
    "#\n"
    "#     tcpechod --test              checks this file and names every mistake with its line\n"
    "#     systemctl reload tcpechod    puts it into force; no connection is closed\n"
    "\n";

static const char active_listeners[] =
    "listeners = (\n"
    "    # Loopback addresses: only programs on this host are served. Port 7 is the service's own, and\n"
    "    # 7007 the one that tcpecho(1) asks when it is told none.\n"
    "    { address = \"127.0.0.1\"; port = 7; service = \"echo\"; },\n"
    "    { address = \"::1\"; port = 7; service = \"echo\"; },\n"
    "    { address = \"127.0.0.1\"; port = 7007; service = \"echo\"; },\n"
    "    { address = \"::1\"; port = 7007; service = \"echo\"; },\n"
    "    { address = \"127.0.0.1\"; port = 7008; service = \"upper\"; end_word = \"end\"; },\n"
    "    { address = \"::1\"; port = 7008; service = \"upper\"; end_word = \"end\"; }\n"
    "\n"
    "    # To serve the network, replace the six lines above by these three. Whoever can reach the host\n"
    "    # is a client then: see allow and deny below, and max_connections_per_source. With\n"
    "    # tcpechod.socket, change its addresses as well: tcpechod.service(8) says how.\n"
    "    #{ address = \"*\"; port = 7; service = \"echo\"; },\n"
    "    #{ address = \"*\"; port = 7007; service = \"echo\"; },\n"
    "    #{ address = \"*\"; port = 7008; service = \"upper\"; end_word = \"end\"; }\n"
    ");\n";

/* Text in lines that start with `prefix` and then `column` blanks, broken at blanks. `used` is how much of
 * the first line is written already. */
static void print_wrapped(const char *prefix, size_t column, size_t used, const char *text, FILE *out)
{
    while (*text) {
        size_t length = strcspn(text, " ");

        if (used > 0 && used + 1 + length > WIDTH) {
            (void)fputs("\n", out);
            used = 0;
        }
        if (used == 0) {
            used = (size_t)fprintf(out, "%s%*s", prefix, (int)column, "");
            (void)fprintf(out, "%.*s", (int)length, text);
            used += length;
        } else {
            (void)fprintf(out, " %.*s", (int)length, text);
            used += 1 + length;
        }
        text += length;
        text += strspn(text, " ");
    }
    (void)fputs("\n", out);
}

/* "In seconds: 0 (never) or 0.001 to 31536000. Needs a restart." */
static void describe(const struct setting_row *row, char *out, size_t size)
{
    static const char must_be[] = "must be ";
    char expectation[SETTING_EXPECTATION_SIZE];
    const char *allowed = setting_expectation(row, expectation);
    bool number = row->type == SETTING_INTEGER || row->type == SETTING_SECONDS;

    if (strncmp(allowed, must_be, sizeof must_be - 1) == 0)
        allowed += sizeof must_be - 1;
    if (number && row->type == SETTING_INTEGER && row->unit)
        (void)snprintf(out, size, "%s Allowed: %s %s.%s", row->meaning, allowed, row->unit,
                       row->needs_restart ? " A change needs a restart." : "");
    else if (number || row->type == SETTING_CHOICE)
        (void)snprintf(out, size, "%s Allowed: %s.%s", row->meaning, allowed,
                       row->needs_restart ? " A change needs a restart." : "");
    else
        (void)snprintf(out, size, "%s", row->meaning);
}

/* A listener's settings have no line of their own: they stand in its row. */
static void print_listener_settings(FILE *out)
{
    static const int name_width = 13;

    for (const struct setting_row *row = setting_table; row->name; row++) {
        int used;

        if (row->scope != SCOPE_LISTENER)
            continue;
        used = fprintf(out, "#   %-*s", name_width, row->name);
        if (used > 4 + name_width) { /* a long name has a line to itself */
            (void)fputs("\n", out);
            used = 0;
        }
        print_wrapped("#   ", (size_t)name_width + 1, used > 0 ? (size_t)used : 0, row->meaning, out);
    }
    (void)fputs("#\n# Services:\n", out);
    for (size_t i = 0; services[i]; i++)
        (void)fprintf(out, "#   %-*s %s\n", name_width, services[i]->name, services[i]->summary);
    (void)fputs("#\n", out);
}

static int print_commented(const struct setting_row *row, const struct settings *defaults, const char *indent,
                           FILE *out)
{
    char text[1024], prefix[16];

    (void)snprintf(prefix, sizeof prefix, "%s# ", indent);
    describe(row, text, sizeof text);
    (void)fputs("\n", out);
    print_wrapped(prefix, 0, 0, text, out);
    (void)snprintf(prefix, sizeof prefix, "%s#", indent);
    return setting_print(row, defaults, prefix, out);
}

static int print_log(const struct setting_row *group, const struct settings *defaults, FILE *out)
{
    int r = 0;

    (void)fputs("\n", out);
    print_wrapped("# ", 0, 0, group->meaning, out);
    (void)fputs("log = {", out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope == SCOPE_LOG)
            r = print_commented(row, defaults, "    ", out);
    }
    (void)fputs("};\n", out);
    return r;
}

int settings_write_template(FILE *out)
{
    CLEANUP(settings_freep) struct settings *defaults = settings_new();
    int r = 0;

    if (!defaults)
        return -ENOMEM;
    (void)fputs(head, out);
    for (const struct setting_row *row = setting_table; r == 0 && row->name; row++) {
        if (row->scope != SCOPE_GLOBAL)
            continue;
        if (row->type == SETTING_LISTENERS) {
            print_wrapped("# ", 0, 0, row->meaning, out);
            (void)fputs("#\n", out);
            print_listener_settings(out);
            (void)fputs(
                "# Without this list: echo on port 7007 and upper on port 7008 of 127.0.0.1 and ::1.\n", out);
            (void)fputs(active_listeners, out);
        } else if (row->type == SETTING_GROUP) {
            r = print_log(row, defaults, out);
        } else {
            r = print_commented(row, defaults, "", out);
        }
    }
    return r < 0 ? r : print_finish(out);
}
