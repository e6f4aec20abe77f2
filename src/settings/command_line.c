/* SPECs of --listen: what they say is put into the file's syntax and read as a listener of the file is. */
#include "settings/listener_settings.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "settings/listener_read.h"
#include "settings/problems.h"
#include "settings/table.h"
#include "settings/types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789_"

#define FORM                                                                                                 \
    "must be [SERVICE@]ADDRESS:PORT, [SERVICE@][IPV6ADDRESS]:PORT or [SERVICE@]/PATH, with a numeric "       \
    "address or \"*\", and then ,NAME=VALUE for each option"

/* After the text in quotes that begins here; libconfig tells whoever does not end it. */
static const char *skip_quoted(const char *text)
{
    for (text++; *text != '\0' && *text != '"'; text++)
        if (*text == '\\' && text[1] != '\0')
            text++;
    return *text == '"' ? text + 1 : text;
}

/* Where the next ",NAME=" begins, or the end: other commas are a part of what they stand in, and so is all
 * that stands in quotes. */
static const char *find_option(const char *text)
{
    if (*text == '"')
        text = skip_quoted(text);
    for (; *text != '\0'; text++)
        if (*text == ',' && text[1 + strspn(text + 1, NAME_CHARACTERS)] == '=' && text[1] != '=')
            break;
    return text;
}

/* "NAME = VALUE; ", with `quoted` between quotes. Returns 0 or -ENOMEM. */
static int put(FILE *out, const char *name, const char *value, size_t length, bool quoted)
{
    CLEANUP(free_pointer) char *text = strndup(value, length);
    if (!text)
        return -ENOMEM;
    if (quoted) {
        char *in_quotes = escape_quoted(text);
        free(text);
        text = in_quotes;
    }
    if (!text)
        return -ENOMEM;
    fprintf(out, "%s = %s; ", name, text);
    return 0;
}

static bool is_word(const char *value, size_t length, const char *word)
{
    return length == strlen(word) && strncasecmp(value, word, length) == 0;
}

static bool is_number(const char *value, size_t length)
{
    size_t hex = strncmp(value, "0x", 2) == 0 ? 2 : 0;
    return strchr("+-.0123456789", *value) &&
           strspn(value + hex, hex ? "0123456789abcdefABCDEF" : "+-.0123456789eE") >= length - hex;
}

/* A value that the file has without quotes, or that has its own. */
static bool is_literal(const char *value, size_t length)
{
    return length > 0 && (strchr("\"[(", *value) || is_word(value, length, "true") ||
                          is_word(value, length, "false") || is_number(value, length));
}

/* NAME=VALUE with the value as the file would have it: quotes may be left out around text. Returns 0 with
 * *end where the next option begins, or -ENOMEM. */
static int put_option(FILE *out, const char *option, const char **end)
{
    char name[64];
    size_t name_length = strspn(option, NAME_CHARACTERS);
    const char *value = option + name_length + 1;
    *end = find_option(value);
    size_t length = (size_t)(*end - value);
    snprintf(name, sizeof name, "%.*s", (int)name_length, option);
    const struct setting_row *row = setting_find(SCOPE_LISTENER, name);
    bool is_text = row && row->type->is_text && *value != '"';
    return put(out, name, value, length, is_text || !is_literal(value, length));
}

/* "[V6]:PORT" or "V4:PORT" or "*:PORT". Returns 0, -ENOMEM, or -EINVAL when it is none of these. */
static int put_address(FILE *out, const char *place, size_t length)
{
    bool bracket = place[0] == '[';
    const char *address = place + bracket;
    const char *end = bracket ? memchr(place, ']', length) : memrchr(place, ':', length);
    const char *port = end ? end + bracket + 1 : NULL;
    if (!end || (bracket && end[1] != ':') || port > place + length)
        return -EINVAL;
    /* An IPv6 address without brackets is ambiguous. */
    if (bracket != (memchr(address, ':', (size_t)(end - address)) != NULL))
        return -EINVAL;
    size_t port_length = length - (size_t)(port - place);
    bool is_decimal = port_length > 0 && strspn(port, "0123456789") == port_length;
    int r = put(out, "address", address, (size_t)(end - address), true);
    return r < 0 ? r : put(out, "port", port, port_length, !is_decimal);
}

/* Returns 0, -ENOMEM, or -EINVAL when the SPEC has another form. */
static int put_spec(FILE *out, const char *spec)
{
    bool is_path = spec[0] == '/' || spec[0] == '"';
    const char *at = is_path ? NULL : memchr(spec, '@', (size_t)(find_option(spec) - spec));
    const char *place = at ? at + 1 : spec;
    const char *end = find_option(place);
    size_t length = (size_t)(end - place);
    int r = at ? put(out, "service", spec, (size_t)(at - spec), true) : 0;
    if (r == 0)
        r = place[0] == '/' || place[0] == '"' ? put(out, "path", place, length, place[0] == '/')
                                               : put_address(out, place, length);
    while (r == 0 && *end != '\0')
        r = put_option(out, end + 1, &end);
    return r;
}

static int read_spec(const char *spec, struct problems *problems, struct listener_settings *out)
{
    CLEANUP(free_pointer) char *text = NULL;
    CLEANUP(listener_settings_clear) struct listener_settings listener = {0};
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    int r = stream ? put_spec(stream, spec) : -ENOMEM;
    if (stream && fclose(stream) != 0)
        r = -ENOMEM;
    if (r < 0) {
        problems_add(problems, NULL, 0, "%s", r == -EINVAL ? FORM : strerrordesc_np(-r));
        return -EINVAL;
    }
    CLEANUP(settings_file_close) struct settings_file file;
    if (settings_file_from_text(text, problems, &file) < 0 ||
        !listener_read(&file, config_root_setting(&file.config), "", &listener) || problems->count > 0)
        return -EINVAL;
    *out = listener;
    listener = (struct listener_settings){0};
    return 0;
}

int listener_settings_from_spec(const char *spec, struct problems *problems, struct listener_settings *out)
{
    CLEANUP(problems_clear) struct problems found = {0};
    int r = read_spec(spec, &found, out);
    for (size_t i = 0; i < found.count; i++)
        problems_add(problems, NULL, 0, "--listen %.128s: %s", spec, found.items[i].text);
    return r;
}
