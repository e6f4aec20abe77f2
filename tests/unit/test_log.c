/* The ring, the writer and the rate, with stderr as the sink. The sinks: test_log_sink.c, test_log_journal.c.
 */
#include "log_fixture.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

FIXTURE(setup, teardown)

TEST(levels)
{
    log_event(&own, LOG_LEVEL_DEBUG, NULL, 0, "hidden");
    ck_assert(!log_enabled(LOG_LEVEL_DEBUG));
    ck_assert_int_eq(log_start(), 0);
    configure(LOG_LEVEL_DEBUG, 0); /* as a reload does */
    ck_assert(log_enabled(LOG_LEVEL_DEBUG));
    log_event(&own, LOG_LEVEL_DEBUG, NULL, 0, "shown");
    configure(LOG_LEVEL_ERROR, 0);
    log_event(&own, LOG_LEVEL_WARNING, NULL, 0, "hidden");
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lines_with("shown"), 1);
    ck_assert_uint_eq(lines_with("hidden"), 0);
}

TEST(order_is_kept)
{
    ck_assert_int_eq(log_start(), 0);
    ck_assert_int_eq(log_start(), -EBUSY);
    for (int i = 0; i < 1000; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "number %d.", i);
    log_stop(5 * USEC_PER_SEC);
    log_stop(0); /* stopped already */
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "number 1000.");

    const char *at = output();
    for (int i = 0; i <= 1000; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, " info: number %d.\n", i);
        const char *line = strstr(at, expected);
        ck_assert_msg(line && line == strchr(at, ' '), "%s", expected);
        at = strchr(line, '\n') + 1;
    }
    ck_assert_uint_eq(lost(), 0);
}

static void *shout(void *number)
{
    for (int i = 0; i < 200; i++)
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "thread %d says %d.", *(int *)number, i);
    return NULL;
}

TEST(any_thread_may_log)
{
    pthread_t threads[4];
    int numbers[4];
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20), 1 << 20);
    configure(LOG_LEVEL_INFO, 100);
    begin_second();
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 4; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, shout, &numbers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    log_stop(5 * USEC_PER_SEC);

    /* A loaded machine may need more than a second for it: then there are several notices. */
    unsigned held = 0;
    for (const char *at = output(); (at = strstr(at, "notice: ")); at++)
        held += (unsigned)atoi(at + strlen("notice: "));
    ck_assert_uint_eq(lines_with(" says ") + held, 800);
    ck_assert_uint_ge(held, 1);
    ck_assert_uint_eq(lost(), 0);
}

TEST(full_pipe_loses_and_counts)
{
    fill_pipe();
    ck_assert_int_eq(log_start(), 0);
    /* Were each of these to wait, Check would end the test first. */
    for (int i = 0; i < 3000; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "number %d.", i);
    uint64_t dropped = lost();
    ck_assert_uint_eq(dropped, 3000 - 1024);

    drain_junk();
    char notice[64];
    snprintf(notice, sizeof notice, "warning: %u messages were lost", (unsigned)dropped);
    wait_for(notice); /* though nothing follows */
    ck_assert_uint_eq(lines_with("number"), 1024);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "afterwards");
    log_stop(5 * USEC_PER_SEC);
    ck_assert_ptr_nonnull(strstr(output(), "afterwards"));
    ck_assert_uint_eq(lines_with("lost"), 1);
    ck_assert_uint_eq(lost(), dropped);
}

TEST(loss_is_told_in_its_place)
{
    fill_pipe();
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 1025; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "early");
    ck_assert_uint_eq(lost(), 1);
    drain_junk();
    wait_for("early"); /* a slot is free: the next message carries the count */
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "late");
    wait_for("late");
    log_stop(USEC_PER_SEC);
    const char *notice = strstr(text, "1 message was lost");
    ck_assert_ptr_nonnull(notice);
    ck_assert(notice < strstr(text, "late"));
    ck_assert_ptr_null(strstr(notice, "early"));
}

TEST(frozen_reader_does_not_hold_up_a_stop)
{
    fill_pipe();
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 10; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "never read");
    uint64_t start = clock_monotonic_usec();
    log_stop(100 * USEC_PER_MSEC);
    ck_assert_uint_ge(since(start), 99 * USEC_PER_MSEC);
    ck_assert_uint_eq(lost(), 10);

    for (int i = 0; i < MANY_WAITS; i++)
        log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "nor this");
    ck_assert_uint_eq(lost(), 10 + MANY_WAITS);

    drain_junk();
    log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "but this");
    output();
    ck_assert_ptr_nonnull(strstr(text, "310 messages were lost"));
    ck_assert_ptr_nonnull(strstr(text, "error: but this"));
}

TEST(rate_bounds_clients)
{
    configure(LOG_LEVEL_INFO, 5);
    for (int i = 0; i < 7; i++)
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "unbounded"); /* no writer */
    ck_assert_uint_eq(lines_with("unbounded"), 7);

    ck_assert_int_eq(log_start(), 0);
    begin_second();
    for (int i = 0; i < 20; i++) {
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "client %d.", i);
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "own %d.", i);
    }
    wait_for("notice: 15 messages held back by log.rate = 5 a second\n"); /* no message follows */
    ck_assert_uint_eq(lines_with("client"), 5);
    ck_assert_uint_eq(lines_with("own"), 20);

    /* What is held back when the rate changes, or at the stop, is not forgotten. */
    begin_second();
    for (int i = 0; i < 6; i++)
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "again");
    configure(LOG_LEVEL_INFO, 2);
    wait_for("notice: 1 message held back by log.rate = 5 a second\n");
    for (int i = 0; i < 6; i++)
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "at last");
    log_stop(USEC_PER_SEC);
    ck_assert_ptr_nonnull(strstr(output(), "messages held back by log.rate = 2 a second\n"));
    ck_assert_uint_eq(lost(), 0);
}

TEST(held_back_notice_can_be_lost)
{
    configure(LOG_LEVEL_INFO, 1);
    ck_assert_int_eq(log_start(), 0);
    begin_second();
    log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "first");
    wait_for("first");
    fd_close(&reader);
    for (int i = 0; i < 5; i++)
        log_event(&clients, LOG_LEVEL_INFO, NULL, 0, "held");
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lost(), 1);
}

TEST(start_can_fail)
{
    fault_arm("pthread_create", EAGAIN, 1);
    int r = log_start();
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
    fault_arm("pthread_sigmask", EINVAL, 1);
    r = log_start();
    fault_disarm();
    ck_assert_int_eq(r, -EINVAL);
    fault_arm("sigaction", EINVAL, 1);
    r = log_start();
    fault_disarm();
    ck_assert_int_eq(r, -EINVAL);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "still here");
    ck_assert_uint_eq(lines_with("still here"), 1);
}

TEST(writer_takes_no_signal)
{
    sigset_t set, former;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &set, &former), 0);
    ck_assert_int_eq(log_start(), 0);
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0); /* would end the process in a thread that lets it in */
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "alive");
    wait_for("alive");
    log_stop(USEC_PER_SEC);
    ck_assert_int_eq(sigtimedwait(&set, NULL, &(struct timespec){0}), SIGUSR1);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &former, NULL), 0);
}

/* Those of this process, a directory for each (proc(5)); a sanitizer may have one of its own. */
static unsigned threads(void)
{
    struct stat tasks;
    return stat("/proc/self/task", &tasks) == 0 ? (unsigned)tasks.st_nlink - 2 : 0;
}

/* In a process of its own: a writer left behind stays. Returns the exit status, the number of the check that
 * failed. */
static int leave_writer_behind(void)
{
    uint64_t before = log_lost();
    if (log_start() < 0)
        return 1;
    unsigned with_writer = threads();
    fault_rules("write@other:sleep=60000"); /* no signal ends it: a dead disk */
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "stuck");
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "behind it");
    uint64_t start = clock_monotonic_usec();
    log_stop(10 * USEC_PER_MSEC);
    if (since(start) > 5 * USEC_PER_SEC)
        return 2;
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "nothing blocks");
    if (log_lost() - before != 3)
        return 3;
    if (log_start() != -EBUSY)
        return 4;
    fault_disarm(); /* the disk is back: the thread goes its way */
    for (int i = 0; i < PATIENCE_MSEC && threads() >= with_writer; i++)
        nap();
    return threads() < with_writer ? 0 : 5;
}

TEST(uninterruptible_writer_is_left_behind)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        exit(leave_writer_behind());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}
