#include "serve/acceptor.h"

#include "capture.h"
#include "passed.h"
#include "rig.h"

/* The main thread's loop is rig.main_loop. The workers start only when a test says so, and until then whoever
 * was admitted stays in the queue. */
static struct worker_pool pool;
static struct admission admission;
static struct event_set set;
static struct acceptor acceptor;
static struct listener *listener;
static uint16_t port;

static bool heeds_room = true;

static void on_room(struct event_loop *loop)
{
    if (heeds_room)
        acceptor_resume(&acceptor);
    event_loop_quit(loop);
}

static void set_rules(struct listener *of, const char *service, uint32_t per_source, const char *deny)
{
    struct service_config config = config_for(service);
    struct prefix denied;
    config.rules.per_source = per_source;
    if (deny) {
        ck_assert_int_eq(prefix_parse(deny, &denied), 0);
        config.rules.deny = (struct prefix_list){&denied, 1};
    }
    listener_set_config(of, service_config_new(&config));
}

static struct listener *add_listener(const char *service)
{
    const struct socket_settings settings = {.backlog = 64};
    struct listen_address listen_address = {0};
    struct listener *opened;
    ck_assert_int_eq(address_parse("127.0.0.1", 0, &listen_address.at), 0);
    ck_assert_int_eq(listener_open(&listen_address, &settings, false, &opened), 0);
    set_rules(opened, service, 0, NULL);
    ck_assert_int_eq(acceptor_add(&acceptor, opened), 0);
    return opened;
}

static void start(size_t queue_depth)
{
    rig_start_main(on_room);
    ck_assert_int_eq(worker_pool_init(&pool, 2, queue_depth, &rig.capacity, &admission), 0);
    ck_assert_int_eq(admission_init(&admission, 32, 64), 0);
    ck_assert_int_eq(event_set_init(&set, &rig.main_loop), 0);
    ck_assert_int_eq(acceptor_init(&acceptor, &set, &pool, &admission, &rig.capacity), 0);
    acceptor_limit(&acceptor, false, 1000, REASON_MAX_CONNECTIONS);
    listener = add_listener("echo");
    port = listener->port;
}

static void stop(void)
{
    clock_move_at_each_look(2 * USEC_PER_MSEC); /* or a backlog without room is waited for */
    acceptor_deinit(&acceptor);
    event_set_deinit(&set);
    ck_assert_uint_eq(acceptor.listener_count, 0);
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    admission_deinit(&admission);
    event_loop_deinit(&rig.main_loop);
}

FIXTURE(NULL, stop)

/* One turn of the main loop. */
static bool main_turned(void)
{
    event_loop_wake(&rig.main_loop);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
    return true;
}

#define MAIN_UNTIL(condition) WAIT_FOR(main_turned() && (condition))

/* One turn with these rules, of which no wake tells that there is room. Returns how many effects they had. */
static unsigned long turn_under(const char *rules)
{
    event_loop_wake(&rig.main_loop);
    heeds_room = false;
    fault_rules(rules);
    int r = event_loop_run(&rig.main_loop);
    unsigned long hits = fault_disarm();
    heeds_room = true;
    ck_assert_int_eq(r, 0);
    return hits;
}

/* Whoever waits in a backlog is left there, without a look. */
static void expect_paused(void)
{
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(turn_under("accept4:count"), 0);
}

static void start_workers(void)
{
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    for (unsigned i = 0; i < pool.count; i++)
        event_loop_wake(&pool.workers[i].loop);
}

static uint64_t all_refused(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < REASON_COUNT; i++)
        sum += acceptor.refused[i];
    return sum;
}

static void connect_many(int *clients, size_t count)
{
    for (size_t i = 0; i < count; i++)
        clients[i] = connect_to(port);
}

/* And leaves. */
static void expect_echo(int client)
{
    send_text(client, "echo?");
    expect_text(client, "echo?");
    close(client);
}

/* Closed by the daemon, with or without a reset. */
static void expect_refused(int client)
{
    char byte;
    ck_assert(becomes_readable(client));
    ck_assert_int_le(recv(client, &byte, 1, 0), 0);
    close(client);
}

TEST(admits)
{
    int clients[2];
    start(8);
    connect_many(clients, 2);
    MAIN_UNTIL(acceptor.accepted == 2);
    ck_assert_uint_eq(worker_pool_connections(&pool), 2);
    ck_assert_uint_eq(worker_pool_connections_of(&pool, 0), 1); /* one for each */
    ck_assert_uint_eq(all_refused(), 0);
    start_workers();
    expect_echo(clients[0]);
    expect_echo(clients[1]);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
}

TEST(more_than_a_batch)
{
    int clients[100];
    start(256);
    connect_many(clients, 60);
    start_workers();
    MAIN_UNTIL(acceptor.accepted == 60);
    connect_many(clients + 60, 40);
    MAIN_UNTIL(acceptor.accepted == 100);
    for (int i = 0; i < 100; i++)
        expect_echo(clients[i]);
}

/* The turn after that of a crowd waits a moment for more; on a slow machine there may be no crowd. */
TEST(crowd_gathers)
{
    start(8192);
    unsigned long sleeps = 0;
    for (int tries = 0; tries < 100 && sleeps == 0; tries++) {
        int clients[41];
        connect_many(clients, 40);
        turn_under("");
        clients[40] = connect_to(port);
        ck_assert(becomes_readable(listener->source.fd));
        sleeps = turn_under("nanosleep:count");
        for (size_t i = 0; i < COUNT_OF(clients); i++)
            close(clients[i]);
    }
    ck_assert_uint_eq(sleeps, 1);
}

TEST(full_queue_waits)
{
    int clients[4];
    start(2);
    connect_many(clients, 4);
    MAIN_UNTIL(acceptor.waits[REASON_QUEUE_FULL] == 1);
    for (int i = 0; i < 5; i++)
        main_turned();
    expect_paused();
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(acceptor.waits[REASON_QUEUE_FULL], 1);
    ck_assert_uint_eq(all_refused(), 0);
    start_workers(); /* they make room, and wake the acceptor */
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
    MAIN_UNTIL(acceptor.accepted == 4);
    for (int i = 0; i < 4; i++)
        expect_echo(clients[i]);
}

TEST(connection_limit_waits)
{
    int clients[2];
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_DESCRIPTOR_LIMIT);
    start_workers();
    connect_many(clients, 2);
    MAIN_UNTIL(acceptor.waits[REASON_DESCRIPTOR_LIMIT] == 1);
    ck_assert_uint_eq(acceptor.accepted, 1);
    send_text(clients[0], "x"); /* its worker has taken it by then, and woken the acceptor once */
    expect_text(clients[0], "x");
    main_turned();
    expect_paused();
    close(clients[0]);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken by the capacity signal alone */
    MAIN_UNTIL(acceptor.accepted == 2);
    expect_echo(clients[1]);
}

/* As in a system that has just started: the clock counts from then. */
TEST(the_first_wait_is_told_however_early)
{
    int clients[2];
    clock_move(1 - clock_monotonic_usec());
    start(1);
    connect_many(clients, 2);
    capture(LOG_LEVEL_NOTICE);
    MAIN_UNTIL(acceptor.waits[REASON_QUEUE_FULL] == 1);
    expect_in(written(), "no room for new clients: queue_full");
    be_quiet();
}

static const struct {
    bool refuses;
    uint64_t max_connections;
    enum reason refused;
} changes[] = {{false, 2, REASON_NONE}, {true, 1, REASON_MAX_CONNECTIONS}};

/* A reload raises the limit, or refuses from now on. */
TEST_EACH(changed_limit_ends_the_wait, changes)
{
    int clients[2];
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_MAX_CONNECTIONS);
    connect_many(clients, 2);
    MAIN_UNTIL(acceptor.waits[REASON_MAX_CONNECTIONS] == 1);
    acceptor_limit(&acceptor, c->refuses, c->max_connections, REASON_MAX_CONNECTIONS);
    MAIN_UNTIL(acceptor.accepted + acceptor.refused[REASON_MAX_CONNECTIONS] == 2);
    ck_assert_uint_eq(all_refused(), c->refused != REASON_NONE);
}

TEST(full_refuses)
{
    int clients[3];
    start(2);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    connect_many(clients, 3);
    MAIN_UNTIL(acceptor.refused[REASON_QUEUE_FULL] == 1);
    expect_refused(clients[2]);
    acceptor_limit(&acceptor, true, 2, REASON_MAX_CONNECTIONS);
    int another = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_MAX_CONNECTIONS] == 1);
    expect_refused(another);
    ck_assert_uint_eq(acceptor.accepted, 2);
    start_workers();
    expect_echo(clients[0]);
    expect_echo(clients[1]);
}

TEST(denied_and_per_source)
{
    start(8);
    set_rules(listener, "echo", 1, NULL);
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_PER_SOURCE] == 1);
    ck_assert_uint_eq(acceptor.accepted, 1);
    expect_refused(two);
    set_rules(listener, "echo", 0, "127.0.0.0/8");
    int three = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_DENIED] == 1);
    expect_refused(three);
    close(one);
}

TEST(refused_holds_no_source)
{
    start(8);
    acceptor_limit(&acceptor, true, 0, REASON_MAX_CONNECTIONS);
    set_rules(listener, "echo", 1, NULL);
    for (unsigned i = 1; i <= 3; i++) { /* never per_source */
        int client = connect_to(port);
        MAIN_UNTIL(acceptor.refused[REASON_MAX_CONNECTIONS] == i);
        expect_refused(client);
    }
}

/* One client, and a turn in which calls fail. What is neither accepted nor refused then waits for the timer.
 */
static const struct {
    bool refuses;
    const char *rules;
    bool is_accepted;
    enum reason refused, waits;
} failures[] = {
    {false, "accept4:ECONNABORTED:1-3", true, 0, 0}, /* others, who are gone */
    {false, "accept4:EMFILE", false, 0, REASON_DESCRIPTOR_LIMIT},
    {false, "accept4:EINVAL", false, 0, 0},
    {false, "accept4:EINVAL:1,epoll_ctl_mod:ENOMEM", false, 0, 0},
    {false, "malloc:ENOMEM:1", false, REASON_ERROR, 0},
    {true, "accept4:EMFILE:1", false, REASON_DESCRIPTOR_LIMIT, 0},
    {true, "accept4:EMFILE:1 accept4:ECONNABORTED:2", true, 0, 0}, /* gone by the second look */
    {true, "accept4:ENFILE", false, 0, REASON_DESCRIPTOR_LIMIT},   /* the spare descriptor does not help */
};

TEST_EACH(failing_calls, failures)
{
    start(8);
    acceptor_limit(&acceptor, c->refuses, 1000, REASON_MAX_CONNECTIONS);
    int client = connect_to(port);
    ck_assert(becomes_readable(listener->source.fd));
    unsigned descriptors = open_descriptors();
    turn_under(c->rules);
    ck_assert_uint_eq(open_descriptors(), descriptors + c->is_accepted);
    ck_assert_uint_eq(acceptor.accepted, c->is_accepted);
    ck_assert_uint_eq(acceptor.refused[c->refused], c->refused != 0);
    ck_assert_uint_eq(acceptor.waits[c->waits], c->waits != 0);
    if (c->refused) {
        expect_refused(client);
        return;
    }
    if (!c->is_accepted && !strstr(c->rules, "epoll_ctl")) /* where it cannot pause it looks again */
        expect_paused();
    clock_move(USEC_PER_SEC);
    WAIT_FOR((turn_under(""), acceptor.accepted == 1));
    close(client);
}

TEST(lost_spare_is_opened_again)
{
    start(8);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    for (unsigned i = 1; i <= 2; i++) {
        unsigned descriptors = open_descriptors();
        int client = connect_to(port);
        ck_assert(becomes_readable(listener->source.fd));
        turn_under("accept4:EMFILE:1 open:EMFILE");
        ck_assert_uint_eq(acceptor.refused[REASON_DESCRIPTOR_LIMIT], i);
        expect_refused(client);
        ck_assert_uint_eq(open_descriptors(), descriptors - 1);
        client = connect_to(port); /* without a spare one it can but wait */
        ck_assert(becomes_readable(listener->source.fd));
        turn_under("accept4:EMFILE:1");
        ck_assert_uint_eq(acceptor.waits[REASON_DESCRIPTOR_LIMIT], i);
        MAIN_UNTIL(acceptor.accepted == i);
        ck_assert_uint_eq(open_descriptors(), descriptors + 2); /* both ends of the last, and the spare one */
    }
}

/* And not deaf for ever. */
TEST(failing_resume_is_tried_again)
{
    start(8);
    int client = connect_to(port);
    ck_assert(becomes_readable(listener->source.fd));
    turn_under("accept4:EINVAL");
    fault_rules("epoll_ctl_mod:ENOMEM");
    acceptor_resume(&acceptor);
    ck_assert_uint_eq(fault_disarm(), 1);
    expect_paused();
    clock_move(USEC_PER_SEC);
    WAIT_FOR((turn_under(""), acceptor.accepted == 1));
    close(client);
}

TEST(failed_init_and_add)
{
    struct acceptor other;
    start(8);
    fault_arm("open", EMFILE, 1);
    int r = acceptor_init(&other, &set, &pool, &admission, &rig.capacity);
    fault_disarm();
    ck_assert_int_eq(r, -EMFILE);

    struct listener *second = listener_new();
    second->source.fd = dup(listener->source.fd);
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    r = acceptor_add(&acceptor, second);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    listener_close(second);
}

TEST(listener_added_to_a_full_daemon)
{
    int clients[2];
    start(1);
    connect_many(clients, 2);
    MAIN_UNTIL(acceptor.waits[REASON_QUEUE_FULL] == 1);
    int third = connect_to(add_listener("upper")->port);
    main_turned();
    ck_assert_uint_eq(acceptor.accepted, 1);
    start_workers();
    MAIN_UNTIL(acceptor.accepted == 3);
    send_text(third, "x");
    expect_text(third, "X");
    close(third);
    expect_echo(clients[0]);
    expect_echo(clients[1]);
}

#define MANY 50

/* Each place that is free again lets one client in, and costs the same however many listeners there are; and
 * each listener has its turn. */
TEST(vacancies_cost_no_more_with_many_listeners)
{
    int clients[MANY][2];
    start(2 * MANY);
    acceptor_limit(&acceptor, false, 0, REASON_MAX_CONNECTIONS);
    for (int i = 0; i < MANY; i++) {
        connect_many(clients[i], 2);
        if (i + 1 < MANY)
            port = add_listener("echo")->port;
    }
    MAIN_UNTIL(acceptor.waits[REASON_MAX_CONNECTIONS] > 0);
    ck_assert_uint_eq(acceptor.accepted, 0);

    fault_rules("epoll_ctl:count");
    for (unsigned vacancies = 1; vacancies <= MANY; vacancies++) {
        acceptor_limit(&acceptor, false, vacancies, REASON_MAX_CONNECTIONS);
        event_loop_wake(&rig.main_loop);
        event_loop_run(&rig.main_loop);
    }
    unsigned long calls = fault_disarm();
    ck_assert_uint_eq(acceptor.accepted, MANY);
    ck_assert_uint_le(calls, 2 * MANY);
    start_workers();
    for (int i = 0; i < MANY; i++) {
        expect_echo(clients[i][0]);
        close(clients[i][1]);
    }
}

/* In the middle of what is ready: nothing of it is lost, and a listener that is gone is not called. */
TEST(listener_removed_while_paused)
{
    int clients[3];
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_MAX_CONNECTIONS);
    struct listener *more[] = {add_listener("echo"), add_listener("echo")};
    clients[0] = connect_to(port);
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        clients[i + 1] = connect_to(more[i]->port);
        ck_assert(becomes_readable(more[i]->source.fd));
    }
    MAIN_UNTIL(acceptor.waits[REASON_MAX_CONNECTIONS] > 0);
    ck_assert_uint_eq(acceptor.accepted, 1);
    acceptor_retire(&acceptor, more[0]);
    acceptor_close_retired(&acceptor);
    acceptor_limit(&acceptor, false, 3, REASON_MAX_CONNECTIONS);
    MAIN_UNTIL(acceptor.accepted + all_refused() == 3);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
}

/* Their clients are served; however many there are, it takes one wait, in which nobody is accepted. */
TEST(retired_listeners_empty_their_backlogs)
{
    int clients[3];
    start(8);
    struct listener *second = add_listener("echo");
    add_listener("echo");
    connect_many(clients, 2);
    clients[2] = connect_to(second->port);
    ck_assert(becomes_readable(second->source.fd));
    fault_rules("nanosleep:count");
    acceptor_retire(&acceptor, listener);
    acceptor_retire(&acceptor, second);
    acceptor_close_retired(&acceptor);
    acceptor_close_retired(&acceptor);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    ck_assert_uint_eq(acceptor.accepted, 3);
    start_workers();
    for (int i = 0; i < 3; i++)
        expect_echo(clients[i]);
}

TEST(stop_empties_backlogs_and_refuses_what_has_no_room)
{
    int clients[4];
    start(2);
    struct listener *second = add_listener("echo");
    connect_many(clients, 3);
    clients[3] = connect_to(second->port);
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert(becomes_readable(second->source.fd));
    clock_move_at_each_look(2 * USEC_PER_MSEC);
    fault_arm("accept4", ECONNABORTED, 1);
    acceptor_stop(&acceptor);
    fault_disarm();
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(acceptor.refused[REASON_DRAINING], 2);
    expect_refused(clients[2]);
    expect_refused(clients[3]);
    start_workers();
    expect_echo(clients[0]);
    expect_echo(clients[1]);
}

/* Returns the service manager's own descriptor. */
static int add_passed(struct listener **out)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    ck_assert_int_eq(listener_adopt(as_passed(managers), "test.socket", out), 0);
    set_rules(*out, "echo", 0, NULL);
    ck_assert_int_eq(acceptor_add(&acceptor, *out), 0);
    return managers;
}

TEST(passed_socket_keeps_its_backlog)
{
    start(8);
    struct listener *first, *second;
    int managers[] = {add_passed(&first), add_passed(&second)};
    int served = connect_to(first->port);
    MAIN_UNTIL(acceptor.accepted == 1);
    int waiting[] = {connect_to(first->port), connect_to(second->port)};
    ck_assert(becomes_readable(managers[0]));
    ck_assert(becomes_readable(managers[1]));
    acceptor_retire(&acceptor, first);
    acceptor_close_retired(&acceptor);
    ck_assert_uint_eq(acceptor.listener_count, 2);
    main_turned(); /* it is ready still, and nobody looks at it */
    ck_assert_uint_eq(acceptor.accepted, 2);
    expect_in_backlog(managers[0], waiting[0]);

    close(waiting[1]);
    waiting[1] = connect_to(port_of(managers[1]));
    ck_assert(becomes_readable(managers[1]));
    acceptor_stop(&acceptor);
    main_turned();
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(all_refused(), 0);
    expect_in_backlog(managers[1], waiting[1]);
    start_workers();
    expect_echo(served);
}

/* Whom a process before has admitted; returns the client's end. */
static int take_over(const char *service)
{
    struct service_config config = config_for(service);
    int client, server;
    config.rules.per_source = 1;
    tcp_pair(0, &client, &server);
    struct new_client new_client = {
        .fd = server,
        .config = service_config_new(&config),
        .client = {.family = AF_INET, .port = 4711, .ip = {127, 0, 0, 1}},
        .id = 7,
        .accepted_usec = clock_monotonic_usec(),
    };
    acceptor_take_over(&acceptor, &new_client);
    return client;
}

/* Never refused, and counted with its source. */
TEST(takes_over)
{
    start(2);
    acceptor_limit(&acceptor, true, 3, REASON_MAX_CONNECTIONS);
    set_rules(listener, "echo", 1, NULL);
    int first = take_over("echo");
    int second = take_over("echo");
    ck_assert_uint_eq(acceptor.accepted, 0);
    ck_assert_uint_eq(worker_pool_connections(&pool), 2);
    start_workers();
    int third = take_over("echo"); /* once there is room in the queue */
    int fourth = take_over("echo");
    ck_assert_uint_eq(worker_pool_connections(&pool), 4);
    worker_pool_flush(&pool);
    expect_echo(first);
    expect_echo(second);
    expect_echo(third);
    WAIT_FOR(worker_pool_connections(&pool) == 1);
    int new = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_PER_SOURCE] == 1);
    expect_refused(new);
    expect_echo(fourth);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
    ck_assert_uint_eq(acceptor.accepted, 0);
}

/* The peer is a proxy, and its address no client's. */
TEST(proxies)
{
    struct service_config config = config_for("echo");
    struct prefix deny, from;
    start(8);
    ck_assert_int_eq(prefix_parse("127.0.0.0/8", &deny), 0);
    ck_assert_int_eq(prefix_parse("10.0.0.0/8", &from), 0);
    config.rules = (struct admission_rules){.deny = {&deny, 1}, .per_source = 1};
    config.proxy.protocol = true;
    config.proxy.timeout_usec = 60 * USEC_PER_SEC;
    listener_set_config(listener, service_config_new(&config));
    start_workers();
    int first = connect_to(port), second = connect_to(port);
    MAIN_UNTIL(acceptor.accepted == 2);
    send_text(first, "PROXY UNKNOWN\r\n");
    send_text(second, "PROXY TCP4 192.0.2.1 127.0.0.1 1 7\r\n");
    expect_echo(first);
    expect_echo(second);
    config.proxy.from = (struct prefix_list){&from, 1};
    listener_set_config(listener, service_config_new(&config));
    int stranger = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_DENIED] == 1);
    expect_refused(stranger);
}

/* Whoever waits in the backlog is for the process that goes on. */
TEST(left_listeners_keep_their_backlogs)
{
    start(8);
    int other = fcntl(listener->source.fd, F_DUPFD_CLOEXEC, 0);
    int waiting = connect_to(port);
    ck_assert(becomes_readable(other));
    acceptor_leave(&acceptor);
    acceptor_close_retired(&acceptor);
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(acceptor.accepted, 0);
    expect_in_backlog(other, waiting);
    int late = connect_to(port);
    expect_in_backlog(other, late);
    close(waiting);
    close(late);
    close(other);
}
