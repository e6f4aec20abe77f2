/* tcpecho --ping: hosts side by side, a line for each answer, and a summary of each. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "base/streams.h"
#include "base/units.h"
#include "client/modes.h"
#include "client/ping/host.h"
#include "client/ping/programs.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/nagios.h"
#include "client/report/prometheus.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_INTERVAL USEC_PER_SEC
#define FLOOD_INTERVAL (10 * USEC_PER_MSEC)

/* Percent; a check is critical when more is lost. */
#define CRITICAL_LOSS 99

/* Before the hosts' in the list for poll(2). */
enum { INTERRUPT, QUIT, FIRST_HOST };

struct ping {
    struct ping_run run;
    struct ping_host *hosts;
    size_t count;
    struct pollfd *items;
    struct ping_metrics_of *metrics; /* of each */
    int quit_fd;                     /* SIGQUIT */
    uint64_t deadline;
    uint64_t next_write; /* usec; of the metrics */
    bool is_file_bad;    /* they could not be written, which has been told */
    bool has_ended;
    bool has_failed; /* there is no going on: nobody is up any more */
};

/* What has been printed is to be seen now, also through a pipe. */
static int show(struct ping_run *run)
{
    int r = output_finish(&run->session.output);
    run->reader_gone = r == -EPIPE;
    return output_exit_status(r);
}

static const char *trouble_of(const struct ping_line *line)
{
    const char *error = ping_line_error(line);
    return error                             ? error
           : line->kind == PING_LINE_CORRUPT ? "wrong bytes"
           : line->kind == PING_LINE_SILENT  ? "no answer in time"
                                             : "too late";
}

int ping_tell(struct ping_host *host, struct ping_line line)
{
    const struct ping_report *report = &host->run->report;
    line.host = host->name;
    line.peer = host->peer;
    if (line.kind == PING_LINE_REPLY || line.kind == PING_LINE_MADE) {
        host->is_up = true;
    } else if (line.kind != PING_LINE_DUPLICATE && line.kind != PING_LINE_RECONNECTED) {
        host->is_up = false;
        host->trouble = trouble_of(&line);
    }
    if (report->quiet)
        return 0;
    if (host->run->options->json)
        ping_write_json_line(report->out, &line, report->size);
    else if (host->run->options->csv)
        ping_write_csv_line(report->out, &line);
    else
        ping_print_line(report, &line);
    return show(host->run);
}

void ping_schedule_next(struct ping_host *host, uint64_t now)
{
    uint64_t interval = host->run->interval_usec;
    bool has_schedule = !host->run->options->flood || host->run->options->interval_usec != USEC_NEVER;
    host->next += interval;
    if (host->next > now)
        return;
    if (has_schedule)
        host->late += (now - host->next) / interval + 1;
    host->next = now + interval;
}

/* ---- to begin ---- */

static void settle(struct ping_host *host, int status)
{
    host->status = status;
    if (status != 0)
        snprintf(host->error, sizeof host->error, "%s",
                 status == EXIT_INTERRUPTED ? "interrupted" : print_error_latest());
}

static void *begin_host(void *argument)
{
    struct ping_host *host = argument;
    if (host->status == 0)
        settle(host, host->kind->begin(host));
    return NULL;
}

/* Beside each other: one that does not answer keeps no other waiting. */
static void begin_all(struct ping *ping)
{
    for (size_t i = 1; i < ping->count; i++) {
        struct ping_host *host = &ping->hosts[i];
        int r = pthread_create(&host->thread, NULL, begin_host, host);
        host->has_thread = r == 0;
        if (r != 0)
            settle(host, session_fail("start a thread", r));
    }
    begin_host(&ping->hosts[0]);
    for (size_t i = 1; i < ping->count; i++)
        if (ping->hosts[i].has_thread)
            pthread_join(ping->hosts[i].thread, NULL);
}

static int make_hosts(struct ping *ping)
{
    const struct client_options *options = ping->run.options;
    const struct ping_kind *kind = options->connect ? &ping_handshakes : &ping_messages;
    ping->hosts = calloc(options->host_count, sizeof *ping->hosts);
    ping->metrics = calloc(options->host_count, sizeof *ping->metrics);
    ping->items = calloc(FIRST_HOST + options->host_count * kind->items, sizeof *ping->items);
    if (!ping->hosts || !ping->items || !ping->metrics)
        return session_fail("start", ENOMEM);
    for (; ping->count < options->host_count; ping->count++) {
        struct ping_host *host = &ping->hosts[ping->count];
        *host = (struct ping_host){.run = &ping->run, .kind = kind};
        escape_controls(options->hosts[ping->count], host->name, sizeof host->name);
    }
    return 0;
}

static void look_up(struct ping_host *host, const char *text)
{
    settle(host, session_look_up(&host->run->session, text, &host->target));
    if (host->status == 0) /* the first one, until another is connected */
        endpoint_format(&host->target.items[0], host->peer);
}

/* That of the hosts that failed; when they failed in different ways, it says only that they did. */
static int combine(int a, int b)
{
    if (a == 0 || a == b)
        return b;
    return b == 0 ? a : EXIT_WRONG_ANSWER;
}

/* 0 when any host takes part. */
static int check_hosts(const struct ping *ping)
{
    int status = 0;
    for (size_t i = 0; i < ping->count; i++) {
        if (ping->hosts[i].status == 0)
            return 0;
        if (ping->hosts[i].status == EXIT_INTERRUPTED)
            status = EXIT_INTERRUPTED;
        else if (status != EXIT_INTERRUPTED)
            status = combine(status, ping->hosts[i].status);
    }
    return status;
}

static int begin(struct ping *ping)
{
    struct ping_run *run = &ping->run;
    int status = make_hosts(ping);
    if (status == 0 && run->options->prometheus) {
        status = prometheus_check(run->options->prometheus);
        ping->is_file_bad = status != 0;
    }
    if (status == 0)
        status = session_begin(&run->session, run->options);
    for (size_t i = 0; i < ping->count && status == 0; i++)
        look_up(&ping->hosts[i], run->options->hosts[i]);
    /* After the look-ups, which nothing but a signal ends. */
    if (status == 0)
        status = session_start(&run->session);
    if (status != 0)
        return status;
    ping->quit_fd = interrupt_open_quit();
    if (ping->quit_fd < 0)
        return session_fail("wait for signals", -ping->quit_fd);
    run->report = (struct ping_report){
        .out = run->session.output.stream,
        .size = run->options->size,
        .quiet = run->options->quiet || run->options->nagios,
        .timestamps = run->options->timestamps,
        .flood = run->options->flood && !run->options->json && !run->options->csv,
        .connect = run->options->connect,
    };
    terminal_init(&run->report.terminal, STDOUT_FILENO);
    begin_all(ping);
    return 0;
}

/* Nothing could be begun, perhaps not even what else is written with. */
static void fail_all(struct ping *ping, int status)
{
    for (size_t i = 0; i < ping->count; i++)
        if (ping->hosts[i].status == 0)
            settle(&ping->hosts[i], status);
    ping->run.report.out = stdout;
}

/* For programs also of a host that takes no part; people have read it on stderr. */
static int tell_begin(struct ping_host *host)
{
    const struct client_options *options = host->run->options;
    if (host->status == 0 && !options->csv && !options->json && !options->nagios)
        host->kind->print_start(host);
    if (host->status == 0 || (!options->csv && !options->json))
        return 0;
    return ping_tell(host, (struct ping_line){.kind = PING_LINE_UNCONNECTED, .text = host->error});
}

static int tell_all(struct ping *ping)
{
    int status = 0;
    if (ping->run.options->csv)
        ping_write_csv_head(ping->run.report.out);
    for (size_t i = 0; i < ping->count && status == 0; i++)
        status = tell_begin(&ping->hosts[i]);
    return status == 0 ? show(&ping->run) : status;
}

/* ---- metrics ---- */

/* At the end, nobody waits for a server that has answered nothing. */
static struct ping_counts count(const struct ping *ping, const struct ping_host *host)
{
    struct ping_counts counts = {0};
    if (host->status == 0 && host->state)
        host->kind->count(host, &counts);
    if (ping->has_ended && counts.received == 0) {
        counts.lost += counts.pending;
        counts.pending = 0;
    }
    return counts;
}

/* Of several failures in a row the first is told. */
static void write_metrics(struct ping *ping)
{
    const char *path = ping->run.options->prometheus;
    const struct ping_metrics metrics = {
        .hosts = ping->metrics, .count = ping->count, .connect = ping->run.options->connect};
    for (size_t i = 0; i < ping->count; i++) {
        const struct ping_host *host = &ping->hosts[i];
        struct ping_metrics_of *mine = &ping->metrics[i];
        *mine = (struct ping_metrics_of){.host = host->name, .peer = host->peer, .counts = count(ping, host)};
        mine->is_up = host->is_up && !ping->has_failed && (!ping->has_ended || mine->counts.received > 0);
    }
    int r = prometheus_write(path, ping_write_metrics, &metrics);
    if (r < 0 && !ping->is_file_bad)
        print_error("cannot write %.512s: %s", path, prometheus_error(r));
    ping->is_file_bad = r < 0;
}

static void write_metrics_if_due(struct ping *ping)
{
    uint64_t now = clock_monotonic_usec();
    if (now < ping->next_write)
        return;
    ping->next_write = now + USEC_PER_SEC;
    write_metrics(ping);
}

/* ---- to go on ---- */

static bool is_done(const struct ping *ping, const struct ping_host *host)
{
    return host->status != 0 || ping->run.interrupted || ping->run.reader_gone || host->kind->is_over(host);
}

static void print_interim(const struct ping *ping)
{
    struct terminal terminal;
    terminal_init(&terminal, STDERR_FILENO);
    if (terminal.is_terminal)
        fputc('\r', stderr); /* over the "^\" */
    for (size_t i = 0; i < ping->count; i++)
        if (ping->hosts[i].status == 0) {
            const struct ping_counts counts = count(ping, &ping->hosts[i]);
            ping_print_interim(stderr, terminal_width(&terminal), ping->hosts[i].name, &counts);
        }
}

static int wait_for_events(struct ping *ping)
{
    uint64_t now = clock_monotonic_usec();
    uint64_t deadline = ping->deadline < ping->next_write ? ping->deadline : ping->next_write;
    size_t count = FIRST_HOST;
    ping->items[INTERRUPT] = (struct pollfd){.fd = ping->run.session.interrupt_fd, .events = POLLIN};
    ping->items[QUIT] = (struct pollfd){.fd = ping->quit_fd, .events = POLLIN};
    for (size_t i = 0; i < ping->count; i++) {
        struct ping_host *host = &ping->hosts[i];
        host->item = count;
        if (is_done(ping, host))
            continue;
        count += host->kind->watch(host, &ping->items[count]);
        uint64_t due = host->kind->deadline(host);
        deadline = due < deadline ? due : deadline;
    }
    struct timespec timeout = clock_timespec(now < deadline ? deadline - now : 0);
    int ready = ppoll(ping->items, count, deadline == USEC_NEVER ? NULL : &timeout, NULL);
    if (ready < 0 && errno != EINTR)
        return session_fail("wait for an answer", errno);
    /* Interrupted is what a stopped process wakes up, signal(7): then nothing was looked at. */
    if (ready < 0)
        for (size_t i = 0; i < count; i++)
            ping->items[i].revents = 0;
    for (size_t i = 0; ready >= 0 && i < ping->count; i++)
        ping->hosts[i].looked = now;
    return 0;
}

static int turn(struct ping *ping)
{
    int status = wait_for_events(ping);
    if (status != 0)
        return status;
    if (ping->items[INTERRUPT].revents != 0)
        ping->run.interrupted = true;
    if (ping->items[QUIT].revents != 0) {
        interrupt_take_quit(ping->quit_fd);
        print_interim(ping);
    }
    for (size_t i = 0; i < ping->count && status == 0; i++)
        if (ping->hosts[i].status == 0 && !ping->hosts[i].kind->is_over(&ping->hosts[i]) &&
            !ping->run.reader_gone)
            status = ping->hosts[i].kind->look(&ping->hosts[i], &ping->items[ping->hosts[i].item]);
    /* What came with the deadline is looked at first. */
    if (clock_monotonic_usec() >= ping->deadline)
        ping->run.interrupted = true;
    return status;
}

static bool all_done(const struct ping *ping)
{
    for (size_t i = 0; i < ping->count; i++)
        if (!is_done(ping, &ping->hosts[i]))
            return false;
    return true;
}

static int exchange(struct ping *ping)
{
    uint64_t start = clock_monotonic_usec();
    int status = 0;
    ping->deadline = ping->run.options->deadline_usec == USEC_NEVER
                         ? USEC_NEVER
                         : start + ping->run.options->deadline_usec;
    /* Of handshakes there is nothing to tell before the first. */
    ping->next_write = !ping->run.options->prometheus ? USEC_NEVER
                       : ping->run.options->connect   ? start + USEC_PER_SEC
                                                      : start;
    for (size_t i = 0; i < ping->count; i++)
        ping->hosts[i].start = ping->hosts[i].next = start;
    while (status == 0 && !all_done(ping)) {
        for (size_t i = 0; i < ping->count && status == 0; i++)
            if (!is_done(ping, &ping->hosts[i]))
                status = ping->hosts[i].kind->advance(&ping->hosts[i]);
        if (status == 0)
            write_metrics_if_due(ping);
        if (status == 0 && !all_done(ping)) /* the last message may have been given up */
            status = turn(ping);
    }
    return status;
}

/* ---- to end ---- */

static int status_of(const struct ping_counts *counts)
{
    if (ping_is_clean(counts))
        return EXIT_SUCCESS;
    if (counts->own > 0 && counts->own == counts->lost)
        return EXIT_SYSTEM;
    return counts->failure != 0 ? counts->failure : EXIT_WRONG_ANSWER;
}

/* `mean` and `loss` are as they are told, so that the state agrees with them and their limits. */
static enum nagios_state state_of(const struct ping *ping, const struct ping_counts *counts, double mean,
                                  double loss)
{
    const struct client_options *options = ping->run.options;
    enum nagios_state state = ping_is_clean(counts) ? NAGIOS_OK : NAGIOS_WARNING;
    if (mean > (double)options->warning_usec)
        state = NAGIOS_WARNING;
    if (counts->own > 0 || ping->is_file_bad)
        state = NAGIOS_UNKNOWN;
    bool is_ours = counts->own > 0 && counts->own == counts->lost;
    if (mean > (double)options->critical_usec || (loss > CRITICAL_LOSS && !is_ours) || counts->corrupted > 0)
        state = NAGIOS_CRITICAL;
    return state;
}

#define REASON_SIZE (HELD_ERROR_SIZE + DIAL_TRIED_SIZE)

/* What is to be told beside the figures: why it is not OK, and other addresses. */
static void format_reasons(const struct ping_host *host, const struct ping_counts *counts,
                           char out[static REASON_SIZE])
{
    const char *trouble = host->trouble ? host->trouble : counts->lost > 0 ? "no answer by the end" : NULL;
    char twice[48] = "";
    if (counts->duplicates > 0)
        snprintf(twice, sizeof twice, ", %" PRIu64 " answered twice", counts->duplicates);
    snprintf(out, REASON_SIZE, "%s%s%s%s%s", twice, trouble ? ", last failure: " : "", trouble ? trouble : "",
             host->tried[0] != '\0' ? ", also tried: " : "", host->tried);
}

static int report_check(struct ping *ping, const struct ping_host *host, const struct ping_counts *counts)
{
    const struct client_options *options = ping->run.options;
    double mean = round(ping_times_mean(&counts->times));
    char text[TARGET_TEXT_SIZE + ENDPOINT_TEXT_SIZE + REASON_SIZE + 256], reasons[REASON_SIZE];
    char data[256], time[128] = "", rta[64] = "U", loss[32], over[DURATION_TEXT_SIZE];
    snprintf(loss, sizeof loss, "%.4g", ping_lost_percent(counts));
    enum nagios_state state = state_of(ping, counts, mean, strtod(loss, NULL));
    if (ping->is_file_bad && state == NAGIOS_UNKNOWN)
        return EXIT_FILE; /* whose message is the line then */
    if (counts->received > 0) {
        uint64_t limit =
            mean > (double)options->critical_usec ? options->critical_usec : options->warning_usec;
        bool is_over = mean > (double)limit;
        snprintf(time, sizeof time, ", mean %.3f ms%s%s", mean / USEC_PER_MSEC, is_over ? " over " : "",
                 is_over ? units_format_duration(limit, over) : "");
        snprintf(rta, sizeof rta, "%.3fms", mean / USEC_PER_MSEC);
    }
    format_reasons(host, counts, reasons);
    snprintf(text, sizeof text, "%s (%s): %" PRIu64 " of %" PRIu64 " %s, %s%% lost%s%s", host->name,
             host->peer, counts->received, counts->received + counts->lost,
             options->connect ? "connected" : "answered", loss, time, reasons);
    snprintf(data, sizeof data, "rta=%s;%.3f;%.3f;0 pl=%s%%;0;%d;0;100", rta,
             (double)options->warning_usec / USEC_PER_MSEC, (double)options->critical_usec / USEC_PER_MSEC,
             loss, CRITICAL_LOSS);
    return nagios_print(ping->run.report.out, state, text, data);
}

static void print_summary(const struct ping *ping, const struct ping_host *host,
                          const struct ping_counts *counts, int status)
{
    const struct client_options *options = ping->run.options;
    const struct ping_summary summary = {
        .host = host->name,
        .peer = host->peer,
        .tried = host->tried,
        .message = host->status != 0                       ? host->error
                   : ping->has_failed || ping->is_file_bad ? print_error_latest()
                                                           : "",
        .status = status,
        .connect = options->connect,
    };
    if (options->json)
        ping_write_json_summary(ping->run.report.out, &summary, counts);
    else if (!options->csv && !options->nagios && host->status == 0)
        ping_print_summary(&ping->run.report, host->name, counts);
}

/* The metrics that could not be written go before what is wrong with the server alone. */
static int status_with_file(const struct ping *ping, int status)
{
    return ping->is_file_bad && (status == 0 || status == EXIT_WRONG_ANSWER) ? EXIT_FILE : status;
}

/* Of one host; `status` is why the whole ping has failed, or 0. Returns the exit status of the host. */
static int judge(struct ping *ping, const struct ping_host *host, int status)
{
    const struct ping_counts counts = count(ping, host);
    if (ping->run.options->nagios && status == 0 && host->status == 0)
        return report_check(ping, host, &counts);
    int judged = host->status == EXIT_INTERRUPTED ? EXIT_WRONG_ANSWER /* others were connected by then */
                 : host->status != 0              ? host->status
                                                  : status_of(&counts);
    judged = status_with_file(ping, status != 0 ? status : judged);
    if (ping->run.session.output.error == 0)
        print_summary(ping, host, &counts, judged);
    return judged;
}

/* Also after a failure, but of stdout: what was measured until then is not lost. */
static int sum_up(struct ping *ping, int status)
{
    int judged = 0;
    ping->has_ended = true;
    ping->has_failed = status != 0;
    if (ping->run.options->prometheus)
        write_metrics(ping);
    for (size_t i = 0; i < ping->count; i++)
        judged = combine(judged, judge(ping, &ping->hosts[i], status));
    if (ping->run.report.out == stdout) {
        int shown = output_exit_status(print_finish(stdout));
        status = status == 0 ? shown : status;
    } else if (ping->run.session.output.error == 0) {
        int shown = show(&ping->run);
        status = status == 0 ? shown : status;
    }
    return status_with_file(ping, status != 0 || ping->run.reader_gone ? status : judged);
}

static void ping_clear(struct ping *ping)
{
    for (size_t i = 0; i < ping->count; i++) {
        ping->hosts[i].kind->end(&ping->hosts[i]);
        target_clear(&ping->hosts[i].target);
    }
    free(ping->hosts);
    free(ping->items);
    free(ping->metrics);
    fd_close(&ping->quit_fd);
    session_close(&ping->run.session);
}

int ping_run(const struct client_options *options)
{
    CLEANUP(ping_clear)
    struct ping ping = {.run = {.options = options, .session = SESSION_NONE}, .quit_fd = -1};
    ping.run.interval_usec = options->interval_usec != USEC_NEVER ? options->interval_usec
                             : options->flood                     ? FLOOD_INTERVAL
                                                                  : DEFAULT_INTERVAL;
    int status = begin(&ping);
    if (status != 0)
        fail_all(&ping, status);
    if (status == 0 && check_hosts(&ping) == EXIT_INTERRUPTED) {
        if (options->prometheus)
            write_metrics(&ping);
        interrupt_die();
    }
    if (status == 0)
        status = tell_all(&ping);
    if (status == 0 && !ping.run.reader_gone && check_hosts(&ping) == 0)
        status = exchange(&ping);
    return sum_up(&ping, status);
}
