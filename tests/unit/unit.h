/* Tests that run without being listed anywhere, and the clock that they move. */
#pragma once

#include <check.h>
#include <stdint.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

struct unit_test {
    const TTest *test;
    int times;
    struct unit_test *next;
};

/* Before main(). */
void unit_register(struct unit_test *test);
void unit_set_fixture(SFun before, SFun after);

/* Runs all that were registered, each in a process of its own. Returns the exit status. A test without a
 * main() has one that calls this. */
int unit_run(void);

/* Moves CLOCK_MONOTONIC on, as this process reads it, or back where the sum wraps. What the kernel times by
 * itself, such as epoll_wait(2), takes as long as ever. */
void clock_move(uint64_t usec);

/* From now on each look at the clock moves it on by this time; 0: by none. */
void clock_move_at_each_look(uint64_t usec);

/* The true time again, which Check wants to measure. */
void clock_reset(void);

#define UNIT_REGISTER(name, count, call)                                                                     \
    static void name##_fn(int _i CK_ATTRIBUTE_UNUSED)                                                        \
    {                                                                                                        \
        call;                                                                                                \
        clock_reset();                                                                                       \
    }                                                                                                        \
    static const TTest name##_ttest = {#name, name##_fn, __FILE__, __LINE__};                                \
    static struct unit_test name##_unit = {&name##_ttest, (int)(count), NULL};                               \
    __attribute__((constructor)) static void name##_register(void)                                           \
    {                                                                                                        \
        unit_register(&name##_unit);                                                                         \
    }

/* TEST(name) { ... } */
#define TEST(name)                                                                                           \
    static void name(void);                                                                                  \
    UNIT_REGISTER(name, 1, name())                                                                           \
    static void name(void)

/* TEST_EACH(name, table) { ... c->field ... }: once for each row of an array, which the report numbers. */
#define TEST_EACH(name, table)                                                                               \
    static void name(const __typeof__((table)[0]) *c);                                                       \
    UNIT_REGISTER(name, COUNT_OF(table), name(&(table)[_i]))                                                 \
    static void name(const __typeof__((table)[0]) *c)

/* TEST_TIMES(name, count) { ... variant ... }: once for each number under `count`. */
#define TEST_TIMES(name, count)                                                                              \
    static void name(int variant);                                                                           \
    UNIT_REGISTER(name, count, name(_i))                                                                     \
    static void name(int variant)

/* Before and after each test of the file; NULL: nothing. */
#define FIXTURE(before, after)                                                                               \
    __attribute__((constructor)) static void unit_fixture(void)                                              \
    {                                                                                                        \
        unit_set_fixture(before, after);                                                                     \
    }
