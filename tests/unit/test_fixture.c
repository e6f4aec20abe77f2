/* What a command is given, and what its end means. */

#include "daemon/fixture.h"

#include "base/cleanup.h"
#include "daemon/port_file.h"
#include "faults.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A listener at a place, named as listener.c does. */
struct place {
    const char *address; /* NULL: "*" */
    const char *path;
    unsigned row;
    const char *name;
    const char *for_clients;
    const char *variables;
};

static const struct place places[] = {
    {"127.0.0.1", NULL, 1, "127.0.0.1:70", "127.0.0.1:70", "TCPECHOD_1=127.0.0.1:70 TCPECHOD_1_PORT=70"},
    {"192.0.2.7", NULL, 2, "192.0.2.7:70", "192.0.2.7:70", "TCPECHOD_2=192.0.2.7:70 TCPECHOD_2_PORT=70"},
    {"0.0.0.0", NULL, 3, "0.0.0.0:70", "127.0.0.1:70", "TCPECHOD_3=127.0.0.1:70 TCPECHOD_3_PORT=70"},
    {NULL, NULL, 12, "*:70", "127.0.0.1:70", "TCPECHOD_12=127.0.0.1:70 TCPECHOD_12_PORT=70"},
    {"::", NULL, 1, "[::]:70", "[::1]:70", "TCPECHOD_1=[::1]:70 TCPECHOD_1_PORT=70"},
    {"2001:db8::1", NULL, 1, "[2001:db8::1]:70", "[2001:db8::1]:70",
     "TCPECHOD_1=[2001:db8::1]:70 TCPECHOD_1_PORT=70"},
    {NULL, "/run/x y", 4, "/run/x y", "/run/x y", "TCPECHOD_4=/run/x y"},
    {"127.0.0.1", NULL, 0, "127.0.0.1:70", "127.0.0.1:70", ""},
};

static struct acceptor acceptor;
static struct listener listener;

static void make(const struct place *place)
{
    listener = (struct listener){
        .listen_address = {.any = !place->address && !place->path, .path = place->path},
        .port = place->path ? 0 : 70,
        .row = place->row,
    };
    snprintf(listener.name, sizeof listener.name, "%s", place->name);
    if (place->address)
        ck_assert_int_eq(address_parse(place->address, 70, &listener.listen_address.at), 0);
    list_init(&acceptor.listeners);
    list_append(&acceptor.listeners, &listener.link);
    acceptor.listener_count = 1;
}

TEST_EACH(places_for_clients, places)
{
    char out[CLIENT_PLACE_SIZE];
    make(c);
    ck_assert_str_eq(client_place(&listener, out), c->for_clients);
}

/* One after the other, with a blank between them. */
static const char *join(char *const *variables, char *out, size_t size)
{
    size_t length = 0;
    out[0] = '\0';
    for (; *variables; variables++)
        length += (size_t)snprintf(out + length, size - length, "%s%s", length ? " " : "", *variables);
    return out;
}

TEST_EACH(variables_of_a_listener, places)
{
    char out[256], *none[] = {NULL};
    make(c);
    CLEANUP(fixture_free_variables) char **variables = fixture_variables(none, &acceptor);
    ck_assert_ptr_nonnull(variables);
    ck_assert_str_eq(join(variables, out, sizeof out), c->variables);
}

TEST(variables_of_another_fixture_are_left_out)
{
    char out[512];
    char *inherited[] = {
        (char *)"PATH=/bin",          (char *)"TCPECHOD_1=old",   (char *)"TCPECHOD_23_PORT=old",
        (char *)"TCPECHOD_1_PORTS=x", (char *)"TCPECHOD_=x",      (char *)"TCPECHOD_1",
        (char *)"TCPECHOD_HANDOVER=", (char *)"XTCPECHOD_1=kept", NULL,
    };
    make(&places[6]);
    CLEANUP(fixture_free_variables) char **variables = fixture_variables(inherited, &acceptor);
    ck_assert_str_eq(
        join(variables, out, sizeof out),
        "PATH=/bin TCPECHOD_1_PORTS=x TCPECHOD_=x TCPECHOD_1 TCPECHOD_HANDOVER= XTCPECHOD_1=kept "
        "TCPECHOD_4=/run/x y");
}

TEST(variables_without_memory)
{
    static const struct {
        const char *call;
        unsigned long count;
    } calls[] = {{"calloc", 1}, {"strdup", 2}, {"asprintf", 2}};
    char *inherited[] = {(char *)"A=1", (char *)"B=2", NULL};
    make(&places[0]);
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        for (unsigned long nth = 1; nth <= calls[i].count; nth++) {
            fault_arm(calls[i].call, ENOMEM, nth);
            char **variables = fixture_variables(inherited, &acceptor);
            unsigned long hits = fault_disarm();
            ck_assert_ptr_null(variables);
            ck_assert_uint_eq(hits, 1);
        }
}

TEST(a_start_without_memory)
{
    char *command[] = {(char *)"true", NULL};
    struct fixture fixture;
    CLEANUP(problems_clear) struct problems problems = {0};
    fixture_remember(&fixture);
    fixture.command = command;
    make(&places[0]);
    fault_arm("asprintf", ENOMEM, 1);
    int r = fixture_start(&fixture, &acceptor, &problems);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_str_eq(problems.items[0].text, "cannot start true: Cannot allocate memory");
    ck_assert(!fixture_runs(&fixture));
    fixture_end(&fixture); /* nothing to do */
}

TEST(without_a_command)
{
    struct fixture fixture;
    const struct signalfd_siginfo info = {.ssi_signo = SIGTERM};
    fixture_remember(&fixture);
    ck_assert_int_eq(fixture_start(&fixture, NULL, NULL), 0);
    ck_assert(!fixture_runs(&fixture));
    ck_assert(!fixture_passes_on(&fixture, &info));
}

TEST(ends)
{
    static const struct {
        int status, exit_status;
        const char *how;
    } cases[] = {
        {0, 0, "its command has ended with status 0"},
        {255 << 8, 255, "its command has ended with status 255"},
        {SIGKILL, 137, "its command was ended by signal 9"},
        {SIGSEGV | 0x80, 139, "its command was ended by signal 11"}, /* with a core */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char how[FIXTURE_END_SIZE];
        struct fixture fixture = {.pid = 1};
        ck_assert_int_eq(fixture_ended(&fixture, cases[i].status, how), cases[i].exit_status);
        ck_assert_str_eq(how, cases[i].how);
        ck_assert(!fixture_runs(&fixture));
    }
}

/* Signals of the terminal reach the command by themselves; the request of a reload is none of its own. */
TEST(signals_that_are_passed_on)
{
    static const struct {
        int number, code;
        bool is_its, is_sent;
    } cases[] = {
        {SIGTERM, SI_USER, true, true},   {SIGINT, SI_USER, true, true},
        {SIGINT, SI_KERNEL, true, false}, {SIGHUP, SI_USER, true, true},
        {SIGHUP, SI_KERNEL, true, false}, {SIGHUP, SI_QUEUE, false, false},
        {SIGTERM, SI_QUEUE, true, true},  {SIGUSR1, SI_USER, false, false},
        {SIGUSR2, SI_USER, false, false}, {SIGCHLD, SI_KERNEL, false, false},
    };
    const struct fixture fixture = {.pid = getpid()};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct signalfd_siginfo info = {.ssi_signo = (unsigned)cases[i].number,
                                              .ssi_code = cases[i].code};
        fault_rules("kill:count");
        /* To this process itself, which holds it back. */
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, cases[i].number);
        sigprocmask(SIG_BLOCK, &set, NULL);
        bool is_its = fixture_passes_on(&fixture, &info);
        unsigned long sent = fault_disarm();
        const struct timespec no_time = {0};
        ck_assert_int_eq(sigtimedwait(&set, NULL, &no_time), cases[i].is_sent ? cases[i].number : -1);
        ck_assert_msg(is_its == cases[i].is_its, "%zu", i);
        ck_assert_uint_eq(sent, cases[i].is_sent ? 1 : 0);
    }
}
