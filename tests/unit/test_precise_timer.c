#include "client/net/precise_timer.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

static struct event_loop loop;
static struct precise_timer timer;
static unsigned fired;
static uint64_t fired_nsec;

static void on_fire(struct precise_timer *which)
{
    ck_assert_ptr_eq(which, &timer);
    fired++;
    fired_nsec = clock_monotonic_nsec();
    event_loop_quit(&loop);
}

static void set_up(void)
{
    fired = 0;
    ck_assert_int_eq(event_loop_init(&loop, NULL), 0);
    ck_assert_int_eq(precise_timer_init(&timer, &loop, on_fire), 0);
}

static void tear_down(void)
{
    precise_timer_deinit(&timer);
    event_loop_deinit(&loop);
}

FIXTURE(set_up, tear_down)

TEST(goes_off_once_and_not_before)
{
    uint64_t at = clock_monotonic_nsec() + 2500 * NSEC_PER_USEC;
    precise_timer_arm(&timer, at);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(fired, 1);
    ck_assert_uint_ge(fired_nsec, at);
    uint64_t expirations;
    ck_assert_int_eq(read(timer.source.fd, &expirations, sizeof expirations), -1);
    ck_assert_int_eq(errno, EAGAIN);
}

TEST(what_is_past_is_due_at_once)
{
    precise_timer_arm(&timer, 1);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(fired, 1);
}

static void later(struct timer *unused)
{
    (void)unused;
    event_loop_quit(&loop);
}

TEST(the_last_word_counts)
{
    struct timer end;
    timer_init(&end, later);
    precise_timer_arm(&timer, 1);
    precise_timer_arm(&timer, 0);
    event_loop_arm(&loop, &end, clock_monotonic_usec() + 1000);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(fired, 0);
}

/* An event that is handed out when it no longer holds. */
TEST(armed_anew_between_event_and_hand_out)
{
    precise_timer_arm(&timer, 1);
    ck_assert(becomes_readable(timer.source.fd));
    precise_timer_arm(&timer, clock_monotonic_nsec() + 3600 * NSEC_PER_SEC);
    timer.source.ready(&timer.source, EPOLLIN);
    ck_assert_uint_eq(fired, 0);
}

TEST(no_descriptor_no_timer)
{
    struct precise_timer other;
    unsigned before = open_descriptors();
    fault_arm("timerfd_create", EMFILE, 0);
    int r = precise_timer_init(&other, &loop, on_fire);
    fault_disarm();
    ck_assert_int_eq(r, -EMFILE);
    fault_arm("epoll_ctl_add", ENOSPC, 0);
    r = precise_timer_init(&other, &loop, on_fire);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_uint_eq(open_descriptors(), before);
}
