/* Between faults.c, which knows the rules, and fault_wrappers.c, which has a wrapper for each call. */
#pragma once

#include <stddef.h>

#define FAULT_CALLS(X)                                                                                       \
    X(accept4)                                                                                               \
    X(access)                                                                                                \
    X(asprintf)                                                                                              \
    X(bind)                                                                                                  \
    X(calloc)                                                                                                \
    X(chmod)                                                                                                 \
    X(connect)                                                                                               \
    X(epoll_create1)                                                                                         \
    X(epoll_ctl)                                                                                             \
    X(epoll_ctl_add)                                                                                         \
    X(epoll_ctl_del)                                                                                         \
    X(epoll_ctl_mod)                                                                                         \
    X(epoll_wait)                                                                                            \
    X(eventfd)                                                                                               \
    X(execv)                                                                                                 \
    X(execvpe)                                                                                               \
    X(fchmod)                                                                                                \
    X(fcntl)                                                                                                 \
    X(fdopen)                                                                                                \
    X(fflush)                                                                                                \
    X(fgets)                                                                                                 \
    X(fmemopen)                                                                                              \
    X(fopen)                                                                                                 \
    X(fork)                                                                                                  \
    X(fstat)                                                                                                 \
    X(getaddrinfo)                                                                                           \
    X(getpeername)                                                                                           \
    X(getrandom)                                                                                             \
    X(getrlimit)                                                                                             \
    X(getsockname)                                                                                           \
    X(getsockopt)                                                                                            \
    X(gmtime_r)                                                                                              \
    X(ioctl)                                                                                                 \
    X(kill)                                                                                                  \
    X(listen)                                                                                                \
    X(localtime_r)                                                                                           \
    X(lstat)                                                                                                 \
    X(malloc)                                                                                                \
    X(memfd_create)                                                                                          \
    X(mkostemp)                                                                                              \
    X(mmap)                                                                                                  \
    X(nanosleep)                                                                                             \
    X(open)                                                                                                  \
    X(open_memstream)                                                                                        \
    X(pidfd_open)                                                                                            \
    X(pidfd_send_signal)                                                                                     \
    X(pipe2)                                                                                                 \
    X(poll)                                                                                                  \
    X(posix_spawn)                                                                                           \
    X(ppoll)                                                                                                 \
    X(prctl)                                                                                                 \
    X(pthread_create)                                                                                        \
    X(pthread_mutex_init)                                                                                    \
    X(pthread_sigmask)                                                                                       \
    X(pwrite)                                                                                                \
    X(read)                                                                                                  \
    X(realloc)                                                                                               \
    X(reallocarray)                                                                                          \
    X(recv)                                                                                                  \
    X(recvmsg)                                                                                               \
    X(rename)                                                                                                \
    X(sched_getaffinity)                                                                                     \
    X(sd_journal_sendv)                                                                                      \
    X(sd_listen_fds)                                                                                         \
    X(sd_listen_fds_with_names)                                                                              \
    X(sd_notify_barrier)                                                                                     \
    X(sd_pid_notify_with_fds)                                                                                \
    X(sd_watchdog_enabled)                                                                                   \
    X(send)                                                                                                  \
    X(sendmsg)                                                                                               \
    X(sendto)                                                                                                \
    X(setrlimit)                                                                                             \
    X(setsockopt)                                                                                            \
    X(shutdown)                                                                                              \
    X(sigaction)                                                                                             \
    X(signalfd)                                                                                              \
    X(socket)                                                                                                \
    X(socket_inet)                                                                                           \
    X(socket_inet6)                                                                                          \
    X(socket_unix)                                                                                           \
    X(socketpair)                                                                                            \
    X(splice)                                                                                                \
    X(stat)                                                                                                  \
    X(strdup)                                                                                                \
    X(strndup)                                                                                               \
    X(timerfd_create)                                                                                        \
    X(timerfd_settime)                                                                                       \
    X(unlink)                                                                                                \
    X(vasprintf)                                                                                             \
    X(write)                                                                                                 \
    X(writev)

#define FAULT_ID(name) FAULT_##name,
enum fault_call { FAULT_CALLS(FAULT_ID) FAULT_CALL_COUNT };
#undef FAULT_ID

/* Counts this call. Returns the error to fail it with, or 0 to make it, with *length made shorter when a rule
 * says so; `length` is NULL for what has none. Keeps errno. Any thread. */
int fault(enum fault_call call, size_t *length);
