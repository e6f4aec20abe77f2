#include "daemon/fixture.h"

#include "base/cleanup.h"
#include "daemon/daemon_log.h"
#include "daemon/options.h"
#include "daemon/port_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* As a shell, env(1) and others have them. */
#define STATUS_CANNOT_EXECUTE 126
#define STATUS_NOT_FOUND 127
#define STATUS_SIGNAL 128 /* and its number */

#define PREFIX "TCPECHOD_"

void fixture_remember(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    pthread_sigmask(SIG_SETMASK, NULL, &fixture->mask); /* these cannot fail */
    sigaction(SIGPIPE, NULL, &fixture->on_broken_pipe);
    sigaction(SIGXFSZ, NULL, &fixture->on_long_file);
    sigaction(SIGCHLD, NULL, &fixture->on_child);
    fixture->has_limit = getrlimit(RLIMIT_NOFILE, &fixture->descriptors) == 0;
}

/* "TCPECHOD_1=..." or "TCPECHOD_1_PORT=..." */
static bool is_ours(const char *entry)
{
    if (strncmp(entry, PREFIX, strlen(PREFIX)) != 0)
        return false;
    const char *number = entry + strlen(PREFIX);
    size_t digits = strspn(number, "0123456789");
    return digits > 0 && (number[digits] == '=' || strncmp(number + digits, "_PORT=", 6) == 0);
}

static bool add(char ***end, char *entry)
{
    if (entry)
        *(*end)++ = entry;
    return entry != NULL;
}

static bool add_listener(char ***end, const struct listener *listener)
{
    char place[CLIENT_PLACE_SIZE], *entry;
    if (listener->row == 0)
        return true;
    if (asprintf(&entry, PREFIX "%u=%s", listener->row, client_place(listener, place)) < 0)
        return false;
    add(end, entry);
    if (listener->listen_address.path)
        return true;
    if (asprintf(&entry, PREFIX "%u_PORT=%" PRIu16, listener->row, listener->port) < 0)
        return false;
    return add(end, entry);
}

char **fixture_variables(char *const *inherited, const struct acceptor *acceptor)
{
    size_t count = 0;
    while (inherited[count])
        count++;
    CLEANUP(fixture_free_variables)
    char **variables = calloc(count + 2 * (size_t)acceptor->listener_count + 1, sizeof *variables);
    char **end = variables;
    if (!variables)
        return NULL;
    for (; *inherited; inherited++)
        if (!is_ours(*inherited) && !add(&end, strdup(*inherited)))
            return NULL;
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        if (!add_listener(&end, CONTAINER_OF(link, struct listener, link)))
            return NULL;
    }
    return TAKE_PTR(variables);
}

void fixture_free_variables(char ***variables)
{
    for (char **entry = *variables; entry && *entry; entry++)
        free(*entry);
    free(*variables);
    *variables = NULL;
}

static struct iovec part(const char *text)
{
    return (struct iovec){.iov_base = (char *)text, .iov_len = strlen(text)};
}

/* The other threads are gone, and with them whoever held a lock: from here to execve(2) only what may be
 * called from a signal handler (signal-safety(7)). */
static void __attribute__((noreturn)) run(const struct fixture *fixture, pid_t parent, char **variables)
{
    int status = EXIT_STATUS_SYSTEM;
    if (prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL) == 0 &&
        (!fixture->has_limit || setrlimit(RLIMIT_NOFILE, &fixture->descriptors) == 0)) {
        /* The daemon may have died before that was asked for. */
        if (getppid() != parent)
            _exit(EXIT_STATUS_SYSTEM);
        sigaction(SIGPIPE, &fixture->on_broken_pipe, NULL); /* these cannot fail */
        sigaction(SIGXFSZ, &fixture->on_long_file, NULL);
        sigaction(SIGCHLD, &fixture->on_child, NULL);
        pthread_sigmask(SIG_SETMASK, &fixture->mask, NULL);
        execvpe(fixture->command[0], fixture->command, variables);
        status = errno == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_EXECUTE;
    }
    const struct iovec message[] = {
        part("tcpechod: cannot run "),
        part(fixture->command[0]),
        part(": "),
        part(strerrordesc_np(errno)),
        part("\n"),
    };
    (void)!writev(STDERR_FILENO, message, sizeof message / sizeof message[0]); /* nobody is left to tell */
    _exit(status);
}

int fixture_start(struct fixture *fixture, const struct acceptor *acceptor, struct problems *problems)
{
    if (!fixture->command)
        return 0;
    CLEANUP(fixture_free_variables) char **variables = fixture_variables(environ, acceptor);
    pid_t parent = getpid();
    pid_t child = variables ? fork() : -1;
    if (child == 0)
        run(fixture, parent, variables);
    if (child < 0) {
        char what[128];
        int error = variables ? errno : ENOMEM;
        snprintf(what, sizeof what, "cannot start %.64s", fixture->command[0]);
        daemon_log_system_error(problems, what, error);
        return -error;
    }
    fixture->pid = child;
    return 0;
}

bool fixture_runs(const struct fixture *fixture)
{
    return fixture->pid > 0;
}

bool fixture_passes_on(const struct fixture *fixture, const struct signalfd_siginfo *info)
{
    int number = (int)info->ssi_signo;
    bool is_its = number == SIGTERM || number == SIGINT || (number == SIGHUP && info->ssi_code != SI_QUEUE);
    if (!is_its || !fixture_runs(fixture))
        return false;
    /* The terminal has sent it to the command as well, by itself: Ctrl-C, or its end. */
    if (info->ssi_code != SI_KERNEL)
        fixture_signal(fixture, number);
    return true;
}

void fixture_signal(const struct fixture *fixture, int number)
{
    /* Its number is nobody else's before it has been waited for. */
    if (kill(fixture->pid, number) == 0)
        return;
    char what[64];
    int error = errno;
    snprintf(what, sizeof what, "cannot send SIG%s to the command", sigabbrev_np(number));
    daemon_log_system_error(NULL, what, error);
}

int fixture_ended(struct fixture *fixture, int status, char how[static FIXTURE_END_SIZE])
{
    bool is_killed = WIFSIGNALED(status);
    int number = is_killed ? WTERMSIG(status) : WEXITSTATUS(status);
    fixture->pid = 0;
    snprintf(how, FIXTURE_END_SIZE,
             is_killed ? "its command was ended by signal %d" : "its command has ended with status %d",
             number);
    return is_killed ? STATUS_SIGNAL + number : number;
}

void fixture_end(struct fixture *fixture)
{
    if (!fixture_runs(fixture))
        return;
    if (kill(fixture->pid, SIGKILL) == 0) /* it may have become another user's */
        waitpid(fixture->pid, NULL, 0);
    fixture->pid = 0;
}
