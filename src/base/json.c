#include "base/json.h"

#include "base/escape.h"

#include <inttypes.h>
#include <string.h>

/* Of the UTF-8 character that a span begins with; 0: it begins with none. */
static size_t character_length(struct span text)
{
    char start[5] = ""; /* the longest, and a NUL, which utf8_length needs */
    memcpy(start, text.bytes, span_first(text, sizeof start - 1).length);
    return utf8_length(start);
}

static void put_string(FILE *out, struct span text)
{
    fputc('"', out);
    while (text.length > 0) {
        uint8_t byte = text.bytes[0];
        size_t length = byte >= 0x80 ? character_length(text) : 1;
        if (length == 0)
            fputs("\\ufffd", out);
        else if (byte < ' ' || byte == 0x7f)
            fprintf(out, "\\u%04x", byte);
        else if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else
            fwrite(text.bytes, 1, length, out);
        text = span_from(text, length > 0 ? length : 1);
    }
    fputc('"', out);
}

bool json_is_exact(struct span text)
{
    while (text.length > 0) {
        size_t length = text.bytes[0] >= 0x80 ? character_length(text) : 1;
        if (length == 0)
            return false;
        text = span_from(text, length);
    }
    return true;
}

static struct span span_of(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static void put_line_end(const struct json *json)
{
    if (!json->one_line)
        fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
}

static void put_key(struct json *json, const char *key)
{
    if (json->depth > 0) {
        fputs(json->is_first ? "" : json->one_line ? ", " : ",", json->out);
        put_line_end(json);
    }
    json->is_first = false;
    if (key) {
        put_string(json->out, span_of(key));
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
        put_line_end(json);
    fputc(bracket, json->out);
    json->is_first = false;
    if (json->depth == 0)
        put_line_end(json);
}

void json_text(struct json *json, const char *key, const char *text)
{
    json_bytes(json, key, span_of(text));
}

void json_bytes(struct json *json, const char *key, struct span text)
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
