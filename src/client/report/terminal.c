#include "client/report/terminal.h"

#include "base/escape.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FALLBACK_WIDTH 80
#define LINE_SIZE 1024
#define ERASE_LINE "\r\033[K"

void terminal_init(struct terminal *terminal, int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    bool is_terminal = isatty(fd) == 1;
    *terminal = (struct terminal){
        .fd = fd,
        .is_terminal = is_terminal,
        .is_rich = is_terminal && !(no_color && no_color[0] != '\0') && !(kind && strcmp(kind, "dumb") == 0),
    };
}

unsigned terminal_width(const struct terminal *terminal)
{
    struct winsize size;
    if (terminal->is_terminal && ioctl(terminal->fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return FALLBACK_WIDTH;
}

const char *terminal_colour(const struct terminal *terminal, enum colour colour)
{
    static const char *const codes[] = {[COLOUR_OFF] = "\033[0m",
                                        [COLOUR_BAD] = "\033[31m",
                                        [COLOUR_GOOD] = "\033[32m",
                                        [COLOUR_DIM] = "\033[2m"};

    return terminal->is_rich ? codes[colour] : "";
}

/* A terminal that takes nothing loses a line of progress, and nothing else. */
static void write_out(int fd, const char *text, size_t length)
{
    ssize_t written = write(fd, text, length);
    (void)written;
}

void terminal_progress(struct terminal *terminal, const char *format, ...)
{
    char line[sizeof ERASE_LINE + LINE_SIZE] = ERASE_LINE;
    const size_t start = sizeof ERASE_LINE - 1;
    va_list arguments;
    if (!terminal->is_rich)
        return;
    va_start(arguments, format);
    vsnprintf(line + start, LINE_SIZE, format, arguments);
    va_end(arguments);
    /* The last column stays free: a cursor after it would be on the next line. */
    size_t length = strnlen(line + start, terminal_width(terminal) - 1);
    write_out(terminal->fd, line, start + length);
    terminal->progress_shown = true;
}

void terminal_progress_erase(struct terminal *terminal)
{
    if (terminal->progress_shown)
        write_out(terminal->fd, ERASE_LINE, sizeof ERASE_LINE - 1);
    terminal->progress_shown = false;
}

void print_wrapped(FILE *out, unsigned width, unsigned column, const char *format, ...)
{
    char text[2 * LINE_SIZE];
    unsigned at = column;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *rest = text, *word; (word = strsep(&rest, " "));) {
        unsigned length = (unsigned)strlen(word);
        for (char *blank = word; (blank = strchr(blank, NO_BREAK[0]));)
            *blank = ' ';
        if (word == text)
            at += (unsigned)fprintf(out, "%s", word);
        else if (at + 1 + length <= width)
            at += (unsigned)fprintf(out, " %s", word);
        else
            at = (unsigned)fprintf(out, "\n  %s", word) - 1;
    }
}

void print_tried(FILE *out, const char *tried)
{
    if (tried[0] == '\0')
        return;
    print_wrapped(out, FALLBACK_WIDTH, 0, "also tried: %s", tried);
    fputc('\n', out);
}

void print_count(FILE *out, const char *before, uint64_t count, const char *kind)
{
    if (count > 0)
        fprintf(out, "%s%" PRIu64 " %s", before, count, kind);
}

static char *held_error;
static _Thread_local char latest_error[HELD_ERROR_SIZE];

const char *print_error_latest(void)
{
    return latest_error;
}

void print_error_hold(char out[static HELD_ERROR_SIZE])
{
    held_error = out;
}

void print_error(const char *format, ...)
{
    char text[LINE_SIZE], line[LINE_SIZE] = "tcpecho: ";
    size_t length = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* What a user has typed, or a script, may be anything. */
    escape_controls(text, latest_error, sizeof latest_error);
    if (held_error) {
        memcpy(held_error, latest_error, sizeof latest_error);
        return;
    }
    length += escape_controls(text, line + length, sizeof line - length - 1);
    line[length++] = '\n';
    write_out(STDERR_FILENO, line, length);
}
