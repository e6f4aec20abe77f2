#include "client/session.h"

#include "base/cleanup.h"
#include "base/descriptor_limit.h"
#include "client/net/opening.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/terminal.h"

#include <string.h>

/* Standard streams, signals, the coordinator's loop, what a parent left open. */
#define SUNDRY_DESCRIPTORS 16

/* POSIX promises so many; a kernel that does not tell its limit keeps a stricter one with EMFILE. */
#define LEAST_DESCRIPTORS 20

int session_fail(const char *what, int error)
{
    print_error("cannot %s: %s", what, strerror(error));
    return EXIT_SYSTEM;
}

uint64_t session_raise_descriptors(uint64_t own, uint64_t *limit)
{
    (void)descriptor_limit_raise(limit); /* what cannot be raised has to do */
    if (*limit == 0)
        *limit = LEAST_DESCRIPTORS;
    return descriptor_limit_room(*limit, own + SUNDRY_DESCRIPTORS);
}

int session_begin(struct session *session, const struct client_options *options)
{
    *session = SESSION_NONE;
    session->options = options;
    if (options->tos_given)
        session->source.tos = (int)options->tos;
    session->source.opening = (struct opening){.proxy_version = (unsigned)options->proxy_protocol,
                                               .skip_line = options->skip_line,
                                               .skip = options->skip};
    if (options->proxy_source) {
        int status = opening_parse_source(options->proxy_source, &session->source.opening);
        if (status != 0)
            return status;
    }
    return options->source ? source_parse(options->source, &session->source) : 0;
}

int session_look_up(const struct session *session, const char *host, struct target *out)
{
    const struct client_options *options = session->options;
    int family = options->ipv4 ? AF_INET : options->ipv6 ? AF_INET6 : AF_UNSPEC;
    if (options->listen)
        return target_resolve_local(options->listen, family, out);
    /* The second operand of --ping is a host where it is no port. */
    bool may_be_service = options->host_count > 1 && !options->port && !strpbrk(host, ".:");
    const char *advice = may_be_service ? "; it is no service either, and -p PORT gives the port" : "";
    int status = target_resolve(host, options->port, family, advice, out);
    return status == 0 ? target_limit(out, &session->source) : status;
}

int session_start(struct session *session)
{
    session->interrupt_fd = interrupt_open();
    if (session->interrupt_fd < 0)
        return session_fail("wait for signals", -session->interrupt_fd);
    int r = output_open(&session->output, session->interrupt_fd);
    return r < 0 ? session_fail("write to stdout", -r) : 0;
}

int session_open(struct session *session, const struct client_options *options)
{
    int status = session_begin(session, options);
    if (status == 0)
        status = session_look_up(session, options->host, &session->target);
    /* After the look-up, which nothing but a signal ends. */
    return status == 0 ? session_start(session) : status;
}

void session_set_peer(struct session *session, int fd, const struct endpoint *endpoint)
{
    session->fd = fd;
    session->endpoint = *endpoint;
    endpoint_format(endpoint, session->peer);
}

int session_dial(struct session *session, const struct client_options *options)
{
    struct dialled dialled;
    int status = session_open(session, options);
    if (status == 0)
        status = dial(&session->target, options->connect_timeout_usec, session->interrupt_fd, &dialled);
    if (status != 0)
        return status;
    session->connect_nsec = dialled.nsec;
    memcpy(session->tried, dialled.tried, sizeof session->tried);
    session_set_peer(session, dialled.fd, &session->target.items[dialled.chosen]);
    return 0;
}

int session_connect(struct session *session, const struct client_options *options)
{
    int status = session_dial(session, options);
    if (status == EXIT_INTERRUPTED)
        interrupt_die();
    return status;
}

void session_close(struct session *session)
{
    output_close(&session->output);
    fd_close(&session->fd);
    fd_close(&session->interrupt_fd);
    target_clear(&session->target);
    source_clear(&session->source);
}
