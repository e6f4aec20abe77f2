#include "base/event_set.h"

#include "loop_fixture.h"

#define COUNT 5

static struct event_set set;
static struct probe probes[COUNT];

static void start(void)
{
    start_loop();
    ck_assert_int_eq(event_set_init(&set, &loop), 0);
    for (int i = 0; i < COUNT; i++) {
        probe_open(&probes[i], 1);
        ck_assert_int_eq(event_set_add(&set, &probes[i].source), 0);
    }
}

static void remove_probe(struct probe *probe)
{
    if (probe->source.fd < 0)
        return;
    event_set_remove(&set, &probe->source);
    close(probe->source.fd);
    probe->source.fd = -1;
}

static void stop(void)
{
    for (int i = 0; i < COUNT; i++)
        remove_probe(&probes[i]);
    event_set_deinit(&set);
    stop_loop();
}

FIXTURE(start, stop)

static unsigned all_calls(void)
{
    unsigned sum = 0;
    for (int i = 0; i < COUNT; i++)
        sum += probes[i].calls;
    return sum;
}

TEST(every_ready_source_has_a_turn)
{
    for (unsigned turns = 1; turns <= 3; turns++) {
        turn();
        for (int i = 0; i < COUNT; i++) {
            ck_assert_uint_eq(probes[i].calls, turns);
            ck_assert_uint_eq(probes[i].events, EPOLLIN);
        }
    }
    uint64_t count;
    ck_assert_int_eq(read(probes[0].source.fd, &count, sizeof count), sizeof count);
    turn();
    ck_assert_uint_eq(probes[0].calls, 3);
    ck_assert_uint_eq(probes[1].calls, 4);
}

TEST(pause_costs_one_call)
{
    fault_rules("epoll_ctl:count");
    int off = event_set_poll(&set, false), again = event_set_poll(&set, false);
    unsigned long calls = fault_disarm();
    ck_assert_int_eq(off, 0);
    ck_assert_int_eq(again, 0);
    ck_assert_uint_eq(calls, 1);
    struct probe late;
    probe_open(&late, 1);
    ck_assert_int_eq(event_set_add(&set, &late.source), 0);
    turn();
    ck_assert_uint_eq(all_calls() + late.calls, 0);
    ck_assert_int_eq(event_set_poll(&set, true), 0);
    turn();
    ck_assert_uint_eq(all_calls(), COUNT);
    ck_assert_uint_eq(late.calls, 1);
    remove_probe(&late);
}

static void pause_set(struct probe *probe)
{
    (void)probe;
    ck_assert_int_eq(event_set_poll(&set, false), 0);
}

/* Each call pauses the set: nobody is called twice before all have been. */
TEST(pauses_are_fair)
{
    for (int i = 0; i < COUNT; i++)
        probes[i].also = pause_set;
    for (unsigned turns = 1; turns <= 3 * COUNT; turns++) {
        ck_assert_int_eq(event_set_poll(&set, true), 0);
        turn();
        ck_assert_uint_eq(all_calls(), turns);
        for (int i = 0; i < COUNT; i++)
            ck_assert_uint_le(probes[i].calls, (turns + COUNT - 1) / COUNT);
    }
}

/* Whoever is called first takes its neighbour out. */
static void remove_next(struct probe *probe)
{
    remove_probe(&probes[(probe - probes + 1) % COUNT]);
    for (int i = 0; i < COUNT; i++)
        probes[i].also = NULL;
}

TEST(removed_source_hears_nothing_more)
{
    for (int i = 0; i < COUNT; i++)
        probes[i].also = remove_next;
    turn();
    ck_assert_uint_eq(all_calls(), COUNT - 1);
    turn();
    ck_assert_uint_eq(all_calls(), 2 * (COUNT - 1));
}

TEST(failing_calls)
{
    struct event_set other;
    fault_arm("epoll_create1", EMFILE, 1);
    int created = event_set_init(&other, &loop);
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    int registered = event_set_init(&other, &loop);
    fault_arm("epoll_ctl_add", ENOMEM, 1);
    int added = event_set_add(&set, &probes[0].source);
    fault_arm("epoll_ctl_mod", ENOMEM, 1);
    int paused = event_set_poll(&set, false);
    fault_disarm();
    ck_assert_int_eq(created, -EMFILE);
    ck_assert_int_eq(registered, -ENOSPC);
    ck_assert_int_eq(added, -ENOMEM);
    ck_assert_int_eq(paused, -ENOMEM);
    turn(); /* polled as before */
    ck_assert_uint_eq(all_calls(), COUNT);

    unsigned long hits;
    ck_assert_int_eq(turn_under("epoll_wait:EINTR:2", &hits), 0); /* the first is the loop's */
    ck_assert_uint_eq(all_calls(), COUNT);
    turn();
    ck_assert_uint_eq(all_calls(), 2 * COUNT);
}
