#include "daemon/signals.h"

#include "loop_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct signals signals;
static int seen[8];
static size_t seen_count;

static void on_signal(struct signals *from, const struct signalfd_siginfo *info)
{
    ck_assert_ptr_eq(from, &signals);
    ck_assert_uint_lt(seen_count, COUNT_OF(seen));
    seen[seen_count++] = (int)info->ssi_signo;
}

static sigset_t mask_before;

static void setup(void)
{
    pthread_sigmask(SIG_BLOCK, NULL, &mask_before);
    seen_count = 0;
    start_loop();
    signals_block();
}

static void teardown(void)
{
    stop_loop();
    pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
}

FIXTURE(setup, teardown)

TEST(blocks_its_own)
{
    const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGNAL_LEAVE};
    static const int others[] = {SIGSEGV, SIGALRM, SIGPIPE};
    sigset_t mask;
    struct sigaction action;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    for (size_t i = 0; i < COUNT_OF(handled); i++)
        ck_assert_int_eq(sigismember(&mask, handled[i]), 1);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        ck_assert_int_eq(sigismember(&mask, others[i]), sigismember(&mask_before, others[i]));
    ck_assert_int_eq(sigaction(SIGPIPE, NULL, &action), 0);
    ck_assert(action.sa_handler == SIG_IGN);
}

TEST(reports_each)
{
    const int sent[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGNAL_LEAVE};
    ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
    turn();
    ck_assert_uint_eq(seen_count, 0);
    for (size_t i = 0; i < COUNT_OF(sent); i++) {
        ck_assert_int_eq(kill(getpid(), sent[i]), 0);
        WAIT_FOR((turn(), seen_count == i + 1));
        ck_assert_int_eq(seen[i], sent[i]);
    }
    /* Two at once come one a turn, and both come. */
    seen_count = 0;
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGUSR1);
    WAIT_FOR((turn(), seen_count == 2));
    ck_assert_int_eq(seen[0] + seen[1], SIGHUP + SIGUSR1);
    signals_deinit(&signals);
    ck_assert_int_eq(signals.source.fd, -1);
}

static pid_t start_child(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child;
}

/* Also when whoever started us ignored SIGCHLD: then no child could be waited for. */
TEST(children_do_not_stay_zombies)
{
    siginfo_t info;
    signal(SIGCHLD, SIG_IGN);
    signals_block();
    ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
    pid_t children[] = {start_child(), start_child(), start_child()};
    for (size_t i = 0; i < COUNT_OF(children); i++)
        ck_assert_int_eq(waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT), 0);
    WAIT_FOR((turn(), seen_count >= 1)); /* several may be pending as one */
    ck_assert_int_eq(seen[0], SIGCHLD);
    signals_reap(0, NULL);
    ck_assert_int_eq(waitid(P_ALL, 0, &info, WEXITED | WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    signals_reap(0, NULL); /* nothing to do */
    signals_deinit(&signals);
}

TEST(reaping_does_not_wait_for_one_that_runs)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    signals_reap(0, NULL);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

TEST(unreadable_comes_again)
{
    unsigned long hits;
    ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
    ck_assert_int_eq(kill(getpid(), SIGHUP), 0);
    ck_assert(becomes_readable(signals.source.fd));
    ck_assert_int_eq(turn_under("read:EINTR:1", &hits), 0); /* the signal was ready before the wake */
    ck_assert_uint_eq(hits, 1);
    ck_assert_uint_eq(seen_count, 0);
    WAIT_FOR((turn(), seen_count == 1));
    signals_deinit(&signals);
}

static const char *const init_rules[] = {"signalfd:ENOMEM:1", "epoll_ctl_add:ENOMEM:1"};

TEST_EACH(failed_init_leaves_nothing, init_rules)
{
    unsigned before = open_descriptors();
    fault_rules(*c);
    int r = signals_init(&signals, &loop, on_signal);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(open_descriptors(), before);
}
