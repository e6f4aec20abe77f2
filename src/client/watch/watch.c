/* tcpecho --watch: a steady small client and a stream of new connections, and what they are missing.
 *
 * Both are on a schedule. What is due is due whether or not the server answers, and a gap counts from when
 * the first unanswered message was due. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "base/streams.h"
#include "client/modes.h"
#include "client/net/precise_timer.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/prometheus.h"
#include "client/session.h"
#include "client/watch/events.h"
#include "client/watch/programs.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* At the end, for the answers under way: a message sent a moment before is no outage. */
#define LAST_USEC USEC_PER_SEC

/* The side that closes first keeps its local port for a minute (TIME_WAIT), and there are about 28000. With a
 * shorter interval, only one new connection in this time is half-closed; the others are reset. */
#define ORDERLY_NSEC (5 * 1000 * NSEC_PER_USEC)

/* Messages of the steady client, and new connections, that may be under way: with the default interval, 20
 * seconds without an answer. A gap goes on after that; only no more are added to it. */
#define MOST_UNANSWERED 1024
#define MOST_NEWCOMERS 1000

struct newcomer {
    struct connection connection;
    struct list link; /* in watch->idle, or a ring of its own */
    uint64_t due_nsec;
};

struct watch {
    struct session session;
    const struct client_options *options;
    struct event_loop loop;
    int quit_fd; /* SIGQUIT */
    struct event_source interrupt, quit;
    struct precise_timer tick;
    struct timer end_timer, last_timer, metrics_timer;
    struct watch_events events;
    uint64_t next_nsec; /* when a message and a connection are due */
    uint64_t late_nsec;
    bool stopping, reader_gone;
    int metrics_error; /* a negative errno: the file could not be written */

    struct connection steady;
    uint64_t due_nsec[MOST_UNANSWERED]; /* of each message of this connection, by its number */
    uint64_t sent;                      /* of this connection */
    struct newcomer *newcomers;
    size_t newcomer_count;
    struct list idle;
    uint64_t under_way;        /* new connections */
    uint64_t run, connections; /* make the bytes of each connection its own */
    uint64_t orderly_nsec;     /* when the last new connection was due that closes in order */
    uint8_t scratch[CONNECTION_SCRATCH];
};

/* ---- what is told ---- */

static struct watch_summary summarise(const struct watch *watch, uint64_t end_nsec)
{
    uint64_t start_nsec = watch->events.start_nsec; /* 0: it has not begun */
    return (struct watch_summary){
        .peer = watch->session.peer,
        .tried = watch->session.tried,
        .interval_usec = watch->options->interval_usec,
        .allowed_usec = watch->options->gap_usec,
        .start_nsec = start_nsec,
        .elapsed_nsec = start_nsec != 0 ? end_nsec - start_nsec : 0,
        .reader_gone = watch->reader_gone,
        .late_nsec = watch->late_nsec,
        .steady = &watch->events.steady,
        .newcomers = &watch->events.newcomers,
        .chart = &watch->events.chart,
    };
}

static void write_metrics(struct watch *watch)
{
    const struct watch_summary summary = summarise(watch, clock_monotonic_nsec());
    int r = prometheus_write(watch->options->prometheus, watch_write_metrics, &summary);
    if (r < 0 && watch->metrics_error == 0)
        print_error("cannot write %.512s: %s", watch->options->prometheus, prometheus_error(r));
    watch->metrics_error = r;
}

/* It could not begin or go on, which has been told: metrics of an earlier run are not to stay. Returns the
 * exit status. */
static int fail(struct watch *watch, int status)
{
    struct session *session = &watch->session;
    struct watch_summary summary = summarise(watch, clock_monotonic_nsec());
    summary.status = status;
    if (session->peer[0] == '\0' && session->target.count > 0)
        endpoint_format(&session->target.items[0], session->peer);
    else if (session->peer[0] == '\0')
        escape_controls(watch->options->host, session->peer, sizeof session->peer);
    if (watch->options->prometheus)
        (void)prometheus_write(watch->options->prometheus, watch_write_metrics, &summary);
    if (!watch->options->json || status == EXIT_INTERRUPTED)
        return status;
    watch_print_json(&summary, status, stdout);
    int shown = output_exit_status(print_finish(stdout));
    return shown != 0 ? shown : status;
}

static void on_metrics(struct timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, metrics_timer);
    write_metrics(watch);
    event_loop_arm(&watch->loop, timer, clock_monotonic_usec() + USEC_PER_SEC);
}

/* ---- the end ---- */

static bool is_used(const struct connection *connection)
{
    return connection->state != CONNECTION_CLOSED;
}

static void quit_if_done(struct watch *watch)
{
    if (watch->stopping && !is_used(&watch->steady) && watch->under_way == 0)
        event_loop_quit(&watch->loop);
}

/* The reader of stdout has gone (tcpecho --watch ... | head), or a disk is full: nobody is told any more. */
static bool has_reader(const struct watch *watch)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return !ferror(watch->session.output.stream) && (poll(&out, 1, 0) <= 0 || (out.revents & POLLERR) == 0);
}

static void stop(struct watch *watch)
{
    if (watch->stopping)
        return;
    watch->stopping = true;
    precise_timer_arm(&watch->tick, 0);
    event_loop_arm(&watch->loop, &watch->last_timer, clock_monotonic_usec() + LAST_USEC);
    if (is_used(&watch->steady))
        connection_finish(&watch->steady);
    quit_if_done(watch);
}

static void on_end(struct timer *timer)
{
    stop(CONTAINER_OF(timer, struct watch, end_timer));
}

static void on_interrupt(struct event_source *source, uint32_t events)
{
    (void)events;
    if (interrupt_take(source->fd) != 0)
        stop(CONTAINER_OF(source, struct watch, interrupt));
}

static void on_quit(struct event_source *source, uint32_t events)
{
    (void)events;
    interrupt_take_quit(source->fd);
    watch_print_interim(&CONTAINER_OF(source, struct watch, quit)->events);
}

static void on_last(struct timer *timer)
{
    event_loop_quit(&CONTAINER_OF(timer, struct watch, last_timer)->loop);
}

/* ---- the two sides ---- */

static void on_steady_received(struct connection *connection, size_t bytes, uint64_t messages)
{
    struct watch *watch = CONTAINER_OF(connection, struct watch, steady);
    (void)bytes;
    for (uint64_t number = connection->answered - messages; number < connection->answered; number++)
        watch_answered(&watch->events, &watch->events.steady, watch->due_nsec[number % MOST_UNANSWERED],
                       number + 1 < watch->sent);
}

/* The message that has waited longest on this connection. */
static void note_steady(struct watch *watch)
{
    if (watch->sent > watch->steady.answered)
        watch_waited(&watch->events.steady, watch->due_nsec[watch->steady.answered % MOST_UNANSWERED]);
}

static void on_steady_end(struct connection *connection, enum connection_end end, int error)
{
    struct watch *watch = CONTAINER_OF(connection, struct watch, steady);
    uint64_t since = watch->events.steady.gap.since; /* 0: nothing was due */

    if (end != CONNECTION_SERVED)
        note_steady(watch);
    watch_ended(&watch->events, &watch->events.steady, connection,
                since != 0 ? since : clock_monotonic_nsec(), end, error);
    quit_if_done(watch);
}

static void on_newcomer_end(struct connection *connection, enum connection_end end, int error)
{
    struct newcomer *newcomer = CONTAINER_OF(connection, struct newcomer, connection);
    struct watch *watch = CONTAINER_OF(connection->loop, struct watch, loop);
    struct watch_side *side = &watch->events.newcomers;
    watch->under_way--;
    list_append(&watch->idle, &newcomer->link);
    if (end == CONNECTION_SERVED)
        watch_answered(&watch->events, side, newcomer->due_nsec, watch->under_way > 0);
    else
        watch_waited(side, newcomer->due_nsec);
    watch_ended(&watch->events, side, connection, newcomer->due_nsec, end, error);
    quit_if_done(watch);
}

static const struct connection_events steady_events = {.received = on_steady_received,
                                                       .ended = on_steady_end};
/* One is served when the server has closed, too. */
static const struct connection_events newcomer_events = {.ended = on_newcomer_end};

static struct connection_terms next_terms(struct watch *watch, uint64_t serve_usec)
{
    return (struct connection_terms){
        .endpoint = &watch->session.endpoint,
        .source = &watch->session.source,
        .pattern = pattern_make(watch->run, watch->connections++, watch->options->size),
        .expect = watch->options->expect,
        .size = watch->options->size,
        .connect_usec = watch->options->connect_timeout_usec,
        .serve_usec = serve_usec,
    };
}

/* Returns 0 or a negative errno. */
static int start_steady(struct watch *watch, int fd)
{
    struct connection_terms terms = next_terms(watch, USEC_NEVER);
    watch->sent = 0;
    return connection_start(&watch->steady, &terms, fd);
}

static void send_message(struct watch *watch, uint64_t due_nsec)
{
    struct watch_side *side = &watch->events.steady;
    int r = is_used(&watch->steady) ? 0 : start_steady(watch, -1);
    if (r < 0 && watch_is_short(&watch->events, side, -r))
        return;
    watch_expect_answer(&watch->events, side, due_nsec);
    if (r < 0) {
        side->begun++;
        on_steady_end(&watch->steady, CONNECTION_UNCONNECTED, -r);
        return;
    }
    if (watch->sent - watch->steady.answered == MOST_UNANSWERED) {
        side->not_begun[NOT_BEGUN_FULL]++;
        return;
    }
    side->begun++;
    watch->due_nsec[watch->sent++ % MOST_UNANSWERED] = due_nsec;
    connection_send(&watch->steady);
}

static int start_newcomer(struct watch *watch, struct newcomer *newcomer)
{
    struct connection_terms terms = next_terms(watch, watch->options->wait_usec);
    terms.resets = watch->session.endpoint.address.ss_family != AF_UNIX && watch->orderly_nsec != 0 &&
                   newcomer->due_nsec < watch->orderly_nsec + ORDERLY_NSEC;
    if (!terms.resets)
        watch->orderly_nsec = newcomer->due_nsec;
    return connection_start(&newcomer->connection, &terms, -1);
}

static void send_newcomer(struct watch *watch, uint64_t due_nsec)
{
    struct watch_side *side = &watch->events.newcomers;
    if (list_is_empty(&watch->idle)) {
        watch_expect_answer(&watch->events, side, due_nsec);
        side->not_begun[NOT_BEGUN_FULL]++;
        return;
    }
    struct newcomer *newcomer = CONTAINER_OF(watch->idle.next, struct newcomer, link);
    newcomer->due_nsec = due_nsec;
    int r = start_newcomer(watch, newcomer);
    if (r < 0 && watch_is_short(&watch->events, side, -r))
        return;
    watch_expect_answer(&watch->events, side, due_nsec);
    side->begun++;
    list_remove(&newcomer->link);
    watch->under_way++;
    if (r < 0) {
        on_newcomer_end(&newcomer->connection, CONNECTION_UNCONNECTED, -r);
        return;
    }
    connection_send(&newcomer->connection);
    connection_finish(&newcomer->connection);
}

/* We were stopped or starved ourselves. What was not sent then is no gap of the server's. */
static void leave_out_late(struct watch *watch, uint64_t now, uint64_t interval)
{
    uint64_t late = now > watch->next_nsec ? (now - watch->next_nsec) / interval : 0;
    watch->next_nsec += late * interval;
    watch->events.steady.not_begun[NOT_BEGUN_LATE] += late;
    watch->events.newcomers.not_begun[NOT_BEGUN_LATE] += late;
}

static void on_tick(struct precise_timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, tick);
    uint64_t now = clock_monotonic_nsec(), interval = watch->options->interval_usec * NSEC_PER_USEC;
    if (!has_reader(watch)) {
        watch->reader_gone = true;
        stop(watch);
    }
    if (watch->stopping)
        return;
    if (now - watch->next_nsec > watch->late_nsec)
        watch->late_nsec = now - watch->next_nsec;
    send_message(watch, watch->next_nsec);
    send_newcomer(watch, watch->next_nsec);
    watch->next_nsec += interval;
    leave_out_late(watch, now, interval);
    precise_timer_arm(timer, watch->next_nsec);
}

/* ---- the run ---- */

static int make_newcomers(struct watch *watch)
{
    uint64_t limit, room = session_raise_descriptors(0, &limit);
    watch->newcomer_count = room < MOST_NEWCOMERS ? (size_t)room : MOST_NEWCOMERS;
    watch->newcomers = calloc(watch->newcomer_count, sizeof *watch->newcomers);
    if (!watch->newcomers)
        return -ENOMEM;
    for (size_t i = 0; i < watch->newcomer_count; i++) {
        connection_init(&watch->newcomers[i].connection, &watch->loop, watch->scratch, &newcomer_events);
        list_append(&watch->idle, &watch->newcomers[i].link);
    }
    return 0;
}

/* Returns 0 or a negative errno. */
static int watch_loop(struct watch *watch)
{
    watch->run = watch->next_nsec = watch->events.start_nsec;
    int r = start_steady(watch, TAKE_FD(watch->session.fd));
    if (r < 0)
        return r;
    if (watch->options->duration_usec != USEC_NEVER)
        event_loop_arm(&watch->loop, &watch->end_timer,
                       clock_monotonic_usec() + watch->options->duration_usec);
    watch_events_start(&watch->events);
    if (watch->options->prometheus)
        on_metrics(&watch->metrics_timer);
    precise_timer_arm(&watch->tick, watch->next_nsec);
    return event_loop_run(&watch->loop);
}

/* Who still waits at the end has waited until then. */
static void drop_all(struct watch *watch)
{
    if (is_used(&watch->steady))
        note_steady(watch);
    connection_drop(&watch->steady);
    for (size_t i = 0; i < watch->newcomer_count && watch->newcomers; i++) {
        struct newcomer *newcomer = &watch->newcomers[i];
        if (is_used(&newcomer->connection))
            watch_waited(&watch->events.newcomers, newcomer->due_nsec);
        connection_drop(&newcomer->connection);
    }
}

/* The same, with all that it needs in the loop. */
static int run_in_loop(struct watch *watch)
{
    int r = precise_timer_init(&watch->tick, &watch->loop, on_tick);
    if (r < 0)
        return r;
    watch->interrupt = (struct event_source){.fd = watch->session.interrupt_fd, .ready = on_interrupt};
    watch->quit = (struct event_source){.fd = watch->quit_fd, .ready = on_quit};
    r = interrupt_watch(&watch->loop, &watch->interrupt, &watch->quit);
    if (r == 0) {
        r = make_newcomers(watch);
        if (r == 0)
            r = watch_loop(watch);
        watch_events_stop(&watch->events);
        drop_all(watch);
        free(watch->newcomers);
        timer_disarm(&watch->end_timer);
        timer_disarm(&watch->last_timer);
        timer_disarm(&watch->metrics_timer);
        interrupt_unwatch(&watch->loop, &watch->interrupt, &watch->quit);
    }
    precise_timer_deinit(&watch->tick);
    return r;
}

static int judge(const struct watch *watch, const struct watch_summary *summary)
{
    if (!watch_has_outage(summary) && watch_was_short(summary))
        return EXIT_SYSTEM;
    if (watch->metrics_error < 0)
        return EXIT_FILE;
    return watch_is_clean(summary) ? EXIT_SUCCESS : EXIT_WRONG_ANSWER;
}

static int print_report(struct watch *watch, const struct watch_summary *summary)
{
    struct output *output = &watch->session.output;
    int judged = judge(watch, summary);
    if (watch->options->nagios)
        judged = watch_print_check(summary, watch->options, watch->metrics_error < 0, output->stream);
    else if (watch->options->json)
        watch_print_json(summary, judged, output->stream);
    else
        watch_print(summary, &watch->events.out, output->stream);
    int status = output_exit_status(output_finish(output));
    return status != 0 ? status : judged;
}

static int report(struct watch *watch, uint64_t end_nsec)
{
    const struct watch_summary summary = summarise(watch, end_nsec);
    if (watch->options->prometheus)
        write_metrics(watch);
    return print_report(watch, &summary);
}

static int watch_session(struct watch *watch)
{
    int r = event_loop_init(&watch->loop, NULL);
    if (r < 0)
        return session_fail("watch", -r);
    list_init(&watch->idle);
    timer_init(&watch->end_timer, on_end);
    timer_init(&watch->last_timer, on_last);
    timer_init(&watch->metrics_timer, on_metrics);
    connection_init(&watch->steady, &watch->loop, watch->scratch, &steady_events);
    watch_events_init(&watch->events, &watch->loop, &watch->session.output, watch->options);
    r = run_in_loop(watch);
    uint64_t end_nsec = clock_monotonic_nsec();
    event_loop_deinit(&watch->loop);
    if (r == 0)
        return report(watch, end_nsec);
    return fail(watch, session_fail("watch", -r));
}

static void free_watch(struct watch **watch)
{
    if (*watch) {
        session_close(&(*watch)->session);
        fd_close(&(*watch)->quit_fd);
    }
    free(*watch);
}

int watch_run(const struct client_options *options)
{
    CLEANUP(free_watch) struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return session_fail("watch", ENOMEM);
    watch->options = options;
    watch->session = SESSION_NONE;
    watch->quit_fd = interrupt_open_quit();
    int status = watch->quit_fd < 0 ? session_fail("wait for signals", -watch->quit_fd) : 0;
    if (status == 0 && options->prometheus)
        status = prometheus_check(options->prometheus);
    if (status == 0)
        status = session_dial(&watch->session, options);
    if (status == 0)
        return watch_session(watch);
    int failed = fail(watch, status);
    if (status == EXIT_INTERRUPTED)
        interrupt_die();
    return failed;
}
