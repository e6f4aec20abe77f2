#include "fault_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

/* ---- the wrappers ----
 *
 * ld(1) resolves NAME to __wrap_NAME everywhere in the executable, and __real_NAME to the library's function.
 */

#define WRAP(type, name, parameters, arguments, failed)                                                      \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        int error = fault(FAULT_##name, NULL);                                                               \
        if (error)                                                                                           \
            failed(error);                                                                                   \
        return __real_##name arguments;                                                                      \
    }

/* How the library reports errors. */
#define FAIL_ERRNO(error)                                                                                    \
    do {                                                                                                     \
        errno = (error);                                                                                     \
        return -1;                                                                                           \
    } while (0)
#define FAIL_NULL(error)                                                                                     \
    do {                                                                                                     \
        errno = (error);                                                                                     \
        return NULL;                                                                                         \
    } while (0)
#define FAIL_MAP(error)                                                                                      \
    do {                                                                                                     \
        errno = (error);                                                                                     \
        return MAP_FAILED;                                                                                   \
    } while (0)
#define FAIL_RETURN(error) return (error)
#define FAIL_NEGATIVE(error) return -(error)

/* Bytes in or out, which may be fewer. */
#define WRAP_BYTES(name, parameters, arguments)                                                              \
    ssize_t __real_##name parameters;                                                                        \
    ssize_t __wrap_##name parameters;                                                                        \
    ssize_t __wrap_##name parameters                                                                         \
    {                                                                                                        \
        int error = fault(FAULT_##name, &length);                                                            \
        if (error)                                                                                           \
            FAIL_ERRNO(error);                                                                               \
        return __real_##name arguments;                                                                      \
    }

WRAP_BYTES(recv, (int fd, void *bytes, size_t length, int flags), (fd, bytes, length, flags))
WRAP_BYTES(send, (int fd, const void *bytes, size_t length, int flags), (fd, bytes, length, flags))
WRAP_BYTES(read, (int fd, void *bytes, size_t length), (fd, bytes, length))
WRAP_BYTES(write, (int fd, const void *bytes, size_t length), (fd, bytes, length))
WRAP_BYTES(splice, (int from, loff_t *at, int to, loff_t *into, size_t length, unsigned flags),
           (from, at, to, into, length, flags))
WRAP(ssize_t, writev, (int fd, const struct iovec *items, int count), (fd, items, count), FAIL_ERRNO)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), FAIL_ERRNO)
WRAP(ssize_t, sendto,
     (int fd, const void *bytes, size_t length, int flags, const struct sockaddr *address, socklen_t size),
     (fd, bytes, length, flags, address, size), FAIL_ERRNO)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), FAIL_ERRNO)

WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length), FAIL_ERRNO)
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length),
     FAIL_ERRNO)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), FAIL_ERRNO)
WRAP(int, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),
     (fd, address, length, flags), FAIL_ERRNO)
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length),
     FAIL_ERRNO)
WRAP(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length),
     FAIL_ERRNO)
WRAP(int, getsockopt, (int fd, int level, int option, void *value, socklen_t *length),
     (fd, level, option, value, length), FAIL_ERRNO)
WRAP(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t length),
     (fd, level, option, value, length), FAIL_ERRNO)
WRAP(int, getaddrinfo,
     (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **list),
     (host, port, hints, list), FAIL_NEGATIVE)
WRAP(int, shutdown, (int fd, int how), (fd, how), FAIL_ERRNO)

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
    int error = fault(FAULT_socket, NULL);
    if (!error && family == AF_INET)
        error = fault(FAULT_socket_inet, NULL);
    if (!error && family == AF_INET6)
        error = fault(FAULT_socket_inet6, NULL);
    if (!error && family == AF_UNIX)
        error = fault(FAULT_socket_unix, NULL);
    if (error)
        FAIL_ERRNO(error);
    return __real_socket(family, type, protocol);
}

WRAP(int, pidfd_open, (pid_t process, unsigned flags), (process, flags), FAIL_ERRNO)
WRAP(int, pidfd_send_signal, (int process, int number, siginfo_t *info, unsigned flags),
     (process, number, info, flags), FAIL_ERRNO)

WRAP(int, epoll_create1, (int flags), (flags), FAIL_ERRNO)
WRAP(int, epoll_wait, (int fd, struct epoll_event *events, int count, int timeout),
     (fd, events, count, timeout), FAIL_ERRNO)
WRAP(int, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout), FAIL_ERRNO)
WRAP(int, ppoll, (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
     (fds, count, timeout, mask), FAIL_ERRNO)
WRAP(int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left), FAIL_ERRNO)
WRAP(int, eventfd, (unsigned count, int flags), (count, flags), FAIL_ERRNO)
WRAP(int, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags), FAIL_ERRNO)
WRAP(int, timerfd_create, (int clock, int flags), (clock, flags), FAIL_ERRNO)
WRAP(int, timerfd_settime, (int fd, int flags, const struct itimerspec *value, struct itimerspec *old),
     (fd, flags, value, old), FAIL_ERRNO)
WRAP(int, pipe2, (int fds[2], int flags), (fds, flags), FAIL_ERRNO)

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    int error = fault(FAULT_epoll_ctl, NULL);
    if (!error && operation == EPOLL_CTL_ADD)
        error = fault(FAULT_epoll_ctl_add, NULL);
    if (!error && operation == EPOLL_CTL_MOD)
        error = fault(FAULT_epoll_ctl_mod, NULL);
    if (!error && operation == EPOLL_CTL_DEL)
        error = fault(FAULT_epoll_ctl_del, NULL);
    if (error)
        FAIL_ERRNO(error);
    return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (thread, attributes, run, argument), FAIL_RETURN)
WRAP(int, pthread_mutex_init, (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes),
     (mutex, attributes), FAIL_RETURN)
WRAP(int, sigaction, (int number, const struct sigaction *action, struct sigaction *old),
     (number, action, old), FAIL_ERRNO)
WRAP(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old), FAIL_RETURN)
WRAP(int, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *set), (pid, size, set), FAIL_ERRNO)

WRAP(struct tm *, gmtime_r, (const time_t *time, struct tm *out), (time, out), FAIL_NULL)
WRAP(struct tm *, localtime_r, (const time_t *time, struct tm *out), (time, out), FAIL_NULL)
WRAP(ssize_t, getrandom, (void *bytes, size_t length, unsigned flags), (bytes, length, flags), FAIL_ERRNO)

WRAP(void *, malloc, (size_t size), (size), FAIL_NULL)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), FAIL_NULL)
WRAP(void *, realloc, (void *memory, size_t size), (memory, size), FAIL_NULL)
WRAP(void *, reallocarray, (void *memory, size_t count, size_t size), (memory, count, size), FAIL_NULL)
WRAP(char *, strdup, (const char *text), (text), FAIL_NULL)
WRAP(char *, strndup, (const char *text, size_t length), (text, length), FAIL_NULL)
WRAP(int, vasprintf, (char **out, const char *format, va_list arguments), (out, format, arguments),
     FAIL_ERRNO)

int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *format, ...)
{
    int error = fault(FAULT_asprintf, NULL);
    if (error)
        FAIL_ERRNO(error);
    va_list arguments;
    va_start(arguments, format);
    int r = __real_vasprintf(out, format, arguments);
    va_end(arguments);
    return r;
}

/* What the two are called under _FORTIFY_SOURCE. */
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list arguments);
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list arguments)
{
    (void)flag;
    return __wrap_vasprintf(out, format, arguments);
}

int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
    (void)flag;
    int error = fault(FAULT_asprintf, NULL);
    if (error)
        FAIL_ERRNO(error);
    va_list arguments;
    va_start(arguments, format);
    int r = __real_vasprintf(out, format, arguments);
    va_end(arguments);
    return r;
}

WRAP(FILE *, open_memstream, (char **bytes, size_t *size), (bytes, size), FAIL_NULL)
WRAP(FILE *, fdopen, (int fd, const char *mode), (fd, mode), FAIL_NULL)
WRAP(FILE *, fmemopen, (void *bytes, size_t size, const char *mode), (bytes, size, mode), FAIL_NULL)
WRAP(int, fflush, (FILE * stream), (stream), FAIL_ERRNO)
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), FAIL_ERRNO)
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), FAIL_ERRNO)
WRAP(int, access, (const char *path, int mode), (path, mode), FAIL_ERRNO)
WRAP(int, unlink, (const char *path), (path), FAIL_ERRNO)
WRAP(int, execv, (const char *path, char *const argv[]), (path, argv), FAIL_ERRNO)
WRAP(int, execvpe, (const char *file, char *const argv[], char *const environment[]),
     (file, argv, environment), FAIL_ERRNO)
WRAP(pid_t, fork, (void), (), FAIL_ERRNO)
WRAP(int, kill, (pid_t pid, int number), (pid, number), FAIL_ERRNO)
WRAP(int, rename, (const char *from, const char *to), (from, to), FAIL_ERRNO)
WRAP(int, posix_spawn,
     (pid_t * child, const char *path, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]),
     (child, path, actions, attributes, argv, environment), FAIL_RETURN)
WRAP(int, socketpair, (int domain, int type, int protocol, int pair[2]), (domain, type, protocol, pair),
     FAIL_ERRNO)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), FAIL_ERRNO)

/* Functions with two names: _FILE_OFFSET_BITS=64, which Meson sets, makes the C library's headers say NAME64.
 */
#define WRAP_LARGE(type, name, parameters, arguments, failed)                                                \
    WRAP(type, name, parameters, arguments, failed)                                                          \
    type __real_##name##64 parameters;                                                                       \
    type __wrap_##name##64 parameters;                                                                       \
    type __wrap_##name##64 parameters                                                                        \
    {                                                                                                        \
        int error = fault(FAULT_##name, NULL);                                                               \
        if (error)                                                                                           \
            failed(error);                                                                                   \
        return __real_##name##64 arguments;                                                                  \
    }

WRAP_LARGE(void *, mmap, (void *at, size_t length, int protection, int flags, int fd, off_t offset),
           (at, length, protection, flags, fd, offset), FAIL_MAP)
WRAP_LARGE(ssize_t, pwrite, (int fd, const void *bytes, size_t length, off_t offset),
           (fd, bytes, length, offset), FAIL_ERRNO)
WRAP(char *, fgets, (char *text, int size, FILE *file), (text, size, file), FAIL_NULL)
WRAP_LARGE(int, mkostemp, (char *path, int flags), (path, flags), FAIL_ERRNO)
WRAP_LARGE(FILE *, fopen, (const char *path, const char *mode), (path, mode), FAIL_NULL)
WRAP_LARGE(int, fstat, (int fd, struct stat *out), (fd, out), FAIL_ERRNO)
WRAP_LARGE(int, stat, (const char *path, struct stat *out), (path, out), FAIL_ERRNO)
WRAP_LARGE(int, lstat, (const char *path, struct stat *out), (path, out), FAIL_ERRNO)
WRAP_LARGE(int, getrlimit, (int resource, struct rlimit *out), (resource, out), FAIL_ERRNO)
WRAP_LARGE(int, setrlimit, (int resource, const struct rlimit *limit), (resource, limit), FAIL_ERRNO)

/* Variadic ones: the third argument is passed on as the kernel takes it. */
#define WRAP_OPEN(name)                                                                                      \
    int __real_##name(const char *path, int flags, ...);                                                     \
    int __wrap_##name(const char *path, int flags, ...);                                                     \
    int __wrap_##name(const char *path, int flags, ...)                                                      \
    {                                                                                                        \
        int error = fault(FAULT_open, NULL);                                                                 \
        if (error)                                                                                           \
            FAIL_ERRNO(error);                                                                               \
        mode_t mode = 0;                                                                                     \
        if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {                                    \
            va_list arguments;                                                                               \
            va_start(arguments, flags);                                                                      \
            mode = va_arg(arguments, mode_t);                                                                \
            va_end(arguments);                                                                               \
        }                                                                                                    \
        return __real_##name(path, flags, mode);                                                             \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)

/* What they are called under _FORTIFY_SOURCE, unless the flags are a constant. */
int __wrap___open_2(const char *path, int flags);
int __wrap___open_2(const char *path, int flags)
{
    return __wrap_open(path, flags);
}

int __wrap___open64_2(const char *path, int flags);
int __wrap___open64_2(const char *path, int flags)
{
    return __wrap_open64(path, flags);
}

#define WRAP_CONTROL(symbol, name, command_type)                                                             \
    int __real_##symbol(int fd, command_type command, ...);                                                  \
    int __wrap_##symbol(int fd, command_type command, ...);                                                  \
    int __wrap_##symbol(int fd, command_type command, ...)                                                   \
    {                                                                                                        \
        int error = fault(FAULT_##name, NULL);                                                               \
        if (error)                                                                                           \
            FAIL_ERRNO(error);                                                                               \
        va_list arguments;                                                                                   \
        va_start(arguments, command);                                                                        \
        void *argument = va_arg(arguments, void *);                                                          \
        va_end(arguments);                                                                                   \
        return __real_##symbol(fd, command, argument);                                                       \
    }

WRAP_CONTROL(fcntl, fcntl, int)
WRAP_CONTROL(fcntl64, fcntl, int)
WRAP_CONTROL(ioctl, ioctl, unsigned long)

int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);
int __wrap_prctl(int option, ...)
{
    int error = fault(FAULT_prctl, NULL);
    if (error)
        FAIL_ERRNO(error);
    va_list arguments;
    va_start(arguments, option);
    unsigned long argument = va_arg(arguments, unsigned long);
    va_end(arguments);
    return __real_prctl(option, argument, 0UL, 0UL, 0UL);
}

WRAP(int, sd_notify_barrier, (int unset, uint64_t timeout), (unset, timeout), FAIL_NEGATIVE)
WRAP(int, sd_pid_notify_with_fds, (pid_t pid, int unset, const char *state, const int *fds, unsigned count),
     (pid, unset, state, fds, count), FAIL_NEGATIVE)
WRAP(int, sd_listen_fds, (int unset), (unset), FAIL_NEGATIVE)
WRAP(int, sd_listen_fds_with_names, (int unset, char ***names), (unset, names), FAIL_NEGATIVE)
WRAP(int, sd_watchdog_enabled, (int unset, uint64_t *usec), (unset, usec), FAIL_NEGATIVE)
WRAP(int, sd_journal_sendv, (const struct iovec *items, int count), (items, count), FAIL_NEGATIVE)
