#include "client/report/json.h"

#include "base/escape.h"

#include <inttypes.h>

static void put_string(FILE *out, const char *text)
{
    fputc('"', out);
    while (*text) {
        unsigned char byte = (unsigned char)*text;
        size_t length = byte >= 0x80 ? utf8_length(text) : 1;
        if (length == 0) {
            fputs("\\ufffd", out);
            text++;
            continue;
        }
        if (byte < ' ' || byte == 0x7f)
            fprintf(out, "\\u%04x", byte);
        else if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else
            fwrite(text, 1, length, out);
        text += length;
    }
    fputc('"', out);
}

static void put_key(struct json *json, const char *key)
{
    if (json->depth > 0)
        fprintf(json->out, "%s\n%*s", json->is_first ? "" : ",", (int)json->depth * 2, "");
    json->is_first = false;
    if (key) {
        put_string(json->out, key);
        fputs(": ", json->out);
    }
}

void json_open(struct json *json, const char *key, char bracket)
{
    put_key(json, key);
    fputc(bracket, json->out);
    json->depth++;
    json->is_first = true;
}

void json_close(struct json *json, char bracket)
{
    json->depth--;
    if (!json->is_first)
        fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
    fputc(bracket, json->out);
    json->is_first = false;
    if (json->depth == 0)
        fputc('\n', json->out);
}

void json_text(struct json *json, const char *key, const char *text)
{
    put_key(json, key);
    put_string(json->out, text);
}

void json_open_report(struct json *json, const char *mode, const char *server)
{
    json_open(json, NULL, '{');
    json_text(json, "tcpecho", PACKAGE_VERSION);
    json_text(json, "mode", mode);
    json_text(json, "server", server);
}

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_count(struct json *json, const char *key, uint64_t value)
{
    put_key(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void json_number(struct json *json, const char *key, double value)
{
    put_key(json, key);
    fprintf(json->out, "%.9g", value);
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
        if (times->count > 0) {
            json_count(json, key, figures[i].nsec);
        } else {
            put_key(json, key);
            fputs("null", json->out);
        }
    }
}

void json_row(struct json *json, const uint64_t *values, unsigned count)
{
    put_key(json, NULL);
    fputc('[', json->out);
    for (unsigned i = 0; i < count; i++)
        fprintf(json->out, "%s%" PRIu64, i == 0 ? "" : ", ", values[i]);
    fputc(']', json->out);
}
