/* The addresses of a name, raced: Happy Eyeballs (RFC 8305). */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "client/net/dial.h"
#include "client/net/opening.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How long an address is alone before the next one is tried beside it (RFC 8305, 5). */
#define ATTEMPT_DELAY_USEC (250 * USEC_PER_MSEC)

/* How soon to try a Unix socket again whose backlog is full: nothing tells when it has room. */
#define RETRY_USEC (20 * USEC_PER_MSEC)

enum attempt_state {
    ATTEMPT_TO_COME,
    ATTEMPT_WAITING, /* for its first or another try */
    ATTEMPT_CONNECTING,
    ATTEMPT_FAILED,
};

struct attempt {
    enum attempt_state state;
    int fd;
    uint64_t began_nsec;
    uint64_t retry;    /* usec; WAITING */
    uint64_t deadline; /* usec */
};

/* What failed, address by address. */
struct reasons {
    char text[DIAL_TRIED_SIZE];
    size_t length;
    int status;
    bool lacks_port;
};

struct race {
    const struct target *target;
    struct attempt *attempts; /* for each address */
    struct pollfd *items;     /* for each address, and the interrupt's */
    size_t begun, running;
    uint64_t next; /* usec; when another address is due */
    uint64_t timeout_usec;
    struct reasons reasons;
};

/* When addresses fail in different ways: the one that says most about the server. */
static bool is_more_telling(int status, int than)
{
    static const int order[] = {EXIT_REFUSED,      EXIT_NO_PERMISSION, EXIT_CLOSED_EARLY, EXIT_TIMED_OUT,
                                EXIT_UNKNOWN_NAME, EXIT_UNREACHABLE,   EXIT_SYSTEM};

    for (size_t i = 0; order[i] != than; i++)
        if (order[i] == status)
            return true;
    return false;
}

static const char *advice(const struct reasons *reasons)
{
    if (reasons->status == EXIT_SYSTEM && reasons->lacks_port)
        return dial_port_advice();
    switch (reasons->status) {
    case EXIT_REFUSED:
        return "; no server listens there";
    case EXIT_TIMED_OUT:
        return "; --connect-timeout allows more time";
    default:
        return "";
    }
}

static void add_text(struct reasons *reasons, const struct endpoint *endpoint, const char *what)
{
    char name[ENDPOINT_TEXT_SIZE];
    size_t room = sizeof reasons->text - reasons->length;
    int length = snprintf(reasons->text + reasons->length, room, "%s%s: %s", reasons->length == 0 ? "" : ", ",
                          endpoint_format(endpoint, name), what);
    reasons->length += (size_t)length < room ? (size_t)length : room - 1;
}

/* The next address need not wait. */
static void fail(struct race *race, size_t index, int error)
{
    struct attempt *attempt = &race->attempts[index];
    int status = dial_exit_status(error);
    fd_close(&attempt->fd);
    attempt->state = ATTEMPT_FAILED;
    race->running--;
    race->next = 0;
    if (race->reasons.length == 0 || is_more_telling(status, race->reasons.status))
        race->reasons.status = status;
    /* To an IPv6 address it may also mean that this host has none of that kind. */
    const struct source *source = race->target->source;
    int family = race->target->items[index].address.ss_family;
    if (error == EADDRNOTAVAIL && (family == AF_INET || (source && source->count > 0)))
        race->reasons.lacks_port = true;
    add_text(&race->reasons, &race->target->items[index], dial_reason(&race->target->items[index], error));
}

static void begin(struct race *race, size_t index, uint64_t now)
{
    struct attempt *attempt = &race->attempts[index];
    attempt->began_nsec = clock_monotonic_nsec();
    attempt->fd = dial_start(&race->target->items[index], race->target->source, 0);
    attempt->state = ATTEMPT_CONNECTING;
    if (attempt->fd >= 0)
        return;
    if (attempt->fd != -EAGAIN || now >= attempt->deadline) {
        fail(race, index, attempt->fd == -EAGAIN ? ETIMEDOUT : -attempt->fd);
        return;
    }
    attempt->state = ATTEMPT_WAITING;
    attempt->retry = now + RETRY_USEC;
}

/* Those that are due by now. */
static void begin_due(struct race *race, uint64_t now)
{
    for (size_t i = 0; i < race->begun; i++)
        if (race->attempts[i].state == ATTEMPT_WAITING && race->attempts[i].retry <= now)
            begin(race, i, now);
    while (race->begun < race->target->count && (race->running == 0 || race->next <= now)) {
        race->attempts[race->begun].deadline = now + race->timeout_usec;
        race->next = now + ATTEMPT_DELAY_USEC;
        race->running++;
        begin(race, race->begun++, now);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int wait_msec(const struct race *race)
{
    uint64_t until = race->begun < race->target->count ? race->next : USEC_NEVER;
    for (size_t i = 0; i < race->begun; i++) {
        const struct attempt *attempt = &race->attempts[i];
        if (attempt->state == ATTEMPT_WAITING)
            until = earlier(until, attempt->retry);
        if (attempt->state == ATTEMPT_CONNECTING)
            until = earlier(until, attempt->deadline);
    }
    return clock_wait_msec(until);
}

/* Returns whether this address is the one, with its time in *out. */
static bool settle(struct race *race, size_t index, bool is_ready, uint64_t now, struct dialled *out)
{
    struct attempt *attempt = &race->attempts[index];
    if (attempt->state != ATTEMPT_CONNECTING)
        return false;
    if (!is_ready) {
        if (now >= attempt->deadline)
            fail(race, index, ETIMEDOUT);
        return false;
    }
    int r = dial_result(attempt->fd);
    if (r < 0) {
        fail(race, index, -r);
        return false;
    }
    *out = (struct dialled){
        .fd = TAKE_FD(attempt->fd), .chosen = index, .nsec = clock_monotonic_nsec() - attempt->began_nsec};
    return true;
}

/* Until one address takes us. Returns 0, or a negative errno: -EINTR: the user has had enough; -ECONNREFUSED:
 * none did. */
static int run(struct race *race, int interrupt_fd, struct dialled *out)
{
    const struct pollfd interrupt = {.fd = interrupt_fd, .events = POLLIN};
    for (;;) {
        uint64_t now = clock_monotonic_usec();
        begin_due(race, now);
        if (race->running == 0)
            return -ECONNREFUSED;
        race->items[race->begun] = interrupt;
        for (size_t i = 0; i < race->begun; i++)
            race->items[i] = (struct pollfd){
                .fd = race->attempts[i].state == ATTEMPT_CONNECTING ? race->attempts[i].fd : -1,
                .events = POLLOUT};
        int count = poll(race->items, race->begun + 1, wait_msec(race));
        int error = count < 0 ? errno : 0;
        if (count > 0 && race->items[race->begun].revents != 0)
            return -EINTR;
        /* What was stopped meanwhile may be connected long since: a deadline counts only after a look. */
        for (size_t i = 0; i < race->begun; i++)
            if (error != 0 && error != EINTR && race->attempts[i].state == ATTEMPT_CONNECTING)
                fail(race, i, error);
            else if (error == 0 && settle(race, i, race->items[i].revents != 0, now, out))
                return 0;
    }
}

#define CANNOT_CONNECT "cannot connect to"

/* Returns the exit status. */
static int fail_all(const struct race *race, const char *what)
{
    char name[TARGET_TEXT_SIZE];
    const struct reasons *reasons = &race->reasons;
    if (race->target->port)
        print_error("%s %s (%s)%s", what, target_format(race->target, name), reasons->text, advice(reasons));
    else
        print_error("%s %s%s", what, reasons->text, advice(reasons));
    return reasons->status;
}

/* Those that were tried as well, and why it was not one of them. */
static void tell_others(struct race *race, struct dialled *out)
{
    char what[64];
    for (size_t i = 0; i < race->begun; i++) {
        uint64_t waited = clock_monotonic_nsec() - race->attempts[i].began_nsec;
        snprintf(what, sizeof what, "no answer in %.0f ms", clock_seconds(waited) * 1000);
        if (i != out->chosen && race->attempts[i].state != ATTEMPT_FAILED)
            add_text(&race->reasons, &race->target->items[i], what);
    }
    memcpy(out->tried, race->reasons.text, sizeof out->tried);
}

/* The one that takes us also has to greet us, where that is expected. Returns 0 or a negative errno. */
static int open_up(const struct target *target, int fd, uint64_t timeout_usec, int interrupt_fd,
                   struct opening_progress *progress)
{
    uint64_t deadline = clock_monotonic_usec() + timeout_usec;
    for (;;) {
        struct pollfd items[] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd, .events = POLLIN}};
        uint64_t now = clock_monotonic_usec();
        int r = opening_go_on(target->source ? &target->source->opening : NULL, progress, fd);
        if (r != -EAGAIN)
            return r;
        int count = poll(items, 2, clock_wait_msec(deadline));
        if (count < 0 && errno != EINTR)
            return -errno;
        if (count > 0 && items[1].revents != 0)
            return -EINTR;
        if (count == 0 && now >= deadline)
            return -ETIMEDOUT;
    }
}

/* This one took us, but what came of its greeting is not all. */
static int fail_greeting(struct race *race, size_t chosen, const struct opening_progress *progress, int error)
{
    bool lacks_line = race->target->source->opening.skip_line && !progress->has_line;
    char came[64], what[160];
    snprintf(came, sizeof came, "%" PRIu64 " byte%s%s", progress->greeted, plural(progress->greeted),
             lacks_line ? " without an LF" : "");
    if (progress->has_ended)
        snprintf(what, sizeof what, "connected, but closed by the server after %s", came);
    else if (error != ETIMEDOUT)
        snprintf(what, sizeof what, "connected, but after %s: %s", came, strerror(error));
    else if (progress->greeted > 0)
        snprintf(what, sizeof what, "connected, but only %s came", came);
    else
        snprintf(what, sizeof what, "connected, but no greeting came");
    add_text(&race->reasons, &race->target->items[chosen], what);
    return fail_all(race, "no whole greeting from");
}

/* Of the one that took us. Returns the exit status. */
static int fail_opening(struct race *race, size_t chosen, const struct opening_progress *progress, int error)
{
    race->reasons = (struct reasons){.status = dial_exit_status(error)};
    if (progress->is_connected)
        return fail_greeting(race, chosen, progress, error);
    add_text(&race->reasons, &race->target->items[chosen], strerror(error));
    return fail_all(race, CANNOT_CONNECT);
}

static void race_clear(struct race *race)
{
    for (size_t i = 0; race->attempts && i < race->begun; i++)
        fd_close(&race->attempts[i].fd);
    free(race->attempts);
    free(race->items);
}

int dial(const struct target *target, uint64_t timeout_usec, int interrupt_fd, struct dialled *out)
{
    struct opening_progress progress = {0};
    CLEANUP(race_clear)
    struct race race = {
        .target = target,
        .attempts = calloc(target->count, sizeof *race.attempts),
        .items = calloc(target->count + 1, sizeof *race.items),
        .timeout_usec = timeout_usec,
        .reasons.status = EXIT_SYSTEM,
    };
    if (!race.attempts || !race.items) {
        print_error("%s", strerror(ENOMEM));
        return EXIT_SYSTEM;
    }
    int r = run(&race, interrupt_fd, out);
    if (r == -EINTR)
        return EXIT_INTERRUPTED;
    if (r < 0)
        return fail_all(&race, CANNOT_CONNECT);
    tell_others(&race, out);
    r = open_up(target, out->fd, timeout_usec, interrupt_fd, &progress);
    if (r == 0)
        return 0;
    fd_close(&out->fd);
    if (r == -EINTR)
        return EXIT_INTERRUPTED;
    return fail_opening(&race, out->chosen, &progress, -r);
}
