#include "daemon/reload_request.h"

#include "capture.h"
#include "daemon/options.h"
#include "faults.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- a daemon: a process that does as it is told with each SIGHUP ---- */

static pid_t daemon_process;
static bool started_blocked = true; /* SIGHUP */

static struct signalfd_siginfo next_signal(void)
{
    static int fd = -1;
    sigset_t set;
    struct signalfd_siginfo info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    fd = signalfd(fd, &set, SFD_CLOEXEC);
    if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
        _exit(1);
    return info;
}

static void start_daemon(const char *name, void (*act)(void))
{
    int ready[2];
    char byte;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(started_blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, &before);
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    daemon_process = fork();
    ck_assert_int_ge(daemon_process, 0);
    if (daemon_process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, name);
        close(ready[0]);
        close(ready[1]);
        act();
        for (;;)
            pause();
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 0);
    close(ready[0]);
}

static void end_daemon(void)
{
    if (daemon_process <= 0)
        return;
    kill(daemon_process, SIGKILL);
    waitpid(daemon_process, NULL, 0);
    daemon_process = 0;
}

/* Asks it; returns what was written to stderr. */
static const char *ask(pid_t process, int expected)
{
    unsigned before = open_descriptors();
    unsetenv("JOURNAL_STREAM");
    capture(LOG_LEVEL_INFO);
    int status = reload_request(process);
    fault_disarm();
    const char *text = written();
    ck_assert_msg(status == expected, "exit status %d: %s", status, text);
    ck_assert_uint_eq(open_descriptors(), before);
    return text;
}

static void answer(const struct signalfd_siginfo *info, int status, const char *messages)
{
    if (reload_answer(info, status, messages) < 0)
        _exit(1);
}

static void take(const struct signalfd_siginfo *info)
{
    if (reload_take(info) < 0)
        _exit(1);
}

static void succeed(void)
{
    struct signalfd_siginfo info = next_signal();
    take(&info);
    answer(&info, 0, "");
}

/* Whoever has been told that the daemon has the signal does not send another. */
static void take_a_while(void)
{
    const struct timespec while_ = {.tv_sec = 1, .tv_nsec = 200000000};
    sigset_t pending;
    struct signalfd_siginfo info = next_signal();
    take(&info);
    nanosleep(&while_, NULL);
    sigpending(&pending);
    answer(&info, sigismember(&pending, SIGHUP) ? EXIT_STATUS_SYSTEM : 0, "asked again\n");
}

static void start_slowly(void)
{
    const struct timespec moment = {.tv_nsec = 200000000};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    nanosleep(&moment, NULL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    succeed();
}

static void refuse(void)
{
    struct signalfd_siginfo info = next_signal();
    answer(&info, EXIT_STATUS_SETTINGS, "FILE:1: one\nFILE:2: another\n");
}

static void answer_the_second(void)
{
    next_signal();
    succeed();
}

static void leave(void)
{
    next_signal();
    _exit(0);
}

/* A process that knows the socket's name, and is not the one that was asked. */
static void interfere(const struct signalfd_siginfo *info, int times)
{
    pid_t other = fork();
    if (other == 0) {
        for (int i = 0; i < times; i++)
            answer(info, EXIT_STATUS_CANNOT_LISTEN, "never\n");
        _exit(0);
    }
    waitpid(other, NULL, 0);
}

static void be_interfered_with(void)
{
    struct signalfd_siginfo info = next_signal();
    interfere(&info, 2);
    answer(&info, 0, "");
}

/* The asker wakes for each, so this is sooner over than its patience. */
static void never_answer(void)
{
    for (;;) {
        struct signalfd_siginfo info = next_signal();
        interfere(&info, 1);
    }
}

static void answer_nonsense(void)
{
    struct signalfd_siginfo info = next_signal();
    char name[6];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(name, sizeof name, "%05x", (unsigned)info.ssi_int & 0xfffff);
    memcpy(to.sun_path + 1, name, 5);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(fd, "hello", 5, 0, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 6);
}

START_TEST(in_force)
{
    start_daemon("tcpechod", succeed);
    ck_assert_str_eq(ask(daemon_process, 0), "");
}
END_TEST

/* By ProtectProc= of the unit. */
START_TEST(hidden_process)
{
    start_daemon("tcpechod", succeed);
    fault_arm("fopen", ENOENT, 1);
    ck_assert_str_eq(ask(daemon_process, 0), "");
}
END_TEST

START_TEST(refused_with_all_messages)
{
    start_daemon("tcpechod-faults", refuse);
    ck_assert_str_eq(ask(daemon_process, EXIT_STATUS_SETTINGS), "FILE:1: one\nFILE:2: another\n");
}
END_TEST

START_TEST(asks_again)
{
    start_daemon("tcpechod", answer_the_second);
    ck_assert_str_eq(ask(daemon_process, 0), "");
}
END_TEST

START_TEST(asks_once)
{
    start_daemon("tcpechod", take_a_while);
    ask(daemon_process, 0);
}
END_TEST

/* SIGHUP would end it. */
START_TEST(daemon_that_is_not_ready_yet)
{
    started_blocked = false;
    start_daemon("tcpechod", start_slowly);
    started_blocked = true;
    ck_assert_str_eq(ask(daemon_process, 0), "");
}
END_TEST

START_TEST(answers_of_others_are_not_heard)
{
    start_daemon("tcpechod", be_interfered_with);
    ck_assert_str_eq(ask(daemon_process, 0), "");
}
END_TEST

START_TEST(no_answer)
{
    start_daemon("tcpechod", never_answer);
    expect_in(ask(daemon_process, EXIT_STATUS_SYSTEM), "no answer from process");
}
END_TEST

START_TEST(nonsense)
{
    start_daemon("tcpechod", answer_nonsense);
    expect_in(ask(daemon_process, EXIT_STATUS_SYSTEM), "cannot understand the answer 'hello'");
}
END_TEST

START_TEST(ends_instead)
{
    start_daemon("tcpechod", leave);
    expect_in(ask(daemon_process, EXIT_STATUS_SYSTEM), "ended before it answered");
}
END_TEST

START_TEST(some_other_process)
{
    start_daemon("innocent", leave);
    expect_in(ask(daemon_process, EXIT_STATUS_SYSTEM), "is 'innocent' and not tcpechod");
    ck_assert_int_eq(waitpid(daemon_process, NULL, WNOHANG), 0); /* and it lives */
    end_daemon();
}
END_TEST

START_TEST(no_such_process)
{
    pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    expect_in(ask(gone, EXIT_STATUS_SYSTEM), "there is no process");
}
END_TEST

START_TEST(every_call_may_fail)
{
    static const struct {
        const char *call;
        int error;
        const char *message;
    } calls[] = {
        {"fopen", EACCES, "cannot read /proc/"},        {"fgets", ESRCH, "cannot read /proc/"},
        {"socket", EMFILE, "cannot make a socket"},     {"setsockopt", ENOMEM, "cannot make a socket"},
        {"bind", ENOMEM, "cannot make a socket"},       {"getsockname", ENOBUFS, "cannot make a socket"},
        {"pidfd_open", EMFILE, "cannot watch process"}, {"sigqueue", EPERM, "cannot send SIGHUP to process"},
        {"poll", ENOMEM, "cannot wait for the answer"}, {"recvmsg", EIO, "cannot receive the answer"},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        start_daemon("tcpechod", succeed);
        fault_arm(calls[i].call, calls[i].error, 1);
        const char *text = ask(daemon_process, EXIT_STATUS_SYSTEM);
        expect_in(text, calls[i].message);
        expect_in(text, strerror(calls[i].error));
        end_daemon();
    }
}
END_TEST

/* ---- the daemon's side ---- */

START_TEST(only_who_asked_is_answered)
{
    const struct signalfd_siginfo killed = {.ssi_signo = SIGHUP, .ssi_code = SI_USER, .ssi_int = 0x5ec00000};
    const struct signalfd_siginfo queued = {.ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_int = 1};
    const struct signalfd_siginfo negative = {.ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_int = -1};
    ck_assert_int_eq(reload_take(&killed), 0);
    fault_rules("sendto:EIO");
    int a = reload_answer(&killed, 0, ""), b = reload_answer(&queued, 0, ""),
        c = reload_answer(&negative, 0, "");
    ck_assert_uint_eq(fault_disarm(), 0);
    ck_assert_int_eq(a, 0);
    ck_assert_int_eq(b, 0);
    ck_assert_int_eq(c, 0);
}
END_TEST

START_TEST(answer_that_does_not_arrive)
{
    const struct signalfd_siginfo info = {.ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_int = 0x5ecfffff};
    unsigned before = open_descriptors();
    ck_assert_int_eq(reload_take(&info), -ECONNREFUSED); /* nobody is there */
    ck_assert_int_eq(reload_answer(&info, 0, ""), -ECONNREFUSED);
    fault_arm("socket", EMFILE, 1);
    int r = reload_answer(&info, 0, "");
    fault_disarm();
    ck_assert_int_eq(r, -EMFILE);
    ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("reload_request");
    tcase_add_checked_fixture(tests, NULL, end_daemon);
    tcase_add_test(tests, in_force);
    tcase_add_test(tests, hidden_process);
    tcase_add_test(tests, refused_with_all_messages);
    tcase_add_test(tests, asks_again);
    tcase_add_test(tests, asks_once);
    tcase_add_test(tests, daemon_that_is_not_ready_yet);
    tcase_add_test(tests, answers_of_others_are_not_heard);
    tcase_add_test(tests, no_answer);
    tcase_add_test(tests, nonsense);
    tcase_add_test(tests, ends_instead);
    tcase_add_test(tests, some_other_process);
    tcase_add_test(tests, no_such_process);
    tcase_add_test(tests, every_call_may_fail);
    tcase_add_test(tests, only_who_asked_is_answered);
    tcase_add_test(tests, answer_that_does_not_arrive);
    return run_case(tests);
}
