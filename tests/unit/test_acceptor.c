#include "serve/acceptor.h"

#include "capture.h"
#include "passed.h"
#include "rig.h"

/* In the case of these tests the main thread's loop is rig.main_loop; the workers start only when a test says
 * so, and until then whoever was admitted stays in the queue. */
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

static struct listener *open_listener(const char *service)
{
    const struct socket_settings settings = {.backlog = 64};
    struct listen_address listen_address = {0};
    struct listener *opened;
    struct admission_rules rules = {0};
    struct service_config config = config_for(service);
    ck_assert_int_eq(address_parse("127.0.0.1", 0, &listen_address.at), 0);
    ck_assert_int_eq(listener_open(&listen_address, &settings, false, &opened), 0);
    listener_set_config(opened, service_config_new(&config), &rules);
    return opened;
}

static void start(size_t queue_depth)
{
    heeds_room = true;
    be_quiet();
    memset(&rig, 0, sizeof rig);
    ck_assert_int_eq(event_loop_init(&rig.main_loop, on_room), 0);
    rig.capacity.loop = &rig.main_loop;
    ck_assert_int_eq(worker_pool_init(&pool, 2, queue_depth, &rig.capacity), 0);
    ck_assert_int_eq(admission_init(&admission, 32, 64), 0);
    ck_assert_int_eq(event_set_init(&set, &rig.main_loop), 0);
    ck_assert_int_eq(acceptor_init(&acceptor, &set, &pool, &admission, &rig.capacity), 0);
    acceptor_limit(&acceptor, false, 1000, REASON_MAX_CONNECTIONS);
    listener = open_listener("echo");
    port = port_of(listener->source.fd);
    ck_assert_int_eq(acceptor_add(&acceptor, listener), 0);
    ck_assert_uint_eq(acceptor.listener_count, 1);
}

static void stop(void)
{
    acceptor_deinit(&acceptor);
    event_set_deinit(&set);
    ck_assert_uint_eq(acceptor.listener_count, 0);
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    admission_deinit(&admission);
    event_loop_deinit(&rig.main_loop);
}

/* One turn of the main loop. */
static bool main_turned(void)
{
    event_loop_wake(&rig.main_loop);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
    return true;
}

#define MAIN_UNTIL(condition) WAIT_FOR(main_turned() && (condition))

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

static void expect_echo(int client)
{
    send_text(client, "echo?");
    expect_text(client, "echo?");
}

/* Closed by the daemon, with or without a reset. */
static void expect_refused(int client)
{
    char byte;
    ck_assert(becomes_readable(client));
    ck_assert_int_le(recv(client, &byte, 1, 0), 0);
    close(client);
}

START_TEST(admits)
{
    start(8);
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.accepted == 2);
    ck_assert_uint_eq(acceptor.last_id, 2);
    ck_assert_uint_eq(worker_pool_connections(&pool), 2);
    ck_assert_uint_eq(worker_pool_connections_of(&pool, 0), 1); /* one for each */
    ck_assert_uint_eq(atomic_load(&listener->config->references), 3);
    ck_assert_uint_eq(all_refused(), 0);
    start_workers();
    expect_echo(one);
    expect_echo(two);
    close(one);
    close(two);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
    WAIT_FOR(atomic_load(&listener->config->references) == 1);
    stop();
}
END_TEST

START_TEST(more_than_a_batch)
{
    static int clients[100];
    start(256);
    for (int i = 0; i < 60; i++)
        clients[i] = connect_to(port);
    start_workers();
    MAIN_UNTIL(acceptor.accepted == 60);
    for (int i = 60; i < 100; i++)
        clients[i] = connect_to(port);
    MAIN_UNTIL(acceptor.accepted == 100);
    for (int i = 0; i < 100; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    stop();
}
END_TEST

START_TEST(crowd_is_accepted_together)
{
    start(256);
    unsigned long sleeps = 0;
    for (int tries = 0; tries < 100 && sleeps == 0; tries++) { /* on a slow machine there may be no crowd */
        int client = connect_to(port);
        ck_assert(becomes_readable(listener->source.fd));
        acceptor.coalescing.interval_usec = 1;
        acceptor.coalescing.turn_usec = clock_monotonic_usec();
        event_loop_wake(&rig.main_loop);
        fault_rules("nanosleep:count");
        int r = event_loop_run(&rig.main_loop);
        sleeps = fault_disarm();
        ck_assert_int_eq(r, 0);
        close(client);
    }
    ck_assert_uint_eq(sleeps, 1);
    ck_assert_uint_gt(acceptor.accepted, 0);
    stop();
}
END_TEST

START_TEST(full_queue_waits)
{
    start(2);
    int clients[4];
    for (int i = 0; i < 4; i++)
        clients[i] = connect_to(port);
    MAIN_UNTIL(acceptor.paused);
    for (int i = 0; i < 5; i++)
        main_turned(); /* it does not try again without cause */
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(acceptor.waits[REASON_QUEUE_FULL], 1);
    ck_assert_uint_eq(all_refused(), 0);
    ck_assert(!set.is_polled);
    ck_assert(atomic_load(&rig.capacity.awaited));
    start_workers(); /* they make room, and wake the acceptor */
    while (acceptor.accepted < 4) {
        ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
        if (acceptor.accepted < 4)
            MAIN_UNTIL(acceptor.accepted == 4);
    }
    for (int i = 0; i < 4; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    stop();
}
END_TEST

/* As in a system that has just started: the clock counts from then. */
START_TEST(the_first_wait_is_told_however_early)
{
    start(1);
    int client = connect_to(port);
    ck_assert(becomes_readable(listener->source.fd));
    capture(LOG_LEVEL_NOTICE);
    rig.main_loop.now = 1;
    listener->source.ready(&listener->source, EPOLLIN);
    expect_in(written(), "no room for new clients: queue_full");
    ck_assert(acceptor.paused);
    close(client);
    stop();
}
END_TEST

START_TEST(connection_limit_waits)
{
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_DESCRIPTOR_LIMIT);
    start_workers();
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.paused);
    ck_assert_uint_eq(acceptor.accepted, 1);
    ck_assert_uint_eq(acceptor.waits[REASON_DESCRIPTOR_LIMIT], 1);
    expect_echo(one);
    close(one);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken by the vacancy alone */
    MAIN_UNTIL(acceptor.accepted == 2);
    expect_echo(two);
    close(two);
    stop();
}
END_TEST

START_TEST(raised_limit_resumes)
{
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_MAX_CONNECTIONS);
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.paused);
    acceptor_limit(&acceptor, false, 2, REASON_MAX_CONNECTIONS);
    ck_assert(!acceptor.paused);
    MAIN_UNTIL(acceptor.accepted == 2);
    close(one);
    close(two);
    stop();
}
END_TEST

START_TEST(full_refuses)
{
    start(2);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    int one = connect_to(port), two = connect_to(port), three = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_QUEUE_FULL] == 1);
    expect_refused(three);
    acceptor_limit(&acceptor, true, 2, REASON_MAX_CONNECTIONS);
    int four = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_MAX_CONNECTIONS] == 1);
    expect_refused(four);
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert(!acceptor.paused);
    ck_assert_uint_eq(acceptor.last_id, 2);
    close(one);
    close(two);
    stop();
}
END_TEST

START_TEST(refusing_now_ends_the_wait)
{
    start(1);
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.paused);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    MAIN_UNTIL(acceptor.refused[REASON_QUEUE_FULL] == 1);
    expect_refused(two);
    close(one);
    stop();
}
END_TEST

START_TEST(denied_and_per_source)
{
    start(8);
    listener->rules.per_source = 1;
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_PER_SOURCE] == 1);
    ck_assert_uint_eq(acceptor.accepted, 1);
    expect_refused(two);

    struct admission_rules rules = {0};
    struct service_config config = config_for("echo");
    rules.deny.items = malloc(sizeof(struct prefix));
    ck_assert_int_eq(prefix_parse("127.0.0.0/8", rules.deny.items), 0);
    rules.deny.count = 1;
    listener_set_config(listener, service_config_new(&config), &rules);
    int three = connect_to(port);
    MAIN_UNTIL(acceptor.refused[REASON_DENIED] == 1);
    expect_refused(three);
    close(one);
    stop();
}
END_TEST

START_TEST(refused_holds_no_source)
{
    start(8);
    acceptor_limit(&acceptor, true, 0, REASON_MAX_CONNECTIONS);
    listener->rules.per_source = 1;
    for (unsigned i = 1; i <= 3; i++) { /* never per_source */
        int client = connect_to(port);
        MAIN_UNTIL(acceptor.refused[REASON_MAX_CONNECTIONS] == i);
        expect_refused(client);
    }
    stop();
}
END_TEST

START_TEST(short_memory_refuses)
{
    start(8);
    int client = connect_to(port);
    ck_assert(becomes_readable(listener->source.fd));
    fault_arm("malloc", ENOMEM, 1);
    event_loop_wake(&rig.main_loop);
    int r = event_loop_run(&rig.main_loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(acceptor.refused[REASON_ERROR], 1);
    expect_refused(client);
    stop();
}
END_TEST

/* Runs one turn with these rules while one client at least waits. */
static void turn_under(const char *rules)
{
    ck_assert(becomes_readable(listener->source.fd));
    event_loop_wake(&rig.main_loop);
    heeds_room = false; /* it is no room that this wake tells of */
    fault_rules(rules);
    int r = event_loop_run(&rig.main_loop);
    fault_disarm();
    heeds_room = true;
    ck_assert_int_eq(r, 0);
}

START_TEST(gone_client_is_passed_over)
{
    start(8);
    int client = connect_to(port);
    turn_under("accept4:ECONNABORTED:1-3");
    ck_assert_uint_eq(acceptor.accepted, 1);
    ck_assert(!acceptor.paused);
    close(client);
    stop();
}
END_TEST

START_TEST(shortage_waits)
{
    start(8);
    int client = connect_to(port);
    int spare = acceptor.spare_fd;
    turn_under("accept4:EMFILE");
    ck_assert(acceptor.paused);
    ck_assert_uint_eq(acceptor.waits[REASON_DESCRIPTOR_LIMIT], 1);
    ck_assert(!set.is_polled);
    ck_assert(timer_is_armed(&acceptor.retry));
    ck_assert_int_eq(acceptor.spare_fd, spare);
    heeds_room = false;
    MAIN_UNTIL(acceptor.accepted == 1); /* by its timer alone */
    heeds_room = true;
    ck_assert(!acceptor.paused);
    close(client);
    stop();
}
END_TEST

START_TEST(shortage_refuses)
{
    start(8);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    int client = connect_to(port);
    turn_under("accept4:EMFILE:1");
    ck_assert_uint_eq(acceptor.refused[REASON_DESCRIPTOR_LIMIT], 1);
    ck_assert_uint_eq(acceptor.accepted, 0);
    ck_assert(!acceptor.paused);
    ck_assert_int_ge(acceptor.spare_fd, 0);
    expect_refused(client);

    client = connect_to(port); /* who is gone by the second look is nobody */
    turn_under("accept4:EMFILE:1 accept4:ECONNABORTED:2");
    ck_assert_uint_eq(acceptor.refused[REASON_DESCRIPTOR_LIMIT], 1);
    ck_assert_uint_eq(acceptor.accepted, 1);

    int other = connect_to(port); /* the whole system is short: the spare one does not help */
    turn_under("accept4:ENFILE");
    ck_assert(acceptor.paused);
    ck_assert_uint_eq(acceptor.waits[REASON_DESCRIPTOR_LIMIT], 1);
    ck_assert_int_ge(acceptor.spare_fd, 0);
    MAIN_UNTIL(acceptor.accepted == 2);
    close(client);
    close(other);
    stop();
}
END_TEST

START_TEST(lost_spare_is_opened_again)
{
    start(8);
    acceptor_limit(&acceptor, true, 1000, REASON_MAX_CONNECTIONS);
    int client = connect_to(port);
    turn_under("accept4:EMFILE:1 open:EMFILE");
    ck_assert_uint_eq(acceptor.refused[REASON_DESCRIPTOR_LIMIT], 1);
    ck_assert_int_eq(acceptor.spare_fd, -1);
    expect_refused(client);
    client = connect_to(port); /* without a spare one it can but wait */
    turn_under("accept4:EMFILE:1");
    ck_assert(acceptor.paused);
    MAIN_UNTIL(acceptor.accepted == 1);
    ck_assert_int_ge(acceptor.spare_fd, 0);
    close(client);
    stop();
}
END_TEST

START_TEST(other_errors_wait)
{
    start(8);
    int client = connect_to(port);
    turn_under("accept4:EINVAL");
    ck_assert(acceptor.paused);
    ck_assert(timer_is_armed(&acceptor.retry));
    MAIN_UNTIL(acceptor.accepted == 1);
    ck_assert_uint_eq(acceptor.waits[REASON_DESCRIPTOR_LIMIT], 0);
    close(client);
    stop();
}
END_TEST

START_TEST(failing_epoll_is_tried_again)
{
    start(8);
    int one = connect_to(port);
    turn_under("accept4:EINVAL:1,epoll_ctl_mod:ENOMEM"); /* cannot pause: asks again, and finds it paused */
    ck_assert(timer_is_armed(&acceptor.retry));
    MAIN_UNTIL(acceptor.accepted == 1);
    close(one);

    int two = connect_to(port);
    turn_under("accept4:EINVAL");
    ck_assert(acceptor.paused);
    fault_rules("epoll_ctl_mod:ENOMEM");
    acceptor_resume(&acceptor);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert(!set.is_polled);
    MAIN_UNTIL(acceptor.accepted == 2); /* and not deaf for ever */
    close(two);
    stop();
}
END_TEST

START_TEST(failed_init_and_add)
{
    struct acceptor other;
    start(8);
    fault_arm("open", EMFILE, 1);
    int r = acceptor_init(&other, &set, &pool, &admission, &rig.capacity);
    fault_disarm();
    ck_assert_int_eq(r, -EMFILE);

    struct listener *second = open_listener("time");
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    r = acceptor_add(&acceptor, second);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    ck_assert(list_is_empty(&second->link));
    listener_close(second);
    stop();
}
END_TEST

START_TEST(listener_added_to_a_full_daemon)
{
    start(1);
    int one = connect_to(port), two = connect_to(port);
    MAIN_UNTIL(acceptor.paused);
    struct listener *second = open_listener("upper");
    ck_assert_int_eq(acceptor_add(&acceptor, second), 0);
    int three = connect_to(port_of(second->source.fd));
    main_turned();
    ck_assert_uint_eq(acceptor.accepted, 1);
    start_workers();
    MAIN_UNTIL(acceptor.accepted == 3);
    send_text(three, "x");
    expect_text(three, "X");
    expect_echo(one);
    expect_echo(two);
    close(one);
    close(two);
    close(three);
    stop();
}
END_TEST

#define MANY 50

/* Each vacancy lets one client in, and costs the same however many listeners there are; and each listener has
 * its turn. */
START_TEST(vacancies_cost_no_more_with_many_listeners)
{
    struct listener *listeners[MANY] = {NULL};
    int clients[MANY][2];
    start(2 * MANY);
    acceptor_limit(&acceptor, false, 0, REASON_MAX_CONNECTIONS);
    listeners[0] = listener;
    for (int i = 1; i < MANY; i++) {
        listeners[i] = open_listener("echo");
        ck_assert_int_eq(acceptor_add(&acceptor, listeners[i]), 0);
    }
    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < 2; k++)
            clients[i][k] = connect_to(port_of(listeners[i]->source.fd));
    MAIN_UNTIL(acceptor.paused);
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
    for (int i = 0; i < MANY; i++)
        ck_assert_uint_eq(atomic_load(&listeners[i]->config->references), 2); /* its own, and one client's */

    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < 2; k++)
            close(clients[i][k]);
    stop();
}
END_TEST

/* In the middle of what is ready: nothing of it is lost, and a listener that is gone is not called. */
START_TEST(listener_removed_while_paused)
{
    start(8);
    acceptor_limit(&acceptor, false, 1, REASON_MAX_CONNECTIONS);
    struct listener *more[] = {open_listener("echo"), open_listener("echo")};
    int clients[3] = {connect_to(port)};
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        ck_assert_int_eq(acceptor_add(&acceptor, more[i]), 0);
        clients[i + 1] = connect_to(port_of(more[i]->source.fd));
        ck_assert(becomes_readable(more[i]->source.fd));
    }
    MAIN_UNTIL(acceptor.paused);
    ck_assert_uint_eq(acceptor.accepted, 1);
    acceptor_retire(&acceptor, more[0]);
    acceptor_close_retired(&acceptor);
    acceptor_limit(&acceptor, false, 3, REASON_MAX_CONNECTIONS);
    MAIN_UNTIL(acceptor.accepted + all_refused() == 3);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    stop();
}
END_TEST

START_TEST(removed_listener_empties_its_backlog)
{
    start(8);
    struct service_config *config = service_config_ref(listener->config);
    int one = connect_to(port), two = connect_to(port);
    ck_assert(becomes_readable(listener->source.fd));
    acceptor_retire(&acceptor, listener);
    acceptor_close_retired(&acceptor);
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(atomic_load(&config->references), 3); /* they live on with their clients */
    start_workers();
    expect_echo(one);
    expect_echo(two);
    close(one);
    close(two);
    stop();
    ck_assert_uint_eq(atomic_load(&config->references), 1);
    service_config_unref(config);
}
END_TEST

/* However many there are: nobody is accepted meanwhile. */
START_TEST(retired_listeners_are_waited_for_together)
{
    start(8);
    struct listener *more[] = {open_listener("echo"), open_listener("echo")};
    for (size_t i = 0; i < COUNT_OF(more); i++)
        ck_assert_int_eq(acceptor_add(&acceptor, more[i]), 0);
    int client = connect_to(port_of(more[1]->source.fd));
    ck_assert(becomes_readable(more[1]->source.fd));
    fault_rules("nanosleep:count");
    for (size_t i = 0; i < COUNT_OF(more); i++)
        acceptor_retire(&acceptor, more[i]);
    acceptor_close_retired(&acceptor);
    acceptor_close_retired(&acceptor);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_uint_eq(acceptor.listener_count, 1);
    start_workers();
    expect_echo(client);
    close(client);
    stop();
}
END_TEST

START_TEST(stop_empties_backlogs_and_refuses_what_has_no_room)
{
    start(2);
    struct listener *second = open_listener("echo");
    uint16_t second_port = port_of(second->source.fd);
    ck_assert_int_eq(acceptor_add(&acceptor, second), 0);
    int clients[4] = {connect_to(port), connect_to(port), connect_to(port), connect_to(second_port)};
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert(becomes_readable(second->source.fd));
    fault_arm("accept4", ECONNABORTED, 1);
    acceptor_stop(&acceptor);
    fault_disarm();
    ck_assert_uint_eq(acceptor.listener_count, 0);
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(acceptor.refused[REASON_DRAINING], 2);
    ck_assert(!timer_is_armed(&acceptor.retry));
    expect_refused(clients[2]);
    expect_refused(clients[3]);
    start_workers();
    expect_echo(clients[0]);
    expect_echo(clients[1]);
    close(clients[0]);
    close(clients[1]);
    stop();
}
END_TEST

/* Returns the service manager's own descriptor. */
static int add_passed(struct listener **out)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    struct admission_rules rules = {0};
    struct service_config config = config_for("echo");
    ck_assert_int_eq(listener_adopt(as_passed(managers), "test.socket", out), 0);
    listener_set_config(*out, service_config_new(&config), &rules);
    ck_assert_int_eq(acceptor_add(&acceptor, *out), 0);
    return managers;
}

START_TEST(passed_socket_keeps_its_backlog)
{
    start(8);
    struct listener *first, *second;
    int managers[] = {add_passed(&first), add_passed(&second)};
    int served = connect_to(port_of(managers[0]));
    MAIN_UNTIL(acceptor.accepted == 1);
    int waiting[] = {connect_to(port_of(managers[0])), connect_to(port_of(managers[1]))};
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
    ck_assert_uint_eq(acceptor.loop->sources, 1); /* the set */
    ck_assert_uint_eq(acceptor.accepted, 2);
    ck_assert_uint_eq(all_refused(), 0);
    expect_in_backlog(managers[1], waiting[1]);
    start_workers();
    expect_echo(served);
    close(served);
    for (int i = 0; i < 2; i++) {
        close(waiting[i]);
        close(managers[i]);
    }
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("acceptor");
    tcase_add_test(tests, admits);
    tcase_add_test(tests, more_than_a_batch);
    tcase_add_test(tests, crowd_is_accepted_together);
    tcase_add_test(tests, full_queue_waits);
    tcase_add_test(tests, the_first_wait_is_told_however_early);
    tcase_add_test(tests, connection_limit_waits);
    tcase_add_test(tests, raised_limit_resumes);
    tcase_add_test(tests, full_refuses);
    tcase_add_test(tests, refusing_now_ends_the_wait);
    tcase_add_test(tests, denied_and_per_source);
    tcase_add_test(tests, refused_holds_no_source);
    tcase_add_test(tests, short_memory_refuses);
    tcase_add_test(tests, gone_client_is_passed_over);
    tcase_add_test(tests, shortage_waits);
    tcase_add_test(tests, shortage_refuses);
    tcase_add_test(tests, lost_spare_is_opened_again);
    tcase_add_test(tests, other_errors_wait);
    tcase_add_test(tests, failing_epoll_is_tried_again);
    tcase_add_test(tests, failed_init_and_add);
    tcase_add_test(tests, listener_added_to_a_full_daemon);
    tcase_add_test(tests, vacancies_cost_no_more_with_many_listeners);
    tcase_add_test(tests, listener_removed_while_paused);
    tcase_add_test(tests, removed_listener_empties_its_backlog);
    tcase_add_test(tests, retired_listeners_are_waited_for_together);
    tcase_add_test(tests, stop_empties_backlogs_and_refuses_what_has_no_room);
    tcase_add_test(tests, passed_socket_keeps_its_backlog);
    return run_case(tests);
}
