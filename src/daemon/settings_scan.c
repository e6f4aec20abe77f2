#include "daemon/settings_scan.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "daemon/problems.h"
#include "daemon/settings_lex.h"
#include "daemon/settings_text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A settings file needs three levels. The bound keeps every walk over the tree, libconfig's own included,
 * shallow. */
#define DEPTH_LIMIT 16
/* libconfig compares each name with all others of its group. */
#define GROUP_LIMIT 256
#define EXCERPT 64

struct name {
    size_t at, length;
    int line;
};

/* An open group, list or array; frames[0] is the file. */
struct frame {
    char bracket; /* the opening one; '{' for the file */
    enum setting_scope scope;
    size_t node;       /* the node that it is the value of */
    size_t first_name; /* its names in scanner.names start here */
    size_t elements;
};

struct scanner {
    struct settings_scan *scan;
    const char *file;
    struct problems *problems;
    const char *bytes; /* as they were, NULs included */
    size_t at;
    int line;
    enum token last; /* neither a blank nor a comment */
    struct frame frames[DEPTH_LIMIT + 1];
    size_t depth;
    size_t node; /* the node that the next value belongs to; NO_NODE: none */
    size_t node_room;
    struct name *names;
    size_t name_count, name_room;
    unsigned renamed;
    int spread_line; /* of the first text that spans lines, and its node; 0: none */
    size_t spread_node;
};

#define NO_NODE SIZE_MAX

/* Doubles the array when it is full. */
static int grow(void *array, size_t count, size_t *room, size_t size)
{
    void *old, *grown;

    if (count < *room)
        return 0;
    memcpy(&old, array, sizeof old);
    grown = reallocarray(old, *room ? *room * 2 : 64, size);
    if (!grown)
        return -ENOMEM;
    memcpy(array, &grown, sizeof grown);
    *room = *room ? *room * 2 : 64;
    return 0;
}

static int add_node(struct scanner *s, bool named)
{
    if (grow(&s->scan->nodes, s->scan->node_count, &s->node_room, sizeof *s->scan->nodes) < 0)
        return -ENOMEM;
    s->node = s->scan->node_count++;
    s->scan->nodes[s->node] = (struct scan_node){.line = s->line, .end_line = s->line, .named = named};
    return 0;
}

/* "workers", "log.rate", "listener 2: port", as settings_check.c says it. */
static void label(const struct scanner *s, char *out, size_t size, const struct setting_row **row)
{
    const struct frame *frame = &s->frames[s->depth];
    const struct name *name;
    int length;

    *row = NULL;
    /* An element has no name of its own: that of the list around it is the last one outside. */
    while (frame > s->frames && frame->bracket != '{')
        frame--;
    if (s->name_count == 0 || s->name_count <= frame->first_name) {
        (void)snprintf(out, size, "value");
        return;
    }
    name = &s->names[s->name_count - 1];
    length = (int)(name->length < EXCERPT ? name->length : EXCERPT);
    *row = setting_find(frame->scope, s->scan->source + name->at, name->length);
    if (frame->scope == SCOPE_LISTENER)
        (void)snprintf(out, size, "listener %zu: %.*s", frame[-1].elements, length,
                       s->scan->source + name->at);
    else
        (void)snprintf(out, size, "%s%.*s", frame->scope == SCOPE_LOG ? "log." : "", length,
                       s->scan->source + name->at);
}

/* Replaces text[at..end) by `c` and blanks; lines stay where they are. */
static void mask(struct scanner *s, size_t at, size_t end, char c)
{
    for (size_t i = at; i < end; i++) {
        if (s->scan->text[i] != '\n')
            s->scan->text[i] = i == at ? c : ' ';
    }
}

/* Nothing from here on can be told apart any more: libconfig gets blanks. */
static void cut(struct scanner *s)
{
    s->scan->cut_line = s->line;
    mask(s, s->at, s->scan->length, ' ');
}

static void report_value(struct scanner *s, int line, size_t at, size_t length, const char *fault)
{
    char name[EXCERPT + 32], expectation[SETTING_EXPECTATION_SIZE];
    char value[4 * EXCERPT + 4];
    const struct setting_row *row;

    label(s, name, sizeof name, &row);
    problems_add(s->problems, s->file, line, "%s = %s: %s%s%s", name,
                 escape_excerpt(s->scan->source + at, length, EXCERPT, value), fault, row ? "; " : "",
                 row ? setting_expectation(row, expectation) : "");
}

/* The value that starts here is a node of its own in a list, and the named setting's otherwise. */
static int start_value(struct scanner *s, enum token token)
{
    struct frame *frame = &s->frames[s->depth];

    if (frame->bracket == '{' || (token == TOKEN_STRING && s->last == TOKEN_STRING))
        return 0; /* strings side by side are one */
    frame->elements++;
    return add_node(s, false);
}

static int scan_number(struct scanner *s, size_t end, enum token token)
{
    const char *fault = lex_number_fault(s->scan->text + s->at, end - s->at, token);

    if (s->node != NO_NODE) {
        s->scan->nodes[s->node].value = s->at;
        s->scan->nodes[s->node].length = end - s->at;
        s->scan->nodes[s->node].faulty |= fault != NULL;
    }
    if (fault) {
        size_t sign = memchr("+-", s->scan->text[s->at], 2) != NULL; /* it parts the number from a name */

        report_value(s, s->line, s->at, end - s->at, fault);
        if (token == TOKEN_INTEGER)
            mask(s, s->at + sign, end, '0');
    }
    return 0;
}

static void scan_string(struct scanner *s, size_t end)
{
    const char *start = s->scan->text + s->at;
    const char *nul = lex_escaped_nul(start, end - s->at);

    if (s->spread_line == 0 && memchr(start, '\n', end - s->at)) {
        s->spread_line = s->line;
        s->spread_node = s->node;
    }
    if (nul) {
        char name[EXCERPT + 32];
        const struct setting_row *row;

        label(s, name, sizeof name, &row);
        problems_add(s->problems, s->file, s->line + text_count_lines(start, (size_t)(nul - start)),
                     "%s: \\x00 is not allowed in text", name);
    }
    if (s->node != NO_NODE && (nul || memchr(s->bytes + s->at, '\0', end - s->at)))
        s->scan->nodes[s->node].faulty = true;
}

/* With an odd number of quotes it is most likely a text that spans lines which lacks its own. */
static void scan_unclosed_string(struct scanner *s)
{
    s->scan->unclosed_string_line = s->spread_line > 0 ? s->spread_line : s->line;
    if (s->spread_line > 0 && s->spread_node != NO_NODE)
        s->scan->nodes[s->spread_node].faulty = true;
    cut(s);
}

/* A duplicate gets a name that nobody has, "x***0z1", so that libconfig goes on. It starts with a letter,
 * since a "*" would make a comment with a "/" in front of it. */
static void rename_duplicate(struct scanner *s, size_t end)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    unsigned number = s->renamed++;

    for (size_t i = end; i-- > s->at; number /= 36)
        s->scan->text[i] = i + 3 >= end && i > s->at ? digits[number % 36] : i > s->at ? '*' : 'x';
}

static int scan_name(struct scanner *s, size_t end)
{
    const struct frame *frame = &s->frames[s->depth];
    const char *text = s->scan->source + s->at;
    size_t length = end - s->at;

    if (add_node(s, true) < 0 || grow(&s->names, s->name_count, &s->name_room, sizeof *s->names) < 0)
        return -ENOMEM;
    if (s->name_count - frame->first_name >= GROUP_LIMIT) {
        problems_add(s->problems, s->file, s->line, "more than %d settings in one group", GROUP_LIMIT);
        cut(s);
        return 0;
    }
    for (size_t i = frame->first_name; i < s->name_count; i++) {
        const struct name *name = &s->names[i];

        if (name->length != length || memcmp(s->scan->source + name->at, text, length) != 0)
            continue;
        problems_add(s->problems, s->file, s->line, "\"%.*s\" is set a second time; the first is in line %d",
                     length < EXCERPT ? (int)length : EXCERPT, text, name->line);
        s->scan->duplicates++;
        s->scan->nodes[s->node].duplicate = true;
        if (length >= 3) /* all of ours are that long; a shorter one ends libconfig's reading */
            rename_duplicate(s, end);
        break;
    }
    s->names[s->name_count++] = (struct name){s->at, length, s->line};
    return 0;
}

static enum setting_scope scope_within(const struct scanner *s, char bracket)
{
    const struct frame *around = &s->frames[s->depth];
    const struct name *name = s->name_count ? &s->names[s->name_count - 1] : NULL;
    const struct setting_row *row;

    if (around->scope == SCOPE_NONE)
        return SCOPE_NONE;
    if (s->depth == 1 && around->bracket == '(' && bracket == '{')
        return around->scope; /* a row of listeners: the list has handed its scope on */
    if (s->depth > 0 || !name)
        return SCOPE_NONE;
    row = setting_find(SCOPE_GLOBAL, s->scan->source + name->at, name->length);
    if (row && row->type == SETTING_GROUP && bracket == '{')
        return SCOPE_LOG;
    if (row && row->type == SETTING_LISTENERS && bracket == '(')
        return SCOPE_LISTENER;
    return row && row->type == SETTING_NETWORKS ? SCOPE_GLOBAL : SCOPE_NONE;
}

static void scan_open(struct scanner *s, char bracket)
{
    enum setting_scope scope = scope_within(s, bracket);

    if (s->depth == DEPTH_LIMIT) {
        problems_add(s->problems, s->file, s->line, "brackets are nested more than %d deep", DEPTH_LIMIT);
        cut(s);
        return;
    }
    if (s->node != NO_NODE)
        s->scan->nodes[s->node].end_line = INT_MAX;
    s->frames[++s->depth] =
        (struct frame){.bracket = bracket, .scope = scope, .node = s->node, .first_name = s->name_count};
    s->node = NO_NODE;
}

static void scan_close(struct scanner *s)
{
    const struct frame *frame = &s->frames[s->depth];

    if (s->depth == 0)
        return; /* libconfig reports it */
    if (frame->node != NO_NODE)
        s->scan->nodes[frame->node].end_line = s->line;
    s->name_count = frame->first_name;
    s->depth--;
    s->node = NO_NODE;
}

/* Blanked, and where a value was to come from it, a value put in its place; then read again from the same
 * point, since what stands behind it in the line now stands at the line's start, where a second @include
 * would count. */
static void scan_include(struct scanner *s, size_t end)
{
    bool is_value = s->last == TOKEN_EQUALS && s->node != NO_NODE;

    problems_add(s->problems, s->file, s->line, "@include is not supported; put all settings into this file");
    for (size_t i = 0; i <= s->depth; i++) {
        if (s->frames[i].node != NO_NODE)
            s->scan->nodes[s->frames[i].node].incomplete = true;
    }
    if (is_value)
        s->scan->nodes[s->node].faulty = true;
    mask(s, s->at, end, is_value ? '0' : ' ');
}

/* Returns 0, or -ENOMEM. A token whose text was cut away is met again as blanks. */
static int scan_token(struct scanner *s, enum token token, size_t end)
{
    switch (token) {
    case TOKEN_NAME:
        return scan_name(s, end);
    case TOKEN_BOOLEAN:
        if (start_value(s, token) < 0)
            return -ENOMEM;
        if (s->node != NO_NODE) {
            s->scan->nodes[s->node].value = s->at;
            s->scan->nodes[s->node].length = end - s->at;
        }
        return 0;
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
        return start_value(s, token) < 0 ? -ENOMEM : scan_number(s, end, token);
    case TOKEN_STRING:
        if (start_value(s, token) < 0)
            return -ENOMEM;
        scan_string(s, end);
        return 0;
    case TOKEN_OPEN:
        if (start_value(s, token) < 0)
            return -ENOMEM;
        scan_open(s, s->scan->text[s->at]);
        return 0;
    case TOKEN_CLOSE:
        scan_close(s);
        return 0;
    case TOKEN_UNCLOSED_COMMENT:
        problems_add(s->problems, s->file, s->line, "the comment that starts here is never closed");
        cut(s);
        return 0;
    case TOKEN_UNCLOSED_STRING:
        scan_unclosed_string(s);
        return 0;
    default:
        return 0;
    }
}

static int scan_all(struct scanner *s)
{
    for (;;) {
        size_t end;
        enum token token = lex_next(s->scan->text, s->at, &end);

        if (token == TOKEN_END)
            return 0;
        if (token == TOKEN_INCLUDE) {
            scan_include(s, end);
            continue;
        }
        if (scan_token(s, token, end) < 0)
            return -ENOMEM;
        if (s->scan->cut_line)
            return 0;
        s->line += text_count_lines(s->scan->text + s->at, end - s->at);
        s->at = end;
        if (token != TOKEN_BLANK && token != TOKEN_COMMENT)
            s->last = token;
    }
}

int settings_scan(const char *bytes, size_t length, const char *file, struct problems *problems,
                  struct settings_scan *out)
{
    CLEANUP(settings_scan_clear) struct settings_scan scan = {0};
    CLEANUP(free_pointer) struct scanner *s = calloc(1, sizeof *s);
    int r;

    if (!s)
        return -ENOMEM;
    scan.text = text_copy(bytes, length);
    scan.source = text_copy(bytes, length);
    if (!scan.text || !scan.source)
        return -ENOMEM;
    scan.length = length + 1;
    scan.lines = text_count_lines(bytes, length) + (length > 0 && bytes[length - 1] != '\n');
    *s = (struct scanner){
        .scan = &scan, .file = file, .problems = problems, .bytes = bytes, .line = 1, .node = NO_NODE};
    s->frames[0] = (struct frame){.bracket = '{', .scope = SCOPE_GLOBAL, .node = NO_NODE};
    text_drop_mark(scan.text, scan.source, file, problems);
    text_drop_nuls(scan.text, scan.source, length, file, problems);
    r = scan_all(s);
    free(s->names);
    if (r < 0)
        return r;
    *out = scan;
    scan = (struct settings_scan){0};
    return 0;
}

void settings_scan_clear(struct settings_scan *scan)
{
    free(scan->text);
    free(scan->source);
    free(scan->nodes);
    *scan = (struct settings_scan){0};
}
