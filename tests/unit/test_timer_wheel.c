#include "base/timer_wheel.h"

#include "base/clock.h"
#include "common.h"

#define TICK TIMER_TICK_USEC

static struct timer_wheel wheel;

static void never(struct timer *timer)
{
    (void)timer;
    ck_abort_msg("the wheel fires nothing by itself");
}

static unsigned length_of(const struct list *list)
{
    unsigned length = 0;
    LIST_FOR_EACH(item, list)
    {
        length++;
    }
    return length;
}

/* Advances and disarms what is due; returns how many there were. */
static unsigned advance(uint64_t now)
{
    struct list due;
    list_init(&due);
    timer_wheel_advance(&wheel, now, &due);
    unsigned count = length_of(&due);
    while (!list_is_empty(&due))
        timer_disarm(CONTAINER_OF(due.next, struct timer, link));
    return count;
}

TEST(list_keeps_order)
{
    struct list head, other, a, b, c;
    list_init(&head);
    list_init(&other);
    ck_assert(list_is_empty(&head));
    list_append(&head, &a);
    list_append(&head, &b);
    list_append(&other, &c);
    ck_assert(!list_is_empty(&head));
    ck_assert_ptr_eq(head.next, &a);
    ck_assert_ptr_eq(head.prev, &b);

    list_splice(&head, &other);
    ck_assert(list_is_empty(&other));
    ck_assert_ptr_eq(b.next, &c);
    ck_assert_ptr_eq(head.prev, &c);
    ck_assert_ptr_eq(c.next, &head);
    list_splice(&head, &other); /* nothing to move */
    ck_assert_uint_eq(length_of(&head), 3);

    unsigned seen = 0;
    LIST_FOR_EACH(item, &head)
    {
        seen++;
        list_remove(item);
        list_remove(item); /* a ring of its own by now */
    }
    ck_assert_uint_eq(seen, 3);
    ck_assert(list_is_empty(&head));
    ck_assert(list_is_empty(&b));
}

TEST(container_is_found)
{
    struct timer timer;
    ck_assert_ptr_eq(CONTAINER_OF(&timer.tick, struct timer, tick), &timer);
}

TEST(empty_wheel_waits_for_ever)
{
    timer_wheel_init(&wheel, 12345678);
    ck_assert(timer_wheel_next_usec(&wheel) == USEC_NEVER);
    ck_assert_uint_eq(advance(UINT64_C(1) << 60), 0);
    ck_assert(timer_wheel_next_usec(&wheel) == USEC_NEVER);
}

TEST(fires_at_the_tick_behind_the_deadline)
{
    struct timer timer;
    timer_wheel_init(&wheel, 100 * TICK);
    timer_init(&timer, never);
    ck_assert(!timer_is_armed(&timer));
    timer_wheel_arm(&wheel, &timer, 103 * TICK + 1);
    ck_assert(timer_is_armed(&timer));
    ck_assert(timer_wheel_next_usec(&wheel) == 104 * TICK);
    ck_assert_uint_eq(advance(103 * TICK + 1), 0);
    ck_assert_uint_eq(advance(104 * TICK - 1), 0);
    ck_assert_uint_eq(advance(104 * TICK), 1);
    ck_assert(!timer_is_armed(&timer));

    timer_wheel_arm(&wheel, &timer, 110 * TICK); /* on a tick: no later */
    ck_assert_uint_eq(advance(110 * TICK - 1), 0);
    ck_assert_uint_eq(advance(110 * TICK), 1);
}

TEST(past_deadline_fires_next)
{
    struct timer timer;
    timer_wheel_init(&wheel, 1000 * TICK);
    timer_init(&timer, never);
    timer_wheel_arm(&wheel, &timer, 3);
    ck_assert(timer_wheel_next_usec(&wheel) <= 1000 * TICK);
    ck_assert_uint_eq(advance(1000 * TICK), 1);
}

TEST(disarms_and_moves)
{
    struct timer timer;
    timer_wheel_init(&wheel, 0);
    timer_init(&timer, never);
    timer_disarm(&timer); /* not armed: nothing to do */
    timer_wheel_arm(&wheel, &timer, 10 * TICK);
    timer_disarm(&timer);
    ck_assert(!timer_is_armed(&timer));
    ck_assert_uint_eq(advance(20 * TICK), 0);

    timer_wheel_arm(&wheel, &timer, 30 * TICK);
    timer_wheel_arm(&wheel, &timer, 500 * TICK);
    ck_assert_uint_eq(advance(499 * TICK), 0);
    timer_wheel_arm(&wheel, &timer, USEC_NEVER);
    ck_assert(!timer_is_armed(&timer));
    ck_assert_uint_eq(advance(1000 * TICK), 0);
    ck_assert(timer_wheel_next_usec(&wheel) == USEC_NEVER);
}

TEST(due_timer_can_be_disarmed)
{
    struct timer one, two;
    struct list due;
    timer_wheel_init(&wheel, 0);
    timer_init(&one, never);
    timer_init(&two, never);
    timer_wheel_arm(&wheel, &one, TICK);
    timer_wheel_arm(&wheel, &two, TICK);
    list_init(&due);
    timer_wheel_advance(&wheel, 2 * TICK, &due);
    ck_assert_uint_eq(length_of(&due), 2);
    timer_disarm(&two);
    ck_assert_uint_eq(length_of(&due), 1);
    ck_assert_ptr_eq(due.next, &one.link);
}

/* Each level, its first and last slot, and beyond the last level. */
TEST(every_distance)
{
    static const uint64_t starts[] = {
        0, 1, 63, 64, 4095, 4096 * 64 - 1, (UINT64_C(1) << 36) - 2, UINT64_C(1) << 40};
    for (size_t s = 0; s < COUNT_OF(starts); s++) {
        for (unsigned bit = 0; bit < 44; bit++) {
            for (int delta = -1; delta <= 1; delta++) {
                uint64_t distance = (UINT64_C(1) << bit) + (uint64_t)delta;
                uint64_t deadline = (starts[s] + distance) * TICK;
                struct timer timer;
                timer_wheel_init(&wheel, starts[s] * TICK);
                timer_init(&timer, never);
                timer_wheel_arm(&wheel, &timer, deadline);
                ck_assert(timer_wheel_next_usec(&wheel) <= deadline);
                if (distance > 0)
                    ck_assert_uint_eq(advance(deadline - 1), 0);
                ck_assert_uint_eq(advance(deadline), 1);
            }
        }
    }
}

/* A caller that sleeps as the wheel says is never late, and is not woken more often than once a level. */
TEST(sleeping_as_told)
{
    struct timer timer;
    const uint64_t deadline = UINT64_C(987654321987);
    timer_wheel_init(&wheel, 0);
    timer_init(&timer, never);
    timer_wheel_arm(&wheel, &timer, deadline);
    unsigned wakes = 0;
    uint64_t now = 0, fired = 0;
    while (!fired && wakes < 100) {
        now = timer_wheel_next_usec(&wheel);
        wakes++;
        if (advance(now) == 1)
            fired = now;
    }
    ck_assert_uint_eq(fired, (deadline + TICK - 1) / TICK * TICK);
    ck_assert_uint_le(wakes, TIMER_LEVELS);
}

#define MANY 300

struct noted {
    struct timer timer;
    uint64_t deadline; /* 0: not armed */
};

/* Against the simplest thing that can work: looking at all deadlines. */
TEST(random_against_a_list)
{
    static struct noted noted[MANY];
    uint64_t random = 20261121, now = UINT64_C(77777777777);
    timer_wheel_init(&wheel, now);
    for (unsigned i = 0; i < MANY; i++) {
        timer_init(&noted[i].timer, never);
        noted[i].deadline = 0;
    }
    for (unsigned step = 0; step < 30000; step++) {
        struct noted *one = &noted[next_random(&random) % MANY];
        uint64_t reach = UINT64_C(1) << next_random(&random) % 45;
        if (next_random(&random) % 4 == 0) {
            timer_disarm(&one->timer);
            one->deadline = 0;
        } else {
            one->deadline = now + next_random(&random) % reach;
            timer_wheel_arm(&wheel, &one->timer, one->deadline);
        }
        if (next_random(&random) % 3 > 0)
            continue;

        now += next_random(&random) % (UINT64_C(1) << next_random(&random) % 40);
        uint64_t first = USEC_NEVER;
        for (unsigned i = 0; i < MANY; i++)
            if (noted[i].deadline && noted[i].deadline < first)
                first = noted[i].deadline;
        if (first != USEC_NEVER)
            ck_assert(timer_wheel_next_usec(&wheel) <= first + TICK);

        struct list due;
        list_init(&due);
        timer_wheel_advance(&wheel, now, &due);
        while (!list_is_empty(&due)) {
            struct noted *fired = CONTAINER_OF(due.next, struct noted, timer.link);
            timer_disarm(&fired->timer);
            ck_assert(fired->deadline && fired->deadline <= now);
            fired->deadline = 0;
        }
        unsigned wrong = 0; /* left behind, or lost */
        for (unsigned i = 0; i < MANY; i++) {
            wrong += noted[i].deadline && noted[i].deadline <= now / TICK * TICK;
            wrong += timer_is_armed(&noted[i].timer) != (noted[i].deadline != 0);
        }
        ck_assert_uint_eq(wrong, 0);
    }
}
