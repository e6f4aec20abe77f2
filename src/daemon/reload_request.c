#include "daemon/reload_request.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Two SIGHUPs that are pending at once are one, and the second one's value is lost: so it is sent again. */
#define ASK_AGAIN_MSEC 500
#define GIVE_UP_MSEC 30000

#define NAME_FORMAT "%05x" /* behind the NUL that makes it abstract */
#define NAME_LENGTH 5
#define NUMBER_BITS 20

/* Above the number in the signal's value, so that no other program's value is taken for a name. */
#define VALUE_MARK 0x5ec

#define STATUS_FORMAT "%d\n"
#define ANSWER_SIZE (8192 + 64)

#define COMMAND "tcpechod"

static socklen_t name_of(unsigned number, struct sockaddr_un *name)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(name->sun_path + 1, NAME_LENGTH + 1, NAME_FORMAT, number);
    return offsetof(struct sockaddr_un, sun_path) + 1 + NAME_LENGTH;
}

/* ---- The daemon's side ---- */

int reload_answer(const struct signalfd_siginfo *signal, int exit_status, const char *messages)
{
    if (signal->ssi_code != SI_QUEUE || signal->ssi_int >> NUMBER_BITS != VALUE_MARK)
        return 0;
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_un name;
    socklen_t length = name_of((unsigned)signal->ssi_int & ((1U << NUMBER_BITS) - 1), &name);
    char answer[ANSWER_SIZE];
    snprintf(answer, sizeof answer, STATUS_FORMAT "%s", exit_status, messages);
    if (sendto(fd, answer, strlen(answer), MSG_NOSIGNAL, (const struct sockaddr *)&name, length) < 0)
        return -errno;
    return 0;
}

/* ---- Who asks ---- */

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "tcpechod --reload: %s\n", text);
    return EXIT_STATUS_SYSTEM;
}

/* SIGHUP ends most programs, and a process id is mistyped easily. */
static int check_process(pid_t daemon)
{
    char path[64], command[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)daemon);
    CLEANUP(close_stream) FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT) {
        if (kill(daemon, 0) < 0 && errno == ESRCH)
            return fail("there is no process %d", (int)daemon);
        return 0; /* a sandbox hides it from us (systemd.exec(5), ProtectProc=) */
    }
    if (!file || !fgets(command, sizeof command, file))
        return fail("cannot read %s: %s", path, strerrordesc_np(errno));
    command[strcspn(command, "\n")] = '\0';
    if (strncmp(command, COMMAND, strlen(COMMAND)) != 0)
        return fail("process %d is '%s' and not " COMMAND, (int)daemon, command);
    return 0;
}

/* Returns the socket, with the number in its name, or a negative errno. */
static int open_mailbox(unsigned *number)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name;
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&name, sizeof name.sun_family) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &length) < 0)
        return -errno;
    if (sscanf(name.sun_path + 1, "%5x", number) != 1)
        return -EINVAL;
    return TAKE_FD(fd);
}

/* Returns the length of the text, or -EAGAIN when what came is not from the daemon. */
static ssize_t receive(int mailbox, pid_t daemon, char *answer, size_t size)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec data = {.iov_base = answer, .iov_len = size - 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(mailbox, &message, 0);
    if (length < 0)
        return -errno;
    answer[length] = '\0';
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    struct ucred sender;
    if (!header || header->cmsg_type != SCM_CREDENTIALS)
        return -EAGAIN;
    memcpy(&sender, CMSG_DATA(header), sizeof sender);
    return sender.pid == daemon ? length : -EAGAIN;
}

/* The daemon has put the same messages into the journal. */
static int tell(const char *answer)
{
    const struct log_settings log = {.level = LOG_LEVEL_INFO, .target = LOG_TARGET_AUTO};
    int exit_status, head = 0;

    if (sscanf(answer, STATUS_FORMAT "%n", &exit_status, &head) != 1 || head == 0)
        return fail("cannot understand the answer '%.64s'", answer);
    log_configure(&log);
    if (!log_goes_to_journal())
        (void)fputs(answer + head, stderr);
    return exit_status;
}

static int ask(pid_t daemon, unsigned number)
{
    const union sigval value = {.sival_int = VALUE_MARK << NUMBER_BITS | (int)number};
    if (sigqueue(daemon, SIGHUP, value) == 0)
        return 0;
    return fail("cannot send SIGHUP to process %d: %s", (int)daemon, strerrordesc_np(errno));
}

/* Returns the exit status. */
static int await(pid_t daemon, int process, int mailbox, unsigned number)
{
    for (int waited = 0; waited < GIVE_UP_MSEC; waited += ASK_AGAIN_MSEC) {
        int status = ask(daemon, number);
        if (status != 0)
            return status;
        struct pollfd fds[] = {{.fd = mailbox, .events = POLLIN}, {.fd = process, .events = POLLIN}};
        if (poll(fds, 2, ASK_AGAIN_MSEC) < 0)
            return fail("cannot wait for the answer: %s", strerrordesc_np(errno));
        char answer[ANSWER_SIZE];
        ssize_t length = fds[0].revents ? receive(mailbox, daemon, answer, sizeof answer) : -EAGAIN;
        if (length >= 0)
            return tell(answer);
        if (length != -EAGAIN)
            return fail("cannot receive the answer: %s", strerrordesc_np((int)-length));
        if (fds[1].revents)
            return fail("process %d ended before it answered; its log says why", (int)daemon);
    }
    return fail(
        "no answer from process %d in %d s; its log may say more. It must be in the same network namespace "
        "(systemctl reload is)",
        (int)daemon, GIVE_UP_MSEC / 1000);
}

int reload_request(pid_t daemon)
{
    int status = check_process(daemon);
    if (status != 0)
        return status;
    unsigned number;
    CLEANUP(fd_close) int mailbox = open_mailbox(&number);
    if (mailbox < 0)
        return fail("cannot make a socket for the answer: %s", strerrordesc_np(-mailbox));
    CLEANUP(fd_close) int process = pidfd_open(daemon, 0);
    if (process < 0)
        return fail("cannot watch process %d: %s", (int)daemon, strerrordesc_np(errno));
    return await(daemon, process, mailbox, number);
}
