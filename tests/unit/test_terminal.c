#include "client/report/terminal.h"

#include "capture.h"
#include "faults.h"

#include <pty.h>

static int screen, line; /* both ends of a terminal */
static struct terminal terminal;

static void open_terminal(unsigned short columns)
{
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    ck_assert_int_eq(openpty(&screen, &line, NULL, NULL, &size), 0);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
}

static void close_terminal(void)
{
    close(screen);
    close(line);
}

/* What is on it, "" when nothing. */
static const char *shown(void)
{
    static char text[8192];
    struct pollfd item = {.fd = screen, .events = POLLIN};
    size_t length = 0;
    while (poll(&item, 1, 0) == 1 && item.revents & POLLIN) {
        ssize_t n = read(screen, text + length, sizeof text - 1 - length);
        ck_assert_int_gt(n, 0);
        length += (size_t)n;
    }
    text[length] = '\0';
    return text;
}

TEST(rich)
{
    open_terminal(80);
    terminal_init(&terminal, line);
    ck_assert(terminal.is_terminal && terminal.is_rich);
    ck_assert_str_eq(terminal_colour(&terminal, COLOUR_BAD), "\033[31m");
    ck_assert_str_eq(terminal_colour(&terminal, COLOUR_OFF), "\033[0m");
    ck_assert_uint_eq(terminal_width(&terminal), 80);
    terminal_progress_erase(&terminal);
    ck_assert_str_eq(shown(), "");
    terminal_progress(&terminal, "%d of %d", 1, 2);
    ck_assert_str_eq(shown(), "\r\033[K1 of 2");
    terminal_progress(&terminal, "%d of %d", 2, 2);
    ck_assert_str_eq(shown(), "\r\033[K2 of 2");
    terminal_progress_erase(&terminal);
    ck_assert_str_eq(shown(), "\r\033[K");
    terminal_progress_erase(&terminal);
    ck_assert_str_eq(shown(), "");
    close_terminal();
}

TEST(narrow)
{
    open_terminal(10);
    terminal_init(&terminal, line);
    terminal_progress(&terminal, "0123456789");
    ck_assert_str_eq(shown(), "\r\033[K012345678");
    close_terminal();
    open_terminal(0); /* as where nobody has said */
    terminal_init(&terminal, line);
    ck_assert_uint_eq(terminal_width(&terminal), 80);
    close_terminal();
}

static const struct {
    const char *no_color, *term;
    bool rich;
} settings[] = {
    {"1", "xterm", false}, {"", "xterm", true},  {NULL, "dumb", false},
    {NULL, NULL, true},    {"0", "dumb", false},
};

TEST_EACH(unwelcome, settings)
{
    open_terminal(80);
    if (c->no_color)
        setenv("NO_COLOR", c->no_color, 1);
    if (c->term)
        setenv("TERM", c->term, 1);
    else
        unsetenv("TERM");
    terminal_init(&terminal, line);
    ck_assert_int_eq(terminal.is_rich, c->rich);
    terminal_progress(&terminal, "text");
    ck_assert_int_eq(terminal_colour(&terminal, COLOUR_BAD)[0] != '\0', c->rich);
    ck_assert_int_eq(shown()[0] != '\0', c->rich);
    close_terminal();
}

TEST(no_terminal)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    terminal_init(&terminal, ends[1]);
    ck_assert(!terminal.is_terminal && !terminal.is_rich);
    ck_assert_uint_eq(terminal_width(&terminal), 80);
    ck_assert_str_eq(terminal_colour(&terminal, COLOUR_GOOD), "");
    terminal_progress(&terminal, "text");
    terminal_progress_erase(&terminal);
    char byte;
    ck_assert_int_eq(read(ends[0], &byte, 1), -1);
    close(ends[0]);
    close(ends[1]);
}

TEST(errors)
{
    char large[4096];
    capture(LOG_LEVEL_DEBUG);
    print_error("%s: %d", "what", 7);
    ck_assert_str_eq(written(), "tcpecho: what: 7\n");

    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    capture(LOG_LEVEL_DEBUG);
    print_error("%s", large);
    const char *text = written();
    ck_assert_uint_lt(strlen(text), 1025);
    ck_assert_str_eq(text + strlen(text) - 2, "x\n");

    capture(LOG_LEVEL_DEBUG);
    fault_arm("write", EIO, 0);
    print_error("lost");
    fault_disarm();
    ck_assert_str_eq(written(), "");
}

/* Lines end at blanks, but for those that must not be one; a word that is too long has a line of its own. */
TEST(wrapped)
{
    char text[256] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    ck_assert_ptr_nonnull(out);
    print_wrapped(out, 10, 0, "one two %s 5" NO_BREAK "ms six", "three");
    fputs("\n....", out);
    print_wrapped(out, 10, 4, "123456 7 supercalifragilistic x");
    fclose(out);
    ck_assert_str_eq(text, "one two\n  three\n  5 ms six\n....123456\n  7\n  supercalifragilistic\n  x");
}

TEST(latest_error)
{
    char held[HELD_ERROR_SIZE];
    print_error_hold(held);
    print_error("what\t%d", 7);
    ck_assert_str_eq(held, "what\\t7");
    ck_assert_str_eq(print_error_latest(), held);
}
