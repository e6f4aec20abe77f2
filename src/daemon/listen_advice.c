#include "daemon/listen_advice.h"

#include "base/cleanup.h"
#include "serve/socket_path.h"
#include "settings/listener_settings.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Flags of an address in /proc/self/net/if_inet6: IFA_F_ of <linux/if_addr.h>, rtnetlink(7). */
#define IS_DUPLICATE 0x08
#define IS_TENTATIVE 0x40

/* Where the kernel does not say (ip(7), ip_unprivileged_port_start). */
#define USUAL_UNPRIVILEGED_PORT 1024

static unsigned first_unprivileged_port(void)
{
    CLEANUP(close_stream) FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    unsigned port;
    return file && fscanf(file, "%u", &port) == 1 ? port : USUAL_UNPRIVILEGED_PORT;
}

/* ---- Paths ---- */

static bool may_write_directory(const char *path)
{
    char directory[LISTENER_PLACE_SIZE];
    const char *end = strrchr(path, '/');
    size_t length = end > path ? (size_t)(end - path) : 1;
    snprintf(directory, sizeof directory, "%.*s", (int)length, path);
    return euidaccess(directory, W_OK | X_OK) == 0;
}

static bool is_anothers(const char *path, struct stat *there)
{
    return lstat(path, there) == 0 && there->st_uid != geteuid();
}

/* EACCES and EPERM: of the directory, of what is in it, or of neither. */
static const char *refused_path_advice(const char *path, char *out)
{
    char lock[LISTENER_PLACE_SIZE + sizeof SOCKET_PATH_LOCK];
    struct stat there;
    snprintf(lock, sizeof lock, "%s" SOCKET_PATH_LOCK, path);
    if (!may_write_directory(path))
        return "the directory must be writable for this user; the service's is /run/tcpechod "
               "(RuntimeDirectory=)";
    if (is_anothers(path, &there))
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "a socket of another user (uid %u) is at this path, and this user may not see whether it is "
                 "served, or may not remove it; remove it, or choose another path",
                 (unsigned)there.st_uid);
    else if (is_anothers(lock, &there))
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "the lock file %s belongs to another user (uid %u); remove it, or choose another path", lock,
                 (unsigned)there.st_uid);
    else
        return "a security policy or the file system does not allow a socket here; choose another path";
    return out;
}

static const char *path_advice(const char *path, int error, char *out)
{
    switch (error) {
    case EADDRINUSE:
        return "another process serves this path ('ss -xlp' shows which); stop it, or choose another path";
    case EACCES:
    case EPERM:
        return refused_path_advice(path, out);
    case EROFS:
        return "the directory must be writable; the service's is /run/tcpechod (RuntimeDirectory=)";
    case EEXIST:
        return "there is a file that is no socket at this path; move it away, or choose another path";
    case ENOENT:
        return "the directory does not exist; make it, or choose another path";
    case ENOTDIR:
        return "a part of this path is a file and no directory; choose another path";
    case ENOSPC:
    case EDQUOT:
        return "the file system has no room for a socket; make room, or choose another path";
    case EBUSY:
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "%s" SOCKET_PATH_LOCK
                 " is held by another process ('fuser' shows which), or is no lock file; "
                 "remove it, or choose another path",
                 path);
        return out;
    case ELOOP:
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "%s" SOCKET_PATH_LOCK " is a symbolic link, or those of the path lead in a circle; remove "
                 "it, or choose another path",
                 path);
        return out;
    case ESTALE:
        return "another process has put something else at this path at once; choose a directory that nobody "
               "else may write to";
    case ENOLCK:
        return "the file system has no locks; choose another path";
    default:
        return "see bind(2) and unix(7)";
    }
}

/* ---- Addresses ---- */

/* What the kernel has of this IPv6 address, on any interface or on that of its scope. Returns false when it
 * has none, or cannot be asked. */
static bool find_ipv6(const struct address *address, unsigned *flags, char interface[static IF_NAMESIZE])
{
    CLEANUP(close_stream) FILE *file = fopen("/proc/self/net/if_inet6", "re");
    char wanted[2 * sizeof address->ip + 1], line[128];
    for (size_t i = 0; i < sizeof address->ip; i++)
        snprintf(wanted + 2 * i, 3, "%02x", address->ip[i]);
    while (file && fgets(line, sizeof line, file)) {
        char ip[33];
        unsigned index;
        if (sscanf(line, "%32s %x %*x %*x %x %15s", ip, &index, flags, interface) == 4 &&
            strcmp(ip, wanted) == 0 && (address->scope == 0 || address->scope == index))
            return true;
    }
    return false;
}

static const char *no_address_advice(const struct listener_settings *settings, char *out)
{
    const struct address *at = &settings->at;
    char interface[IF_NAMESIZE];
    unsigned flags;
    if (at->family == AF_INET6 && find_ipv6(at, &flags, interface) && flags & (IS_DUPLICATE | IS_TENTATIVE)) {
        snprintf(out, LISTEN_ADVICE_SIZE,
                 flags & IS_DUPLICATE
                     ? "%s has this address, but another host on the link has it as well ('ip address' says "
                       "dadfailed); give one of the two another address"
                     : "%s has this address, but does not know yet whether another host has it ('ip address' "
                       "says tentative); start again in a moment, or after network-online.target",
                 interface);
        return out;
    }
    if (address_is_loopback(at))
        return at->family == AF_INET6
                   ? "the loopback interface has no IPv6 (net.ipv6.conf.lo.disable_ipv6); switch it on, or "
                     "use 127.0.0.1"
                   : "the loopback interface does not have this address; is it up ('ip link set lo up')?";
    if (at->scope != 0)
        return "this interface does not have this address ('ip address' lists them)";
    return "no interface of this host has this address ('ip address' lists them)";
}

static const char *ip_advice(const struct listener_settings *settings, int error, char *out)
{
    unsigned unprivileged;
    switch (error) {
    case EADDRINUSE:
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "another socket has this port, a listener's or a connection's ('ss -tanp sport = :%u' shows "
                 "it); end its process, or choose another port",
                 settings->port);
        return out;
    case EACCES:
        unprivileged = first_unprivileged_port();
        if (settings->port == 0 || settings->port >= unprivileged)
            return "a security policy of this host does not allow it; see its log, or choose another port";
        snprintf(out, LISTEN_ADVICE_SIZE,
                 "a port under %u needs CAP_NET_BIND_SERVICE (root, or systemd's AmbientCapabilities=), or "
                 "choose a port from %u on",
                 unprivileged, unprivileged);
        return out;
    case EPERM:
        return "a policy of this service or host does not allow it (SocketBindDeny=, SystemCallFilter=); "
               "change it, or choose another port";
    case EADDRNOTAVAIL:
        return no_address_advice(settings, out);
    case EAFNOSUPPORT:
        return "this host has no IPv6; take the listener out, or use an IPv4 address";
    case EPFNOSUPPORT:
        return "this service may make no IP sockets (RestrictAddressFamilies=); have tcpechod.socket pass "
               "this one (ListenStream=), or take the listener out";
    case ENODEV:
        return "there is no such interface";
    default:
        return "see bind(2), listen(2), ip(7) and tcp(7)";
    }
}

const char *listen_advice(const struct listener_settings *settings, int error,
                          char out[static LISTEN_ADVICE_SIZE])
{
    switch (error) {
    case EMFILE:
        return "the descriptor limit is too low; raise it (LimitNOFILE=, ulimit -n)";
    case ENFILE:
        return "the whole system has no descriptor left; raise its limit (sysctl fs.file-max)";
    case ENOMEM:
    case ENOBUFS:
        return "the kernel has no memory for it, or this service may take no more (MemoryMax=)";
    default:
        return settings->path ? path_advice(settings->path, error, out) : ip_advice(settings, error, out);
    }
}
