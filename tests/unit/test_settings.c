#include "daemon/settings.h"

#include "base/cleanup.h"
#include "common.h"
#include "daemon/listener_settings.h"
#include "daemon/options.h"
#include "daemon/problems.h"
#include "daemon/setting_table.h"
#include "faults.h"

#include <sys/mman.h>

/* What settings_load makes of a text. The file is one in memory, named by /proc. */
static int load(const char *text, struct options options, struct problems *problems, struct settings **out)
{
    char path[64];
    CLEANUP(fd_close) int fd = memfd_create("settings", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    options.config = path;
    options.config_named = true;
    return settings_load(&options, problems, out);
}

static const struct options no_options = {.workers = -1, .log_level = -1};

static struct settings *load_good(const char *text)
{
    struct problems problems = {0};
    struct settings *settings = NULL;

    int r = load(text, no_options, &problems, &settings);
    ck_assert_msg(r == 0, "%s", problems.count ? problems.items[0].message : "");
    ck_assert_uint_eq(problems.count, 0);
    return settings;
}

/* The whole of the text's only problem, behind the file's name. */
static void expect_problem(const char *text, const char *expected)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    struct settings *settings = NULL;

    ck_assert_int_eq(load(text, no_options, &problems, &settings), -EINVAL);
    ck_assert_ptr_null(settings);
    ck_assert_msg(problems.count == 1, "%zu problems in %s", problems.count, text);
    const char *message = strstr(problems.items[0].message, ": ");
    while (message > problems.items[0].message && message[-1] != '/')
        message--;
    ck_assert_str_eq(strchr(message, ':'), expected);
}

START_TEST(defaults_are_the_table_s)
{
    CLEANUP(settings_freep) struct settings *settings = load_good("");

    for (const struct setting_row *row = setting_table; row->name; row++) {
        const void *field = setting_field_const(row, settings);

        if (row->scope == SCOPE_LISTENER)
            continue;
        if (row->type == SETTING_INTEGER || row->type == SETTING_CHOICE)
            ck_assert_msg(*(const int64_t *)field == (int64_t)row->fallback, "%s", row->name);
        if (row->type == SETTING_SECONDS)
            ck_assert_msg(*(const double *)field == row->fallback, "%s", row->name);
    }
    ck_assert(settings->from_file);
    ck_assert(settings->log_connections);
    ck_assert_uint_eq(settings->listener_count, 4);
    ck_assert_str_eq(settings->listeners[3].address, "::1");
    ck_assert_uint_eq(settings->listeners[3].at.port, 7008);
    ck_assert_str_eq(settings->listeners[3].end_word, "end");
    ck_assert_str_eq(settings->listeners[3].service->name, "upper");
    ck_assert(settings->listeners[3].idle_timeout == 300);
}
END_TEST

START_TEST(the_table_is_sound)
{
    for (const struct setting_row *row = setting_table; row->name; row++) {
        bool number = row->type == SETTING_INTEGER || row->type == SETTING_SECONDS;

        ck_assert_msg(row->meaning && *row->meaning, "%s", row->name);
        ck_assert_msg(setting_find(row->scope, row->name, strlen(row->name)) == row, "%s twice", row->name);
        ck_assert_msg(strlen(row->name) >= 3, "%s", row->name); /* settings_scan.c: rename_duplicate */
        if (number)
            ck_assert_msg(setting_in_range(row, row->fallback), "%s", row->name);
        ck_assert_msg((row->type == SETTING_CHOICE) == (row->choices != NULL), "%s", row->name);
        ck_assert_int_lt(row - setting_table, 64); /* settings_listener.c has a bit for each */
    }
}
END_TEST

START_TEST(listeners_inherit_what_they_do_not_set)
{
    CLEANUP(settings_freep)
    struct settings *settings =
        load_good("idle_timeout = 5; allow = [ \"10.0.0.0/8\" ]; deny = [ \"10.1.0.0/16\" ];\n"
                  "max_connections_per_source = 9;\n"
                  "listeners = ( { address = \"127.0.0.1\"; port = 7; },\n"
                  "  { address = \"*\"; port = 8; idle_timeout = 0; allow = [ ];\n"
                  "    deny = ( \"::1\", \"::2\" ); max_connections_per_source = 0; },\n"
                  "  { path = \"/run/x\"; mode = \"0660\"; trace = true; } );");
    const struct listener_settings *first = &settings->listeners[0], *second = first + 1, *third = first + 2;

    ck_assert_uint_eq(settings->listener_count, 3);
    ck_assert(first->idle_timeout == 5 && !first->own_idle_timeout);
    ck_assert_uint_eq(first->allow.count, 1);
    ck_assert_uint_eq(first->deny.count, 1);
    ck_assert_int_eq(first->max_connections_per_source, 9);
    ck_assert(second->any && second->own_idle_timeout && second->idle_timeout == 0);
    ck_assert(second->own_allow && second->allow.count == 0);
    ck_assert_uint_eq(second->deny.count, 2);
    ck_assert(second->own_max_connections_per_source && second->max_connections_per_source == 0);
    ck_assert_int_eq(second->line, 4);
    ck_assert_str_eq(third->path, "/run/x");
    ck_assert_uint_eq(third->mode, 0660);
    ck_assert(third->trace && !third->any && third->address == NULL);
    ck_assert(third->idle_timeout == 5);
}
END_TEST

START_TEST(the_command_line_overrides)
{
    const char *listen[] = {"upper@[::1]:9", "/run/y"};
    struct options options = {
        .workers = 7, .log_level = LOG_LEVEL_DEBUG, .listen = listen, .listen_count = 2};
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(settings_freep) struct settings *settings = NULL;

    ck_assert_int_eq(load("workers = 2; idle_timeout = 4;", options, &problems, &settings), 0);
    ck_assert_int_eq(settings->workers, 7);
    ck_assert_int_eq(settings->log_level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(settings->listener_count, 2);
    ck_assert_int_eq(settings->listeners[0].at.family, AF_INET6);
    ck_assert_uint_eq(settings->listeners[0].at.port, 9);
    ck_assert(settings->listeners[1].idle_timeout == 4);

    listen[1] = "nonsense";
    struct settings *other = NULL;
    ck_assert_int_eq(load("", options, &problems, &other), -EINVAL);
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(problems.count, 1);
}
END_TEST

START_TEST(an_absent_file)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(settings_freep) struct settings *settings = NULL;
    struct options options = {.config = "/nonexistent/x.conf", .workers = -1, .log_level = -1};

    ck_assert_int_eq(settings_load(&options, &problems, &settings), 0);
    ck_assert(!settings->from_file);
    ck_assert_uint_eq(settings->listener_count, 4);

    struct settings *named = NULL;
    options.config_named = true;
    ck_assert_int_eq(settings_load(&options, &problems, &named), -EINVAL);
    ck_assert_ptr_null(named);
    ck_assert_str_eq(problems.items[0].message,
                     "/nonexistent/x.conf: cannot be read: No such file or directory");
}
END_TEST

START_TEST(problems_say_what_and_where)
{
    expect_problem("\nworkers = 5000;", ":2: workers = 5000: must be 0 to 1024");
    expect_problem("\n\nidle_timout = 3;",
                   ":3: unknown setting \"idle_timout\"; did you mean \"idle_timeout\"?");
    expect_problem(
        "allow = [\n\"10.0.0.0/8\",\n\"x\"\n];",
        ":3: allow: \"x\" is no network; it must be text such as \"192.0.2.0/24\" or \"2001:db8::/32\"");
    expect_problem("log = { level = info; };", ":1: syntax error: text must stand in quotes: \"info\"");
    expect_problem("@include \"/\"\n", ":1: @include is not supported; put all settings into this file");
}
END_TEST

START_TEST(nearest_names)
{
    ck_assert_str_eq(setting_nearest(SCOPE_GLOBAL, "idle_timout"), "idle_timeout");
    ck_assert_str_eq(setting_nearest(SCOPE_GLOBAL, "wokrers"), "workers");
    ck_assert_str_eq(setting_nearest(SCOPE_GLOBAL, "WORKERS"), "workers");
    ck_assert_str_eq(setting_nearest(SCOPE_LOG, "adresses"), "addresses");
    ck_assert_str_eq(setting_nearest(SCOPE_LISTENER, "endword"), "end_word");
    ck_assert_ptr_null(setting_nearest(SCOPE_GLOBAL, "shoe_size"));
    ck_assert_ptr_null(setting_nearest(SCOPE_LISTENER, "x"));
    ck_assert_ptr_null(setting_nearest(
        SCOPE_GLOBAL, "a_name_that_is_far_longer_than_any_setting_of_ours_could_ever_come_to_be"));
}
END_TEST

static bool clash(const char *a, const char *b)
{
    CLEANUP(listener_clear) struct listener_settings x = {0};
    CLEANUP(listener_clear) struct listener_settings y = {0};
    char why[LISTENER_WHY_SIZE];

    ck_assert_int_eq(listener_from_spec(a, &x, why), 0);
    ck_assert_int_eq(listener_from_spec(b, &y, why), 0);
    ck_assert_int_eq(listener_clashes(&x, &y), listener_clashes(&y, &x));
    return listener_clashes(&x, &y);
}

START_TEST(places_that_clash)
{
    ck_assert(clash("127.0.0.1:7", "upper@127.0.0.1:7"));
    ck_assert(clash("*:7", "127.0.0.1:7"));
    ck_assert(clash("*:7", "[::1]:7"));
    ck_assert(clash("*:7", "*:7"));
    ck_assert(clash("0.0.0.0:7", "127.0.0.1:7"));
    ck_assert(clash("[::]:7", "[::1]:7"));
    ck_assert(clash("[::1]:7", "[0::1]:7"));
    ck_assert(clash("/run/x", "time@/run/x"));
    ck_assert(!clash("127.0.0.1:7", "127.0.0.1:8"));
    ck_assert(!clash("127.0.0.1:7", "127.0.0.2:7"));
    ck_assert(!clash("0.0.0.0:7", "[::]:7"));
    ck_assert(!clash("*:0", "*:0"));
    ck_assert(!clash("/run/x", "/run/y"));
    ck_assert(!clash("/run/x", "*:7"));
}
END_TEST

START_TEST(restarts_are_named)
{
    CLEANUP(settings_freep) struct settings *a = load_good("");
    CLEANUP(settings_freep) struct settings *b = load_good("workers = 3; queue_depth = 9; backlog = 2;");
    const struct setting_row *row = NULL;

    ck_assert_ptr_null(setting_next_restart(a, a, NULL));
    row = setting_next_restart(a, b, row);
    ck_assert_str_eq(row->name, "workers");
    row = setting_next_restart(a, b, row);
    ck_assert_str_eq(row->name, "queue_depth");
    ck_assert_ptr_null(setting_next_restart(a, b, row));
}
END_TEST

static const char eventful[] = "listeners = ( { address = \"127.0.0.1\"; port = 7; service = \"greet\"; text "
                               "= \"x\\n\"; deny = [ \"::1\" ]; },\n"
                               "  { path = \"/run/x\"; greeting = \"\\xff\\x01\"; } );\n"
                               "allow = [ \"10.0.0.0/8\", \"::1\" ]; log = { level = \"debug\"; };\n";

static char *dump(const struct settings *settings)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(settings_dump(settings, out), 0);
    fclose(out);
    return text;
}

START_TEST(dumps_read_back_the_same)
{
    CLEANUP(settings_freep) struct settings *settings = load_good(eventful);
    CLEANUP(free_pointer) char *text = dump(settings);
    CLEANUP(settings_freep) struct settings *again = load_good(text);
    CLEANUP(free_pointer) char *same = dump(again);

    ck_assert_str_eq(text, same);
    ck_assert_str_eq(again->listeners[1].greeting, "\xff\x01");
}
END_TEST

START_TEST(a_full_disk_shows)
{
    CLEANUP(settings_freep) struct settings *settings = load_good("");
    CLEANUP(close_stream) FILE *full = fopen("/dev/full", "w");

    ck_assert_ptr_nonnull(full);
    ck_assert_int_eq(settings_dump(settings, full), -ENOSPC);
    clearerr(full);
    ck_assert_int_eq(settings_write_template(full), -ENOSPC);
}
END_TEST

/* $INSTALLED_SETTINGS, conf/tcpechod.conf, is what settings_write_template writes; the file that
 * $WRITE_TEMPLATE names gets a new one. */
START_TEST(the_installed_file_is_the_template)
{
    CLEANUP(free_pointer) char *text = NULL;
    CLEANUP(free_pointer) char *installed = calloc(1, 65536);
    const char *path = getenv("INSTALLED_SETTINGS"), *update = getenv("WRITE_TEMPLATE");
    size_t size;

    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(settings_write_template(out), 0);
    fclose(out);
    CLEANUP(settings_freep) struct settings *settings = load_good(text);
    ck_assert_uint_eq(settings->listener_count, 6);
    if (update) {
        CLEANUP(close_stream) FILE *file = fopen(update, "w");
        ck_assert_ptr_nonnull(file);
        ck_assert_int_ge(fputs(text, file), 0);
    }
    if (!path && access("../conf/tcpechod.conf", R_OK) == 0)
        path = "../conf/tcpechod.conf"; /* from the build folder */
    if (path) {
        CLEANUP(close_stream) FILE *file = fopen(path, "r");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_gt(fread(installed, 1, 65535, file), 0);
        ck_assert_str_eq(installed, text);
    }
}
END_TEST

/* Fails the first, second, ... call of a kind, until none is left to fail: each time there is either no error
 * or a problem that says so, and nothing is left behind (the leak checker sees to that). */
static void fail_each(const char *call, int error, const char *text)
{
    unsigned long failed = 1;

    for (unsigned long nth = 1; failed > 0; nth++) {
        CLEANUP(problems_clear) struct problems problems = {0};
        CLEANUP(settings_freep) struct settings *settings = NULL;

        ck_assert_uint_lt(nth, 500);
        char rule[64];
        (void)snprintf(rule, sizeof rule, "%s:%s:%lu", call, error == EIO ? "EIO" : "ENOMEM", nth);
        CLEANUP(fd_close) int fd = memfd_create("settings", MFD_CLOEXEC);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        struct options options = {.config = path, .config_named = true, .workers = -1, .log_level = -1};

        fault_rules(rule);
        int r = settings_load(&options, &problems, &settings);
        failed = fault_disarm();
        ck_assert_msg((r == 0) == (problems.count == 0), "%s", rule);
        ck_assert_msg((r == 0) == (settings != NULL), "%s", rule);
        if (text == eventful)
            ck_assert_msg((failed > 0) == (r < 0), "%s", rule);
    }
}

START_TEST(everything_may_fail)
{
    static const char *const calls[] = {"malloc", "calloc",   "reallocarray",
                                        "strdup", "asprintf", "vasprintf"};

    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        fail_each(calls[i], ENOMEM, eventful);
        fail_each(calls[i], ENOMEM, "");
        fail_each(calls[i], ENOMEM, "workers = 5000; backlog = 007; x = ( 1, 2 ); /*");
    }
    fail_each("open", EIO, eventful);
    fail_each("fstat", EIO, eventful);
    fail_each("read", EIO, eventful);
}
END_TEST

START_TEST(dumps_may_fail)
{
    CLEANUP(settings_freep) struct settings *settings = load_good(eventful);
    CLEANUP(close_stream) FILE *null = fopen("/dev/null", "w");
    unsigned long failed = 1;

    ck_assert_ptr_nonnull(null);
    for (unsigned long nth = 1; failed > 0; nth++) {
        fault_arm("malloc", ENOMEM, nth);
        int r = settings_dump(settings, null);
        failed = fault_disarm();
        ck_assert_int_eq(r, failed ? -ENOMEM : 0);
    }
    fault_arm("calloc", ENOMEM, 1);
    int r = settings_write_template(null);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("settings");

    tcase_add_test(tests, defaults_are_the_table_s);
    tcase_add_test(tests, the_table_is_sound);
    tcase_add_test(tests, listeners_inherit_what_they_do_not_set);
    tcase_add_test(tests, the_command_line_overrides);
    tcase_add_test(tests, an_absent_file);
    tcase_add_test(tests, problems_say_what_and_where);
    tcase_add_test(tests, nearest_names);
    tcase_add_test(tests, places_that_clash);
    tcase_add_test(tests, restarts_are_named);
    tcase_add_test(tests, dumps_read_back_the_same);
    tcase_add_test(tests, a_full_disk_shows);
    tcase_add_test(tests, the_installed_file_is_the_template);
    tcase_add_test(tests, everything_may_fail);
    tcase_add_test(tests, dumps_may_fail);
    return run_case(tests);
}
