#include "base/json.h"

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

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key)
{
    put_key(json, key);
    fputs("null", json->out);
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

void json_row(struct json *json, const uint64_t *values, unsigned count)
{
    put_key(json, NULL);
    fputc('[', json->out);
    for (unsigned i = 0; i < count; i++)
        fprintf(json->out, "%s%" PRIu64, i == 0 ? "" : ", ", values[i]);
    fputc(']', json->out);
}
