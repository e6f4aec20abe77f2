/* The coordinator of --bench --send and --receive: a line each second, as iperf(1) has it, and a report. */

#include "client/bench/one_way.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/bench/report.h"
#include "client/bench/transfer.h"
#include "client/check/chargen.h"
#include "client/net/precise_timer.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/json_document.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)

/* Of the seconds, which JSON lists. */
#define MOST_SECONDS 100000

struct one_way {
    struct session *session;
    struct transfer_plan plan;
    struct event_loop loop;
    struct event_source interrupt, quit;
    struct terminal terminal; /* stderr: progress */
    struct precise_timer second, end;
    struct transfer_thread **threads;
    size_t thread_count;
    uint64_t start_nsec, last_nsec, last_bytes;
    uint64_t duration_usec; /* USEC_NEVER: until plan.limit */
    uint64_t *seconds;      /* bytes of each; owned */
    size_t second_count;
    bool stopping, interrupted;
};

static const char *verb(const struct one_way *mine)
{
    return mine->plan.receives ? "came right" : "sent";
}

static void stop(struct one_way *mine)
{
    if (mine->stopping)
        return;
    mine->stopping = true;
    for (size_t i = 0; i < mine->thread_count; i++)
        transfer_thread_stop(mine->threads[i]);
}

/* Of a server that does not read this may take as long as --wait says. */
static void show_wait(struct one_way *mine)
{
    if (mine->stopping && !mine->plan.receives)
        terminal_progress(&mine->terminal, "waiting for the server to read the rest%s",
                          mine->interrupted ? "; Ctrl-C again ends at once" : "");
}

static void on_end(struct precise_timer *timer)
{
    struct one_way *mine = CONTAINER_OF(timer, struct one_way, end);
    stop(mine);
    show_wait(mine);
}

static void on_interrupt(struct event_source *source, uint32_t events)
{
    struct one_way *mine = CONTAINER_OF(source, struct one_way, interrupt);
    (void)events;
    if (interrupt_take(source->fd) == 0)
        return;
    mine->interrupted = true;
    stop(mine);
    show_wait(mine);
}

static uint64_t sum_bytes(const struct one_way *mine)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < mine->thread_count; i++)
        bytes += atomic_load_explicit(&mine->threads[i]->bytes, memory_order_relaxed);
    return bytes;
}

/* The figures so far. */
static void on_quit(struct event_source *source, uint32_t events)
{
    struct one_way *mine = CONTAINER_OF(source, struct one_way, quit);
    uint64_t bytes = sum_bytes(mine), open = 0;
    double passed = clock_seconds(clock_monotonic_nsec() - mine->start_nsec);
    char size[SIZE_TEXT_SIZE];
    (void)events;
    interrupt_take_quit(source->fd);
    for (size_t i = 0; i < mine->thread_count; i++)
        open += atomic_load_explicit(&mine->threads[i]->open, memory_order_relaxed);
    terminal_progress_erase(&mine->terminal);
    print_error("%.1f s, %s %s, %.1f MiB/s, %" PRIu64 " of %" PRIu64 " connections", passed,
                units_format_size(bytes, size), verb(mine), passed > 0 ? (double)bytes / passed / MIB : 0,
                open, mine->session->options->connections);
    show_wait(mine);
}

static void note_second(struct one_way *mine, uint64_t bytes)
{
    if (mine->second_count == MOST_SECONDS)
        return;
    uint64_t *more = realloc(mine->seconds, (mine->second_count + 1) * sizeof *more);
    if (!more)
        return; /* the sum has it all the same */
    mine->seconds = more;
    mine->seconds[mine->second_count++] = bytes;
}

static void on_second(struct precise_timer *timer)
{
    struct one_way *mine = CONTAINER_OF(timer, struct one_way, second);
    uint64_t now = clock_monotonic_nsec(), bytes = sum_bytes(mine);
    double passed = clock_seconds(now - mine->last_nsec);
    FILE *out = mine->session->output.stream;
    note_second(mine, bytes - mine->last_bytes);
    terminal_progress_erase(&mine->terminal);
    if (!mine->session->options->json) {
        fprintf(out, "%7.1f s  %10.1f MiB/s\n", clock_seconds(now - mine->start_nsec),
                (double)(bytes - mine->last_bytes) / passed / MIB);
        if (output_finish(&mine->session->output) < 0)
            stop(mine); /* nobody reads any more; the report says why */
    }
    show_wait(mine);
    mine->last_nsec = now;
    mine->last_bytes = bytes;
    precise_timer_arm(timer, now + NSEC_PER_SEC - (now - mine->start_nsec) % NSEC_PER_SEC);
}

static bool all_finished(const struct one_way *mine)
{
    for (size_t i = 0; i < mine->thread_count; i++)
        if (!atomic_load(&mine->threads[i]->finished))
            return false;
    return true;
}

static void on_wake(struct event_loop *loop)
{
    if (all_finished(CONTAINER_OF(loop, struct one_way, loop)))
        event_loop_quit(loop);
}

/* ---- the report ---- */

static bool is_clean(const struct load_result *result)
{
    return result->unconnected == 0 && result->broken == 0 && result->wrong == 0 && result->unended == 0 &&
           result->bytes > 0;
}

static double elapsed(const struct one_way *mine, const struct load_result *result)
{
    return result->last_answer_nsec > mine->start_nsec
               ? clock_seconds(result->last_answer_nsec - mine->start_nsec)
               : 0;
}

static void print_text(const struct one_way *mine, const struct load_result *result)
{
    FILE *out = mine->session->output.stream;
    char size[SIZE_TEXT_SIZE];
    double seconds = elapsed(mine, result);
    struct terminal terminal;
    terminal_init(&terminal, STDOUT_FILENO);
    fprintf(out, "%s: %.2f s%s\n", mine->session->peer, seconds, mine->interrupted ? ", interrupted" : "");
    print_tried(out, mine->session->tried);
    fprintf(out, "bytes        %" PRIu64 " %s, %s; %.1f MiB/s\n", result->bytes, verb(mine),
            units_format_size(result->bytes, size), seconds > 0 ? (double)result->bytes / seconds / MIB : 0);
    bench_print_connections(result, out);
    fprintf(out, "client CPU   busiest of %" PRIu64 " thread%s: busy %.0f %% of the time\n",
            mine->plan.threads, plural(mine->plan.threads), 100 * result->busy);
    bench_print_client_limit(result, &terminal, out);
}

/* What a report of figures does not say of why it is not clean. */
static void print_errors(const struct one_way *mine, const struct load_result *result)
{
    const struct client_options *options = mine->session->options;
    char wait[DURATION_TEXT_SIZE];
    bench_print_trouble(result, options->connections);
    if (result->unended > 0)
        print_error("%" PRIu64 " connection%s not closed by the server %s after the end (--wait): it may "
                    "not have read all",
                    result->unended, result->unended == 1 ? " was" : "s were",
                    units_format_duration(options->wait_usec, wait));
    else if (result->bytes == 0 && result->unconnected + result->broken + result->wrong == 0)
        print_error(mine->plan.receives
                        ? "not one byte came; --receive is for a server that sends unasked, as chargen"
                        : "not one byte was sent");
}

static void print_json(const struct one_way *mine, const struct load_result *result)
{
    const struct load_plan plan = load_plan_of(mine->session->options);
    struct json json = {.out = mine->session->output.stream};
    double seconds = elapsed(mine, result);
    json_open_report(&json, "bench", mine->session->peer, mine->session->tried);
    bench_write_plan(&json, &plan);
    json_number(&json, "elapsed_s", seconds);
    json_bool(&json, "interrupted", mine->interrupted);
    json_count(&json, "bytes", result->bytes);
    json_number(&json, "bytes_per_second", seconds > 0 ? (double)result->bytes / seconds : 0);
    json_open(&json, "bytes_each_second", '[');
    for (size_t i = 0; i < mine->second_count; i++)
        json_count(&json, NULL, mine->seconds[i]);
    json_close(&json, ']');
    json_times(&json, "connect", &result->connect);
    json_bool(&json, "clean", is_clean(result));
    bench_write_trouble(&json, result);
    json_number(&json, "client_cpu_s", clock_seconds(result->cpu_nsec));
    json_number(&json, "client_cpu_wait_s", clock_seconds(result->queued_nsec));
    json_number(&json, "client_busiest_thread_percent", 100 * result->busy);
    json_bool(&json, "client_limited", bench_is_client_limited(result));
    json_close(&json, '}');
}

static int report(struct one_way *mine)
{
    CLEANUP(free_pointer) struct load_result *result = calloc(1, sizeof *result);
    struct output *output = &mine->session->output;
    if (!result)
        return bench_fail(mine->session->options, session_fail("report", ENOMEM));
    for (size_t i = 0; i < mine->thread_count; i++) {
        int error = atomic_load(&mine->threads[i]->error);
        if (error < 0)
            return bench_fail(mine->session->options, session_fail("go on", -error));
        load_result_add(result, &mine->threads[i]->result);
    }
    if (mine->session->options->json)
        print_json(mine, result);
    else
        print_text(mine, result);
    int r = output_finish(output);
    if (r != -EINTR)
        print_errors(mine, result);
    int status = output_exit_status(r);
    if (status != 0)
        return status;
    return is_clean(result) ? EXIT_SUCCESS : EXIT_WRONG_ANSWER;
}

/* ---- the run ---- */

static int start_threads(struct one_way *mine)
{
    mine->threads = calloc(mine->plan.threads, sizeof *mine->threads);
    if (!mine->threads)
        return -ENOMEM;
    mine->start_nsec = mine->last_nsec = clock_monotonic_nsec();
    while (mine->thread_count < mine->plan.threads) {
        size_t index = mine->thread_count;
        int fd = index == 0 ? mine->session->fd : -1;
        int r = transfer_thread_new(&mine->plan, &mine->loop, index, fd, &mine->threads[index]);
        if (r < 0)
            return r;
        mine->thread_count++;
        if (index == 0)
            mine->session->fd = -1; /* the thread's now */
    }
    return 0;
}

/* With its timers and the interrupt in the loop. */
static int drive(struct one_way *mine)
{
    int r = start_threads(mine);
    if (r < 0)
        return r;
    precise_timer_arm(&mine->second, mine->start_nsec + NSEC_PER_SEC);
    if (mine->duration_usec != USEC_NEVER)
        precise_timer_arm(&mine->end, mine->start_nsec + mine->duration_usec * NSEC_PER_USEC);
    return event_loop_run(&mine->loop);
}

static int run(struct one_way *mine)
{
    int r = precise_timer_init(&mine->second, &mine->loop, on_second);
    if (r < 0)
        return r;
    r = precise_timer_init(&mine->end, &mine->loop, on_end);
    if (r == 0) {
        mine->interrupt = (struct event_source){.fd = mine->session->interrupt_fd, .ready = on_interrupt};
        r = interrupt_watch(&mine->loop, &mine->interrupt, &mine->quit);
        if (r == 0) {
            r = drive(mine);
            stop(mine);
            terminal_progress_erase(&mine->terminal);
            interrupt_unwatch(&mine->loop, &mine->interrupt, &mine->quit);
        }
        precise_timer_deinit(&mine->end);
    }
    precise_timer_deinit(&mine->second);
    return r;
}

int one_way_run(struct session *session, int quit_fd)
{
    const struct client_options *options = session->options;
    const struct load_plan plan = load_plan_of(options);
    struct one_way mine = {
        .session = session,
        .plan = {.session = session,
                 .run_size = plan.size,
                 .limit = plan.count * plan.size,
                 .receives = options->receive,
                 .threads = plan.threads},
        .duration_usec = plan.duration_usec,
        .quit = {.fd = quit_fd, .ready = on_quit},
    };
    terminal_init(&mine.terminal, STDERR_FILENO);
    chargen_init();
    int r = event_loop_init(&mine.loop, on_wake);
    if (r < 0)
        return bench_fail(options, session_fail("start", -r));
    r = run(&mine);
    int status = r < 0 ? bench_fail(options, session_fail("start a thread", -r)) : report(&mine);
    for (size_t i = 0; i < mine.thread_count; i++)
        transfer_thread_free(mine.threads[i]);
    free(mine.threads);
    free(mine.seconds);
    event_loop_deinit(&mine.loop);
    return status;
}
