#include "daemon/reload_request.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Two SIGHUPs that are pending at once are one, and the second one's value is lost: so it is sent again,
 * until the daemon says that it has it. */
#define ASK_AGAIN_USEC (500 * USEC_PER_MSEC)

#define NAME_FORMAT "%05x" /* after the NUL that makes it abstract */
#define NAME_LENGTH 5
#define NUMBER_BITS 20
#define MARK_BITS 12

/* Above the number in the signal's value, so that no other program's value is taken for a name. Above both,
 * where a pointer has the room, is a secret. */
#define VALUE_MARK 0x5ec

#define TAKEN "taken\n"
#define STATUS_FORMAT "%d\n"
#define ANSWER_SIZE (RELOAD_MESSAGES_SIZE + 64)

#define COMMAND "tcpechod"

static socklen_t name_of(uint64_t value, struct sockaddr_un *name)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(name->sun_path + 1, NAME_LENGTH + 1, NAME_FORMAT, (unsigned)(value & ((1U << NUMBER_BITS) - 1)));
    return offsetof(struct sockaddr_un, sun_path) + 1 + NAME_LENGTH;
}

/* ---- The daemon's side ---- */

static bool is_request(const struct signalfd_siginfo *signal)
{
    return signal->ssi_code == SI_QUEUE &&
           (signal->ssi_ptr >> NUMBER_BITS & ((1U << MARK_BITS) - 1)) == VALUE_MARK;
}

/* Whoever waits holds the socket until the end of its process: while that lives, nobody else can have the
 * name. 0 is a process outside of our PID namespace, which the kernel tells nothing more of
 * (pid_namespaces(7)). Returns 0 or a negative errno. */
static int check_requester(pid_t requester)
{
    if (requester == 0)
        return 0;
    CLEANUP(fd_close) int process = pidfd_open(requester, 0);
    if (process < 0)
        return -errno;
    struct pollfd ended = {.fd = process, .events = POLLIN};
    int r = poll(&ended, 1, 0);
    if (r < 0)
        return -errno;
    return r > 0 ? -ESRCH : 0;
}

/* What it returns is connected to a socket, and not to its name, which may change hands. */
static int connect_to_requester(const struct signalfd_siginfo *signal)
{
    struct sockaddr_un name;
    socklen_t length = name_of(signal->ssi_ptr, &name);
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&name, length) < 0)
        return -errno;
    int r = check_requester((pid_t)signal->ssi_pid);
    return r < 0 ? r : TAKE_FD(fd);
}

static int send_back(const struct reload_reply *reply, const char *text)
{
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)&reply->value, .iov_len = sizeof reply->value},
        {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)},
    };
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(reply->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int reload_take(const struct signalfd_siginfo *signal, struct reload_reply *reply)
{
    if (!is_request(signal))
        return 0;
    if (signal->ssi_ptr == reply->value)
        return RELOAD_REPEATED;
    int fd = connect_to_requester(signal);
    if (fd < 0)
        return fd;
    struct reload_reply taken = {.fd = fd, .value = signal->ssi_ptr};
    int r = send_back(&taken, TAKEN);
    if (r < 0)
        fd_close(&taken.fd);
    else
        *reply = taken;
    return r;
}

int reload_answer(struct reload_reply *reply, int exit_status, const char *messages)
{
    if (reply->fd < 0)
        return 0;
    char answer[ANSWER_SIZE];
    snprintf(answer, sizeof answer, STATUS_FORMAT "%s", exit_status, messages);
    int r = send_back(reply, answer);
    fd_close(&reply->fd);
    return r;
}

/* ---- The side of --reload ---- */

static int __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "tcpechod --reload: %s\n", text);
    return EXIT_STATUS_SYSTEM;
}

struct request {
    pid_t daemon;
    int process; /* the daemon's pidfd: of the process that was checked, also when its number is another's by
                    now */
    int mailbox;
    uint64_t value;
};

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
    if (r == -ENOENT)
        return 0; /* a sandbox hides it from us (systemd.exec(5), ProtectProc=) */
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

/* The kernel drops every datagram that does not begin with the value (socket(7), SO_ATTACH_FILTER), so that
 * nobody else fills the queue. It compares words in network order. */
static int let_in_only(int fd, uint64_t value)
{
    uint32_t words[2];
    memcpy(words, &value, sizeof words);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(words[0]), 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof words[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(words[1]), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    const struct sock_fprog filter = {.len = sizeof code / sizeof code[0], .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

/* Returns the socket, with the value that the signal shall have, or a negative errno. The name is public
 * (/proc/net/unix), and the secret is not. */
static int open_mailbox(uint64_t *value)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name;
    int on = 1;
    unsigned number;
    uint32_t secret;
    if (fd < 0 || getrandom(&secret, sizeof secret, 0) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&name, sizeof name.sun_family) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &length) < 0)
        return -errno;
    if (sscanf(name.sun_path + 1, "%5x", &number) != 1)
        return -EINVAL;
    *value = (uintptr_t)((uint64_t)secret << 32 | (uint64_t)VALUE_MARK << NUMBER_BITS | number);
    if (let_in_only(fd, *value) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Returns the length of the text, or -EAGAIN when nothing has come, or not from the daemon. What came before
 * the filter was there does not begin with the value. */
static ssize_t receive(const struct request *request, char *answer, size_t size)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    uint64_t value;
    struct iovec parts[] = {{.iov_base = &value, .iov_len = sizeof value},
                            {.iov_base = answer, .iov_len = size - 1}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(request->mailbox, &message, 0);
    if (length < 0)
        return -errno;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    struct ucred sender;
    if (!header || header->cmsg_type != SCM_CREDENTIALS || length < (ssize_t)sizeof value ||
        value != request->value)
        return -EAGAIN;
    memcpy(&sender, CMSG_DATA(header), sizeof sender);
    if (sender.pid != request->daemon)
        return -EAGAIN;
    length -= (ssize_t)sizeof value;
    answer[length] = '\0';
    return length;
}

/* The daemon has put the same messages into the journal. */
static int print_answer(const char *answer)
{
    int exit_status, head = 0;
    if (sscanf(answer, STATUS_FORMAT "%n", &exit_status, &head) != 1 || head == 0)
        return fail("cannot understand the answer '%.64s'", answer);
    if (!log_goes_to_journal())
        fputs(answer + head, stderr);
    return exit_status;
}

/* The process that was checked, and no other that has its number by now. */
static int ask(const struct request *request)
{
    siginfo_t info = {.si_signo = SIGHUP, .si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)(uintptr_t)request->value; /* NOLINT(performance-no-int-to-ptr) */
    if (pidfd_send_signal(request->process, SIGHUP, &info, 0) == 0)
        return 0;
    return fail("cannot send SIGHUP to process %d: %s", (int)request->daemon, strerrordesc_np(errno));
}

/* Until something has come, the daemon has ended, or the time is up. Returns 0 or a negative errno. */
static int wait_until(uint64_t until, struct pollfd fds[2])
{
    uint64_t now = clock_monotonic_usec();
    const struct timespec time = clock_timespec(until > now ? until - now : 0);
    return ppoll(fds, 2, &time, NULL) < 0 && errno != EINTR ? -errno : 0;
}

/* Looks at what has come before it says that the time is up. Returns the exit status. */
static int await(const struct request *request, uint64_t patience_usec)
{
    uint64_t start = clock_monotonic_usec(), give_up = start + patience_usec, ask_again = start, now;
    bool is_taken = false;
    do {
        now = clock_monotonic_usec();
        if (!is_taken && now >= ask_again && now < give_up) {
            int status = is_ready_for_sighup(request->daemon) ? ask(request) : 0;
            if (status != 0)
                return status;
            ask_again = now + ASK_AGAIN_USEC;
        }
        struct pollfd fds[] = {{.fd = request->mailbox, .events = POLLIN},
                               {.fd = request->process, .events = POLLIN}};
        int r = wait_until(!is_taken && ask_again < give_up ? ask_again : give_up, fds);
        if (r < 0)
            return fail("cannot wait for the answer: %s", strerrordesc_np(-r));
        char answer[ANSWER_SIZE];
        ssize_t length = fds[0].revents ? receive(request, answer, sizeof answer) : -EAGAIN;
        if (length >= 0 && strcmp(answer, TAKEN) == 0)
            is_taken = true;
        else if (length >= 0)
            return print_answer(answer);
        else if (length != -EAGAIN)
            return fail("cannot receive the answer: %s", strerrordesc_np((int)-length));
        else if (fds[1].revents)
            return fail("process %d ended before it answered; its log says why", (int)request->daemon);
    } while (now < give_up);
    return fail("no answer from process %d in %.3g s; its log may say more", (int)request->daemon,
                (double)patience_usec / (double)USEC_PER_SEC);
}

int reload_request(pid_t daemon, uint64_t patience_usec)
{
    CLEANUP(fd_close) int process = pidfd_open(daemon, 0);
    if (process < 0)
        return errno == ESRCH ? fail("there is no process %d", (int)daemon)
                              : fail("cannot watch process %d: %s", (int)daemon, strerrordesc_np(errno));
    int status = check_process(daemon);
    if (status == 0)
        status = check_namespace(daemon);
    if (status != 0)
        return status;
    uint64_t value = 0;
    CLEANUP(fd_close) int mailbox = open_mailbox(&value);
    if (mailbox < 0)
        return fail("cannot make a socket for the answer: %s", strerrordesc_np(-mailbox));
    const struct request request = {.daemon = daemon, .process = process, .mailbox = mailbox, .value = value};
    return await(&request, patience_usec);
}
