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

static void start_daemon(const char *name, void (*act)(void), bool blocks /* SIGHUP */)
{
    int ready[2];
    char byte;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(blocks ? SIG_BLOCK : SIG_UNBLOCK, &set, &before);
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
static const char *ask(pid_t process, uint64_t patience_usec, const char *rules, int expected)
{
    unsigned before = open_descriptors();
    unsetenv("JOURNAL_STREAM");
    capture(LOG_LEVEL_INFO);
    fault_rules(rules);
    int status = reload_request(process, patience_usec);
    fault_disarm();
    const char *text = written();
    ck_assert_msg(status == expected, "exit status %d: %s", status, text);
    ck_assert_uint_eq(open_descriptors(), before);
    return text;
}

static void answer(struct reload_reply *reply, int status, const char *messages)
{
    if (reload_answer(reply, status, messages) < 0)
        _exit(1);
}

static struct reload_reply take(const struct signalfd_siginfo *info)
{
    struct reload_reply reply = RELOAD_REPLY_NONE;
    if (reload_take(info, &reply) < 0)
        _exit(1);
    return reply;
}

static void succeed(void)
{
    struct signalfd_siginfo info = next_signal();
    struct reload_reply reply = take(&info);
    answer(&reply, 0, "");
}

/* Whoever has been told that the daemon has the signal does not send another. */
static void take_a_while(void)
{
    const struct timespec while_ = {.tv_nsec = 700000000};
    sigset_t pending;
    struct signalfd_siginfo info = next_signal();
    struct reload_reply reply = take(&info);
    nanosleep(&while_, NULL);
    sigpending(&pending);
    answer(&reply, 0, sigismember(&pending, SIGHUP) ? "asked again\n" : "");
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
    struct reload_reply reply = take(&info);
    answer(&reply, EXIT_STATUS_SETTINGS, "FILE:1: one\nFILE:2: another\n");
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

/* To the socket that the value names, which everybody can. Returns what send(2) does. */
static ssize_t send_to(uint64_t value, const void *bytes, size_t length)
{
    char name[6];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(name, sizeof name, "%05x", (unsigned)value & 0xfffff);
    memcpy(to.sun_path + 1, name, 5);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ssize_t n =
        sendto(fd, bytes, length, 0, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 6);
    close(fd);
    return n;
}

/* A process that knows the value, and is not the one that was asked. */
static void be_impersonated(void)
{
    struct signalfd_siginfo info = next_signal();
    struct reload_reply reply = take(&info);
    pid_t other = fork();
    if (other == 0) {
        answer(&reply, EXIT_STATUS_CANNOT_LISTEN, "never\n");
        _exit(0);
    }
    waitpid(other, NULL, 0);
    answer(&reply, 0, "");
}

/* What does not begin with the value: as many as fill any queue (net.unix.max_dgram_qlen), and none of them
 * takes a place in this one. */
static void flood(uint64_t value)
{
    static const char *const texts[] = {"", "taken\n", "69\nnever\n"};
    const uint64_t near[] = {value ^ 1, value ^ 1ULL << 63};
    for (int i = 0; i < 300; i++) {
        bool sent = send_to(value, near, sizeof near[0]) > 0 && send_to(value, near + 1, sizeof near[1]) > 0;
        for (size_t j = 0; j < COUNT_OF(texts); j++)
            sent = sent && send_to(value, texts[j], strlen(texts[j])) >= 0;
        if (!sent)
            _exit(1);
    }
}

static void be_flooded(void)
{
    struct signalfd_siginfo info = next_signal();
    flood(info.ssi_ptr);
    struct reload_reply reply = take(&info);
    flood(info.ssi_ptr);
    answer(&reply, 0, "");
}

/* What others send is neither an answer nor the time. A moment for the three that are due in 1.2 s. */
static void never_answer(void)
{
    for (int asked = 0; asked < 3; asked++) {
        struct signalfd_siginfo info = next_signal();
        for (int i = 0; i < 100; i++)
            send_to(info.ssi_ptr, "taken\n", 6);
    }
    next_signal();
    _exit(1);
}

static void answer_nonsense(void)
{
    struct signalfd_siginfo info = next_signal();
    char answer[13];
    memcpy(answer, &info.ssi_ptr, 8);
    memcpy(answer + 8, "hello", 5);
    send_to(info.ssi_ptr, answer, sizeof answer);
}

static const struct {
    const char *name;
    void (*act)(void);
    int status;
    const char *told; /* all that is written, or, where it has no end of line, a part of it */
    const char *rules;
    int error; /* that is told with it */
    bool unready;
} requests[] = {
    {"tcpechod", succeed, 0, ""},
    {"tcpechod-faults", refuse, EXIT_STATUS_SETTINGS, "FILE:1: one\nFILE:2: another\n"},
    {"tcpechod", answer_the_second, 0, ""},
    {"tcpechod", take_a_while, 0, ""},
    {"tcpechod", start_slowly, 0, "", .unready = true}, /* SIGHUP would end it */
    {"tcpechod", be_impersonated, 0, ""},
    {"tcpechod", be_flooded, 0, ""},
    {"tcpechod", answer_nonsense, EXIT_STATUS_SYSTEM, "cannot understand the answer 'hello'"},
    {"tcpechod", leave, EXIT_STATUS_SYSTEM, "ended before it answered"},
    {"innocent", leave, EXIT_STATUS_SYSTEM, "is 'innocent' and not tcpechod"},
    {"tcpechod", succeed, 0, "", "fopen:ENOENT:1"}, /* hidden by ProtectProc= of the unit */
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot read /proc/", "fopen:EACCES:1", EACCES},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot read /proc/", "fgets:ESRCH:1", ESRCH},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "socket:EMFILE:1", EMFILE},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "getrandom:ENOSYS:1", ENOSYS},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "setsockopt:ENOMEM:1", ENOMEM},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "setsockopt:ENOMEM:2", ENOMEM},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "bind:ENOMEM:1", ENOMEM},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot make a socket", "getsockname:ENOBUFS:1", ENOBUFS},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot watch process", "pidfd_open:EMFILE:1", EMFILE},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot send SIGHUP to process", "pidfd_send_signal:EPERM:1",
     EPERM},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot wait for the answer", "ppoll:ENOMEM:1", ENOMEM},
    {"tcpechod", succeed, EXIT_STATUS_SYSTEM, "cannot receive the answer", "recvmsg:EIO:1", EIO},
};

FIXTURE(NULL, end_daemon)

TEST_EACH(request, requests)
{
    start_daemon(c->name, c->act, !c->unready);
    const char *text = ask(daemon_process, RELOAD_PATIENCE_USEC, c->rules ? c->rules : "", c->status);
    if (c->told[0] == '\0' || strchr(c->told, '\n'))
        ck_assert_str_eq(text, c->told);
    else
        expect_in(text, c->told);
    if (c->error)
        expect_in(text, strerror(c->error));
    if (strcmp(c->name, "innocent") == 0)
        ck_assert_int_eq(waitpid(daemon_process, NULL, WNOHANG), 0); /* and it lives */
}

TEST(no_answer)
{
    start_daemon("tcpechod", never_answer, true);
    uint64_t before = clock_monotonic_usec();
    const char *text = ask(daemon_process, 1200 * USEC_PER_MSEC, "", EXIT_STATUS_SYSTEM);
    expect_in(text, "no answer from process");
    expect_in(text, "in 1.2 s;");
    ck_assert_uint_ge(clock_monotonic_usec() - before, 1200 * USEC_PER_MSEC);
}

/* A wait that is over late looks once more: the answer was in time. */
TEST(answer_is_read_after_the_time_is_up)
{
    start_daemon("tcpechod", succeed, true);
    ck_assert_str_eq(ask(daemon_process, 100 * USEC_PER_MSEC, "ppoll:sleep=150:1", 0), "");
}

TEST(no_such_process)
{
    pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    expect_in(ask(gone, RELOAD_PATIENCE_USEC, "", EXIT_STATUS_SYSTEM), "there is no process");
}

/* ---- the daemon's side ---- */

/* A signal of this process, with this value. */
static struct signalfd_siginfo asked(uint64_t value)
{
    return (struct signalfd_siginfo){
        .ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_pid = (uint32_t)getpid(), .ssi_ptr = value};
}

/* One that waits: its socket, the value that names it, and the signal that it sends. */
static int mailbox;
static uint64_t value;
static struct signalfd_siginfo info;
static struct reload_reply reply = {.fd = -1};

static void open_mailbox(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name;
    unsigned number;
    mailbox = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(mailbox, (struct sockaddr *)&name, sizeof name.sun_family), 0);
    ck_assert_int_eq(getsockname(mailbox, (struct sockaddr *)&name, &length), 0);
    ck_assert_int_eq(sscanf(name.sun_path + 1, "%5x", &number), 1);
    value = 0xabcd01235ecULL << 20 | number;
    info = asked(value);
}

static void expect_message(const char *text)
{
    char bytes[64] = "";
    ssize_t length = recv(mailbox, bytes, sizeof bytes - 1, 0);
    ck_assert_int_eq(length, (ssize_t)(sizeof value + strlen(text)));
    ck_assert_mem_eq(bytes, &value, sizeof value);
    ck_assert_str_eq(bytes + sizeof value, text);
}

static const struct signalfd_siginfo others[] = {
    {.ssi_signo = SIGHUP, .ssi_code = SI_USER, .ssi_ptr = 0x5ec00000},
    {.ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_ptr = 1},
    {.ssi_signo = SIGHUP, .ssi_code = SI_QUEUE, .ssi_ptr = UINT64_MAX},
};

TEST_EACH(only_who_asked_is_answered, others)
{
    ck_assert_int_eq(reload_take(c, &reply), 0);
    ck_assert_int_eq(reply.fd, -1);
    ck_assert_int_eq(reload_answer(&reply, 0, "never\n"), 0);
}

/* A second signal, sent when the first had not been taken yet, is the same request. */
TEST(repeated_request_is_taken_once)
{
    open_mailbox();
    unsigned before = open_descriptors();
    ck_assert_int_eq(reload_take(&info, &reply), 0);
    ck_assert_int_eq(reload_answer(&reply, 0, "done\n"), 0);
    ck_assert_int_eq(reload_take(&info, &reply), RELOAD_REPEATED);
    expect_message("taken\n");
    expect_message("0\ndone\n");
    expect_nothing_yet(mailbox);

    info.ssi_ptr ^= 1ULL << 40; /* another one, by the same name */
    ck_assert_int_eq(reload_take(&info, &reply), 0);
    ck_assert_int_eq(reload_answer(&reply, 0, ""), 0);
    ck_assert_uint_eq(open_descriptors(), before);
}

/* Its name may be another's by now, who would read what is wrong with the settings. */
TEST(who_asked_and_has_ended_is_told_nothing)
{
    siginfo_t ended;
    open_mailbox();
    pid_t asker = fork();
    if (asker == 0)
        _exit(0);
    info.ssi_pid = (uint32_t)asker;
    ck_assert_int_eq(waitid(P_PID, (id_t)asker, &ended, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(reload_take(&info, &reply), -ESRCH); /* a zombie has no sockets */
    waitpid(asker, NULL, 0);
    ck_assert_int_eq(reload_take(&info, &reply), -ESRCH);
    ck_assert_int_eq(reply.fd, -1);
    expect_nothing_yet(mailbox);
}

TEST(who_asks_from_an_outer_pid_namespace)
{
    open_mailbox();
    info.ssi_pid = 0;
    ck_assert_int_eq(reload_take(&info, &reply), 0);
    ck_assert_int_eq(reload_answer(&reply, 0, ""), 0);
    expect_message("taken\n");
}

static const struct {
    const char *rule;
    int error;
} failures[] = {{"socket:EMFILE:1", EMFILE},
                {"connect:ECONNREFUSED:1", ECONNREFUSED},
                {"pidfd_open:EMFILE:1", EMFILE},
                {"poll:ENOMEM:1", ENOMEM},
                {"sendmsg:EAGAIN:1", EAGAIN}};

/* It has not been taken, so what comes next is no repetition. */
TEST_EACH(failing_calls, failures)
{
    open_mailbox();
    unsigned before = open_descriptors();
    fault_rules(c->rule);
    int r = reload_take(&info, &reply);
    fault_disarm();
    ck_assert_int_eq(r, -c->error);
    ck_assert_int_eq(reply.fd, -1);
    ck_assert_uint_eq(open_descriptors(), before);
    ck_assert_int_eq(reload_take(&info, &reply), 0);
    ck_assert_int_eq(reload_answer(&reply, 0, ""), 0);
}

TEST(who_asked_has_closed_its_socket)
{
    open_mailbox();
    unsigned before = open_descriptors();
    ck_assert_int_eq(reload_take(&info, &reply), 0);
    close(mailbox);
    ck_assert_int_eq(reload_answer(&reply, 0, ""), -ECONNREFUSED);
    ck_assert_int_eq(reply.fd, -1);
    info.ssi_ptr ^= 1ULL << 40;
    ck_assert_int_eq(reload_take(&info, &reply), -ECONNREFUSED); /* nobody is there */
    ck_assert_uint_eq(open_descriptors(), before - 1);
}
