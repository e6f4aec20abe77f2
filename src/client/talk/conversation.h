/* stdin to a socket and the socket to stdout, both at once, in bounded memory.
 *
 *     stdin -> up -> socket
 *     stdout <- down <- socket
 *
 * The end of stdin half-closes the socket, once the answer is whole as far as that can be known. The end of
 * the socket ends the conversation once stdin has ended too; a person at a terminal has nothing more to say
 * to a server that has left, so theirs need not.
 *
 * One thread. */
#pragma once

#include "client/check/answer_check.h"
#include "client/report/output.h"

struct conversation_terms {
    const char *peer; /* as messages call the other side */
    int interrupt_fd; /* interrupt_open; -1: none */
    const struct output *output;
    enum expectation expect;
    uint64_t wait_usec; /* how long it may be silent when it is its turn; USEC_NEVER: for ever */
    bool is_peer;       /* it has called us, and has nothing to answer */
    bool no_half_close; /* not before the answer is whole */
    bool crlf;          /* send CR LF for each LF of stdin */
    bool hex;           /* show what comes in the lines of hexdump -C */
};

struct conversation_totals {
    uint64_t sent, received;
    uint64_t received_usec; /* when the last byte came; 0: none has */
};

/* `fd` is connected and does not block; it stays the caller's. Returns an exit status, after one line on
 * stderr when it is neither 0 nor EXIT_INTERRUPTED. */
int converse(int fd, const struct conversation_terms *terms, struct conversation_totals *totals);
