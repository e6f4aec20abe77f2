/* A connection that misbehaves on purpose, as its client and the published counters see it. */
#include "serve/connection.h"

#include "capture.h"
#include "rig.h"
#include "serve/progress.h"

#define DELAY (100 * USEC_PER_SEC)

static struct misbehaviour_params faults;
static struct service_config config;

static void start(void)
{
    rig_start();
    faults = (struct misbehaviour_params){.after = USEC_NEVER, .toxicity = 1, .seed = 1};
    config = config_for("echo");
    config.misbehaviour = &faults;
}

FIXTURE(start, rig_stop)

static void send_and_arrive(int client, const char *text)
{
    send_text(client, text);
    WAIT_FOR(arrived(rig.server) == strlen(text));
}

/* Turns, and the client has nothing to read, not even an end. */
static void turn_and_expect_nothing(int client)
{
    for (int i = 0; i < 3; i++)
        turn();
    expect_nothing_yet(client);
}

static void leave(int client, enum reason reason, unsigned count)
{
    close(client);
    TURN_UNTIL_CLOSED(reason, count);
}

TEST(delay_holds_one_and_not_the_other)
{
    struct service_config good = config_for("echo");
    faults.delay = DELAY;
    int slow = serve(&config);
    send_and_arrive(slow, "slow");
    turn();
    int other = serve(&good);
    send_text(other, "quick");
    turn_and_expect(other, "quick");
    turn_after(DELAY - USEC_PER_SEC);
    turn_and_expect_nothing(slow);
    turn_after(USEC_PER_SEC);
    turn_and_expect(slow, "slow");
    close(other);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    close(slow);
    WAIT_FOR((turn_after(DELAY), closed_as(REASON_CLIENT_CLOSED) == 2));
}

TEST(the_spared_are_like_others)
{
    faults.delay = DELAY;
    faults.toxicity = 0;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    leave(client, REASON_CLIENT_CLOSED, 1);
}

/* One that is delayed beyond its timeouts. */
TEST(no_timeout_while_an_answer_is_held)
{
    faults.delay = DELAY;
    config.idle_timeout_usec = config.write_timeout_usec = USEC_PER_SEC;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    for (int i = 0; i < 90; i++)
        turn_after(USEC_PER_SEC);
    expect_nothing_yet(client);
    turn_after(20 * USEC_PER_SEC);
    turn_and_expect(client, "hello");
    WAIT_FOR((turn_after(USEC_PER_SEC), closed_as(REASON_IDLE_TIMEOUT) == 1));
    close(client);
}

/* Who is not served yet is not idle. */
TEST(accept_delay_beyond_the_idle_timeout)
{
    faults.accept_delay = DELAY;
    config.idle_timeout_usec = USEC_PER_SEC;
    int client = serve(&config);
    for (int i = 0; i < 99; i++)
        turn_after(USEC_PER_SEC);
    turn_after(USEC_PER_SEC + USEC_PER_SEC / 2);
    turn();
    ck_assert_uint_eq(closed(), 0);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    WAIT_FOR((turn_after(USEC_PER_SEC), closed_as(REASON_IDLE_TIMEOUT) == 1));
    close(client);
}

static const struct {
    enum misbehaviour_end end;
    int error;    /* what the client reads; 0: the end */
    bool is_mute; /* it reads nothing */
} ends[] = {{MISBEHAVIOUR_CLOSE, 0, false},
            {MISBEHAVIOUR_RESET, ECONNRESET, false},
            {MISBEHAVIOUR_HALF_CLOSE, 0, false},
            {MISBEHAVIOUR_HANG, 0, true}};

static void expect_end_of(int client, enum misbehaviour_end end)
{
    if (ends[end].is_mute)
        turn_and_expect_nothing(client);
    else
        ck_assert_int_eq(turn_until_end(client), ends[end].error);
    if (end == MISBEHAVIOUR_RESET) {
        TURN_UNTIL_CLOSED(REASON_FAULT, 1);
        close(client);
    } else {
        ck_assert_uint_eq(closed_as(REASON_FAULT), 0);
        leave(client, REASON_FAULT, 1);
    }
}

TEST_EACH(ends_at_a_limit, ends)
{
    faults.limit = 3;
    faults.end = c->end;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hel");
    expect_end_of(client, c->end);
}

TEST_EACH(ends_after_a_time, ends)
{
    faults.after = DELAY;
    faults.delay = 2 * DELAY;
    faults.end = c->end;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    turn();
    turn_after(DELAY - USEC_PER_SEC);
    turn_and_expect_nothing(client);
    turn_after(2 * USEC_PER_SEC);
    expect_end_of(client, c->end);
}

/* The kernel has not taken all: what is left is dropped. */
TEST_EACH(ends_while_bytes_are_unsent, ends)
{
    faults.after = DELAY;
    faults.end = c->end;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    fault_rules("send:short=2:1,send:EAGAIN");
    turn();
    turn_after(DELAY + TIMER_TICK_USEC);
    turn();
    fault_disarm();
    turn_and_expect(client, "he");
    expect_end_of(client, c->end);
}

/* A client that half-closed has its FIN only where the fault does not hang. */
TEST_EACH(ends_after_the_clients_own_end, ends)
{
    faults.after = DELAY;
    faults.delay = 2 * DELAY;
    faults.end = c->end;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    shutdown(client, SHUT_WR);
    for (int i = 0; i < 3; i++)
        turn();
    turn_after(DELAY + TIMER_TICK_USEC);
    if (c->end == MISBEHAVIOUR_HANG) {
        turn_and_expect_nothing(client);
        close_hard(client);
        TURN_UNTIL_CLOSED(REASON_FAULT, 1);
        return;
    }
    ck_assert_int_eq(turn_until_end(client), c->error);
    TURN_UNTIL_CLOSED(REASON_FAULT, 1);
    close(client);
}

TEST_EACH(stop_ends_every_end_cleanly, ends)
{
    faults.limit = 3;
    faults.end = c->end;
    if (c->end == MISBEHAVIOUR_RESET)
        return; /* it is over at once */
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hel");
    turn_and_drain();
    turn_and_expect_end(client);
    leave(client, REASON_FAULT, 1);
}

/* What stays, stays as long as it is used. */
TEST(idle_timeout_of_what_hangs)
{
    faults.limit = 3;
    faults.end = MISBEHAVIOUR_HANG;
    config.idle_timeout_usec = 10 * USEC_PER_SEC;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hel");
    for (int i = 0; i < 20; i++) {
        send_and_arrive(client, "more");
        turn_after(5 * USEC_PER_SEC);
    }
    ck_assert_uint_eq(closed(), 0);
    WAIT_FOR((turn_after(5 * USEC_PER_SEC), closed_as(REASON_FAULT) == 1));
    expect_end(client);
    close(client);
}

static const uint64_t steps[] = {0, 10000};

/* A client that does not take the last bytes before the RST has the time that others have, also in a worker
 * that is slow. */
TEST_EACH(reset_waits_for_the_client, steps)
{
    static char bytes[1 << 16];
    clock_move_at_each_look(*c);
    config.service = service_find("chargen");
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    faults.limit = 8 << 20;
    faults.end = MISBEHAVIOUR_RESET;
    int client = serve(&config);
    size_t have = 0;
    ssize_t r = 0;
    while (r >= 0 || errno == EAGAIN) {
        turn_after(USEC_PER_MSEC);
        r = recv(client, bytes, sizeof bytes, MSG_DONTWAIT);
        have += r > 0 ? (size_t)r : 0;
    }
    ck_assert_int_eq(errno, ECONNRESET);
    ck_assert_uint_eq(have, faults.limit);
    ck_assert_uint_eq(closed_as(REASON_FAULT), 1);
    close(client);

    faults.limit = 1 << 20;
    client = serve(&config);
    for (int i = 0; i < 100 && closed() == 1; i++)
        turn_after(USEC_PER_SEC);
    ck_assert_uint_eq(closed_as(REASON_FAULT), 2);
    close(client);
}

/* However long it takes for them, while it takes some. */
TEST(reset_waits_for_a_slow_client)
{
    static char bytes[1 << 16];
    config.service = service_find("chargen");
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    faults.limit = 8 << 20;
    faults.end = MISBEHAVIOUR_RESET;
    int client = serve(&config);
    size_t have = 0;
    for (ssize_t r = 1; r > 0; have += r > 0 ? (size_t)r : 0) {
        turn_after(2 * USEC_PER_SEC);
        r = recv(client, bytes, sizeof bytes, 0);
    }
    ck_assert_uint_eq(have, faults.limit);
    ck_assert_int_eq(errno, ECONNRESET);
    TURN_UNTIL_CLOSED(REASON_FAULT, 1);
    close(client);
}

TEST(deaf)
{
    faults.deaf = true;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    turn_and_expect_nothing(client);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 0);
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_RESET, 1);

    client = serve(&config);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);

    client = serve(&config);
    send_and_arrive(client, "hello");
    turn_and_drain();
    turn_and_expect_end(client);
    leave(client, REASON_DRAINED, 1);
}

/* It has ended, and still reads nothing. */
static const enum misbehaviour_end ends_that_stay[] = {MISBEHAVIOUR_HALF_CLOSE, MISBEHAVIOUR_HANG};

TEST_EACH(deaf_to_the_last, ends_that_stay)
{
    faults.deaf = true;
    faults.after = DELAY;
    faults.end = *c;
    config.idle_timeout_usec = 2 * DELAY;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    turn_after(DELAY + USEC_PER_SEC);
    turn();
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 0);
    ck_assert_uint_eq(closed(), 0);
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_FAULT, 1);

    client = serve(&config);
    turn_after(DELAY + USEC_PER_SEC);
    turn();
    ck_assert_uint_eq(closed(), 1);
    leave(client, REASON_FAULT, 2);

    client = serve(&config);
    send_and_arrive(client, "hello");
    turn_after(DELAY + USEC_PER_SEC);
    turn_and_drain();
    turn_and_expect_end(client);
    leave(client, REASON_FAULT, 3);
}

TEST(silent)
{
    faults.silent = true;
    config.params.greeting = "hello";
    config.params.greeting_length = 5;
    config.params.end_word = "end";
    config.params.end_word_length = 3;
    int client = serve(&config);
    send_and_arrive(client, "hello\n");
    turn_and_expect_nothing(client);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 6);
    send_text(client, "end\n");
    turn_and_expect_end(client);
    leave(client, REASON_END_WORD, 1);
}

/* The worker would sleep now. */
static void expect_rest(void)
{
    struct epoll_event ready[8];
    int count = epoll_wait(rig.worker.loop.epoll_fd, ready, COUNT_OF(ready), 0);
    ck_assert_int_le(count, 1);
    ck_assert(count <= 0 || ready[0].data.ptr == &rig.worker.loop.wake_source);
}

static const char *const services_that_speak[] = {"chargen", "daytime", "time", "whoami"};

TEST_EACH(silent_services_that_speak_do_not_turn_for_nothing, services_that_speak)
{
    config.service = service_find(*c);
    faults.silent = true;
    int client = serve(&config);
    turn_and_expect_nothing(client);
    expect_rest();
    leave(client, REASON_CLIENT_CLOSED, 1);
}

/* The end is held, and what the client says meanwhile is not for the service. */
TEST(what_comes_before_an_end_that_is_held)
{
    config.service = service_find("daytime");
    faults.delay = DELAY;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    turn_and_expect_nothing(client);
    expect_rest();
    shutdown(client, SHUT_WR);
    turn_and_expect_nothing(client);
    expect_rest();
    turn_after(DELAY + TIMER_TICK_USEC);
    char text[100];
    ck_assert_uint_gt(turn_and_receive(client, text, sizeof text), 20);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
    close(client);
}

TEST(pieces_take_turns)
{
    static char bytes[1000], sent[1001];
    faults.slice = 1;
    memset(sent, 's', sizeof sent - 1);
    int client = serve(&config);
    send_and_arrive(client, sent);
    turn();
    ssize_t first = recv(client, bytes, sizeof bytes, 0);
    ck_assert(first > 0 && first < 200);
    ck_assert_uint_eq((size_t)first + turn_and_receive(client, bytes + first, sizeof bytes - (size_t)first),
                      sizeof bytes);
    leave(client, REASON_CLIENT_CLOSED, 1);
}

static const char *const shortages[] = {"malloc:ENOMEM:1", "malloc:ENOMEM:2"};

TEST_EACH(memory_is_short, shortages)
{
    faults.delay = DELAY;
    faults.repeat = 1;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    fault_rules(*c);
    turn();
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    close(client);
}

/* What is to be repeated at the end finds no room. */
TEST(memory_is_short_at_the_end)
{
    faults.repeat = 1;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    turn();
    shutdown(client, SHUT_WR);
    WAIT_FOR((fault_rules("malloc:ENOMEM:1"), turn(), fault_disarm(), closed_as(REASON_ERROR) == 1));
    close(client);
}

/* As a restart does it: the descriptor goes on, and what is held with it. `rules` are of faults meanwhile. */
static void hand_over_under(const char *rules)
{
    struct new_client client;
    struct progress progress;
    struct connection *c = CONTAINER_OF(rig.worker.connections.next, struct connection, link);
    connection_save(c, &client, &progress);
    client.fd = dup(client.fd);
    client.config = service_config_ref(client.config);
    client.network = &rig.source;
    client.progress = progress_copy(&progress);
    ck_assert_ptr_nonnull(client.progress);
    atomic_fetch_add(&rig.source.connections, 1);
    rig.opened++;
    connection_close(c, REASON_NOT_RESUMED, 0);
    rig.server = client.fd;
    fault_rules(rules);
    connection_open(&rig.worker, &client);
    fault_disarm();
}

static void hand_over(void)
{
    hand_over_under("");
}

TEST(another_process_goes_on)
{
    faults.delay = DELAY;
    faults.repeat = 1;
    faults.limit = 140;
    static const char piece[] = "0123456789012345678901234567890123456789012345678901234567890123";
    char wanted[141];
    int client = serve(&config);
    send_and_arrive(client, "0123456789");
    turn();
    hand_over();
    turn();
    send_and_arrive(client, piece + 10);
    turn();
    send_and_arrive(client, "and more");
    turn();
    hand_over();
    turn_and_expect_nothing(client);
    turn_after(DELAY + TIMER_TICK_USEC);
    snprintf(wanted, sizeof wanted, "%s%sand more", piece, piece);
    turn_and_expect(client, wanted);
    send_and_arrive(client, " and more");
    turn();
    hand_over();
    turn_after(DELAY + TIMER_TICK_USEC);
    turn_and_expect(client, " and");
    turn_and_expect_end(client);
    leave(client, REASON_FAULT, 1);
}

/* For the connection, for what is held, and for what is to be repeated. */
static const char *const shortages_of_another_process[] = {"malloc:ENOMEM:1", "malloc:ENOMEM:2",
                                                           "malloc:ENOMEM:3"};

TEST_EACH(another_process_is_short_of_memory, shortages_of_another_process)
{
    faults.delay = DELAY;
    faults.repeat = 1;
    int client = serve(&config);
    send_and_arrive(client, "hello");
    turn();
    hand_over_under(*c);
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    expect_end(client);
    close(client);
}

TEST_EACH(another_process_goes_on_after_the_end, ends)
{
    faults.limit = 3;
    faults.end = c->end;
    if (c->end == MISBEHAVIOUR_RESET)
        return;
    config.idle_timeout_usec = DELAY;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hel");
    hand_over();
    expect_end_of(client, c->end);
}

/* Before the RST, which is to come when the client has all. */
TEST(another_process_resets)
{
    static char bytes[1 << 20];
    faults.limit = sizeof bytes;
    faults.end = MISBEHAVIOUR_RESET;
    config.service = service_find("chargen");
    int client = serve_small(&config, 4096);
    for (int i = 0; i < 5; i++)
        turn_after(USEC_PER_MSEC);
    hand_over();
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof bytes);
    WAIT_FOR((turn_after(USEC_PER_MSEC), closed_as(REASON_FAULT) == 1));
    ck_assert_int_eq(turn_until_end(client), ECONNRESET);
    close(client);
}

TEST(log_names_the_fault)
{
    faults.limit = 1;
    capture(LOG_LEVEL_INFO);
    int client = serve(&config);
    send_text(client, "xy");
    turn_and_expect(client, "x");
    turn_and_expect_end(client);
    leave(client, REASON_FAULT, 1);
    const char *text = written();
    be_quiet();
    expect_in(text, "closed: fault: limit, echo");
}
