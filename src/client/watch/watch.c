/* tcpecho --watch: a steady small client and a stream of new connections, and what they are missing.
 *
 * Both are on a schedule. What is due is due whether or not the server answers, and a gap counts from when
 * the first unanswered message was due. */

#include "client/watch/watch.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "client/net/descriptors.h"
#include "client/net/dial.h"
#include "client/exit_status.h"
#include "client/interrupt.h"
#include "client/modes.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* At the end, for the answers under way: a message sent a moment before is no outage. */
#define LAST_USEC USEC_PER_SEC

/* Who closes first keeps its local port for a minute (TIME_WAIT), and there are about 28000. With a shorter
 * interval, only one new connection in this time is half-closed; the others are reset. */
#define ORDERLY_NSEC (5 * 1000 * NSEC_PER_USEC)

/* ---- the end ---- */

static void quit_if_done(struct watch *watch)
{
    if (watch->stopping && !watch->steady.is_used && watch->under_way == 0)
        event_loop_quit(&watch->loop);
}

/* Whoever reads stdout has gone (tcpecho --watch ... | head), or a disk is full: nobody is told any more. */
static bool is_heard(const struct watch *watch)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return !ferror(watch->output.stream) && (poll(&out, 1, 0) <= 0 || (out.revents & POLLERR) == 0);
}

static void stop(struct watch *watch)
{
    if (watch->stopping)
        return;
    watch->stopping = true;
    precise_timer_arm(&watch->tick, 0);
    event_loop_arm(&watch->loop, &watch->last_timer, clock_monotonic_usec() + LAST_USEC);
    if (watch->steady.is_used)
        probe_finish(&watch->steady);
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

static void on_last(struct timer *timer)
{
    event_loop_quit(&CONTAINER_OF(timer, struct watch, last_timer)->loop);
}

/* ---- the two sides ---- */

static void on_steady_answer(struct probe *probe)
{
    struct watch *watch = CONTAINER_OF(probe, struct watch, steady);
    uint64_t number = probe->answered - 1;
    watch_served(watch, &watch->steady_side, watch->due_nsec[number % MOST_UNANSWERED],
                 probe->answered < watch->sent);
}

static void on_steady_end(struct probe *probe, enum probe_end end, int error)
{
    struct watch *watch = CONTAINER_OF(probe, struct watch, steady);
    uint64_t since = watch->steady_side.gap.since; /* 0: nothing was owed */
    watch_ended(watch, &watch->steady_side, probe, since != 0 ? since : clock_monotonic_nsec(), end, error);
    quit_if_done(watch);
}

static void on_comer_answer(struct probe *probe)
{
    (void)probe; /* it is served when the server has closed, too */
}

static void on_comer_end(struct probe *probe, enum probe_end end, int error)
{
    struct comer *comer = CONTAINER_OF(probe, struct comer, probe);
    struct watch *watch = CONTAINER_OF(probe->loop, struct watch, loop);

    watch->under_way--;
    list_append(&watch->idle, &comer->link);
    if (end == PROBE_SERVED)
        watch_served(watch, &watch->comer_side, comer->due_nsec, watch->under_way > 0);
    watch_ended(watch, &watch->comer_side, probe, comer->due_nsec, end, error);
    quit_if_done(watch);
}

static struct probe_terms next_terms(struct watch *watch, uint64_t serve_usec)
{
    return (struct probe_terms){
        .endpoint = &watch->endpoint,
        .pattern = pattern_make(watch->run, watch->connections++, watch->options->size),
        .expect = watch->options->expect,
        .size = watch->options->size,
        .connect_usec = watch->options->connect_timeout_usec,
        .serve_usec = serve_usec,
    };
}

static void start_steady(struct watch *watch, int fd)
{
    struct probe_terms terms = next_terms(watch, USEC_NEVER);
    watch->sent = 0;
    probe_start(&watch->steady, &terms, fd);
}

static void message_is_due(struct watch *watch, uint64_t due_nsec)
{
    struct watch_side *side = &watch->steady_side;
    uint64_t short_before = side->not_begun[NOT_BEGUN_SHORT];

    if (!watch->steady.is_used)
        start_steady(watch, -1);
    if (side->not_begun[NOT_BEGUN_SHORT] > short_before)
        return;
    watch_owe(watch, side, due_nsec);
    if (watch->steady.is_used && watch->sent - watch->steady.answered == MOST_UNANSWERED) {
        side->not_begun[NOT_BEGUN_FULL]++;
        return;
    }
    side->begun++;
    if (!watch->steady.is_used)
        return;
    watch->due_nsec[watch->sent++ % MOST_UNANSWERED] = due_nsec;
    probe_send(&watch->steady);
}

static struct probe_terms comer_terms(struct watch *watch, uint64_t due_nsec)
{
    struct probe_terms terms = next_terms(watch, watch->options->wait_usec);

    terms.resets = watch->endpoint.address.ss_family != AF_UNIX && watch->orderly_nsec != 0 &&
                   due_nsec < watch->orderly_nsec + ORDERLY_NSEC;
    if (!terms.resets)
        watch->orderly_nsec = due_nsec;
    return terms;
}

static void comer_is_due(struct watch *watch, uint64_t due_nsec)
{
    struct watch_side *side = &watch->comer_side;
    uint64_t short_before = side->not_begun[NOT_BEGUN_SHORT];

    if (list_is_empty(&watch->idle)) {
        watch_owe(watch, side, due_nsec);
        side->not_begun[NOT_BEGUN_FULL]++;
        return;
    }
    struct probe_terms terms = comer_terms(watch, due_nsec);
    struct comer *comer = CONTAINER_OF(watch->idle.next, struct comer, link);
    list_remove(&comer->link);
    comer->due_nsec = due_nsec;
    watch->under_way++;
    probe_start(&comer->probe, &terms, -1);
    if (side->not_begun[NOT_BEGUN_SHORT] > short_before)
        return;
    watch_owe(watch, side, due_nsec);
    side->begun++;
    if (!comer->probe.is_used)
        return;
    probe_send(&comer->probe);
    probe_finish(&comer->probe);
}

/* We were stopped or starved ourselves. What was not sent then is no gap of the server's. */
static void leave_out_late(struct watch *watch, uint64_t now, uint64_t interval)
{
    uint64_t late = now > watch->next_nsec ? (now - watch->next_nsec) / interval : 0;

    watch->next_nsec += late * interval;
    watch->steady_side.not_begun[NOT_BEGUN_LATE] += late;
    watch->comer_side.not_begun[NOT_BEGUN_LATE] += late;
}

static void on_tick(struct precise_timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, tick);
    uint64_t now = clock_monotonic_nsec(), interval = watch->options->interval_usec * NSEC_PER_USEC;

    if (!is_heard(watch)) {
        watch->deserted = true;
        stop(watch);
    }
    if (watch->stopping)
        return;
    if (now - watch->next_nsec > watch->late_nsec)
        watch->late_nsec = now - watch->next_nsec;
    message_is_due(watch, watch->next_nsec);
    comer_is_due(watch, watch->next_nsec);
    watch->next_nsec += interval;
    leave_out_late(watch, now, interval);
    precise_timer_arm(timer, watch->next_nsec);
}

/* ---- the run ---- */

static int make_comers(struct watch *watch)
{
    uint64_t room = descriptors_room(descriptors_raise_limit(), 0);

    watch->comer_count = room < MOST_COMERS ? (size_t)room : MOST_COMERS;
    watch->comers = calloc(watch->comer_count, sizeof *watch->comers);
    if (!watch->comers)
        return -ENOMEM;
    for (size_t i = 0; i < watch->comer_count; i++) {
        probe_init(&watch->comers[i].probe, &watch->loop, on_comer_answer, on_comer_end);
        list_append(&watch->idle, &watch->comers[i].link);
    }
    return 0;
}

static int watch_init(struct watch *watch, int interrupt_fd)
{
    list_init(&watch->idle);
    timer_init(&watch->end_timer, on_end);
    timer_init(&watch->last_timer, on_last);
    timer_init(&watch->gap_timer, watch_look_for_gaps);
    timer_init(&watch->progress_timer, watch_show_progress);
    probe_init(&watch->steady, &watch->loop, on_steady_answer, on_steady_end);
    watch->steady_side.name = "steady client";
    watch->comer_side.name = "new connections";
    terminal_init(&watch->out, STDOUT_FILENO);
    terminal_init(&watch->progress, STDERR_FILENO);
    int r = precise_timer_init(&watch->tick, &watch->loop, on_tick);
    if (r < 0)
        return r;
    watch->interrupt = (struct event_source){.fd = interrupt_fd, .ready = on_interrupt};
    r = event_loop_add(&watch->loop, &watch->interrupt, EPOLLIN);
    if (r == 0) {
        r = make_comers(watch);
        if (r == 0)
            return 0;
        event_loop_remove(&watch->loop, &watch->interrupt);
    }
    precise_timer_deinit(&watch->tick);
    return r;
}

static void watch_deinit(struct watch *watch)
{
    probe_drop(&watch->steady);
    for (size_t i = 0; i < watch->comer_count; i++)
        probe_drop(&watch->comers[i].probe);
    free(watch->comers);
    timer_disarm(&watch->progress_timer);
    timer_disarm(&watch->end_timer);
    timer_disarm(&watch->last_timer);
    timer_disarm(&watch->gap_timer);
    event_loop_remove(&watch->loop, &watch->interrupt);
    precise_timer_deinit(&watch->tick);
}

/* Returns 0 or a negative errno. */
static int watch_loop(struct watch *watch, int fd)
{
    watch->run = watch->start_nsec = watch->next_nsec = clock_monotonic_nsec();
    start_steady(watch, fd);
    if (watch->options->duration_usec != USEC_NEVER)
        event_loop_arm(&watch->loop, &watch->end_timer,
                       clock_monotonic_usec() + watch->options->duration_usec);
    if (watch->progress.is_rich)
        watch_show_progress(&watch->progress_timer);
    precise_timer_arm(&watch->tick, watch->next_nsec);
    int r = event_loop_run(&watch->loop);
    terminal_progress_erase(&watch->progress);
    watch->end_nsec = clock_monotonic_nsec();
    watch_close_gap(watch, &watch->steady_side);
    watch_close_gap(watch, &watch->comer_side);
    return r;
}

static int report(struct watch *watch)
{
    char peer[ENDPOINT_TEXT_SIZE];
    struct watch_summary summary = {
        .peer = endpoint_format(&watch->endpoint, peer),
        .interval_usec = watch->options->interval_usec,
        .allowed_usec = watch->options->gap_usec,
        .start_nsec = watch->start_nsec,
        .elapsed_nsec = watch->end_nsec - watch->start_nsec,
        .deserted = watch->deserted,
        .late_nsec = watch->late_nsec,
        .steady = &watch->steady_side,
        .comers = &watch->comer_side,
    };

    if (watch->options->json)
        watch_print_json(&summary, watch->output.stream);
    else
        watch_print(&summary, &watch->out, watch->output.stream);
    int status = output_exit_status(output_finish(&watch->output));
    if (status != 0)
        return status;
    if (watch_has_outage(&summary))
        return EXIT_WRONG_ANSWER;
    return watch_is_clean(&summary) ? EXIT_SUCCESS : EXIT_SYSTEM;
}

static int fail_system(int error)
{
    complain("cannot watch: %s", strerror(error));
    return EXIT_SYSTEM;
}

/* `fd` is the steady client's first connection; it is taken in any case. */
static int with_connection(struct watch *watch, int fd, int interrupt_fd)
{
    CLEANUP(fd_close) int first_fd = fd;
    int r = event_loop_init(&watch->loop, NULL);
    if (r < 0)
        return fail_system(-r);
    r = watch_init(watch, interrupt_fd);
    if (r == 0) {
        r = watch_loop(watch, TAKE_FD(first_fd));
        watch_deinit(watch);
    }
    event_loop_deinit(&watch->loop);
    return r < 0 ? fail_system(-r) : report(watch);
}

static void close_watch(struct watch **watch)
{
    if (*watch)
        output_close(&(*watch)->output);
    free(*watch);
}

int watch_run(const struct client_options *options)
{
    CLEANUP(target_clear) struct target target = {0};
    CLEANUP(close_watch) struct watch *watch = calloc(1, sizeof *watch);
    struct dialled dialled;

    if (!watch)
        return fail_system(ENOMEM);
    int status = target_resolve(options->host, options->port, &target);
    if (status != 0)
        return status;
    /* Behind the look-up, which nothing but a signal ends. */
    CLEANUP(fd_close) int interrupt_fd = interrupt_open();
    if (interrupt_fd < 0)
        return fail_system(-interrupt_fd);
    output_open(&watch->output);
    int r = output_start_stream(&watch->output, interrupt_fd);
    if (r < 0)
        return fail_system(-r);
    status = dial(&target, options->connect_timeout_usec, interrupt_fd, &dialled);
    if (status == EXIT_INTERRUPTED)
        interrupt_die_of(interrupt_fd);
    if (status != 0)
        return status;
    watch->options = options;
    watch->endpoint = target.items[dialled.chosen];
    return with_connection(watch, dialled.fd, interrupt_fd);
}
