#include "settings/settings.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "common.h"
#include "faults.h"
#include "settings/problems.h"
#include "settings/table.h"

#include <sys/mman.h>

static const struct settings_source nothing_more = {.workers = -1, .log_level = -1};

/* What settings_load makes of a text under these fault rules, if any; the number of faults goes to *failed.
 * The file is one in memory, named by /proc. */
static int load_under(const char *rules, const char *text, struct settings_source source,
                      struct problems *problems, struct settings **out, unsigned long *failed)
{
    char path[64];
    CLEANUP(fd_close) int fd = memfd_create("settings", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    source.file = path;
    source.file_is_named = true;
    if (rules)
        fault_rules(rules);
    int r = settings_load(&source, problems, out);
    *failed = rules ? fault_disarm() : 0;
    return r;
}

static int load(const char *text, struct settings_source source, struct problems *problems,
                struct settings **out)
{
    unsigned long failed;
    return load_under(NULL, text, source, problems, out, &failed);
}

static struct settings *load_good(const char *text)
{
    struct problems problems = {0};
    struct settings *settings = NULL;
    int r = load(text, nothing_more, &problems, &settings);
    ck_assert_msg(r == 0, "%s", problems.count ? problems.items[0].message : "");
    ck_assert_uint_eq(problems.count, 0);
    return settings;
}

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

TEST(defaults)
{
    CLEANUP(settings_freep) struct settings *settings = load_good("");
    ck_assert(settings->from_file && settings->log_connections);
    ck_assert_uint_eq(settings->queue_depth, 1024);
    ck_assert_int_eq(settings->overload, OVERLOAD_WAIT);
    ck_assert_int_eq(settings->log_level, LOG_LEVEL_INFO);
    ck_assert_uint_eq(settings->idle_timeout, 300 * USEC_PER_SEC);
    ck_assert_uint_eq(settings->drain_timeout, 10 * USEC_PER_SEC);
    ck_assert_uint_eq(settings->listener_count, 4);
    const struct listener_settings *last = &settings->listeners[3];
    ck_assert_str_eq(last->address, "::1");
    ck_assert_uint_eq(last->at.port, 7008);
    ck_assert_str_eq(last->end_word, "end");
    ck_assert_str_eq(last->service->name, "upper");
    ck_assert_uint_eq(last->mode, 0666);
    ck_assert_uint_eq(last->idle_timeout, 300 * USEC_PER_SEC);
    ck_assert_int_eq(last->line, 0);
}

TEST(the_table_is_sound)
{
    for (const struct setting_row *row = setting_table; row->name; row++) {
        char expectation[SETTING_EXPECTATION_SIZE];
        ck_assert_msg(row->meaning && *row->meaning, "%s", row->name);
        ck_assert_msg(setting_find(row->scope, row->name) == row, "%s twice", row->name);
        ck_assert_msg(strncmp(setting_expectation(row, expectation), "must be ", 8) == 0, "%s", row->name);
        ck_assert_msg(strlen(expectation) + 1 < sizeof expectation, "%s", row->name);
        if (row->own_offset > 0)
            ck_assert_ptr_eq(setting_find(SCOPE_GLOBAL, row->name)->type, row->type);
    }
}

TEST(durations)
{
    static const struct {
        const char *text;
        uint64_t usec;
    } cases[] = {
        {"5", 5000000},
        {"0.25", 250000},
        {"\"5m\"", 300000000},
        {"\"250ms\"", 250000},
        {"\"1h\"", 3600000000},
        {"\"1500us\"", 1500},
        {".5", 500000},
        {"1e1", 10000000},
        {"0", USEC_NEVER},
        {"\"0s\"", USEC_NEVER},
        {"-0.0", USEC_NEVER},
        {"0.0010004", 1000},
        {"31536000", 31536000000000},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[64];
        snprintf(text, sizeof text, "idle_timeout = %s;", cases[i].text);
        CLEANUP(settings_freep) struct settings *settings = load_good(text);
        ck_assert_msg(settings->idle_timeout == cases[i].usec, "%s", text);
    }
    CLEANUP(settings_freep)
    struct settings *settings = load_good("drain_timeout = 0; tcp_keepalive = \"2m\";");
    ck_assert_uint_eq(settings->drain_timeout, 0);
    ck_assert_uint_eq(settings->tcp_keepalive, 120);
}

TEST(listeners_inherit_what_they_do_not_set)
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
    ck_assert(first->idle_timeout == 5 * USEC_PER_SEC && !first->own_idle_timeout);
    ck_assert_uint_eq(first->allow.count, 1);
    ck_assert_uint_eq(first->deny.count, 1);
    ck_assert_int_eq(first->max_connections_per_source, 9);
    ck_assert(second->any && second->own_idle_timeout && second->idle_timeout == USEC_NEVER);
    ck_assert(second->own_allow && second->allow.count == 0);
    ck_assert_uint_eq(second->deny.count, 2);
    ck_assert(second->own_max_connections_per_source && second->max_connections_per_source == 0);
    ck_assert_int_eq(second->line, 4);
    ck_assert_str_eq(third->path, "/run/x");
    ck_assert_uint_eq(third->mode, 0660);
    ck_assert(third->trace && !third->any && third->address == NULL);
}

TEST(the_command_line_overrides)
{
    const char *listen[] = {"upper@[::1]:9", "/run/y"};
    struct settings_source source = {
        .workers = 7, .log_level = LOG_LEVEL_DEBUG, .listen = listen, .listen_count = 2};
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(settings_freep) struct settings *settings = NULL;
    struct settings *other = NULL;

    ck_assert_int_eq(load("workers = 2; idle_timeout = 4;", source, &problems, &settings), 0);
    ck_assert_uint_eq(settings->workers, 7);
    ck_assert_int_eq(settings->log_level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(settings->listener_count, 2);
    ck_assert_int_eq(settings->listeners[0].at.family, AF_INET6);
    ck_assert_uint_eq(settings->listeners[0].at.port, 9);
    ck_assert(settings->listeners[1].idle_timeout == 4 * USEC_PER_SEC);

    listen[1] = "nonsense";
    ck_assert_int_eq(load("", source, &problems, &other), -EINVAL);
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(problems.count, 1);
}

/* How the dump has the listener of a SPEC, its defaults among it. */
#define QUIET "trace = false; "
#define NO_PROXY "proxy_protocol = false; "
TEST(specs)
{
    static const struct {
        const char *spec, *listener;
    } cases[] = {
        {"127.0.0.1:7", "{ address = \"127.0.0.1\"; port = 7; service = \"echo\"; " QUIET NO_PROXY "}"},
        {"upper@[::1]:0", "{ address = \"::1\"; port = 0; service = \"upper\"; " QUIET NO_PROXY "}"},
        {"time@*:37", "{ address = \"*\"; port = 37; service = \"time\"; " QUIET NO_PROXY "}"},
        {"/run/a,b@c", "{ path = \"/run/a,b@c\"; mode = \"0666\"; service = \"echo\"; " QUIET NO_PROXY "}"},
        {"echo@/run/x,mode=0600,trace=true",
         "{ path = \"/run/x\"; mode = \"0600\"; service = \"echo\"; trace = true; " NO_PROXY "}"},
        {"echo@127.0.0.1:0,idle_timeout=5,trace=TRUE",
         "{ address = \"127.0.0.1\"; port = 0; service = \"echo\"; trace = true; idle_timeout = "
         "5.0; " NO_PROXY "}"},
        {"*:1,idle_timeout=250ms,max_connections_per_source=0x10",
         "{ address = \"*\"; port = 1; service = \"echo\"; " QUIET "idle_timeout = 0.25; "
         "max_connections_per_source = 16; " NO_PROXY "}"},
        {"greet@*:1,text=Hello, world,end=less\\,greeting=\"a,b=c\\n\"", NULL},
        {"greet@*:1,text=Hello, wörld\\,greeting=\"a\\n\"",
         "{ address = \"*\"; port = 1; service = \"greet\"; text = \"Hello, wörld\\\\\"; greeting = "
         "\"a\\n\"; " QUIET NO_PROXY "}"},
        {"reply@*:1,text=200",
         "{ address = \"*\"; port = 1; service = \"reply\"; text = \"200\"; " QUIET NO_PROXY "}"},
        {"*:1,deny=[\"10.0.0.0/8\",\"::1\"],end_word=bye",
         "{ address = \"*\"; port = 1; service = \"echo\"; end_word = \"bye\"; " QUIET "deny = [ "
         "\"10.0.0.0/8\", \"::1/128\" ]; " NO_PROXY "}"},
        {"*:1,trace=false", "{ address = \"*\"; port = 1; service = \"echo\"; " QUIET NO_PROXY "}"},
        {"*:1,proxy_protocol=true", "{ address = \"*\"; port = 1; service = \"echo\"; " QUIET
                                    "proxy_protocol = true; proxy_timeout = 3.0; proxy_from = [ ]; }"},
        {"/x,proxy_protocol=true", "{ path = \"/x\"; mode = \"0666\"; service = \"echo\"; " QUIET
                                   "proxy_protocol = true; proxy_timeout = 3.0; }"},
        {"*:1,after=5,end=hang",
         "{ address = \"*\"; port = 1; service = \"echo\"; " QUIET "proxy_protocol = false;\n"
         "      delay = 0.0; jitter = 0.0; rate = 0; slice = 0; slice_delay = 0.0; accept_delay = 0.0; "
         "close_delay = 0.0; limit = 0; after = 5.0; end = \"hang\"; silent = false; deaf = false; "
         "corrupt = 0.0; lose = 0.0; repeat = 0.0; toxicity = 1.0; seed = 0; }"},
        {"*:1,port=2", NULL},
        {"*:1,text=", NULL},
        {"*:1,trace=", NULL},
        {"*:1,idle_timeout=; workers = 3", NULL},
        {"*:1,idle_timeout=@include \"/x\"", NULL},
        {"*:1,deny=[ \"x\" ]; service = \"upper\"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *listen[] = {cases[i].spec};
        const struct settings_source source = {
            .workers = -1, .log_level = -1, .listen = listen, .listen_count = 1};
        CLEANUP(problems_clear) struct problems problems = {0};
        CLEANUP(settings_freep) struct settings *settings = NULL;
        int r = load("", source, &problems, &settings);
        ck_assert_msg((r == 0) == (cases[i].listener != NULL), "%s: %s", cases[i].spec,
                      problems.count ? problems.items[0].text : "");
        if (r < 0)
            continue;
        CLEANUP(free_pointer) char *text = dump(settings);
        ck_assert_msg(strstr(text, cases[i].listener) != NULL, "%s: %s", cases[i].spec, text);
    }
}

TEST(an_absent_file)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(settings_freep) struct settings *settings = NULL;
    struct settings *named = NULL;
    struct settings_source source = {.file = "/nonexistent/x.conf", .workers = -1, .log_level = -1};
    ck_assert_int_eq(settings_load(&source, &problems, &settings), 0);
    ck_assert(!settings->from_file);
    ck_assert_uint_eq(settings->listener_count, 4);

    source.file_is_named = true;
    ck_assert_int_eq(settings_load(&source, &problems, &named), -EINVAL);
    ck_assert_ptr_null(named);
    ck_assert_str_eq(problems.items[0].message,
                     "/nonexistent/x.conf: cannot be read: No such file or directory");
}

/* A problem is a value: where, and what. */
TEST(problems_say_where)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    struct settings *settings = NULL;
    ck_assert_int_eq(load("\nworkers = 5000;\n\nidle_timout = 3;", nothing_more, &problems, &settings),
                     -EINVAL);
    ck_assert_ptr_null(settings);
    ck_assert_uint_eq(problems.count, 2);
    ck_assert_int_eq(problems.items[0].line, 2);
    ck_assert_str_eq(problems.items[0].text, "workers = 5000: must be 0 to 1024");
    ck_assert_int_eq(problems.items[1].line, 4);
    ck_assert_str_eq(problems.items[1].text,
                     "unknown setting \"idle_timout\"; did you mean \"idle_timeout\"?");
}

static void make(const char *spec, struct listener_settings *out)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    ck_assert_msg(listener_settings_from_spec(spec, &problems, out) == 0, "%s", spec);
}

TEST(places_that_clash)
{
    static const struct {
        const char *a, *b;
        bool clash;
    } cases[] = {
        {"127.0.0.1:7", "upper@127.0.0.1:7", true},
        {"*:7", "127.0.0.1:7", true},
        {"*:7", "[::1]:7", true},
        {"*:7", "*:7", true},
        {"0.0.0.0:7", "127.0.0.1:7", true},
        {"[::]:7", "[::1]:7", true},
        {"[::1]:7", "[0::1]:7", true},
        {"/run/x", "time@/run/x", true},
        {"127.0.0.1:7", "127.0.0.1:8", false},
        {"127.0.0.1:7", "127.0.0.2:7", false},
        {"0.0.0.0:7", "[::]:7", false},
        {"*:0", "*:0", false},
        {"/run/x", "/run/y", false},
        {"/run/x", "*:7", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(listener_settings_clear) struct listener_settings a = {0};
        CLEANUP(listener_settings_clear) struct listener_settings b = {0};
        make(cases[i].a, &a);
        make(cases[i].b, &b);
        ck_assert_msg(listener_settings_clash(&a, &b) == cases[i].clash, "%s, %s", cases[i].a, cases[i].b);
        ck_assert_msg(listener_settings_clash(&b, &a) == cases[i].clash, "%s, %s", cases[i].b, cases[i].a);
    }
}

static char told[128];

static void tell(const char *name, const char *in_force, const char *wanted)
{
    size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, "%s %s %s;", name, in_force, wanted);
}

TEST(restarts_are_named)
{
    CLEANUP(settings_freep) struct settings *a = load_good("");
    CLEANUP(settings_freep) struct settings *b = load_good("workers = 3; queue_depth = 9; backlog = 2;");
    told[0] = '\0';
    settings_keep_until_restart(a, b, tell);
    ck_assert_str_eq(told, "workers 0 3;queue_depth 1024 9;");
    ck_assert_uint_eq(b->workers, 0);
    ck_assert_uint_eq(b->queue_depth, 1024);
    ck_assert_uint_eq(b->backlog, 2);
    settings_keep_until_restart(a, b, tell);
    ck_assert_str_eq(told, "workers 0 3;queue_depth 1024 9;");
}

static const char eventful[] =
    "listeners = ( { address = \"127.0.0.1\"; port = 7; service = \"greet\"; text "
    "= \"x\\n\"; deny = [ \"::1\" ]; },\n"
    "  { path = \"/run/x\"; greeting = \"\\xff\\x01\"; idle_timeout = \"1500us\"; } );\n"
    "allow = [ \"10.0.0.0/8\", \"::1\" ]; log = { level = \"debug\"; };\n"
    "write_timeout = 0; drain_timeout = \"5m\"; tcp_keepalive = \"1h\";\n";

TEST(dumps_read_back_the_same)
{
    CLEANUP(settings_freep) struct settings *settings = load_good(eventful);
    CLEANUP(free_pointer) char *text = dump(settings);
    CLEANUP(settings_freep) struct settings *again = load_good(text);
    CLEANUP(free_pointer) char *same = dump(again);
    ck_assert_str_eq(text, same);
    ck_assert_str_eq(again->listeners[1].greeting, "\xff\x01");
    ck_assert_uint_eq(again->listeners[1].idle_timeout, 1500);
    ck_assert_uint_eq(again->write_timeout, USEC_NEVER);
    ck_assert_uint_eq(again->drain_timeout, 300 * USEC_PER_SEC);
}

TEST(dumps_may_fail)
{
    CLEANUP(settings_freep) struct settings *settings = load_good(eventful);
    CLEANUP(close_stream) FILE *null = fopen("/dev/null", "w");
    CLEANUP(close_stream) FILE *full = fopen("/dev/full", "w");
    unsigned long failed = 1;
    ck_assert(null && full);
    ck_assert_int_eq(settings_dump(settings, full), -ENOSPC);
    for (unsigned long nth = 1; failed > 0; nth++) {
        fault_arm("malloc", ENOMEM, nth);
        int r = settings_dump(settings, null);
        failed = fault_disarm();
        ck_assert_int_eq(r, failed ? -ENOMEM : 0);
    }
}

/* Fails the first, second, ... call of a kind, until none is left to fail: each time there is either no error
 * or a problem that says so, and nothing is left behind (the leak checker sees to that). */
static void fail_each(const char *call, const char *error, const char *text, struct settings_source source,
                      bool is_good)
{
    unsigned long failed = 1;
    for (unsigned long nth = 1; failed > 0; nth++) {
        CLEANUP(problems_clear) struct problems problems = {0};
        CLEANUP(settings_freep) struct settings *settings = NULL;
        char rule[64];
        ck_assert_uint_lt(nth, 500);
        snprintf(rule, sizeof rule, "%s:%s:%lu", call, error, nth);
        int r = load_under(rule, text, source, &problems, &settings, &failed);
        ck_assert_msg((r == 0) == (problems.count == 0), "%s", rule);
        ck_assert_msg((r == 0) == (settings != NULL), "%s", rule);
        if (is_good)
            ck_assert_msg((failed > 0) == (r < 0), "%s: %d", rule, r);
    }
}

TEST(everything_may_fail)
{
    static const char *const calls[] = {"malloc",  "calloc",   "reallocarray", "strdup",
                                        "strndup", "asprintf", "vasprintf",    "open_memstream"};
    const char *listen[] = {"greet@127.0.0.1:0,text=x", "/run/x,mode=0600,idle_timeout=5m"};
    struct settings_source source = nothing_more;

    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        fail_each(calls[i], "ENOMEM", eventful, nothing_more, true);
        fail_each(calls[i], "ENOMEM", "", nothing_more, true);
        fail_each(calls[i], "ENOMEM", "workers = 5000; backlog = 007; x = ( 1, 2 ); y = 5m;", nothing_more,
                  false);
        source.listen = listen;
        source.listen_count = COUNT_OF(listen);
        fail_each(calls[i], "ENOMEM", "", source, true);
    }
    fail_each("open", "EIO", eventful, nothing_more, true);
    fail_each("fstat", "EIO", eventful, nothing_more, true);
    fail_each("read", "EIO", eventful, nothing_more, true);
}
