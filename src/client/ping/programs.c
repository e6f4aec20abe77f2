#include "client/ping/programs.h"

#include "base/clock.h"
#include "client/net/connection.h"
#include "client/report/json_document.h"
#include "client/report/prometheus.h"

#include <inttypes.h>
#include <string.h>

static const char *const event_names[] = {
    [PING_LINE_REPLY] = "reply",
    [PING_LINE_DUPLICATE] = "duplicate",
    [PING_LINE_CORRUPT] = "corrupt",
    [PING_LINE_TOO_LATE] = "too_late",
    [PING_LINE_SILENT] = "no_answer",
    [PING_LINE_BROKEN] = "broken",
    [PING_LINE_RECONNECTED] = "reconnected",
    [PING_LINE_UNCONNECTED] = "not_connected",
    [PING_LINE_MADE] = "connected",
    [PING_LINE_REFUSED] = "refused",
    [PING_LINE_UNREACHABLE] = "unreachable",
};

static bool has_time(enum ping_line_kind kind)
{
    return kind == PING_LINE_REPLY || kind == PING_LINE_DUPLICATE || kind == PING_LINE_RECONNECTED ||
           kind == PING_LINE_MADE || kind == PING_LINE_REFUSED;
}

/* ---- JSON ---- */

void ping_write_json_line(FILE *out, const struct ping_line *line, size_t size)
{
    struct json json = {.out = out, .one_line = true};
    char text[FAULT_TEXT_SIZE];
    json_open(&json, NULL, '{');
    json_text(&json, "event", event_names[line->kind]);
    json_text(&json, "host", line->host);
    json_text(&json, "server", line->peer);
    json_count(&json, "at_unix_us", clock_usec(CLOCK_REALTIME));
    if (line->number > 0)
        json_count(&json, "seq", line->number);
    if (has_time(line->kind))
        json_count(&json, "time_us", line->usec);
    if (line->kind == PING_LINE_REPLY || line->kind == PING_LINE_DUPLICATE)
        json_count(&json, "message_bytes", size);
    if (ping_line_error(line))
        json_text(&json, "error", ping_line_error(line));
    if (line->kind == PING_LINE_CORRUPT) {
        json_text(&json, "kind", fault_kind_name(line->fault->kind));
        json_count(&json, "offset_bytes", line->fault->offset);
        json_count(&json, "length_bytes", line->fault->length);
        json_text(&json, "text", fault_format(line->fault, text));
    }
    json_close(&json, '}');
    fputc('\n', out);
}

static void write_json_times(struct json *json, const char *name, const struct ping_times *times)
{
    const struct {
        const char *suffix;
        double usec;
    } figures[] = {{"min", (double)times->minimum},
                   {"mean", ping_times_mean(times)},
                   {"max", (double)times->maximum},
                   {"mdev", ping_times_mdev(times)}};
    char key[64];
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        snprintf(key, sizeof key, "%s_%s_us", name, figures[i].suffix);
        if (times->count > 0)
            json_number(json, key, figures[i].usec);
        else
            json_null(json, key);
    }
}

void ping_write_json_summary(FILE *out, const struct ping_summary *summary, const struct ping_counts *counts)
{
    struct json json = {.out = out, .one_line = true};
    json_open_report(&json, "ping", summary->peer, summary->tried);
    json_text(&json, "event", "summary");
    json_text(&json, "host", summary->host);
    if (summary->message[0] != '\0')
        json_text(&json, "message", summary->message);
    json_count(&json, "exit_status", (uint64_t)summary->status);
    json_number(&json, "elapsed_s", (double)counts->usec / (double)USEC_PER_SEC);
    json_count(&json, "sent", counts->sent);
    json_count(&json, "received", counts->received);
    json_count(&json, "lost", counts->lost);
    json_number(&json, "lost_percent", ping_lost_percent(counts));
    json_count(&json, "not_sent", counts->not_sent);
    json_count(&json, "not_sent_in_time", counts->late);
    json_count(&json, "under_way", counts->pending);
    if (summary->connect) {
        json_count(&json, "refused", counts->refused);
        json_count(&json, "silent", counts->silent);
        json_count(&json, "unreachable", counts->unreachable);
    } else {
        json_count(&json, "duplicates", counts->duplicates);
        json_count(&json, "corrupted", counts->corrupted);
        json_count(&json, "too_late", counts->too_late);
        json_count(&json, "broken", counts->broken);
        json_count(&json, "reconnected", counts->reconnected);
        json_count(&json, "not_connected", counts->unconnected);
    }
    write_json_times(&json, "time", &counts->times);
    if (summary->connect)
        write_json_times(&json, "refused", &counts->refusals);
    json_bool(&json, "clean", summary->status == 0);
    json_close(&json, '}');
    fputc('\n', out);
}

/* ---- comma-separated values ---- */

static void write_field(FILE *out, const char *text)
{
    if (text[strcspn(text, ",\"\n\r")] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void ping_write_csv_head(FILE *out)
{
    fputs("at_unix_us,event,host,server,seq,time_us,text\n", out);
}

void ping_write_csv_line(FILE *out, const struct ping_line *line)
{
    char fault[FAULT_TEXT_SIZE] = "";
    const char *error = ping_line_error(line);
    fprintf(out, "%" PRIu64 ",%s,", clock_usec(CLOCK_REALTIME), event_names[line->kind]);
    write_field(out, line->host);
    fputc(',', out);
    write_field(out, line->peer);
    fputc(',', out);
    if (line->number > 0)
        fprintf(out, "%" PRIu64, line->number);
    fputc(',', out);
    if (has_time(line->kind))
        fprintf(out, "%" PRIu64, line->usec);
    fputc(',', out);
    if (line->kind == PING_LINE_CORRUPT)
        error = fault_format(line->fault, fault);
    write_field(out, error ? error : "");
    fputc('\n', out);
}

/* ---- metrics ---- */

enum { OF_MESSAGES = 1, OF_HANDSHAKES = 2, OF_BOTH = 3 };

static const struct {
    const char *name, *help;
    size_t offset; /* in struct ping_counts */
    int of;
} counters[] = {
    {"tcpecho_ping_sent_total", "Messages sent, or handshakes begun.", offsetof(struct ping_counts, sent),
     OF_BOTH},
    {"tcpecho_ping_received_total", "Messages answered, or handshakes completed.",
     offsetof(struct ping_counts, received), OF_BOTH},
    {"tcpecho_ping_lost_total",
     "Messages without a right answer, or handshakes not made; also those not sent.",
     offsetof(struct ping_counts, lost), OF_BOTH},
    {"tcpecho_ping_not_sent_total", "Messages that were not sent, or handshakes that were not begun.",
     offsetof(struct ping_counts, not_sent), OF_BOTH},
    {"tcpecho_ping_duplicates_total", "Answers that came again.", offsetof(struct ping_counts, duplicates),
     OF_MESSAGES},
    {"tcpecho_ping_corrupted_total", "Answers with wrong bytes.", offsetof(struct ping_counts, corrupted),
     OF_MESSAGES},
    {"tcpecho_ping_broken_connections_total", "Connections that broke.", offsetof(struct ping_counts, broken),
     OF_MESSAGES},
    {"tcpecho_ping_refused_total", "Handshakes that were refused.", offsetof(struct ping_counts, refused),
     OF_HANDSHAKES},
    {"tcpecho_ping_silent_total", "Handshakes without an answer.", offsetof(struct ping_counts, silent),
     OF_HANDSHAKES},
    {"tcpecho_ping_unreachable_total", "Handshakes that did not reach the host.",
     offsetof(struct ping_counts, unreachable), OF_HANDSHAKES},
};

#define LABELS_SIZE (2 * PROMETHEUS_LABEL_SIZE)

static const char *labels_of(const struct ping_metrics_of *host, char out[static LABELS_SIZE])
{
    char name[PROMETHEUS_LABEL_SIZE], server[PROMETHEUS_LABEL_SIZE];
    snprintf(out, LABELS_SIZE, "%s,%s", prometheus_label("host", host->host, name),
             prometheus_label("server", host->peer, server));
    return out;
}

static void write_times(FILE *out, const struct ping_metrics *metrics)
{
    char labels[LABELS_SIZE];
    prometheus_head(out, "tcpecho_ping_time_seconds", "summary", "How long answers or handshakes took.");
    for (size_t i = 0; i < metrics->count; i++) {
        const struct ping_times *times = &metrics->hosts[i].counts.times;
        labels_of(&metrics->hosts[i], labels);
        prometheus_sample(out, "tcpecho_ping_time_seconds_sum", labels, times->sum / (double)USEC_PER_SEC);
        prometheus_sample(out, "tcpecho_ping_time_seconds_count", labels, (double)times->count);
    }
}

void ping_write_metrics(FILE *out, const void *what)
{
    const struct ping_metrics *metrics = what;
    char labels[LABELS_SIZE];
    prometheus_head(out, "tcpecho_ping_up", "gauge",
                    "Whether it is connected, and nothing has failed since the latest answer.");
    for (size_t i = 0; i < metrics->count; i++)
        prometheus_sample(out, "tcpecho_ping_up", labels_of(&metrics->hosts[i], labels),
                          metrics->hosts[i].is_up ? 1 : 0);
    for (size_t c = 0; c < sizeof counters / sizeof counters[0]; c++) {
        if ((counters[c].of & (metrics->connect ? OF_HANDSHAKES : OF_MESSAGES)) == 0)
            continue;
        prometheus_head(out, counters[c].name, "counter", counters[c].help);
        for (size_t i = 0; i < metrics->count; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&metrics->hosts[i].counts + counters[c].offset, sizeof value);
            prometheus_sample(out, counters[c].name, labels_of(&metrics->hosts[i], labels), (double)value);
        }
    }
    write_times(out, metrics);
}
