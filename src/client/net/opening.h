/* What a connection begins with, before the first byte of its own: a header of the PROXY protocol that we
 * send, and a greeting of the server that is thrown away. Any thread, but for opening_parse_source. */
#pragma once

#include "client/net/source.h"

#define OPENING_ENDED "closed by the server before its greeting was whole"

/* Where a connection is in it; all zeros before. */
struct opening_progress {
    bool is_connected; /* and the header is sent */
    bool has_line;
    bool has_ended; /* OPENING_ENDED */
    uint64_t skipped;
    uint64_t greeted; /* bytes of the greeting that came */
};

/* "192.0.2.1:1234" or "[2001:db8::1]:1234". Main thread. Returns 0, or an exit status after one line on
 * stderr. */
int opening_parse_source(const char *text, struct opening *opening);

/* The socket is ready: goes on as far as that goes without waiting. `opening` is NULL for none. Returns 0
 * when the connection is open; -EAGAIN: it is connected, and the greeting is waited for: look again when it
 * can be read; or another negative errno, after which it is to be closed: -ECONNRESET, with
 * progress->has_ended where the server has closed it in order. */
int opening_go_on(const struct opening *opening, struct opening_progress *progress, int fd);
