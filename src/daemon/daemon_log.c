#include "daemon/daemon_log.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "base/log.h"
#include "base/plural.h"
#include "base/streams.h"
#include "daemon/listen_advice.h"
#include "settings/listener_settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The catalog explains each of these ids. */
static const struct log_kind kind_settings = {"5bc74c30c1844a8e9ddd8a4af76c7db9", .by_clients = false};
#define LISTENING_MESSAGE_ID "c042810a8f504d11af1f96ec0be804d6"
static const struct log_kind kind_listening = {LISTENING_MESSAGE_ID, .by_clients = false};
static const struct log_kind kind_picked_port = {LISTENING_MESSAGE_ID, .always = true};
static const struct log_kind kind_trusting = {"66ab4fb0387647148a540b8cd624ae23", .by_clients = false};
#define MISBEHAVING_MESSAGE_ID "dfcef1712ad049d49a3e27da5ae19c6e"
static const struct log_kind kind_misbehaving = {MISBEHAVING_MESSAGE_ID, .by_clients = false};
static const struct log_kind kind_drawn_seed = {MISBEHAVING_MESSAGE_ID, .always = true};
static const struct log_kind kind_cannot_listen = {"1080276ad938445b986d118c4e11256b", .by_clients = false};
static const struct log_kind kind_limits = {"06e0a4e6b8cb4c3bb5a0fd8acbdbb77b", .by_clients = false};
static const struct log_kind kind_system = {"59ed5db7d14b4af997d4347bb6671cb1", .by_clients = false};
static const struct log_kind kind_ready = {"d9f0986eaf554321a88221b4644b60ff", .by_clients = false};
static const struct log_kind kind_reload = {"c12451b408ac4865a619c1ba87eed999", .by_clients = false};
static const struct log_kind kind_stuck = {"8c3f6f0e5ad94a0f9a4fca1f2f6f3c55", .by_clients = false};
static const struct log_kind kind_stop = {"7e3ac0ff9e74443d99aa15f4b22f5dd3", .by_clients = false};
static const struct log_kind kind_handover = {"9fea9f2f868b42a380bbe3ac44b16dfb", .by_clients = false};
static const struct log_kind kind_counters = {"402c0c3befeb4567967713130f40bfb1", .by_clients = false};

#define REPORT(kind, level, ...) log_event(&(kind), (level), NULL, 0, __VA_ARGS__)

#define PROBLEM_SIZE 1536

/* Of an error's text, for the listeners that it names. */
#define LISTENERS_SIZE 320

/* Logs an error, and adds it to the problems that the caller hands on (NULL: nobody reads them). */
static void __attribute__((format(printf, 3, 4)))
log_problem(const struct log_kind *kind, struct problems *problems, const char *format, ...)
{
    char text[PROBLEM_SIZE];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof text, format, arguments) >= (int)sizeof text)
        escape_cut_short(text, sizeof text - 1);
    va_end(arguments);
    log_event(kind, LOG_LEVEL_ERROR, NULL, 0, "%s", text);
    if (problems)
        problems_add(problems, NULL, 0, "%s", text);
}

/* A text that grows and is cut at its end. */
struct text {
    char *out;
    size_t size, length;
};

static void __attribute__((format(printf, 2, 3))) append(struct text *text, const char *format, ...)
{
    if (text->length >= text->size)
        return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->out + text->length, text->size - text->length, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->length += (size_t)length;
}

void daemon_log_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        REPORT(kind_settings, LOG_LEVEL_ERROR, "%s", problems->items[i].message);
}

void daemon_log_listening(const struct listener *listener, bool is_picked)
{
    const struct log_field fields[] = {
        LOG_TEXT("TCPECHOD_LISTENER", listener->name),
        LOG_TEXT("TCPECHOD_SERVICE", listener->config->service->name),
    };
    log_event(is_picked ? &kind_picked_port : &kind_listening, LOG_LEVEL_INFO, fields, 2,
              "listening: %s on %s%s%s", listener->config->service->name, listener->name,
              listener->passed_as ? ", passed by the service manager as " : "",
              listener->passed_as ? listener->passed_as : "");
}

void daemon_log_lacking(const struct listener *listener)
{
    REPORT(kind_listening, LOG_LEVEL_NOTICE, "%s goes on without %s, which this kind of socket does not have",
           listener->name, listener->lacks);
}

void daemon_log_trusting(const struct listener *listener)
{
    REPORT(kind_trusting, LOG_LEVEL_WARNING,
           "%s has proxy_protocol without proxy_from: whoever can connect may pretend to be any client",
           listener->name);
}

void daemon_log_misbehaving(const struct listener *listener, const struct listener_settings *settings)
{
    CLEANUP(free_pointer) char *faults = NULL;
    size_t size;
    const struct misbehaviour_params *params = listener->config->misbehaviour;
    FILE *out = open_memstream(&faults, &size);
    if (out) {
        (void)settings_print_faults(settings, out);
        (void)fclose(out);
    }
    const struct log_field fields[] = {
        LOG_TEXT("TCPECHOD_LISTENER", listener->name),
        LOG_TEXT("TCPECHOD_SERVICE", listener->config->service->name),
        LOG_NUMBER("TCPECHOD_SEED", params->seed),
    };
    char seed[64] = "";
    bool is_random = misbehaviour_is_random(params);
    if (is_random)
        snprintf(seed, sizeof seed, ", seed = %u%s", params->seed, params->is_drawn ? " (drawn)" : "");
    log_event(is_random && params->is_drawn ? &kind_drawn_seed : &kind_misbehaving, LOG_LEVEL_NOTICE, fields,
              is_random ? 3 : 2, "misbehaving on purpose: %s on %s: %s%s", listener->config->service->name,
              listener->name, faults ? faults : "as set", seed);
}

void daemon_log_cannot_listen(struct problems *problems, const struct listener_settings *settings, int error)
{
    char where[LISTENER_PLACE_SIZE], advice[LISTEN_ADVICE_SIZE];
    log_problem(&kind_cannot_listen, problems, "cannot listen: %s on %s: %s: %s", settings->service->name,
                listener_settings_place(settings, where), strerrordesc_np(error),
                listen_advice(settings, error, advice));
}

void daemon_log_cannot_adopt(struct problems *problems, int fd, const char *name, const char *what, int error)
{
    if (what)
        log_problem(
            &kind_cannot_listen, problems,
            "cannot listen: descriptor %d, passed by the service manager as %s, is %s; the socket unit must "
            "have ListenStream= with an address or a path, Accept=no, and nothing else to listen on",
            fd, name, what);
    else
        log_problem(&kind_cannot_listen, problems,
                    "cannot listen: descriptor %d, passed by the service manager as %s: %s", fd, name,
                    strerrordesc_np(error));
}

/* "echo on 127.0.0.1:7, upper on *:7008", and how many more there are when there is no room for all. */
static void list_listeners(const struct settings *settings, char *out, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < settings->listener_count; i++) {
        char where[LISTENER_PLACE_SIZE];
        const struct listener_settings *row = &settings->listeners[i];
        if (length > size - LISTENER_PLACE_SIZE - 64) {
            snprintf(out + length, size - length, " and %zu more", settings->listener_count - i);
            return;
        }
        length += (size_t)snprintf(out + length, size - length, "%s%s on %s", i > 0 ? ", " : "",
                                   row->service->name, listener_settings_place(row, where));
    }
}

void daemon_log_not_served(struct problems *problems, const struct listener *listener,
                           const struct settings *settings)
{
    char listeners[LISTENERS_SIZE];
    list_listeners(settings, listeners, sizeof listeners);
    log_problem(&kind_cannot_listen, problems,
                "cannot listen: socket %s, passed by the service manager as %s, has no listener; take its "
                "ListenStream= out of the socket unit, or add a listener to the settings, which have %s",
                listener->name, listener->passed_as, listeners);
}

void daemon_log_no_ipv6(bool is_loopback)
{
    REPORT(kind_listening, LOG_LEVEL_NOTICE, "%s",
           is_loopback
               ? "the loopback interface has no IPv6: listeners on ::1 are left out"
               : "this host has no IPv6: listeners on ::1 are left out, and those on * are IPv4 alone");
}

void daemon_log_room(uint64_t room, uint64_t asked)
{
    if (asked > room)
        REPORT(kind_limits, LOG_LEVEL_WARNING,
               "max_connections = %" PRIu64 ", but the descriptor limit leaves room for %" PRIu64
               "; raise it (LimitNOFILE=, ulimit -n)",
               asked, room);
}

void daemon_log_ready(unsigned listeners, unsigned workers, uint64_t room)
{
    REPORT(kind_ready, LOG_LEVEL_NOTICE,
           "ready: %u listener%s, %u worker%s, room for %" PRIu64 " connection%s", listeners,
           plural(listeners), workers, plural(workers), room, plural(room));
}

void daemon_log_descriptor_limit(uint64_t limit, int error)
{
    REPORT(kind_limits, LOG_LEVEL_WARNING, "cannot raise the descriptor limit above %" PRIu64 ": %s", limit,
           strerrordesc_np(error));
}

void daemon_log_system_error(struct problems *problems, const char *what, int error)
{
    log_problem(&kind_system, problems, "%s: %s%s", what, strerrordesc_np(error),
                error == EMFILE ? "; raise the descriptor limit (LimitNOFILE=, ulimit -n)" : "");
}

void daemon_log_no_null(struct problems *problems, int error)
{
    log_problem(&kind_system, problems, "cannot open /dev/null: %s%s", strerrordesc_np(error),
                streams_null_advice(error));
}

void daemon_log_reloaded(const char *file, bool is_absent, unsigned listeners)
{
    REPORT(kind_reload, LOG_LEVEL_NOTICE, "reloaded %s%s: %u listener%s", file,
           is_absent ? ", which is absent: the built-in defaults" : "", listeners, plural(listeners));
}

void daemon_log_reload_failed(struct problems *problems, const char *file)
{
    log_problem(&kind_reload, problems, "not reloaded: the settings in force stay; mend %s and reload again",
                file);
}

void daemon_log_reload_too_late(struct problems *problems)
{
    log_problem(&kind_reload, problems, "not reloaded: the daemon is stopping");
}

void daemon_log_needs_restart(const char *setting, const char *in_force, const char *wanted)
{
    REPORT(kind_reload, LOG_LEVEL_WARNING, "%s = %s needs a restart; %s stays in force until then", setting,
           wanted, in_force);
}

void daemon_log_cannot_configure(const struct listener *listener, int error)
{
    REPORT(kind_reload, LOG_LEVEL_WARNING, "%s: cannot change the %s: %s%s", listener->name,
           listener->listen_address.path ? "mode" : "socket's options", strerrordesc_np(error),
           error == EOPNOTSUPP ? "; it takes /proc" : "");
}

void daemon_log_reload_not_begun(int error)
{
    REPORT(kind_reload, LOG_LEVEL_WARNING, "not reloaded: cannot answer the request: %s",
           strerrordesc_np(error));
}

void daemon_log_reload_not_answered(int error)
{
    REPORT(kind_reload, LOG_LEVEL_WARNING, "reload: cannot answer the request: %s", strerrordesc_np(error));
}

void daemon_log_watchdog_off(const char *what, int error)
{
    REPORT(kind_system, LOG_LEVEL_WARNING,
           "no watchdog: %s: %s; the service manager will restart this service if it waits for one", what,
           strerrordesc_np(error));
}

void daemon_log_stuck(const char *who, pid_t thread, uint64_t usec)
{
    REPORT(kind_stuck, LOG_LEVEL_ERROR,
           "%s (thread %d) has not responded for %.1f s; the service manager is asked to end this process",
           who, (int)thread, (double)usec / (double)USEC_PER_SEC);
}

void daemon_log_cannot_notify(int error)
{
    REPORT(kind_system, LOG_LEVEL_ERROR, "cannot notify the service manager ($NOTIFY_SOCKET): %s",
           strerrordesc_np(error));
}

void daemon_log_not_kept(const char *what, int error)
{
    REPORT(kind_handover, LOG_LEVEL_WARNING, "the listeners may not be kept for a restart: %s: %s", what,
           strerrordesc_np(error));
}

void daemon_log_handing_over(const char *to, uint64_t connections)
{
    REPORT(kind_handover, LOG_LEVEL_NOTICE, "handing over to %s: %" PRIu64 " connection%s", to, connections,
           plural(connections));
}

void daemon_log_not_handed_over(const char *what, const char *why, const char *consequence)
{
    REPORT(kind_handover, LOG_LEVEL_ERROR, "not handed over: %s: %s; %s", what, why, consequence);
}

void daemon_log_state_unreadable(int error)
{
    REPORT(kind_handover, LOG_LEVEL_ERROR,
           "cannot read what the process before has left: %s; its connections are closed",
           error == EPROTONOSUPPORT ? "it is another version's"
           : error == EBADMSG       ? "it is damaged"
                                    : strerrordesc_np(error));
}

void daemon_log_taken_over(const struct taken_over *taken)
{
    char line[512];
    struct text text = {.out = line, .size = sizeof line};
    append(&text, "%" PRIu64 " listener%s and %" PRIu64 " connection%s of the process before go on",
           taken->listeners, plural(taken->listeners), taken->is_short ? 0 : taken->resumed,
           plural(taken->is_short ? 0 : taken->resumed));
    if (taken->is_short)
        append(&text, "; %" PRIu64 " are finished, as the descriptor limit has no room for all",
               taken->resumed);
    if (taken->closed > 0)
        append(&text, "; %" PRIu64 " %s closed, as nothing is known of them", taken->closed,
               taken->closed == 1 ? "is" : "are");
    if (taken->lost > 0)
        append(&text, "; %" PRIu64 " %s lost", taken->lost, taken->lost == 1 ? "is" : "are");
    if (taken->has_ended_unasked)
        append(&text, "; it has ended without a hand-over, and its connections with it");
    bool is_whole = !taken->is_short && taken->closed == 0 && taken->lost == 0 && !taken->has_ended_unasked;
    REPORT(kind_handover, is_whole ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING, "%s", line);
}

void daemon_log_given_up(struct problems *problems, uint64_t connections)
{
    log_problem(&kind_handover, problems,
                "%" PRIu64 " connection%s of the process before %s closed, as this one cannot start",
                connections, plural(connections), connections == 1 ? "is" : "are");
}

void daemon_log_listeners_stay(struct problems *problems)
{
    log_problem(&kind_handover, problems,
                "the listeners of the process before stay as they were; mend the settings and reload");
}

void daemon_log_stop_delayed(const char *why, uint64_t delay_usec)
{
    REPORT(kind_stop, LOG_LEVEL_NOTICE, "stopping (%s): new clients are accepted for %g s more", why,
           (double)delay_usec / (double)USEC_PER_SEC);
}

void daemon_log_stopping(const char *why, uint64_t connections)
{
    REPORT(kind_stop, LOG_LEVEL_NOTICE, "stopping (%s): %" PRIu64 " connection%s to finish", why, connections,
           plural(connections));
}

void daemon_log_stopped(uint64_t cut)
{
    if (cut > 0)
        REPORT(kind_stop, LOG_LEVEL_NOTICE, "stopped: %" PRIu64 " connection%s did not finish in time", cut,
               plural(cut));
    else
        REPORT(kind_stop, LOG_LEVEL_NOTICE, "stopped: every connection was finished");
}

/* The workers refuse as well, once a proxy has said who a client is. Takes theirs out of what they closed. */
static void split_refused(const struct acceptor *acceptor, uint64_t closed_by[REASON_COUNT],
                          uint64_t refused[REASON_COUNT])
{
    for (unsigned i = 0; i < REASON_COUNT; i++) {
        bool is_refused = reason_refuses((enum reason)i);
        refused[i] = acceptor->refused[i] + (is_refused ? closed_by[i] : 0);
        closed_by[i] = is_refused ? 0 : closed_by[i];
    }
}

/* "17 NAME (denied 3, per_source 14)": the sum, and those reasons that are not zero. */
static void append_sum(struct text *text, const char *name, const uint64_t counts[REASON_COUNT])
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < REASON_COUNT; i++)
        sum += counts[i];
    append(text, ", %" PRIu64 " %s", sum, name);
    const char *before = " (";
    for (unsigned i = 0; i < REASON_COUNT; i++) {
        if (counts[i] == 0)
            continue;
        append(text, "%s%s %" PRIu64, before, reason_name((enum reason)i), counts[i]);
        before = ", ";
    }
    if (sum > 0)
        append(text, ")");
}

static void append_now(struct text *text, const struct worker_pool *pool)
{
    uint64_t connections = worker_pool_connections(pool);
    append(text, "%" PRIu64 " connection%s, %zu queued", connections, plural(connections),
           conn_queue_length(pool->queue));
}

void format_status(const struct acceptor *acceptor, const struct worker_pool *pool, char *out, size_t size)
{
    struct text text = {.out = out, .size = size};
    struct totals totals = worker_pool_totals(pool);
    uint64_t refused[REASON_COUNT];
    split_refused(acceptor, totals.closed_by, refused);
    append_now(&text, pool);
    append(&text, ", %" PRIu64 " accepted", acceptor->accepted);
    append_sum(&text, "refused", refused);
    append_sum(&text, "waits", acceptor->waits);
}

void daemon_log_counters(const struct acceptor *acceptor, const struct worker_pool *pool)
{
    struct totals totals = worker_pool_totals(pool);
    uint64_t refused[REASON_COUNT];
    char line[1024];
    struct text text = {.out = line, .size = sizeof line};
    split_refused(acceptor, totals.closed_by, refused);
    append_now(&text, pool);
    append(&text, ", %" PRIu64 " accepted", acceptor->accepted);
    append_sum(&text, "closed", totals.closed_by);
    append_sum(&text, "refused", refused);
    append_sum(&text, "waits", acceptor->waits);
    uint64_t lost = log_lost();
    append(&text, ", %" PRIu64 " byte%s in, %" PRIu64 " out, %" PRIu64 " message%s lost", totals.bytes_in,
           plural(totals.bytes_in), totals.bytes_out, lost, plural(lost));
    REPORT(kind_counters, LOG_LEVEL_NOTICE, "counters: %s", line);
    for (unsigned i = 0; i < pool->count; i++) {
        uint64_t own = worker_pool_connections_of(pool, i);
        REPORT(kind_counters, LOG_LEVEL_NOTICE, "counters: worker %u: %" PRIu64 " connection%s", i + 1, own,
               plural(own));
    }
}
