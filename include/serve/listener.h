/* A listening socket, and what its clients are served under.
 *
 * The socket belongs to the listener from listener_open or listener_adopt to listener_close; a client's
 * descriptor belongs to the caller of listener_accept. Main thread.
 *
 * A socket that was passed belongs to the service manager as well: it goes on listening when this process has
 * closed its descriptor. So its path, its mode and who waits in its backlog are left alone. The same holds
 * for one of our own once another process goes on with it. */
#pragma once

#include "base/address.h"
#include "base/event_loop.h"
#include "base/list.h"
#include "serve/service_config.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Where to listen. */
struct listen_address {
    bool any;          /* every address, IPv4 and IPv6; else: */
    struct address at; /* with the port; or: */
    const char *path;  /* AF_UNIX; NULL otherwise */
    uint16_t port;     /* 0: the kernel picks one */
    mode_t mode;       /* of the path */
};

/* What a reload may change while the socket stays. */
struct socket_settings {
    int backlog;
    unsigned keepalive_sec;     /* idle before probes; 0: off (tcp(7), TCP_KEEPIDLE) */
    unsigned user_timeout_msec; /* until unread bytes break the connection; 0: the system's own (RFC 5482) */
    int unsent_limit;           /* bytes that the kernel takes before it can send them, and a segment more
                                   (tcp(7), TCP_NOTSENT_LOWAT); 0: the system's own */
};

struct acceptor;

struct listener {
    struct event_source source;
    struct list link;
    struct acceptor *acceptor;
    unsigned row;                         /* of the settings, from 1; 0: it is in none */
    uint64_t id;                          /* unique for the life of the daemon, from 1 */
    struct listen_address listen_address; /* `path` is the listener's own copy */
    struct stat inode;                    /* of the path: socket_path.h */
    char *passed_as; /* the service manager's name for a socket of its own; NULL: opened here */
    uint16_t port;   /* that it is bound to, also when the kernel picked it; 0 for a path */
    char name[128];  /* "127.0.0.1:7", "*:7", or the path (unix(7): 107 bytes) */
    char lacks[128]; /* "SO_OOBINLINE, TCP_USER_TIMEOUT": options that this kind of socket has not */
    bool is_stopped; /* see listener_stop_handshakes */
    bool is_left;    /* see listener_leave */
    bool without_v6; /* 0.0.0.0 in place of `any`, on a host that has no IPv6 */
    uint64_t number; /* of the connection that was admitted last; from 1 again when what goes wrong changes */
    struct service_config *config;
};

/* Without a socket; for listener_open and listener_adopt. NULL: no memory. */
struct listener *listener_new(void);

/* The last id that was given, and the same of a process whose listeners this one goes on with: those that are
 * made from now on have later ones. */
uint64_t listener_last_id(void);
void listener_restore_last_id(uint64_t id);

/* Opens, binds and listens; nothing is accepted yet. Returns 0 with *out owned by the caller, or a negative
 * errno: -EADDRINUSE, -EACCES (a port under 1024), -EADDRNOTAVAIL, -EAFNOSUPPORT (no IPv6), -EPFNOSUPPORT
 * (this process may make no IP sockets at all), and others of socket(2), bind(2), ip(7) and unix(7). With
 * `shares`, sockets of this process that are open with listener_share may overlap. */
int listener_open(const struct listen_address *listen_address, const struct socket_settings *settings,
                  bool shares, struct listener **out);

/* Takes over a socket that the service manager has made, named `name` there, or that a process before has
 * made and left to this one (NULL). Its place is read from the socket; the options wait for
 * listener_configure. Returns 0 with *out owned by the caller and `fd` by the listener; or a negative errno
 * with `fd` still the caller's: -ENOTSOCK, -EAFNOSUPPORT (neither IP nor Unix), -ESOCKTNOSUPPORT (no stream),
 * -EPROTONOSUPPORT (a stream of another protocol than TCP and MPTCP: not all of those can be half-closed),
 * -EINVAL (does not listen), -EDESTADDRREQ (Unix, without a path), -ENOMEM, and others of getsockopt(2),
 * getsockname(2) and fcntl(2). */
int listener_adopt(int fd, const char *name, struct listener **out);

/* Allows another listener of this process to bind an address that overlaps this one's, or forbids it again.
 * For the moment of a reload in which both exist: an address that is in use by another process must stay an
 * error. */
void listener_share(struct listener *listener, bool shares);

/* Applies to the socket, and to the clients accepted from now on, who inherit it; `mode` to a path that is
 * our own. What this kind of socket has not, such as MPTCP (RFC 8684), is noted in `lacks` and no error.
 * Returns 0 or a negative errno. */
int listener_configure(struct listener *listener, mode_t mode, const struct socket_settings *settings);

/* Takes over the reference. */
void listener_set_config(struct listener *listener, struct service_config *config);

/* Whether its socket can serve this endpoint; the mode of a path can be changed and does not matter. A
 * listener whose path was taken away or is somebody else's by now is not there any more, unless its socket
 * was passed: then the path is none of ours, and need not even be visible from here. */
bool listener_is_at(const struct listener *listener, const struct listen_address *listen_address);

/* Another process goes on with the socket. */
void listener_leave(struct listener *listener);

/* Whether this process alone says what becomes of the socket. */
bool listener_is_own(const struct listener *listener);

/* No handshake begins any more: the kernel drops what would (ip(7), IP_MINTTL), and those clients
 * try again or go elsewhere; a path is removed. Those who have begun can still be accepted in a moment. A
 * close alone would reset them. Does nothing to a socket that is not our own. */
void listener_stop_handshakes(struct listener *listener);

/* Returns 0 with *fd and *client set, -EAGAIN when nobody waits, -ECONNABORTED when that client is gone
 * already (go on with the next), -EMFILE when descriptors or memory are short, for this process or the system
 * (wait), or another negative errno. The descriptor is the caller's, non-blocking and close-on-exec. */
int listener_accept(struct listener *listener, int *fd, struct address *client);

/* Closes, removes a path of our own and frees. Not in a loop any more. NULL does nothing. */
void listener_close(struct listener *listener);
