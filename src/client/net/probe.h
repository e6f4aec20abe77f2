/* One connection of tcpecho --watch: messages whose answers are checked byte by byte, and how it came to its
 * end.
 *
 *     probe_init -> probe_start -> probe_send ... -> probe_finish -> ended()
 *
 * One thread, that of its loop. */
#pragma once

#include "client/check/checked_stream.h"
#include "client/net/target.h"

#include "base/event_loop.h"

enum probe_end {
    PROBE_SERVED,      /* everything was answered, and the server closed behind us */
    PROBE_UNCONNECTED, /* with an errno: ECONNREFUSED, or whatever else there is in the way */
    PROBE_TIMED_OUT,   /* not connected, or not served, in time */
    PROBE_BROKEN,      /* with an errno: reset; 0: closed before everything was answered */
    PROBE_WRONG,       /* with probe->fault and probe->wrong_bytes */
    PROBE_SHORT,       /* with an errno: not begun, for want of a local port, a descriptor or memory */
};
#define PROBE_ENDS (PROBE_SHORT + 1)

struct probe {
    struct event_source source;
    struct timer timer;
    struct event_loop *loop;
    struct checked_stream stream;
    uint64_t size;     /* of a message */
    uint64_t answered; /* messages */
    uint64_t serve_usec;
    bool is_used; /* has a socket */
    bool is_connected, is_finishing, resets;
    struct fault fault;
    uint64_t wrong_bytes;

    /* A message more is answered. May call anything but probe_start. */
    void (*answer)(struct probe *probe);
    /* The socket is closed and the probe may be started again. `error` is 0 or an errno. */
    void (*ended)(struct probe *probe, enum probe_end end, int error);
};

void probe_init(struct probe *probe, struct event_loop *loop, void (*answer)(struct probe *probe),
                void (*ended)(struct probe *probe, enum probe_end end, int error));

struct probe_terms {
    const struct endpoint *endpoint;
    struct pattern pattern;
    enum expectation expect;
    uint64_t size;
    uint64_t connect_usec; /* patience for being connected */
    uint64_t serve_usec;   /* and for everything behind that; USEC_NEVER: as long as it takes */
    /* When all is answered, end with a reset, which keeps no local port (TIME_WAIT), in place of a
     * half-close, behind which the server has to close. */
    bool resets;
};

/* Begins to connect, or takes the connected `fd` in any case (negative: none). A failure is told by ended(),
 * perhaps before this returns. */
void probe_start(struct probe *probe, const struct probe_terms *terms, int fd);

/* One more message; it leaves as soon as there is a connection. */
void probe_send(struct probe *probe);

/* No more messages: half-closes when all is answered, and is served when the server has closed, too; or
 * resets it. */
void probe_finish(struct probe *probe);

/* Closes it without a word. */
void probe_drop(struct probe *probe);
