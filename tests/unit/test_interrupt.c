#include "client/process/interrupt.h"

#include "common.h"
#include "faults.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static bool is_fatal(int number)
{
    struct sigaction action;
    ck_assert_int_eq(sigaction(number, NULL, &action), 0);
    return action.sa_handler == SIG_DFL;
}

static const int numbers[] = {SIGINT, SIGTERM};

TEST_EACH(taken, numbers)
{
    int fd = interrupt_open();
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(interrupt_take(fd), 0);
    ck_assert_int_eq(interrupt_number(), 0);
    ck_assert(!is_fatal(SIGINT) && !is_fatal(SIGTERM));
    ck_assert_int_eq(raise(*c), 0);
    ck_assert(becomes_readable(fd));
    ck_assert_int_eq(interrupt_number(), *c);
    /* The next one is the end, whether or not anybody has looked. */
    ck_assert(is_fatal(SIGINT) && is_fatal(SIGTERM));
    ck_assert_int_eq(interrupt_take(fd), *c);
    ck_assert_int_eq(interrupt_take(fd), 0);
    ck_assert_int_eq(interrupt_number(), *c);
    close(fd);
}

/* As often as it comes, and it ends nothing. */
TEST(quit)
{
    int fd = interrupt_open_quit();
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(raise(SIGQUIT), 0);
        ck_assert(becomes_readable(fd));
        interrupt_take_quit(fd);
        ck_assert_int_eq(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), 0);
    }
    close(fd);
    fault_arm("eventfd", EMFILE, 0);
    fd = interrupt_open_quit();
    fault_disarm();
    ck_assert_int_eq(fd, -EMFILE);
    fault_arm("sigaction", EINVAL, 1);
    fd = interrupt_open_quit();
    fault_disarm();
    ck_assert_int_eq(fd, -EINVAL);
    signal(SIGQUIT, SIG_DFL);
}

static void expect_death(int raised, int wanted)
{
    pid_t child = fork();
    int status;
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        interrupt_open();
        if (raised != 0)
            raise(raised);
        interrupt_die();
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), wanted);
}

TEST(dies)
{
    expect_death(SIGINT, SIGINT);
    expect_death(SIGTERM, SIGTERM);
    expect_death(0, SIGINT);
}

TEST(fails)
{
    unsigned before = open_descriptors();
    fault_arm("eventfd", EMFILE, 0);
    int opening = interrupt_open();
    fault_disarm();
    ck_assert_int_eq(opening, -EMFILE);
    for (unsigned nth = 1; nth <= 2; nth++) {
        fault_arm("sigaction", EINVAL, nth);
        int handling = interrupt_open();
        fault_disarm();
        ck_assert_int_eq(handling, -EINVAL);
    }
    ck_assert_uint_eq(open_descriptors(), before);
}
