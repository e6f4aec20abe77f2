#include "client/interrupt.h"

#include "common.h"
#include "faults.h"

#include <signal.h>
#include <sys/wait.h>

static bool is_blocked(int number)
{
    sigset_t set;
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
    return sigismember(&set, number) == 1;
}

START_TEST(taken)
{
    int fd = interrupt_open();
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(interrupt_take(fd), 0);
    ck_assert(is_blocked(SIGINT) && is_blocked(SIGTERM));
    ck_assert_int_eq(raise(_i), 0);
    ck_assert(becomes_readable(fd));
    ck_assert_int_eq(interrupt_take(fd), _i);
    /* The next one is the end. */
    ck_assert(!is_blocked(SIGINT) && !is_blocked(SIGTERM));
    ck_assert_int_eq(interrupt_take(fd), 0);
    close(fd);
}
END_TEST

START_TEST(dies)
{
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        int fd = interrupt_open();
        raise(SIGINT);
        interrupt_die(interrupt_take(fd));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGINT);
}
END_TEST

START_TEST(fails)
{
    fault_arm("pthread_sigmask", EINVAL, 0);
    int blocking = interrupt_open();
    fault_disarm();
    ck_assert_int_eq(blocking, -EINVAL);
    fault_arm("signalfd", EMFILE, 0);
    int opening = interrupt_open();
    fault_disarm();
    ck_assert_int_eq(opening, -EMFILE);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("interrupt");
    tcase_add_loop_test(tests, taken, SIGINT, SIGINT + 1);
    tcase_add_loop_test(tests, taken, SIGTERM, SIGTERM + 1);
    tcase_add_test(tests, dies);
    tcase_add_test(tests, fails);
    return run_case(tests);
}
