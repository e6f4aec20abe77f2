/* libconfig says "syntax error" and a line. Its grammar is small enough to say more: which two neighbouring
 * tokens of that line cannot stand side by side. */
#include "base/escape.h"
#include "daemon/settings_lex.h"
#include "daemon/settings_scan.h"
#include "daemon/settings_text.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_LIMIT 16 /* settings_scan.c cuts deeper text away */
#define EXCERPT 40

struct spot {
    enum token token;
    size_t at, end;
    int line;
};

struct reader {
    const char *text;
    struct spot last, here;
    char open[DEPTH_LIMIT + 1];
    int open_line[DEPTH_LIMIT + 1];
    size_t depth;
    int spread_line; /* where a string starts that spans lines and ends in the line of the error; 0: none */
};

static bool is_value_end(enum token token)
{
    return token == TOKEN_BOOLEAN || token == TOKEN_INTEGER || token == TOKEN_FLOAT ||
           token == TOKEN_STRING || token == TOKEN_CLOSE;
}

static bool is_value_start(enum token token)
{
    return token == TOKEN_BOOLEAN || token == TOKEN_INTEGER || token == TOKEN_FLOAT ||
           token == TOKEN_STRING || token == TOKEN_OPEN;
}

#define SAY(...) (void)snprintf(out, EXPLANATION_SIZE, __VA_ARGS__)

static const char *excerpt(const struct reader *r, const struct spot *spot, char out[static 4 * EXCERPT + 4])
{
    return escape_excerpt(r->text + spot->at, spot->end - spot->at, EXCERPT, out);
}

/* Inside a group or at the top: names, "=", values, ";". */
static void explain_in_group(const struct reader *r, char *out)
{
    char text[4 * EXCERPT + 4];
    enum token last = r->last.token, here = r->here.token;

    if (last == TOKEN_EQUALS && here == TOKEN_NAME)
        SAY(": text must stand in quotes: \"%s\"", excerpt(r, &r->here, text));
    else if (here == TOKEN_EQUALS && last != TOKEN_NAME)
        SAY(": a name is missing before \"%s\"", excerpt(r, &r->here, text));
    else if (last == TOKEN_EQUALS && !is_value_start(here))
        SAY(": a value is missing");
    else if (last == TOKEN_NAME && here != TOKEN_EQUALS)
        SAY(": \"=\" is missing behind \"%s\"", excerpt(r, &r->last, text));
    else if ((last == TOKEN_SEMICOLON || last == TOKEN_COMMA) &&
             (here == TOKEN_SEMICOLON || here == TOKEN_COMMA))
        SAY(": one \"%c\" too many", r->text[r->here.at]);
    else if (last != TOKEN_EQUALS && is_value_start(here) && here != TOKEN_STRING)
        SAY(": \"%s\" has no name in front of it", excerpt(r, &r->here, text));
}

/* Inside ( ) or [ ]: values and commas. */
static void explain_in_list(const struct reader *r, char *out)
{
    char text[4 * EXCERPT + 4];
    enum token last = r->last.token, here = r->here.token;

    if (last == TOKEN_COMMA && here == TOKEN_CLOSE)
        SAY(": no comma may stand before \"%c\"", r->text[r->here.at]);
    else if ((last == TOKEN_COMMA || last == TOKEN_OPEN) && here == TOKEN_COMMA)
        SAY(": one comma too many");
    else if (is_value_end(last) && is_value_start(here) && !(last == TOKEN_STRING && here == TOKEN_STRING))
        SAY(": a comma is missing before \"%s\"", excerpt(r, &r->here, text));
    else if (here == TOKEN_NAME)
        SAY(": \"%s\" cannot stand in a list; text must stand in quotes", excerpt(r, &r->here, text));
    else if (here == TOKEN_SEMICOLON)
        SAY(": the \"%c\" of line %d is not closed before \";\"", r->open[r->depth], r->open_line[r->depth]);
    else if (r->open[r->depth] == '[' && here == TOKEN_OPEN)
        SAY(": groups and lists stand in ( ), not in [ ]");
}

static bool closes(char open, char bracket)
{
    return (open == '(' && bracket == ')') || (open == '[' && bracket == ']') ||
           (open == '{' && bracket == '}');
}

static void explain_pair(const struct reader *r, char *out)
{
    char text[4 * EXCERPT + 4];
    char open = r->depth ? r->open[r->depth] : '{';

    if (r->here.token == TOKEN_GARBAGE)
        SAY(": \"%s\" means nothing here", excerpt(r, &r->here, text));
    else if (r->here.token == TOKEN_END && r->depth > 0)
        SAY(": the \"%c\" of line %d is never closed", open, r->open_line[r->depth]);
    else if (r->here.token == TOKEN_CLOSE && r->depth == 0)
        SAY(": \"%c\" closes nothing", r->text[r->here.at]);
    else if (r->here.token == TOKEN_CLOSE && !closes(open, r->text[r->here.at]))
        SAY(": \"%c\" cannot close the \"%c\" of line %d", r->text[r->here.at], open, r->open_line[r->depth]);
    else if (open == '{')
        explain_in_group(r, out);
    else
        explain_in_list(r, out);
}

static void follow(struct reader *r)
{
    if (r->here.token == TOKEN_OPEN && r->depth < DEPTH_LIMIT) {
        r->open[++r->depth] = r->text[r->here.at];
        r->open_line[r->depth] = r->here.line;
    } else if (r->here.token == TOKEN_CLOSE && r->depth > 0) {
        r->depth--;
    }
    r->last = r->here;
}

const char *settings_explain(const struct settings_scan *scan, int line, char out[static EXPLANATION_SIZE])
{
    struct reader r = {.text = scan->text, .last.token = TOKEN_SEMICOLON};
    int at_line = 1;
    size_t end = 0;

    out[0] = '\0';
    for (size_t at = 0; out[0] == '\0'; at = end) {
        enum token token = lex_next(r.text, at, &end);
        int lines = text_count_lines(r.text + at, end - at);

        if (at_line > scan->lines)
            at_line = scan->lines; /* the newline at the end of the copy is no line */
        if (at_line > line)
            break;
        if (token == TOKEN_STRING && lines > 0 && at_line + lines == line)
            r.spread_line = at_line;
        r.here = (struct spot){token, at, end, at_line};
        at_line += lines;
        if (token == TOKEN_BLANK || token == TOKEN_COMMENT)
            continue;
        if (at_line == line)
            explain_pair(&r, out);
        if (token == TOKEN_END)
            break;
        follow(&r);
    }
    if (r.spread_line > 0) {
        size_t used = strlen(out);

        (void)snprintf(out + used, EXPLANATION_SIZE - used,
                       "; the text that starts in line %d spans lines: is its "
                       "closing quote missing?",
                       r.spread_line);
    }
    return out;
}
