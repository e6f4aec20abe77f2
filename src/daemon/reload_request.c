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
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Two SIGHUPs that are pending at once are one, and the second one's value is lost: so it is sent again,
 * until the daemon says that it has it. */
#define ASK_AGAIN_MSEC 500
#define GIVE_UP_MSEC 30000

#define NAME_FORMAT "%05x" /* behind the NUL that makes it abstract */
#define NAME_LENGTH 5
#define NUMBER_BITS 20

/* Above the number in the signal's value, so that no other program's value is taken for a name. */
#define VALUE_MARK 0x5ec

#define TAKEN "taken\n"
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

static bool is_asked(const struct signalfd_siginfo *signal)
{
    return signal->ssi_code == SI_QUEUE && signal->ssi_int >> NUMBER_BITS == VALUE_MARK;
}

static int send_back(const struct signalfd_siginfo *signal, const char *text)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_un name;
    socklen_t length = name_of((unsigned)signal->ssi_int & ((1U << NUMBER_BITS) - 1), &name);
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&name, length) < 0)
        return -errno;
    return 0;
}

int reload_take(const struct signalfd_siginfo *signal)
{
    return is_asked(signal) ? send_back(signal, TAKEN) : 0;
}

int reload_answer(const struct signalfd_siginfo *signal, int exit_status, const char *messages)
{
    if (!is_asked(signal))
        return 0;
    char answer[ANSWER_SIZE];
    snprintf(answer, sizeof answer, STATUS_FORMAT "%s", exit_status, messages);
    return send_back(signal, answer);
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

struct process_status {
    char name[64];
    bool blocks_sighup; /* and so does not end of it */
};

/* Returns 0 or a negative errno. */
static int read_process_status(pid_t process, struct process_status *status)
{
    char path[64], line[256];
    unsigned long long blocked = 0;
    *status = (struct process_status){0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)process);
    CLEANUP(close_stream) FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "Name:\t%63[^\n]", status->name);
        sscanf(line, "SigBlk:\t%llx", &blocked);
    }
    status->blocks_sighup = blocked & 1ULL << (SIGHUP - 1);
    return status->name[0] == '\0' ? -ESRCH : 0;
}

/* SIGHUP ends most programs, and a process id is mistyped easily. */
static int check_process(pid_t daemon)
{
    struct process_status status;
    int r = read_process_status(daemon, &status);
    if (r == -ENOENT) {
        if (kill(daemon, 0) < 0 && errno == ESRCH)
            return fail("there is no process %d", (int)daemon);
        return 0; /* a sandbox hides it from us (systemd.exec(5), ProtectProc=) */
    }
    if (r < 0)
        return fail("cannot read /proc/%d/status: %s", (int)daemon, strerrordesc_np(-r));
    if (strncmp(status.name, COMMAND, strlen(COMMAND)) != 0)
        return fail("process %d is '%s' and not " COMMAND, (int)daemon, status.name);
    return 0;
}

/* A daemon that has only just been started would end of it. */
static bool is_ready_for_sighup(pid_t daemon)
{
    struct process_status status;
    return read_process_status(daemon, &status) < 0 || status.blocks_sighup;
}

/* Abstract sockets belong to a network namespace (unix(7)). One that cannot be read is given the benefit of
 * the doubt: the daemon does not reload when it cannot answer. */
static int check_namespace(pid_t daemon)
{
    char path[64];
    struct stat own, other;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)daemon);
    if (stat("/proc/self/ns/net", &own) < 0 || stat(path, &other) < 0 ||
        (own.st_dev == other.st_dev && own.st_ino == other.st_ino))
        return 0;
    return fail(
        "process %d is in another network namespace, and could not answer; use 'systemctl reload', or "
        "send it SIGHUP and look into its log",
        (int)daemon);
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
    bool is_taken = false;
    for (int waited = 0; waited < GIVE_UP_MSEC; waited += ASK_AGAIN_MSEC) {
        int status = is_taken || !is_ready_for_sighup(daemon) ? 0 : ask(daemon, number);
        if (status != 0)
            return status;
        struct pollfd fds[] = {{.fd = mailbox, .events = POLLIN}, {.fd = process, .events = POLLIN}};
        if (poll(fds, 2, ASK_AGAIN_MSEC) < 0)
            return fail("cannot wait for the answer: %s", strerrordesc_np(errno));
        char answer[ANSWER_SIZE];
        ssize_t length = fds[0].revents ? receive(mailbox, daemon, answer, sizeof answer) : -EAGAIN;
        if (length >= 0 && strcmp(answer, TAKEN) == 0)
            is_taken = true;
        else if (length >= 0)
            return tell(answer);
        else if (length != -EAGAIN)
            return fail("cannot receive the answer: %s", strerrordesc_np((int)-length));
        else if (fds[1].revents)
            return fail("process %d ended before it answered; its log says why", (int)daemon);
    }
    return fail("no answer from process %d in %d s; its log may say more", (int)daemon, GIVE_UP_MSEC / 1000);
}

int reload_request(pid_t daemon)
{
    int status = check_process(daemon);
    if (status == 0)
        status = check_namespace(daemon);
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
