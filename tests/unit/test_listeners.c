#include "daemon/listeners.h"

#include "capture.h"
#include "loop_fixture.h"
#include "passed.h"
#include "settings/problems.h"
#include "settings/settings.h"

#include <sys/stat.h>

static struct capacity_signal capacity;
static struct worker_pool pool;
static struct admission admission;
static struct event_set set;
static struct acceptor acceptor;
static struct settings *settings;
static const char *logged; /* by the last apply */

static void setup(void)
{
    start_loop();
    capacity = (struct capacity_signal){.loop = &loop};
    ck_assert_int_eq(worker_pool_init(&pool, 1, 8, &capacity, &admission), 0);
    ck_assert_int_eq(admission_init(&admission, 32, 64), 0);
    ck_assert_int_eq(event_set_init(&set, &loop), 0);
    ck_assert_int_eq(acceptor_init(&acceptor, &set, &pool, &admission, &capacity), 0);
    acceptor_limit(&acceptor, false, 100, REASON_MAX_CONNECTIONS);
    settings = settings_new();
    ck_assert_ptr_nonnull(settings);
}

static void teardown(void)
{
    const struct log_settings quiet = {.level = LOG_LEVEL_ERROR, .target = LOG_TARGET_STDERR};
    log_configure(&quiet);
    settings_free(settings);
    acceptor_deinit(&acceptor);
    event_set_deinit(&set);
    worker_pool_deinit(&pool);
    admission_deinit(&admission);
    stop_loop();
}

/* Adds a row as --listen would; returns it until the next is added. */
static struct listener_settings *row(const char *spec)
{
    struct listener_settings made;
    struct problems problems = {0};
    ck_assert_msg(listener_settings_from_spec(spec, &problems, &made) == 0, "%s: %s", spec,
                  problems_first(&problems));
    ck_assert_int_eq(listener_settings_inherit(&made, settings), 0);
    ck_assert_int_eq(listener_settings_add(settings, &made), 0);
    return &settings->listeners[settings->listener_count - 1];
}

static void forget_rows(void)
{
    settings_free(settings);
    settings = settings_new();
    ck_assert_ptr_nonnull(settings);
}

static int apply_under(const char *rules)
{
    capture(LOG_LEVEL_DEBUG);
    fault_rules(rules);
    int r = listeners_apply(&acceptor, settings, NULL);
    fault_disarm();
    logged = written();
    return r;
}

static int apply(void)
{
    return apply_under("");
}

static struct listener *open_listener(unsigned index)
{
    struct list *link = acceptor.listeners.next;
    while (index-- > 0)
        link = link->next;
    ck_assert_ptr_ne(link, &acceptor.listeners);
    return CONTAINER_OF(link, struct listener, link);
}

static bool was_logged(const char *part)
{
    return strstr(logged, part) != NULL;
}

FIXTURE(setup, teardown)

TEST(opens_every_row)
{
    struct listener_settings *one = row("echo@127.0.0.1:0");
    free(one->end_word);
    one->end_word = strdup("end");
    one->greeting = strdup("hello\n");
    one->trace = true;
    one->idle_timeout = 1500000;
    row("time@127.0.0.1:0")->idle_timeout = USEC_NEVER;
    settings->write_timeout = 2 * USEC_PER_SEC;
    settings->unsent_limit = 4096;
    ck_assert_int_eq(apply(), 0);
    ck_assert_uint_eq(acceptor.listener_count, 2);
    const struct service_config *first = open_listener(0)->config, *second = open_listener(1)->config;
    ck_assert_str_eq(first->service->name, "echo");
    ck_assert_str_eq(first->params.end_word, "end");
    ck_assert_uint_eq(first->params.end_word_length, 3);
    ck_assert_str_eq(first->params.greeting, "hello\n");
    ck_assert_ptr_null(first->params.text);
    ck_assert(first->trace);
    ck_assert_uint_eq(first->idle_timeout_usec, 1500000);
    ck_assert_uint_eq(first->write_timeout_usec, 2000000);
    ck_assert_uint_eq(first->unsent_limit, 4096);
    ck_assert_str_eq(first->listener, open_listener(0)->name);
    ck_assert_str_eq(second->service->name, "time");
    ck_assert(second->idle_timeout_usec == USEC_NEVER);
    ck_assert(was_logged(open_listener(0)->name)); /* with the port that the kernel picked */
    ck_assert(was_logged(open_listener(1)->name));
}

TEST(rules_of_a_row)
{
    struct prefix *deny = malloc(sizeof *deny), *allow = malloc(2 * sizeof *allow);
    ck_assert_int_eq(prefix_parse("10.0.0.0/8", deny), 0);
    ck_assert_int_eq(prefix_parse("10.1.0.0/16", &allow[0]), 0);
    ck_assert_int_eq(prefix_parse("::/0", &allow[1]), 0);
    struct listener_settings *one = row("echo@127.0.0.1:0");
    prefix_list_clear(&one->allow);
    prefix_list_clear(&one->deny);
    one->deny = (struct prefix_list){deny, 1};
    one->allow = (struct prefix_list){allow, 2};
    one->max_connections_per_source = 7;
    one->own_max_connections_per_source = true;
    row("echo@127.0.0.1:0")->max_connections_per_source = 9;
    ck_assert_int_eq(apply(), 0);
    const struct admission_rules *own = &open_listener(0)->config->rules;
    const struct admission_rules *shared = &open_listener(1)->config->rules;
    ck_assert_uint_eq(own->per_source, 7);
    ck_assert_uint_eq(own->scope, open_listener(0)->id);
    ck_assert_uint_eq(own->deny.count, 1);
    ck_assert_uint_eq(own->allow.count, 2);
    ck_assert_ptr_ne(own->allow.items, allow); /* copies: the settings go */
    ck_assert_mem_eq(own->allow.items, allow, 2 * sizeof *allow);
    ck_assert_uint_eq(shared->per_source, 9);
    ck_assert_uint_eq(shared->scope, 0);
    ck_assert_uint_eq(shared->deny.count, 0);
}

TEST(proxies_of_a_row)
{
    struct prefix *from = malloc(sizeof *from);
    ck_assert_int_eq(prefix_parse("10.0.0.0/8", from), 0);
    struct listener_settings *one = row("echo@127.0.0.1:0");
    one->proxy_protocol = true;
    one->proxy_timeout = 5;
    one->proxy_from = (struct prefix_list){from, 1};
    row("echo@127.0.0.1:0");
    ck_assert_int_eq(apply(), 0);
    const struct service_config *first = open_listener(0)->config, *second = open_listener(1)->config;
    ck_assert(first->proxy.protocol && !second->proxy.protocol);
    ck_assert_uint_eq(first->proxy.timeout_usec, 5);
    ck_assert_uint_eq(first->proxy.from.count, 1);
    ck_assert_ptr_ne(first->proxy.from.items, from);
    ck_assert_uint_eq(second->proxy.from.count, 0);
}

static const struct {
    const char *spec;
    bool warns;
} trusting[] = {
    {"*:0,proxy_protocol=true", true},
    {"0.0.0.0:0,proxy_protocol=true", true},
    {"0.0.0.0:0,proxy_protocol=true,proxy_from=[\"10.0.0.0/8\"]", false},
    {"0.0.0.0:0", false},
    {"127.0.0.1:0,proxy_protocol=true", false},
};

TEST_EACH(trust_in_everyone_is_told, trusting)
{
    row(c->spec);
    ck_assert_int_eq(apply(), 0);
    ck_assert(was_logged("proxy_protocol without proxy_from") == c->warns);
}

TEST(trust_in_everyone_is_told_once)
{
    row("0.0.0.0:0");
    ck_assert_int_eq(apply(), 0);
    for (int i = 0; i < 3; i++) {
        forget_rows();
        row("0.0.0.0:0,proxy_protocol=true");
        ck_assert_int_eq(apply(), 0);
        ck_assert(was_logged("proxy_protocol without proxy_from") == (i == 0));
    }
}

TEST(reload_keeps_opens_and_closes)
{
    row("echo@127.0.0.1:0");
    row("echo@127.0.0.2:0");
    ck_assert_int_eq(apply(), 0);
    struct listener *kept = open_listener(0);
    int kept_fd = kept->source.fd;
    uint16_t gone_port = port_of(open_listener(1)->source.fd);
    struct service_config *old = service_config_ref(kept->config);

    forget_rows();
    row("upper@127.0.0.1:0");
    row("time@127.0.0.3:0");
    ck_assert_int_eq(apply(), 0);
    ck_assert_uint_eq(acceptor.listener_count, 2);
    ck_assert_ptr_eq(open_listener(0), kept);
    ck_assert_int_eq(kept->source.fd, kept_fd);
    ck_assert_str_eq(kept->config->service->name, "upper");
    ck_assert_str_eq(old->service->name, "echo"); /* whoever has them keeps them */
    ck_assert_uint_eq(atomic_load(&old->references), 1);
    service_config_unref(old);
    ck_assert_str_eq(open_listener(1)->config->service->name, "time");
    ck_assert(was_logged(open_listener(1)->name));

    struct sockaddr_in name = loopback(gone_port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, sizeof name), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    close(fd);
}

TEST(reload_to_an_overlapping_address)
{
    uint16_t port = free_port();
    char spec[64];
    snprintf(spec, sizeof spec, "echo@127.0.0.1:%u", port);
    row(spec);
    ck_assert_int_eq(apply(), 0);
    forget_rows();
    snprintf(spec, sizeof spec, "echo@*:%u", port);
    row(spec);
    ck_assert_int_eq(apply(), 0);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    ck_assert(open_listener(0)->listen_address.any);
    int fd = connect_to(port);
    close(fd);
    ck_assert_int_eq(get_socket_option(open_listener(0)->source.fd, SOL_SOCKET, SO_REUSEPORT), 0);
}

static void expect_unchanged(const struct listener *listener, const struct service_config *config)
{
    ck_assert_uint_eq(acceptor.listener_count, 1);
    ck_assert_ptr_eq(open_listener(0), listener);
    ck_assert_ptr_eq(listener->config, config);
    ck_assert_int_eq(get_socket_option(listener->source.fd, SOL_SOCKET, SO_REUSEPORT), 0);
    close(connect_to(port_of(listener->source.fd)));
}

TEST(failure_changes_nothing)
{
    int occupied = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(0);
    ck_assert_int_eq(bind(occupied, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(occupied, 1), 0);
    row("echo@127.0.0.1:0");
    ck_assert_int_eq(apply(), 0);
    const struct listener *listener = open_listener(0);
    const struct service_config *config = listener->config;

    char spec[64];
    snprintf(spec, sizeof spec, "time@127.0.0.1:%u", port_of(occupied));
    forget_rows();
    row("upper@127.0.0.1:0");
    row("echo@127.0.0.4:0");
    row(spec);
    row("echo@192.0.2.1:0");
    unsigned before = open_descriptors();
    ck_assert_int_lt(apply(), 0);
    ck_assert(was_logged(strerror(EADDRINUSE)));
    ck_assert(was_logged(strerror(EADDRNOTAVAIL))); /* each of them, not only the first */
    ck_assert_uint_eq(open_descriptors(), before);
    expect_unchanged(listener, config);
    close(occupied);
}

static const char *const calls[] = {"calloc", "malloc", "strdup", "epoll_ctl_add", "socket", "listen"};

/* What fails while what stays is brought up to date is reported, and the rest goes on. */
TEST_EACH(every_failing_call_changes_nothing, calls)
{
    char rules[64];
    unsigned nth = 0;
    int r;
    row("echo@127.0.0.1:0");
    ck_assert_int_eq(apply(), 0);
    const struct listener *listener = open_listener(0);
    const struct service_config *config = listener->config;
    do {
        forget_rows();
        struct listener_settings *kept = row("upper@127.0.0.1:0");
        kept->deny = (struct prefix_list){calloc(1, sizeof(struct prefix)), 1};
        kept = row("echo@127.0.0.5:0");
        kept->allow = (struct prefix_list){calloc(1, sizeof(struct prefix)), 1};
        row("time@127.0.0.6:0");
        unsigned before = open_descriptors();
        snprintf(rules, sizeof rules, "%s:ENOMEM:%u", *c, ++nth);
        r = apply_under(rules);
        if (r < 0) {
            ck_assert_uint_eq(open_descriptors(), before);
            expect_unchanged(listener, config);
            ck_assert(was_logged(strerror(ENOMEM)));
        }
    } while (r < 0);
    ck_assert_uint_ge(nth, 2);
}

TEST(host_without_ipv6)
{
    row("echo@127.0.0.1:0");
    row("echo@[::1]:0");
    ck_assert_int_eq(apply_under("socket_inet6:EAFNOSUPPORT"), 0);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    ck_assert(was_logged("IPv6"));

    forget_rows();
    row("echo@[::1]:0");
    ck_assert_int_eq(apply_under("socket_inet6:EAFNOSUPPORT"), -EAFNOSUPPORT);
    ck_assert_uint_eq(acceptor.listener_count, 1); /* nothing changed */

    forget_rows();
    row("echo@[2001:db8::1]:0"); /* no loopback address: somebody wanted it */
    row("echo@127.0.0.1:0");
    ck_assert_int_eq(apply_under("socket_inet6:EAFNOSUPPORT"), -EAFNOSUPPORT);
}

TEST(path_that_stays_gets_its_new_mode)
{
    char directory[] = "/tmp/tcpechod-unit-XXXXXX", spec[96];
    const char *path = spec + strlen("echo@");
    struct stat there;
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(spec, sizeof spec, "echo@%s/s", directory);
    row(spec)->mode = 0600;
    ck_assert_int_eq(apply(), 0);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0600);
    settings->listeners[0].mode = 0660;
    ck_assert_int_eq(apply(), 0);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0660);
    settings->listeners[0].mode = 0666;
    ck_assert_int_eq(apply_under("chmod:EPERM:1"), 0);
    ck_assert(was_logged(strerror(EPERM)));
    acceptor_stop(&acceptor);
    ck_assert_int_eq(rmdir(directory), 0);
}

/* Sockets of the service manager, in their order, and the daemon's part of them. */
static int managers[4];
static struct passed_sockets passed;

static void pass(size_t count)
{
    passed = (struct passed_sockets){calloc(count, sizeof *passed.items), count};
    for (size_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "unit%zu", i);
        passed.items[i] = (struct passed_socket){as_passed(managers[i]), strdup(name)};
    }
}

static int start_under(const char *rules)
{
    capture(LOG_LEVEL_DEBUG);
    fault_rules(rules);
    int r = listeners_start(&acceptor, settings, &passed, NULL);
    fault_disarm();
    logged = written();
    passed_sockets_clear(&passed);
    return r;
}

static struct listener_settings *row_at(const char *format, uint16_t port)
{
    char spec[64];
    snprintf(spec, sizeof spec, format, port);
    return row(spec);
}

static void expect_logged(const char *format, uint16_t port)
{
    char text[256];
    snprintf(text, sizeof text, format, port);
    expect_in(logged, text);
}

TEST(passed_sockets_serve_their_rows)
{
    managers[0] = passed_ip("127.0.0.1", 0, false);
    managers[1] = passed_ip("127.0.0.1", 0, false);
    uint16_t ports[] = {port_of(managers[0]), port_of(managers[1])};
    pass(2);
    row("discard@127.0.0.1:0");
    row_at("upper@127.0.0.1:%u", ports[1]);
    row_at("echo@127.0.0.1:%u", ports[0]);
    settings->tcp_keepalive = 77;
    ck_assert_int_eq(start_under(""), 0);
    ck_assert_uint_eq(acceptor.listener_count, 3);
    ck_assert_ptr_null(open_listener(0)->passed_as);
    ck_assert_str_eq(open_listener(1)->passed_as, "unit1");
    ck_assert_str_eq(open_listener(1)->config->service->name, "upper");
    ck_assert_str_eq(open_listener(2)->config->service->name, "echo");
    ck_assert_int_eq(get_socket_option(managers[0], SOL_SOCKET, SO_KEEPALIVE), 1);
    expect_logged("listening: upper on 127.0.0.1:%u, passed by the service manager as unit1\n", ports[1]);
    expect_logged("listening: echo on 127.0.0.1:%u, passed by the service manager as unit0\n", ports[0]);

    /* Their rows may change, but none may go. */
    const struct listener *kept = open_listener(1);
    int fd = kept->source.fd;
    const struct service_config *config = kept->config;
    forget_rows();
    row("echo@127.0.0.1:0");
    ck_assert_int_eq(apply(), -EADDRNOTAVAIL);
    for (int i = 0; i < 2; i++)
        expect_logged("error: cannot listen: socket 127.0.0.1:%u, passed by the service manager as unit",
                      ports[i]);
    expect_in(logged,
              "has no listener; take its ListenStream= out of the socket unit, or add a listener to the "
              "settings, which have echo on 127.0.0.1:0\n");
    ck_assert_uint_eq(acceptor.listener_count, 3);
    ck_assert_ptr_eq(kept->config, config);

    forget_rows();
    row_at("time@127.0.0.1:%u", ports[0]);
    row_at("discard@127.0.0.1:%u", ports[1]);
    ck_assert_int_eq(apply(), 0);
    ck_assert_uint_eq(acceptor.listener_count, 2);
    ck_assert_str_eq(kept->config->service->name, "discard");
    ck_assert_int_eq(kept->source.fd, fd);
    close(managers[0]);
    close(managers[1]);
}

TEST(passed_sockets_without_rows_are_all_named)
{
    managers[0] = passed_ip("127.0.0.1", 0, false);
    managers[1] = passed_ip("127.0.0.1", 0, false);
    managers[2] = passed_ip("127.0.0.1", 0, false);
    managers[3] = as_passed(managers[1]); /* a row takes one */
    uint16_t ports[] = {port_of(managers[0]), port_of(managers[1]), port_of(managers[2])};
    unsigned before = open_descriptors();
    pass(4);
    for (unsigned i = 0; i < 30; i++)
        row("echo@127.0.0.1:0");
    row_at("echo@127.0.0.1:%u", ports[1]);
    ck_assert_int_eq(start_under(""), -EADDRNOTAVAIL);
    expect_logged("socket 127.0.0.1:%u, passed by the service manager as unit0, has no listener", ports[0]);
    expect_logged("socket 127.0.0.1:%u, passed by the service manager as unit2, has no listener", ports[2]);
    expect_logged("socket 127.0.0.1:%u, passed by the service manager as unit3, has no listener", ports[1]);
    ck_assert(!was_logged("unit1"));
    ck_assert(!was_logged("listening:"));
    expect_in(logged, " more\n"); /* of the listeners, which have no room in one message */
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(open_descriptors(), before);
    for (int i = 0; i < 4; i++)
        close(managers[i]);
}

/* Not that another process has the port. */
TEST(overlap_with_a_passed_socket)
{
    managers[0] = passed_ip("127.0.0.1", 0, false);
    uint16_t port = port_of(managers[0]);
    pass(1);
    row_at("echo@*:%u", port);
    ck_assert_int_eq(start_under(""), -EADDRNOTAVAIL);
    expect_logged("out of the socket unit, or add a listener to the settings, which have echo on *:%u\n",
                  port);
    ck_assert(!was_logged("another process"));
    close(managers[0]);
}

static const char *const wildcards[] = {"echo@*:%u", "echo@0.0.0.0:%u"};

TEST_EACH(passed_wildcard_without_ipv6, wildcards)
{
    managers[0] = passed_ip("0.0.0.0", 0, false);
    uint16_t port = port_of(managers[0]);
    pass(1);
    row_at(*c, port);
    ck_assert_int_eq(start_under("access:ENOENT"), 0);
    ck_assert(was_logged("this host has no IPv6") == (strchr(*c, '*') != NULL));
    expect_logged("listening: echo on 0.0.0.0:%u, passed", port);
}

static const char *const specs[] = {"echo@127.0.0.1:0", "echo@[::1]:0", "echo@*:0"};

/* What no socket was passed for is never left out. */
TEST_EACH(no_ip_socket_at_all, specs)
{
    managers[0] = passed_ip("127.0.0.1", 0, false);
    pass(1);
    row_at("echo@127.0.0.1:%u", port_of(managers[0]));
    row(*c);
    ck_assert_int_eq(start_under("socket_inet:EAFNOSUPPORT,socket_inet6:EAFNOSUPPORT"), -EPFNOSUPPORT);
    ck_assert(was_logged("RestrictAddressFamilies="));
    ck_assert(!was_logged("IPv6"));
    ck_assert_uint_eq(acceptor.listener_count, 0);
}

static const char *const start_rules[] = {
    "setsockopt:ENOMEM:1", "listen:EADDRINUSE:1", "epoll_ctl_add:ENOSPC:2", "calloc:ENOMEM:1",
    "calloc:ENOMEM:2",     "malloc:ENOMEM:1",     "getsockname:ENOBUFS:1"};

TEST_EACH(failing_calls_of_a_start_leave_nothing, start_rules)
{
    managers[0] = passed_ip("127.0.0.1", 0, false);
    uint16_t port = port_of(managers[0]);
    unsigned before = open_descriptors();
    pass(1);
    row_at("echo@127.0.0.1:%u", port);
    row("echo@127.0.0.7:0");
    ck_assert_int_lt(start_under(*c), 0);
    ck_assert(was_logged("error: "));
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(open_descriptors(), before);
    int client = connect_to(port);
    expect_in_backlog(managers[0], client);
}
