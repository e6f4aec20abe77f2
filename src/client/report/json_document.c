#include "client/report/json_document.h"

void json_open_report(struct json *json, const char *mode, const char *server, const char *tried)
{
    json_open(json, NULL, '{');
    json_text(json, "tcpecho", PACKAGE_VERSION);
    json_text(json, "mode", mode);
    json_text(json, "server", server);
    if (tried[0] != '\0')
        json_text(json, "tried", tried);
}

void json_times(struct json *json, const char *name, const struct histogram *times)
{
    const struct {
        const char *suffix;
        uint64_t nsec;
    } figures[] = {
        {"min", times->min},
        {"mean", (uint64_t)histogram_mean(times)},
        {"p50", histogram_quantile(times, P50)},
        {"p90", histogram_quantile(times, P90)},
        {"p99", histogram_quantile(times, P99)},
        {"p99_9", histogram_quantile(times, P99_9)},
        {"max", times->max},
    };
    char key[64];

    snprintf(key, sizeof key, "%s_count", name);
    json_count(json, key, times->count);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        snprintf(key, sizeof key, "%s_%s_ns", name, figures[i].suffix);
        if (times->count > 0)
            json_count(json, key, figures[i].nsec);
        else
            json_null(json, key);
    }
}
