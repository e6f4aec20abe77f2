#include "client/talk/conversation.h"

#include "base/clock.h"
#include "capture.h"
#include "client/exit_status.h"
#include "faults.h"

static int ours, theirs; /* ends of the connection */
static int old_stdin, old_stdout, from_stdout;
static struct conversation_terms terms;
static struct conversation_totals totals;

/* stdin gives `input` and ends; stdout is a pipe. */
static void set_up(const char *input)
{
    int in[2], out[2], peer;

    tcp_pair(0, &peer, &ours);
    theirs = peer;
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(write(in[1], input, strlen(input)), (ssize_t)strlen(input));
    close(in[1]);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    old_stdin = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    old_stdout = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    ck_assert_int_eq(dup2(in[0], STDIN_FILENO), STDIN_FILENO);
    ck_assert_int_eq(dup2(out[1], STDOUT_FILENO), STDOUT_FILENO);
    close(in[0]);
    close(out[1]);
    from_stdout = out[0];
    terms = (struct conversation_terms){.peer = "peer", .interrupt_fd = -1, .wait_usec = 20 * USEC_PER_SEC};
}

/* Returns what was written to stdout. */
static const char *tear_down(void)
{
    static char text[4096];
    struct pollfd item = {.fd = from_stdout, .events = POLLIN};

    ck_assert_int_eq(dup2(old_stdin, STDIN_FILENO), STDIN_FILENO);
    ck_assert_int_eq(dup2(old_stdout, STDOUT_FILENO), STDOUT_FILENO);
    close(old_stdin);
    close(old_stdout);
    close(ours);
    ssize_t n = poll(&item, 1, 0) == 1 ? read(from_stdout, text, sizeof text - 1) : 0;
    close(from_stdout);
    ck_assert_int_ge(n, 0);
    text[n] = '\0';
    return text;
}

static int run_with(const char *rules, const char **told)
{
    capture(LOG_LEVEL_DEBUG);
    fault_rules(rules);
    int status = converse(ours, &terms, &totals);
    fault_disarm();
    *told = written();
    return status;
}

static int run(const char **told)
{
    return run_with("", told);
}

START_TEST(exchange)
{
    unsigned before = open_descriptors();
    const char *told;

    set_up("question");
    send_text(theirs, "answer");
    shutdown(theirs, SHUT_WR);
    int status = run(&told);
    expect_text(theirs, "question");
    expect_end(theirs);
    ck_assert_str_eq(tear_down(), "answer");
    close(theirs);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(told, "");
    ck_assert_uint_eq(totals.sent, 8);
    ck_assert_uint_eq(totals.received, 6);
    ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

START_TEST(checked)
{
    const char *told;

    set_up("question");
    terms.expect = EXPECT_UPPER;
    send_text(theirs, "QUESTION");
    shutdown(theirs, SHUT_WR);
    int status = run(&told);
    /* It came before it could have been known to be right. */
    ck_assert_str_eq(tear_down(), "QUESTION");
    close(theirs);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(wrong)
{
    const char *told;

    set_up("question");
    terms.expect = EXPECT_ECHO;
    send_text(theirs, "quest!on");
    shutdown(theirs, SHUT_WR);
    int status = run(&told);
    ck_assert_str_eq(tear_down(), "quest!on");
    close(theirs);
    ck_assert_int_eq(status, EXIT_WRONG_ANSWER);
    ck_assert_str_eq(told,
                     "tcpecho: wrong answer from peer: byte 5: 1 byte changed (0x21 instead of 0x69)\n");
}
END_TEST

START_TEST(reset)
{
    const char *told;

    set_up("question");
    close_hard(theirs);
    int status = run(&told);
    tear_down();
    ck_assert_int_eq(status, EXIT_CLOSED_EARLY);
    expect_in(told, "tcpecho: peer closed the connection before the end: ");
}
END_TEST

START_TEST(silent)
{
    const char *told;

    set_up("question");
    terms.wait_usec = 20 * USEC_PER_MSEC;
    int status = run(&told);
    tear_down();
    close(theirs);
    ck_assert_int_eq(status, EXIT_TIMED_OUT);
    ck_assert_str_eq(told, "tcpecho: peer has been silent for 20 ms (8 bytes sent, 0 received)\n");
}
END_TEST

START_TEST(interrupted)
{
    int ends[2];
    const char *told;

    set_up("question");
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    terms.interrupt_fd = ends[0];
    int status = run(&told);
    tear_down();
    close(theirs);
    close(ends[0]);
    close(ends[1]);
    ck_assert_int_eq(status, EXIT_INTERRUPTED);
    ck_assert_str_eq(told, "");
}
END_TEST

/* Nobody reads stdout any more: that is the end, and no failure. */
START_TEST(reader_leaves)
{
    const char *told;

    set_up("question");
    close(from_stdout);
    from_stdout = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int status = run(&told);
    tear_down();
    close(theirs);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(told, "");
}
END_TEST

static const struct {
    const char *rules;
    int status;
    const char *told;
} failures[] = {
    {"malloc:ENOMEM:1", EXIT_SYSTEM, "tcpecho: Cannot allocate memory\n"},
    {"malloc:ENOMEM:2", EXIT_SYSTEM, "tcpecho: Cannot allocate memory\n"},
    {"malloc:ENOMEM:3", EXIT_SYSTEM, "tcpecho: Cannot allocate memory\n"},
    {"poll:ENOMEM", EXIT_SYSTEM, "tcpecho: cannot wait for input: Cannot allocate memory\n"},
    {"read:EIO", EXIT_FILE, "tcpecho: cannot read stdin: Input/output error\n"},
    {"write:EIO:1", EXIT_FILE, "tcpecho: cannot write to stdout: Input/output error\n"},
    {"recv:ETIMEDOUT", EXIT_TIMED_OUT,
     "tcpecho: peer closed the connection before the end: Connection timed out ("},
    {"send:ECONNRESET", EXIT_CLOSED_EARLY, "before the end: Connection reset by peer (0 bytes sent, "},
    {"shutdown:ENOTCONN", EXIT_CLOSED_EARLY, "before the end: Connection reset by peer (8 bytes sent, "},
    {"getsockopt:ENOBUFS", EXIT_SYSTEM,
     "before the end: No buffer space available (8 bytes sent, 8 received)"},
};

START_TEST(failing)
{
    const char *told;

    set_up("question");
    terms.expect = EXPECT_ECHO;
    send_text(theirs, "question");
    shutdown(theirs, SHUT_WR);
    int status = run_with(failures[_i].rules, &told);
    tear_down();
    close(theirs);
    ck_assert_int_eq(status, failures[_i].status);
    expect_in(told, failures[_i].told);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("conversation");
    tcase_add_test(tests, exchange);
    tcase_add_test(tests, checked);
    tcase_add_test(tests, wrong);
    tcase_add_test(tests, reset);
    tcase_add_test(tests, silent);
    tcase_add_test(tests, interrupted);
    tcase_add_test(tests, reader_leaves);
    tcase_add_loop_test(tests, failing, 0, COUNT_OF(failures));
    return run_case(tests);
}
