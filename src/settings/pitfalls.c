#include "settings/pitfalls.h"

#include "base/escape.h"
#include "settings/problems.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXCERPT 64

/* A settings file needs three levels. The bound keeps every walk over the tree, libconfig's own included,
 * shallow. */
#define DEPTH_LIMIT 16
/* Names and words of one bracket. libconfig compares each name with all others of its group. */
#define NAMES_LIMIT 512

struct scanner {
    const char *at;
    int line;
    const char *name; /* the last one: what a number or a text belongs to */
    size_t name_length;
    unsigned depth, names[DEPTH_LIMIT + 1]; /* by depth */
    int spread_line;                        /* where the first text starts that spans lines; 0: none does */
    bool readable;
    const char *file;
    struct problems *problems;
    bool *misread;
};

static bool is(int (*class)(int), char c)
{
    return class((unsigned char)c); /* the program never leaves the C locale */
}

static bool is_x(char c)
{
    return c == 'x' || c == 'X';
}

/* "NAME = NUMBER: has ...", "NAME: ESCAPE means ..." */
static void report(const struct scanner *s, const char *between, size_t length, const char *fault)
{
    char name[4 * EXCERPT + 4];
    problems_add(s->problems, s->file, s->line, "%s%s%.*s%s",
                 escape_excerpt(s->name, s->name_length, EXCERPT, name), between,
                 length < EXCERPT ? (int)length : EXCERPT, s->at, fault);
}

/* Nothing after it can be told apart any more. */
static void refuse(struct scanner *s, int line, const char *why)
{
    problems_add(s->problems, s->file, line, "%s", why);
    s->readable = false;
    s->at += strlen(s->at);
}

static void skip(struct scanner *s, const char *end)
{
    for (; s->at < end; s->at++)
        s->line += *s->at == '\n';
}

/* ---- Numbers ---- */

/* What stands together like a number, whether it is one or not: "-1.5e-3", "0x1F", "5m", "1_000"; 0: nothing.
 */
static size_t number_length(const char *p)
{
    size_t sign = *p == '+' || *p == '-', n = sign;
    bool hex = p[n] == '0' && is_x(p[n + 1]);
    if (!is(isdigit, p[n]) && p[n] != '.')
        return 0;
    for (; is(isalnum, p[n]) || p[n] == '.' || p[n] == '_' ||
           ((p[n] == '+' || p[n] == '-') && n > sign && !hex && (p[n - 1] == 'e' || p[n - 1] == 'E'));)
        n++;
    return n;
}

/* libconfig 1.5 reads decimals with atoi(3), or atoll(3) with an L, hexadecimals with strtoul(3) into an int.
 */
static const char *number_fault(const char *p, size_t length)
{
    bool is_signed = *p == '+' || *p == '-', hex = p[0] == '0' && is_x(p[1]);
    const char *digits = p + is_signed;
    char *end;
    if (digits[0] == '.' && !is(isdigit, digits[1]))
        return ": has no digits";
    if (digits[0] == '0' && is(isdigit, digits[1]))
        return ": has a leading zero, which some versions of libconfig read as octal";
    errno = 0;
    uint64_t value = strtoull(digits, &end, hex ? 16 : 10);
    bool wide = *end == 'L';
    end += wide;
    end += wide && *end == 'L';
    if (end != p + length) /* no integer */
        return NULL;
    uint64_t limit = wide ? INT64_MAX : INT_MAX;
    return errno == ERANGE || value > limit + (*p == '-') ? ": is too large for libconfig to read" : NULL;
}

static void scan_number(struct scanner *s, size_t length)
{
    const char *fault = number_fault(s->at, length);
    if (fault) {
        report(s, " = ", length, fault);
        s->misread[s->line] = true;
    }
    s->at += length;
}

/* ---- Texts and comments ---- */

/* At a backslash. Returns how long what it begins is. */
static size_t scan_escape(struct scanner *s)
{
    const char *p = s->at;
    if (p[1] != '\0' && strchr("nrtf\\\"", p[1]))
        return 2;
    if (!is_x(p[1]) || !is(isxdigit, p[2]) || !is(isxdigit, p[3])) {
        report(s, ": ", is(isprint, p[1]) ? 2 : 1,
               " means nothing in a text; \\n, \\r, \\t, \\f, \\\\, \\\" and \\xNN do, and all other "
               "characters stand for themselves");
        return 1;
    }
    if (p[2] == '0' && p[3] == '0')
        report(s, ": ", 4, " is not allowed in a text");
    return 4;
}

static void scan_text(struct scanner *s)
{
    int start = s->line;
    for (s->at++; *s->at != '\0' && *s->at != '"';)
        skip(s, s->at + (*s->at == '\\' ? scan_escape(s) : 1));
    /* With an odd number of quotes it is most likely a text that spans lines which lacks its own. */
    if (*s->at == '\0')
        refuse(s, s->spread_line ? s->spread_line : start, "the text that starts here has no closing quote");
    else
        s->at++;
    if (s->line > start && s->spread_line == 0)
        s->spread_line = start;
}

static void scan_comment(struct scanner *s)
{
    const char *end = strstr(s->at + 2, "*/");
    if (end)
        skip(s, end + 2);
    else
        refuse(s, s->line, "the comment that starts here is never closed");
}

static void scan_name(struct scanner *s)
{
    const char *end = s->at;
    while (is(isalnum, *end) || (*end != '\0' && strchr("-_*.", *end)))
        end++;
    s->name = s->at;
    s->name_length = (size_t)(end - s->at);
    s->at = end;
    if (++s->names[s->depth] > NAMES_LIMIT)
        refuse(s, s->line, "too many settings stand in one group");
}

static void scan_open(struct scanner *s)
{
    s->at++;
    if (s->depth == DEPTH_LIMIT)
        refuse(s, s->line, "brackets are nested more than 16 deep");
    else
        s->names[++s->depth] = 0;
}

static void scan_other(struct scanner *s)
{
    if (strchr(")]}", *s->at) && s->depth > 0)
        s->depth--;
    if (strncmp(s->at, "@include", strlen("@include")) == 0)
        refuse(s, s->line, "@include is not supported; put all settings into this file");
    else if (is(iscntrl, *s->at) && !is(isspace, *s->at))
        refuse(s, s->line, "a control character stands here; is this a settings file?");
    else
        skip(s, s->at + 1);
}

static void scan(struct scanner *s)
{
    while (*s->at != '\0') {
        size_t length = number_length(s->at);
        if (*s->at == '#' || (s->at[0] == '/' && s->at[1] == '/'))
            s->at += strcspn(s->at, "\n");
        else if (s->at[0] == '/' && s->at[1] == '*')
            scan_comment(s);
        else if (*s->at == '"')
            scan_text(s);
        else if (is(isalpha, *s->at) || *s->at == '*')
            scan_name(s);
        else if (strchr("([{", *s->at))
            scan_open(s);
        else if (length > 0)
            scan_number(s, length);
        else
            scan_other(s);
    }
}

/* Once a line. */
static void report_nuls(struct scanner *s, const char *end)
{
    for (const char *nul; s->at < end && (nul = memchr(s->at, '\0', (size_t)(end - s->at)));) {
        skip(s, nul);
        problems_add(s->problems, s->file, s->line, "a NUL byte is not allowed in a settings file");
        s->readable = false;
        const char *next = memchr(nul, '\n', (size_t)(end - nul));
        s->at = next ? next : end;
    }
}

bool pitfalls_report(const char *text, size_t length, const char *file, struct problems *problems,
                     bool *misread)
{
    struct scanner s = {.at = text,
                        .line = 1,
                        .name = "",
                        .readable = true,
                        .file = file,
                        .problems = problems,
                        .misread = misread};
    if (length >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        refuse(&s, 1, "the file is UTF-16; save it as UTF-8");
    else
        report_nuls(&s, text + length);
    if (s.readable) {
        s.at = text;
        s.line = 1;
        scan(&s);
    }
    return s.readable;
}
