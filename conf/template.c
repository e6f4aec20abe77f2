/* Writes conf/tcpechod.conf to stdout: each setting with its meaning, its bounds and its default, by the
 * table. Given a file, compares that instead and fails when it differs. */
#include "base/cleanup.h"
#include "serve/services.h"
#include "settings/settings.h"
#include "settings/table.h"

#include <stdio.h>
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
    "#\n"
    "# Durations are seconds, or text with a unit: 0.25 is \"250ms\", 300.0 is \"5m\".\n"
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
            fputs("\n", out);
            used = 0;
        }
        if (used == 0) {
            used = (size_t)fprintf(out, "%s%*s", prefix, (int)column, "");
            fprintf(out, "%.*s", (int)length, text);
            used += length;
        } else {
            fprintf(out, " %.*s", (int)length, text);
            used += 1 + length;
        }
        text += length;
        text += strspn(text, " ");
    }
    fputs("\n", out);
}

/* Numbers, durations and choices say what is allowed. */
static void describe(const struct setting_row *row, char *out, size_t size)
{
    char expectation[SETTING_EXPECTATION_SIZE];
    int used = snprintf(out, size, "%s", row->meaning);
    if (row->maximum > 0 || row->choices)
        used += snprintf(out + used, size - (size_t)used, " Allowed: %s%s%s.",
                         setting_expectation(row, expectation) + strlen("must be "), row->unit ? " " : "",
                         row->unit ? row->unit : "");
    if (row->needs_restart)
        snprintf(out + used, size - (size_t)used, " A change needs a restart.");
}

/* A listener's settings have no line of their own: they stand in its row. */
static void print_listener_settings(FILE *out)
{
    static const int name_width = 13;
    bool in_faults = false;
    for (const struct setting_row *row = setting_table; row->name; row++) {
        int used;
        if (row->scope != SCOPE_LISTENER)
            continue;
        if (row->is_fault && !in_faults) {
            fputs("#\n# A bad peer on purpose, for tests of clients (MISBEHAVING in tcpechod.conf(5)):\n#\n",
                  out);
            in_faults = true;
        }
        used = fprintf(out, "#   %-*s", name_width, row->name);
        if (used > 4 + name_width) { /* a long name has a line to itself */
            fputs("\n", out);
            used = 0;
        }
        print_wrapped("#   ", (size_t)name_width + 1, used > 0 ? (size_t)used : 0, row->meaning, out);
    }
    fputs("#\n# Services:\n", out);
    for (size_t i = 0; services[i]; i++)
        fprintf(out, "#   %-*s %s\n", name_width, services[i]->name, services[i]->summary);
    fputs("#\n", out);
}

static void print_commented(const struct setting_row *row, const struct settings *defaults,
                            const char *indent, FILE *out)
{
    char text[1024], prefix[16];
    describe(row, text, sizeof text);
    snprintf(prefix, sizeof prefix, "%s# ", indent);
    fputs("\n", out);
    print_wrapped(prefix, 0, 0, text, out);
    fprintf(out, "%s#%s = ", indent, row->name);
    setting_print(row, defaults, out);
    fputs(";\n", out);
}

static void print_log(const struct setting_row *group, const struct settings *defaults, FILE *out)
{
    fputs("\n", out);
    print_wrapped("# ", 0, 0, group->meaning, out);
    fputs("log = {", out);
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope == SCOPE_LOG)
            print_commented(row, defaults, "    ", out);
    fputs("};\n", out);
}

static void print_template(const struct settings *defaults, FILE *out)
{
    fputs(head, out);
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope != SCOPE_GLOBAL)
            continue;
        if (row->type == &setting_listeners) {
            print_wrapped("# ", 0, 0, row->meaning, out);
            fputs("#\n", out);
            print_listener_settings(out);
            fputs("# Without this list: echo on port 7007 and upper on port 7008 of 127.0.0.1 and ::1.\n",
                  out);
            fputs(active_listeners, out);
        } else if (row->type == &setting_group) {
            print_log(row, defaults, out);
        } else {
            print_commented(row, defaults, "", out);
        }
    }
}

static bool is_in_file(const char *text, size_t length, const char *path)
{
    CLEANUP(close_stream) FILE *file = fopen(path, "r");
    CLEANUP(free_pointer) char *there = calloc(1, length + 2);
    return file && there && fread(there, 1, length + 1, file) == length && memcmp(there, text, length) == 0;
}

int main(int argc, char *argv[])
{
    CLEANUP(settings_freep) struct settings *defaults = settings_new();
    CLEANUP(free_pointer) char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (!defaults || !out)
        return EXIT_FAILURE;
    print_template(defaults, out);
    if (fclose(out) != 0)
        return EXIT_FAILURE;
    if (argc < 2)
        return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    if (is_in_file(text, length, argv[1]))
        return EXIT_SUCCESS;
    fprintf(stderr, "%s is not what the table of settings says; write it anew: %s > %s\n", argv[1], argv[0],
            argv[1]);
    return EXIT_FAILURE;
}
