#include "daemon/hangup.h"

#include "loop_fixture.h"

#include <signal.h>

/* fd 2 is a terminal for the time of a test; a controlling one there is not. */
static struct hangup hangup;
static int saved_stderr, master;
static unsigned gone;

static void on_gone(struct hangup *of)
{
    ck_assert_ptr_eq(of, &hangup);
    gone++;
}

static void setup(void)
{
    gone = 0;
    signal(SIGHUP, SIG_DFL); /* the tests may run under nohup(1) */
    saved_stderr = dup(STDERR_FILENO);
    master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int line = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_eq(dup2(line, STDERR_FILENO), STDERR_FILENO);
    close(line);
    start_loop();
    fault_arm("open", ENXIO, 0);
    hangup_find(&hangup);
    fault_disarm();
}

static void teardown(void)
{
    hangup_forget(&hangup);
    stop_loop();
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(master);
    signal(SIGHUP, SIG_DFL);
}

static void close_terminal(void)
{
    close(master);
    master = -1;
}

FIXTURE(setup, teardown)

TEST(told_once)
{
    ck_assert_int_eq(hangup_watch(&hangup, &loop, on_gone), 0);
    turn();
    ck_assert(!hangup_has_come(&hangup));
    ck_assert_int_eq(write(master, "typed\n", 6), 6);
    turn();
    turn();
    ck_assert_uint_eq(gone, 0);
    ck_assert(!hangup_has_come(&hangup));
    close_terminal();
    WAIT_FOR((turn(), gone == 1));
    ck_assert(hangup_has_come(&hangup));
    turn();
    ck_assert_uint_eq(gone, 1);
}

TEST(gone_before_it_is_watched)
{
    close_terminal();
    ck_assert(hangup_has_come(&hangup));
    ck_assert_int_eq(hangup_watch(&hangup, &loop, on_gone), 0);
    WAIT_FOR((turn(), gone == 1));
}

TEST(forgotten)
{
    unsigned before = open_descriptors();
    ck_assert_int_eq(hangup_watch(&hangup, &loop, on_gone), 0);
    hangup_forget(&hangup);
    hangup_forget(&hangup);
    close_terminal();
    turn();
    ck_assert_uint_eq(gone, 0);
    ck_assert_uint_eq(open_descriptors(), before - 1); /* the master */
    ck_assert_int_ge(fcntl(STDERR_FILENO, F_GETFD), 0);
}

static void expect_none(void)
{
    fault_arm("open", ENXIO, 0);
    hangup_find(&hangup);
    fault_disarm();
    ck_assert_int_eq(hangup_watch(&hangup, &loop, on_gone), 0);
    close_terminal();
    turn();
    ck_assert_uint_eq(gone, 0);
    ck_assert(!hangup_has_come(&hangup));
}

/* nohup(1) */
TEST(started_to_go_on)
{
    signal(SIGHUP, SIG_IGN);
    expect_none();
}

TEST(no_terminal)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(dup2(null, STDERR_FILENO), STDERR_FILENO);
    close(null);
    expect_none();
}

TEST(failed_watch_leaves_nothing)
{
    hangup.terminals[0].source.fd =
        open(ptsname(master), O_RDONLY | O_NOCTTY | O_CLOEXEC); /* as if it were the controlling one */
    ck_assert_int_ge(hangup.terminals[0].source.fd, 0);
    for (unsigned long nth = 1; nth <= 2; nth++) {
        fault_arm("epoll_ctl_add", ENOSPC, nth);
        int r = hangup_watch(&hangup, &loop, on_gone);
        fault_disarm();
        ck_assert_int_eq(r, -ENOSPC);
    }
    ck_assert_int_eq(hangup_watch(&hangup, &loop, on_gone), 0); /* each is free to be added */
    close_terminal();
    WAIT_FOR((turn(), gone == 2));
}
