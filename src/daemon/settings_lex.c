#include "daemon/settings_lex.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex_digit(char c)
{
    return isxdigit((unsigned char)c); /* the program never leaves the C locale */
}

static size_t span_digits(const char *p)
{
    size_t n = 0;

    while (is_digit(p[n]))
        n++;
    return n;
}

/* [eE][-+]?[0-9]+ */
static size_t span_exponent(const char *p)
{
    size_t n = 1, digits;

    if (*p != 'e' && *p != 'E')
        return 0;
    if (p[n] == '+' || p[n] == '-')
        n++;
    digits = span_digits(p + n);
    return digits ? n + digits : 0;
}

/* L, LL */
static size_t span_suffix(const char *p)
{
    return *p != 'L' ? 0 : p[1] == 'L' ? 2 : 1;
}

/* The longest number that starts at p, as flex takes the longest match; 0: none. */
static size_t span_number(const char *p, enum token *token)
{
    size_t sign = *p == '+' || *p == '-', digits, n;

    *token = TOKEN_INTEGER;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && is_hex_digit(p[2])) {
        for (n = 2; is_hex_digit(p[n]);)
            n++;
        return n + span_suffix(p + n);
    }
    digits = span_digits(p + sign);
    n = sign + digits;
    if (p[n] == '.') {
        *token = TOKEN_FLOAT;
        n++;
        n += span_digits(p + n);
        return n + span_exponent(p + n);
    }
    if (digits == 0)
        return 0;
    if (span_exponent(p + n)) {
        *token = TOKEN_FLOAT;
        return n + span_exponent(p + n);
    }
    return n + span_suffix(p + n);
}

static enum token lex_name(const char *p, size_t *length)
{
    size_t n = 1;

    while (isalnum((unsigned char)p[n]) || p[n] == '-' || p[n] == '_' || p[n] == '*')
        n++;
    *length = n;
    if ((n == 4 && strncasecmp(p, "true", 4) == 0) || (n == 5 && strncasecmp(p, "false", 5) == 0))
        return TOKEN_BOOLEAN;
    return TOKEN_NAME;
}

static enum token lex_string(const char *p, size_t *length)
{
    size_t n = 1;

    while (p[n] && p[n] != '"')
        n += p[n] == '\\' && (p[n + 1] == '"' || p[n + 1] == '\\') ? 2 : 1;
    *length = p[n] ? n + 1 : n;
    return p[n] ? TOKEN_STRING : TOKEN_UNCLOSED_STRING;
}

static enum token lex_comment(const char *p, size_t *length)
{
    const char *end;

    if (p[0] == '#' || p[1] == '/') {
        *length = strcspn(p, "\n");
        return TOKEN_COMMENT;
    }
    end = strstr(p + 2, "*/");
    *length = end ? (size_t)(end - p) + 2 : strlen(p);
    return end ? TOKEN_COMMENT : TOKEN_UNCLOSED_COMMENT;
}

/* ^[ \t]*@include[ \t]+\" counts at the start of a line only; elsewhere the @ is garbage. */
static size_t span_include(const char *p)
{
    static const char word[] = "@include";
    size_t n = strspn(p, " \t"), gap, length;

    if (strncmp(p + n, word, sizeof word - 1) != 0)
        return 0;
    n += sizeof word - 1;
    gap = strspn(p + n, " \t");
    if (gap == 0 || p[n + gap] != '"')
        return 0;
    n += gap;
    (void)lex_string(p + n, &length);
    return n + length;
}

enum token lex_next(const char *text, size_t at, size_t *end)
{
    const char *p = text + at;
    enum token token;
    size_t length = 1;

    if ((at == 0 || p[-1] == '\n') && (length = span_include(p)) > 0) {
        *end = at + length;
        return TOKEN_INCLUDE;
    }
    length = 1;
    if (*p == '\0') {
        length = 0;
        token = TOKEN_END;
    } else if (*p == '\n' || *p == '\r' || *p == '\f') {
        token = TOKEN_BLANK; /* one at a time: what follows may start a line */
    } else if (*p == ' ' || *p == '\t') {
        length = strspn(p, " \t");
        token = TOKEN_BLANK;
    } else if (*p == '#' || (*p == '/' && (p[1] == '/' || p[1] == '*'))) {
        token = lex_comment(p, &length);
    } else if (*p == '"') {
        token = lex_string(p, &length);
    } else if (isalpha((unsigned char)*p) || *p == '*') {
        token = lex_name(p, &length);
    } else if ((length = span_number(p, &token)) == 0) {
        length = 1;
        token = *p == '=' || *p == ':' ? TOKEN_EQUALS
                : *p == ','            ? TOKEN_COMMA
                : *p == ';'            ? TOKEN_SEMICOLON
                : memchr("([{", *p, 3) ? TOKEN_OPEN
                : memchr(")]}", *p, 3) ? TOKEN_CLOSE
                                       : TOKEN_GARBAGE;
    }
    *end = at + length;
    return token;
}

/* libconfig 1.5 reads decimals with atoi(3) (or atoll(3) with an L), hex digits with strtoul(3) into an int.
 */
static const char *integer_fault(const char *text, size_t length)
{
    static const char too_large[] = "is too large for libconfig to read";
    bool hex = length > 2 && (text[1] == 'x' || text[1] == 'X');
    bool wide = text[length - 1] == 'L';
    size_t sign = *text == '+' || *text == '-';
    uint64_t limit = wide ? INT64_MAX : INT_MAX, value;

    if (!hex && text[sign] == '0' && is_digit(text[sign + 1]))
        return "has a leading zero, which some versions of libconfig read as octal";
    errno = 0;
    value = strtoull(text + sign, NULL, hex ? 16 : 10); /* it stops at what follows the token */
    if (errno == ERANGE || value > limit + (*text == '-' ? 1 : 0))
        return too_large;
    return NULL;
}

static const char *float_fault(const char *text)
{
    size_t sign = *text == '+' || *text == '-', digits = span_digits(text + sign);
    const char *p = text + sign;

    if (digits > 1 && p[0] == '0')
        return "has a leading zero";
    if (digits == 0 && !is_digit(p[1])) /* "." is 0 to libconfig */
        return "has no digits";
    return NULL;
}

const char *lex_number_fault(const char *text, size_t length, enum token token)
{
    return token == TOKEN_INTEGER ? integer_fault(text, length) : float_fault(text);
}

const char *lex_escaped_nul(const char *text, size_t length)
{
    for (size_t i = 1; i + 4 < length; i++) {
        if (text[i] != '\\')
            continue;
        if (text[i + 1] == '\\' || text[i + 1] == '"')
            i++;
        else if ((text[i + 1] == 'x' || text[i + 1] == 'X') && text[i + 2] == '0' && text[i + 3] == '0')
            return text + i;
    }
    return NULL;
}
