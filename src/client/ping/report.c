#include "client/ping/report.h"

#include "base/clock.h"
#include "base/plural.h"

#include <inttypes.h>
#include <math.h>

void ping_times_add(struct ping_times *times, uint64_t usec)
{
    if (times->count == 0 || usec < times->minimum)
        times->minimum = usec;
    if (usec > times->maximum)
        times->maximum = usec;
    times->count++;
    times->sum += (double)usec;
    times->sum_of_squares += (double)usec * (double)usec;
}

const char *ping_format_time(uint64_t usec, char out[static PING_TIME_TEXT_SIZE])
{
    int digits = usec < 1000 ? 3 : usec < 10000 ? 2 : usec < 100000 ? 1 : 0;
    snprintf(out, PING_TIME_TEXT_SIZE, "%.*f", digits, (double)usec / USEC_PER_MSEC);
    return out;
}

void ping_print_event(FILE *out, const struct terminal *terminal, const struct ping_event *event,
                      const char *peer, size_t size, uint64_t usec)
{
    char time[PING_TIME_TEXT_SIZE], fault[FAULT_TEXT_SIZE];
    if (event->kind == PING_CORRUPT)
        fprintf(out, "%sfrom %s: seq=%" PRIu64 " CORRUPT: %s%s\n", terminal_colour(terminal, COLOUR_BAD),
                peer, event->number, fault_format(&event->fault, fault),
                terminal_colour(terminal, COLOUR_OFF));
    else if (event->kind == PING_TOO_LATE)
        fprintf(out, "%zu bytes from %s: seq=%" PRIu64 " too late to tell the time\n", size, peer,
                event->number);
    else
        fprintf(out, "%zu bytes from %s: seq=%" PRIu64 " time=%s ms%s\n", size, peer, event->number,
                ping_format_time(usec, time), event->kind == PING_DUPLICATE ? " (DUP!)" : "");
}

static void print_times(FILE *out, const struct ping_times *times)
{
    double mean = times->sum / (double)times->count;
    double variance = times->sum_of_squares / (double)times->count - mean * mean;
    fprintf(out, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", (double)times->minimum / USEC_PER_MSEC,
            mean / USEC_PER_MSEC, (double)times->maximum / USEC_PER_MSEC,
            sqrt(variance > 0 ? variance : 0) / USEC_PER_MSEC);
}

void ping_print_summary(FILE *out, const struct ping_summary *summary)
{
    const struct ping_stream *stream = summary->stream;
    uint64_t lost = ping_stream_waiting(stream) - summary->pending + summary->dropped;
    uint64_t judged = stream->sent - summary->pending + summary->dropped;
    fprintf(out, "\n--- %s ping statistics ---\n", summary->host);
    fprintf(out, "%" PRIu64 " message%s transmitted, %" PRIu64 " received", stream->sent,
            plural(stream->sent), stream->answered);
    print_count(out, ", +", stream->duplicates, stream->duplicates == 1 ? "duplicate" : "duplicates");
    print_count(out, ", +", stream->corrupted, "corrupted");
    print_count(out, ", +", stream->too_late, "too late");
    print_count(out, ", +", summary->dropped, "not sent");
    print_count(out, ", ", summary->pending, "under way");
    fprintf(out, ", %" PRIu64 " lost (%.4g%%), time %" PRIu64 " ms\n", lost,
            judged > 0 ? 100.0 * (double)lost / (double)judged : 0.0, summary->usec / USEC_PER_MSEC);
    if (summary->times->count > 0)
        print_times(out, summary->times);
}
