#include "settings/syntax.h"

#include "base/escape.h"

#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Bytes of a line that are looked at, and that are shown. */
#define LOOKED_AT 512
#define SHOWN 100
#define EXCERPT 40

#define BLANKS "[ \t\r\n]*"
#define NAME "[A-Za-z*][A-Za-z0-9_*-]*"

/* The first that matches speaks: a newline and the line, or else the line before and the line. What its first
 * group matches takes the place of the %s; true and false are no match of that. Texts are empty by then and
 * comments gone; nothing that is right matches. */
static const struct hint {
    const char *pattern, *cause;
} hints[] = {
    {"(" NAME "\\.[A-Za-z][A-Za-z0-9_]*)" BLANKS "[=:]",
     "\"%s\": the settings of a group stand within it, as in log = { level = ...; };"},
    {"[=:([,]" BLANKS "([0-9]+_[0-9_]*)", "\"%s\": the digits of a number stand side by side"},
    {"\n[ \t]*(\\[[A-Za-z][A-Za-z0-9_.-]*\\])[ \t\r]*$", "there are no sections such as \"%s\""},
    {"\"\"" BLANKS "[=:]", "a name stands without quotes"},
    {"[=:([,]" BLANKS "([0-9]+(\\.[0-9]+)?[a-df-km-wyzA-DF-KM-WYZ][A-Za-z0-9]*|[0-9]+\\.[0-9]+\\.[0-9./]*|"
     "::[0-9a-fA-F:]*|/[^ \t;,]*)",
     "text must stand in quotes: \"%s\""},
    {"[=:]" BLANKS "(" NAME ")", "text must stand in quotes: \"%s\""},
    {"[([,]" BLANKS "(" NAME ")" BLANKS "[]),]", "text must stand in quotes: \"%s\""},
    {"([^]A-Za-z0-9_*\"=:,;(){}[ \t\r\n\f.+-])", "\"%s\" means nothing here"},
    {"[=:]" BLANKS "[]);,}]", "a value is missing"},
    {"[;,]" BLANKS "([;,])", "one \"%s\" too many"},
    {"\\[" BLANKS "[[({]", "groups and lists stand in ( ), not in [ ]"},
    {"\\[[^][(){}]*[)}]|\\([^][(){}]*[]}]|\\{[^][(){}]*[])]", "a bracket is closed by one of another kind"},
    {"[]})\"0-9]" BLANKS "([[({])", "a comma is missing before \"%s\""},
    {"[^A-Za-z0-9_*.+-](" NAME ")([ \t\r\n]+[A-Za-z0-9*]|" BLANKS "[]\"(){};,[])",
     "\"=\" is missing after \"%s\""},
    {"," BLANKS "([])])", "no comma may stand before \"%s\""},
    {"[^,]\n[ \t]*([]})])", "\"%s\" closes nothing"},
};

/* Without comments and what stands in texts; returns its length. */
static size_t copy_bare(const char *line, char *out, size_t size)
{
    size_t length = 0;
    bool in_text = false;
    for (const char *p = line; *p != '\0' && *p != '\n' && length + 1 < size; p++) {
        if (in_text && *p == '\\' && p[1] != '\0' && p[1] != '\n') {
            p++;
            continue;
        }
        if (!in_text && (*p == '#' || (p[0] == '/' && (p[1] == '/' || p[1] == '*'))))
            break;
        if (*p == '"')
            in_text = !in_text;
        if (*p == '"' || !in_text)
            out[length++] = *p;
    }
    out[length] = '\0';
    return length;
}

/* Whether the hint is the cause; the match of its group goes to `found`. */
static bool applies(const struct hint *hint, const char *bare, char found[static EXCERPT + 1])
{
    regex_t regex;
    regmatch_t match[2];
    bool result = false;
    found[0] = '\0';
    if (regcomp(&regex, hint->pattern, REG_EXTENDED) != 0)
        return false;
    while (!result && regexec(&regex, bare, 2, match, 0) == 0) {
        if (match[1].rm_so >= 0)
            snprintf(found, EXCERPT + 1, "%.*s", (int)(match[1].rm_eo - match[1].rm_so),
                     bare + match[1].rm_so);
        result = strcasecmp(found, "true") != 0 && strcasecmp(found, "false") != 0;
        bare += match[0].rm_eo;
    }
    regfree(&regex);
    return result;
}

const char *syntax_line(const char *text, int line)
{
    for (const char *next; line > 1 && (next = strchr(text, '\n')); line--)
        text = next + 1;
    return text;
}

const char *syntax_line_before(const char *text, const char *line)
{
    const char *end = line - 1;
    const char *newline = memrchr(text, '\n', (size_t)(end - text));
    return newline ? newline + 1 : text;
}

/* Puts in the line's text. */
static void add_line(const char *line, const char *before, char *out)
{
    char text[SHOWN + 8];
    line += strspn(line, " \t");
    size_t length = strcspn(line, "\r\n"), used = strlen(out);
    used += (size_t)snprintf(out + used, SYNTAX_CAUSE_SIZE - used, "%s", before);
    snprintf(text, sizeof text, "%.*s", (int)length, line);
    used += escape_controls(text, out + used, SHOWN);
    if (length >= SHOWN)
        snprintf(out + used, SYNTAX_CAUSE_SIZE - used, "...");
}

/* Returns whether a hint applies, with what it says in `out`. */
static bool find_hint(const char *bare, char *out)
{
    char found[EXCERPT + 1], shown[4 * EXCERPT + 4];
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        if (!applies(&hints[i], bare, found))
            continue;
        escape_excerpt(found, strlen(found), EXCERPT, shown);
        size_t used = (size_t)snprintf(out, SYNTAX_CAUSE_SIZE, ": ");
        snprintf(out + used, SYNTAX_CAUSE_SIZE - used, hints[i].cause, shown);
        return true;
    }
    return false;
}

bool syntax_cause(const char *text, int line, char out[static SYNTAX_CAUSE_SIZE])
{
    char bare[2 * LOOKED_AT];
    const char *at = syntax_line(text, line);
    size_t used = 0;
    for (const char *before = at; before > text && used == 0;) {
        before = syntax_line_before(text, before);
        used = copy_bare(before, bare, LOOKED_AT);
    }
    bare[used] = '\n';
    copy_bare(at, bare + used + 1, LOOKED_AT);
    out[0] = '\0';
    bool is_found = find_hint(bare + used, out) || find_hint(bare, out);
    add_line(at, is_found ? ", in: " : " in: ", out);
    return is_found;
}
