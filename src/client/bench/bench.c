/* tcpecho --bench: the coordinator of a load. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "client/bench/load.h"
#include "client/bench/one_way.h"
#include "client/bench/report.h"
#include "client/modes.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/session.h"

#include <errno.h>
#include <inttypes.h>

#define PROGRESS_USEC (250 * USEC_PER_MSEC)

/* Of each thread: epoll, eventfd, timerfd, and schedstat for a moment. */
#define THREAD_DESCRIPTORS 4

struct bench {
    struct session *session;
    struct event_loop loop;
    struct event_source interrupt, quit;
    struct timer progress_timer;
    struct precise_timer end_timer;
    struct terminal terminal; /* stderr: progress */
    struct load load;
    struct load_progress last;
    uint64_t last_usec;
    uint64_t stop_nsec;
    bool running, stopping, interrupted;
};

static void stop(struct bench *bench)
{
    if (bench->stopping)
        return;
    bench->stopping = true;
    bench->stop_nsec = clock_monotonic_nsec();
    load_stop(&bench->load);
}

static void on_end(struct precise_timer *timer)
{
    stop(CONTAINER_OF(timer, struct bench, end_timer));
}

static void on_interrupt(struct event_source *source, uint32_t events)
{
    struct bench *bench = CONTAINER_OF(source, struct bench, interrupt);
    (void)events;
    if (interrupt_take(source->fd) == 0)
        return;
    bench->interrupted = true;
    stop(bench);
}

/* The figures so far. The times are those of threads that are at work. */
static void on_quit(struct event_source *source, uint32_t events)
{
    struct bench *bench = CONTAINER_OF(source, struct bench, quit);
    struct load_progress now = load_progress(&bench->load);
    uint64_t start = bench->load.control.start_nsec, time = clock_monotonic_nsec();
    double passed = bench->running && time > start ? clock_seconds(time - start) : 0;
    (void)events;
    interrupt_take_quit(source->fd);
    terminal_progress_erase(&bench->terminal);
    print_error("%.1f s, %" PRIu64 " message%s, %.0f/s, %.1f MiB/s, %" PRIu64 " of %" PRIu64 " connections",
                passed, now.messages, plural(now.messages), passed > 0 ? (double)now.messages / passed : 0,
                passed > 0 ? (double)now.bytes / passed / (1 << 20) : 0,
                bench->running ? now.connections : load_connected(&bench->load),
                bench->load.control.plan.connections);
}

static void show_progress(struct bench *bench)
{
    struct load_progress now = load_progress(&bench->load);
    uint64_t usec = clock_monotonic_usec();
    double passed = (double)(usec - bench->last_usec) / (double)USEC_PER_SEC;
    if (!bench->running) {
        terminal_progress(&bench->terminal, "connecting: %" PRIu64 " of %" PRIu64,
                          load_connected(&bench->load), bench->load.control.plan.connections);
    } else if (bench->stopping) {
        terminal_progress(&bench->terminal, "waiting for the last answers on %" PRIu64 " connection%s",
                          now.connections, plural(now.connections));
    } else if (passed > 0) {
        double elapsed = clock_seconds(clock_monotonic_nsec() - bench->load.control.start_nsec);
        terminal_progress(&bench->terminal, "%5.1f s  %.0f messages/s  %.1f MiB/s  %" PRIu64 " connection%s",
                          elapsed > 0 ? elapsed : 0, (double)(now.messages - bench->last.messages) / passed,
                          (double)(now.bytes - bench->last.bytes) / passed / (1 << 20), now.connections,
                          plural(now.connections));
    }
    bench->last = now;
    bench->last_usec = usec;
}

static void on_progress(struct timer *timer)
{
    struct bench *bench = CONTAINER_OF(timer, struct bench, progress_timer);
    show_progress(bench);
    event_loop_arm(&bench->loop, timer, clock_monotonic_usec() + PROGRESS_USEC);
}

static void on_wake(struct event_loop *loop)
{
    struct bench *bench = CONTAINER_OF(loop, struct bench, loop);
    if (!bench->running && !bench->stopping && load_is_settled(&bench->load)) {
        bench->running = true;
        load_run(&bench->load);
        bench->last_usec = clock_monotonic_usec();
        if (bench->load.control.plan.duration_usec != USEC_NEVER)
            precise_timer_arm(&bench->end_timer, bench->load.control.start_nsec +
                                                     bench->load.control.plan.duration_usec * NSEC_PER_USEC);
    }
    if (load_is_finished(&bench->load))
        event_loop_quit(loop);
}

static struct load_plan make_plan(const struct session *session)
{
    struct load_plan plan = load_plan_of(session->options);
    plan.endpoint = session->endpoint;
    plan.source = &session->source;
    plan.run = clock_monotonic_nsec();
    plan.first_connect_nsec = session->connect_nsec;
    return plan;
}

/* Returns 0 or an exit status. */
static int check_descriptors(const struct client_options *options)
{
    const struct load_plan plan = load_plan_of(options);
    uint64_t limit, room = session_raise_descriptors(plan.threads * THREAD_DESCRIPTORS, &limit);
    if (plan.connections <= room)
        return 0;
    print_error("--connections %" PRIu64 ": the limit of %" PRIu64
                " descriptors (ulimit -Hn) is room for %" PRIu64,
                options->connections, limit, room);
    return EXIT_USAGE;
}

/* The coordinator's loop, until the load is finished. Returns 0 or a negative errno. */
static int drive(struct bench *bench)
{
    int r = precise_timer_init(&bench->end_timer, &bench->loop, on_end);
    if (r < 0)
        return r;
    bench->interrupt = (struct event_source){.fd = bench->session->interrupt_fd, .ready = on_interrupt};
    r = interrupt_watch(&bench->loop, &bench->interrupt, &bench->quit);
    if (r == 0) {
        if (bench->terminal.is_rich)
            on_progress(&bench->progress_timer);
        r = event_loop_run(&bench->loop);
        timer_disarm(&bench->progress_timer);
        interrupt_unwatch(&bench->loop, &bench->interrupt, &bench->quit);
        terminal_progress_erase(&bench->terminal);
    }
    precise_timer_deinit(&bench->end_timer);
    return r;
}

static int report(struct bench *bench, const struct load_result *result)
{
    struct output *output = &bench->session->output;
    const struct load_control *control = &bench->load.control;
    uint64_t end = bench->stopping ? bench->stop_nsec : result->over_nsec;
    struct terminal out;
    if (result->last_answer_nsec > end)
        end = result->last_answer_nsec;
    struct bench_summary summary = {
        .plan = &control->plan,
        .result = result,
        .peer = bench->session->peer,
        .tried = bench->session->tried,
        .elapsed_nsec = bench->running && end > control->start_nsec ? end - control->start_nsec : 0,
        .interrupted = bench->interrupted,
    };
    terminal_init(&out, STDOUT_FILENO);
    if (bench->session->options->json)
        bench_print_json(&summary, output->stream);
    else
        bench_print(&summary, &out, output->stream);
    int r = output_finish(output);
    if (r != -EINTR)
        bench_print_errors(&summary);
    int status = output_exit_status(r);
    if (status != 0)
        return status;
    return bench_is_clean(result) ? EXIT_SUCCESS : EXIT_WRONG_ANSWER;
}

static int run_load(struct bench *bench)
{
    CLEANUP(free_pointer) struct load_result *result = malloc(sizeof *result);
    int r = result ? drive(bench) : -ENOMEM;
    if (r == 0)
        r = load_collect(&bench->load, result);
    return r < 0 ? bench_fail(bench->session->options, session_fail("go on", -r)) : report(bench, result);
}

int bench_run(const struct client_options *options)
{
    CLEANUP(session_close) struct session session = SESSION_NONE;
    CLEANUP(fd_close) int quit_fd = interrupt_open_quit();
    struct bench bench = {.session = &session, .quit = {.fd = quit_fd, .ready = on_quit}};
    int status = quit_fd < 0 ? session_fail("wait for signals", -quit_fd) : check_descriptors(options);
    if (status == 0)
        status = session_connect(&session, options);
    if (status != 0)
        return bench_fail(options, status);
    if (options->send || options->receive)
        return one_way_run(&session, quit_fd);
    timer_init(&bench.progress_timer, on_progress);
    terminal_init(&bench.terminal, STDERR_FILENO);
    int r = event_loop_init(&bench.loop, on_wake);
    if (r < 0)
        return bench_fail(options, session_fail("start", -r));
    const struct load_plan plan = make_plan(&session);
    r = load_init(&bench.load, &plan, &bench.loop, TAKE_FD(session.fd));
    if (r == 0) {
        status = run_load(&bench);
        load_deinit(&bench.load);
    }
    event_loop_deinit(&bench.loop);
    return r < 0 ? bench_fail(options, session_fail("start a thread", -r)) : status;
}
