/* One host of a ping. What is sent there is a kind: messages over one connection, or handshakes. Main thread.
 *
 *     begin -> ( advance, watch, poll(2), look ) ... until is_over -> count -> end */
#pragma once

#include "client/ping/report.h"
#include "client/session.h"

#include <poll.h>
#include <pthread.h>

/* Of the whole ping. */
struct ping_run {
    const struct client_options *options;
    struct session session; /* without a connection */
    struct ping_report report;
    uint64_t interval_usec;
    bool interrupted; /* the user has had enough, or the time is over */
    bool reader_gone; /* nobody reads stdout any more */
};

struct ping_host {
    struct ping_run *run;
    const struct ping_kind *kind;
    struct target target;
    char name[TARGET_TEXT_SIZE]; /* as it can be shown */
    struct endpoint endpoint;
    char peer[ENDPOINT_TEXT_SIZE];
    char tried[DIAL_TRIED_SIZE]; /* other addresses, and what came of them; "": none was tried */
    pthread_t thread;            /* in which it begins */
    bool has_thread;
    bool is_up;                  /* connected or answered, and nothing has failed since */
    const char *trouble;         /* what failed last; NULL: nothing */
    int status;                  /* an exit status when it could not be begun; it takes no part then */
    char error[HELD_ERROR_SIZE]; /* why */
    void *state;                 /* the kind's */
    size_t item;                 /* the place of its first pollfd */
    uint64_t start, next;        /* usec; when the ping began, and when the next one is due */
    uint64_t late;   /* how often nothing was sent when it was due, since the one before was late */
    uint64_t looked; /* usec; what had come by then has been read */
};

struct ping_kind {
    size_t items; /* pollfds at most */

    /* Makes what it needs, with a connection if it has to have one at the beginning. Any thread. Returns 0,
     * or an exit status after one line on stderr. */
    int (*begin)(struct ping_host *host);
    void (*print_start)(const struct ping_host *host);

    /* Sends what is due, and says what has not come in time. These two return 0, or an exit status after one
     * line on stderr: there is no going on. */
    int (*advance)(struct ping_host *host);

    /* What to poll(2) for; returns how many. */
    size_t (*watch)(const struct ping_host *host, struct pollfd *items);
    int (*look)(struct ping_host *host, const struct pollfd *items);
    uint64_t (*deadline)(const struct ping_host *host); /* usec; when to advance although nothing has come */
    bool (*is_over)(const struct ping_host *host);
    void (*count)(const struct ping_host *host, struct ping_counts *out);
    void (*end)(struct ping_host *host); /* also of one that could not be begun */
};

extern const struct ping_kind ping_messages, ping_handshakes;

/* Prints a line, to be seen at once. Returns 0 or an exit status; what was last seen may be that the reader
 * has gone. */
int ping_tell(struct ping_host *host, struct ping_line line);

/* The schedule is kept: a late one does not make the next one late. */
void ping_schedule_next(struct ping_host *host, uint64_t now);
