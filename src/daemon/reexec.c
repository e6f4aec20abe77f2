#include "daemon/reexec.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a settings file takes to be checked is milliseconds. */
#define CHECK_USEC (5 * USEC_PER_SEC)

static char own_path[4096];
static char **own_argv;

void reexec_remember(char *argv[])
{
    own_argv = argv;
    ssize_t length = readlink("/proc/self/exe", own_path, sizeof own_path - 1);
    if (length > 0)
        own_path[length] = '\0';
    else /* without /proc */
        snprintf(own_path, sizeof own_path, "%s", argv[0]);
}

const char *reexec_path(void)
{
    return own_path;
}

/* The arguments with --test before them. For free(3). */
static char **check_arguments(void)
{
    size_t count = 0;
    while (own_argv[count])
        count++;
    char **arguments = calloc(count + 2, sizeof *arguments);
    if (!arguments)
        return NULL;
    arguments[0] = own_argv[0];
    arguments[1] = (char *)"--test";
    memcpy(arguments + 2, own_argv + 1, (count - 1) * sizeof *arguments);
    return arguments;
}

/* Its stderr is the pipe's end. It blocks what this process blocks: a signal may be for all of its control
 * group. Returns 0 or a negative errno. */
static int spawn_check(int stderr_end, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    CLEANUP(free_pointer) char **arguments = check_arguments();
    if (!arguments)
        return -ENOMEM;
    posix_spawn_file_actions_init(&actions); /* cannot fail in the GNU C library */
    int r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, stderr_end, STDERR_FILENO);
    if (r == 0)
        r = posix_spawn(child, own_path, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* Its first line, until it has ended or the time is up. */
static void read_first_line(int fd, char *line, size_t size)
{
    uint64_t until = clock_monotonic_usec() + CHECK_USEC;
    size_t length = 0;
    for (;;) {
        char rest[512];
        uint64_t now = clock_monotonic_usec();
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        int ready = now < until ? poll(&readable, 1, (int)((until - now) / USEC_PER_MSEC) + 1) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        bool is_full = length + 1 >= size;
        ssize_t count =
            ready > 0 ? read(fd, is_full ? rest : line + length, is_full ? sizeof rest : size - 1 - length)
                      : 0;
        if (count <= 0)
            break;
        if (!is_full)
            length += (size_t)count;
    }
    line[length] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

int reexec_check(char *why, size_t size)
{
    int ends[2];
    pid_t child;
    why[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) < 0) {
        snprintf(why, size, "cannot check it: %s", strerrordesc_np(errno));
        return -errno;
    }
    CLEANUP(fd_close) int reader = ends[0];
    int r = spawn_check(ends[1], &child);
    close(ends[1]);
    if (r < 0) {
        snprintf(why, size, "cannot be executed: %s", strerrordesc_np(-r));
        return r;
    }
    read_first_line(reader, why, size);
    /* It has ended, or closed its stderr and hangs. */
    int status = -1;
    bool is_killed = false;
    for (uint64_t until = clock_monotonic_usec() + USEC_PER_SEC; waitpid(child, &status, WNOHANG) == 0;) {
        if (clock_monotonic_usec() >= until)
            is_killed = kill(child, SIGKILL) == 0;
        clock_sleep(USEC_PER_MSEC);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (is_killed)
        snprintf(why, size, "its check of the settings did not end in %u seconds",
                 (unsigned)(CHECK_USEC / USEC_PER_SEC));
    else if (why[0] == '\0')
        snprintf(why, size, WIFEXITED(status) ? "it ends with status %d" : "it ends by signal %d",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return -ENOEXEC;
}

/* Marks the descriptor to survive, or not to, and names it. */
static void pass(FILE *names, int fd, const char *name, bool is_passed)
{
    (void)fcntl(fd, F_SETFD, is_passed ? 0 : FD_CLOEXEC); /* cannot fail: it is open */
    if (names)
        (void)fprintf(names, "%s%d=%s", ftell(names) > 0 ? ":" : "", fd, name);
}

static void pass_all(FILE *names, const struct handover_out *out, const struct acceptor *acceptor,
                     bool is_passed)
{
    pass(names, out->state_fd, HANDOVER_STATE, is_passed);
    for (size_t i = 0; i < out->queue.end_count; i++)
        pass(names, out->queue.ends[i], HANDOVER_QUEUE, is_passed);
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        const struct listener *listener = CONTAINER_OF(link, struct listener, link);
        pass(names, listener->source.fd, listener->passed_as ? listener->passed_as : HANDOVER_LISTENER,
             is_passed);
    }
}

int reexec_run(const struct handover_out *out, const struct acceptor *acceptor)
{
    CLEANUP(free_pointer) char *value = NULL;
    size_t size;
    FILE *names = open_memstream(&value, &size);
    if (!names)
        return -errno;
    pass_all(names, out, acceptor, true);
    int r = fclose(names) == EOF || setenv(REEXEC_VARIABLE, value, 1) < 0 ? -errno : 0;
    if (r == 0) {
        execv(own_path, own_argv);
        r = -errno;
    }
    pass_all(NULL, out, acceptor, false);
    unsetenv(REEXEC_VARIABLE);
    return r;
}
