/* Strange bytes as text: in a terminal, a log, a settings file and JSON. */
#include "fuzz.h"

#include "base/escape.h"
#include "base/json.h"

/* Nothing that a terminal obeys, and no half of a character. */
static void check_printable(const char *text)
{
    while (*text) {
        size_t length = utf8_length(text);
        FUZZ_CHECK(length > 0 || (*text >= ' ' && *text <= '~'));
        text += length > 0 ? length : 1;
    }
}

static void check_excerpt(struct span bytes, size_t limit)
{
    size_t shown = bytes.length < limit ? bytes.length : limit;
    char *out = malloc(4 * limit + 4);
    FUZZ_CHECK(out && escape_excerpt(bytes.bytes, bytes.length, limit, out) == out);
    FUZZ_CHECK(strlen(out) >= shown && strlen(out) <= 4 * limit + 3);
    for (const char *at = out; *at; at++)
        FUZZ_CHECK(*at >= ' ' && *at <= '~');
    free(out);
}

static void check_controls(const char *text, size_t size)
{
    char *out = malloc(size);
    FUZZ_CHECK(out);
    size_t length = escape_controls(text, out, size);
    FUZZ_CHECK(length < size && length == strlen(out));
    check_printable(out);
    if (length >= 3) {
        size_t cut = escape_cut_short(out, length);
        FUZZ_CHECK(cut <= length && cut == strlen(out) && cut >= 3);
        FUZZ_CHECK(strcmp(out + cut - 3, "...") == 0);
        check_printable(out);
    }
    free(out);
}

static void check_quoted(const char *text)
{
    char *out = escape_quoted(text);
    size_t length = out ? strlen(out) : 0;
    FUZZ_CHECK(length >= 2 && out[0] == '"' && out[length - 1] == '"');
    check_printable(out);
    for (size_t i = 1; i + 1 < length; i++) {
        FUZZ_CHECK(out[i] != '"');
        i += out[i] == '\\'; /* what follows belongs to it */
        FUZZ_CHECK(i + 1 < length);
    }
    free(out);
}

static void check_json(const char *text, struct span bytes)
{
    char *out = NULL;
    size_t length;
    struct json json = {.out = open_memstream(&out, &length)};
    FUZZ_CHECK(json.out);
    json_open(&json, NULL, '{');
    json_text(&json, text, text);
    json_bytes(&json, "bytes", bytes);
    json_close(&json, '}');
    FUZZ_CHECK(fclose(json.out) == 0);
    size_t quotes = 0;
    for (size_t i = 0; i < length; i++) {
        size_t whole = utf8_length(out + i);
        FUZZ_CHECK(whole > 0 || out[i] == '\n' || (out[i] >= ' ' && out[i] <= '~'));
        quotes += out[i] == '"';
        i += out[i] == '\\' ? 1 : whole > 0 ? whole - 1 : 0;
    }
    FUZZ_CHECK(quotes == 8 && out[0] == '{' && out[length - 1] == '\n');
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    size_t size = 1 + fuzz_number(&input, 255);
    char *text = malloc(input.length + 1);
    FUZZ_CHECK(text);
    memcpy(text, input.bytes, input.length);
    text[input.length] = '\0';
    check_excerpt(input, size - 1);
    check_controls(text, size);
    check_quoted(text);
    check_json(text, input);
    free(text);
    return 0;
}
