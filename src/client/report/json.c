#include "client/report/json.h"

#include "base/escape.h"

#include <inttypes.h>

static void put_string(FILE *out, const char *text)
{
    (void)fputc('"', out);
    while (*text) {
        unsigned char byte = (unsigned char)*text;
        size_t length = byte >= 0x80 ? utf8_length(text) : 1;
        if (length == 0) {
            (void)fputs("\\ufffd", out);
            text++;
            continue;
        }
        if (byte < ' ' || byte == 0x7f)
            (void)fprintf(out, "\\u%04x", byte);
        else if (byte == '"' || byte == '\\')
            (void)fprintf(out, "\\%c", byte);
        else
            (void)fwrite(text, 1, length, out);
        text += length;
    }
    (void)fputc('"', out);
}

static void put_key(struct json *json, const char *key)
{
    if (json->depth > 0)
        (void)fprintf(json->out, "%s\n%*s", json->is_first ? "" : ",", (int)json->depth * 2, "");
    json->is_first = false;
    if (key) {
        put_string(json->out, key);
        (void)fputs(": ", json->out);
    }
}

void json_open(struct json *json, const char *key, char bracket)
{
    put_key(json, key);
    (void)fputc(bracket, json->out);
    json->depth++;
    json->is_first = true;
}

void json_close(struct json *json, char bracket)
{
    json->depth--;
    if (!json->is_first)
        (void)fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
    (void)fputc(bracket, json->out);
    json->is_first = false;
    if (json->depth == 0)
        (void)fputc('\n', json->out);
}

void json_text(struct json *json, const char *key, const char *text)
{
    put_key(json, key);
    put_string(json->out, text);
}

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    (void)fputs(value ? "true" : "false", json->out);
}

void json_count(struct json *json, const char *key, uint64_t value, const char *unit)
{
    put_key(json, key);
    (void)fprintf(json->out, "{\"value\": %" PRIu64 ", \"unit\": ", value);
    put_string(json->out, unit);
    (void)fputc('}', json->out);
}

void json_number(struct json *json, const char *key, double value, const char *unit)
{
    put_key(json, key);
    (void)fprintf(json->out, "{\"value\": %.9g, \"unit\": ", value);
    put_string(json->out, unit);
    (void)fputc('}', json->out);
}

void json_none(struct json *json, const char *key, const char *unit)
{
    put_key(json, key);
    (void)fputs("{\"value\": null, \"unit\": ", json->out);
    put_string(json->out, unit);
    (void)fputc('}', json->out);
}

void json_row(struct json *json, const uint64_t *values, unsigned count)
{
    put_key(json, NULL);
    (void)fputc('[', json->out);
    for (unsigned i = 0; i < count; i++)
        (void)fprintf(json->out, "%s%" PRIu64, i == 0 ? "" : ", ", values[i]);
    (void)fputc(']', json->out);
}
