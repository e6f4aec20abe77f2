/* Lines on stderr, and a stderr that does not take them. */
#include "base/log_sink.h"
#include "log_fixture.h"

#include <sys/stat.h>

FIXTURE(setup, teardown)

TEST(direct_line)
{
    log_event(&own, LOG_LEVEL_WARNING, NULL, 0, "one %s", "thing");
    output();
    int matched = 0;
    ck_assert_int_eq(sscanf(text, "%*4u-%*2u-%*2uT%*2u:%*2u:%*2u.%*6uZ warning: one thing%n", &matched), 0);
    ck_assert_msg(matched == 46 && strcmp(text + matched, "\n") == 0, "%s", text);
    ck_assert_uint_eq(lost(), 0);
}

TEST(one_event_is_one_line)
{
    log_event(NULL, LOG_LEVEL_INFO, NULL, 0, "a\nb\tc\x1b[2J\x7f \\n Grüße");
    ck_assert_ptr_nonnull(strstr(output(), " info: a\\nb\\x09c\\x1b[2J\\x7f \\n Grüße\n"));
}

TEST(overlong_is_cut)
{
    char longest[LOG_MESSAGE_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "%.*s", LOG_MESSAGE_MAX, longest);
    ck_assert_uint_eq(lines_with("..."), 0);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "%s", longest);
    ck_assert_ptr_nonnull(strstr(output(), "xxxx...\n"));

    /* The character that the cut would halve goes as a whole. */
    text_length = 0;
    memcpy(longest + LOG_MESSAGE_MAX - 4, "\xe2\x82\xac", 3);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "%s", longest);
    ck_assert_ptr_nonnull(strstr(output(), "xxxx...\n"));

    /* Every byte may need four. */
    text_length = 0;
    memset(longest, '\x01', sizeof longest - 1);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "%s", longest);
    ck_assert_ptr_nonnull(strstr(output(), "\\x01...\n"));
    ck_assert_uint_eq(lines_with("\\x01"), LOG_MESSAGE_MAX - 3);
}

TEST(unprintable_is_said)
{
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "%ls", L"\x20ac"); /* not in the C locale */
    ck_assert_ptr_nonnull(strstr(output(), "cannot be shown"));
}

TEST(keeps_errno)
{
    errno = ENOTTY;
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "kept");
    ck_assert_int_eq(errno, ENOTTY);

    ck_assert_int_eq(dup2(reader, STDERR_FILENO), STDERR_FILENO); /* not open for writing: EBADF */
    errno = ENOTTY;
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "lost");
    ck_assert_int_eq(errno, ENOTTY);
    ck_assert_uint_eq(lost(), 1);
}

TEST(journal_stream_gets_levels)
{
    char stream[64];
    struct stat status;
    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    configure(LOG_LEVEL_INFO, 0);
    log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "two\nlines");
    ck_assert_str_eq(output(), "<3>two\\nlines\n");

    setenv("JOURNAL_STREAM", "1:2", 1); /* stderr was redirected since */
    configure(LOG_LEVEL_INFO, 0);
    log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "redirected");
    ck_assert_ptr_nonnull(strstr(output(), "Z error: redirected\n"));
    unsetenv("JOURNAL_STREAM");
}

TEST(reader_gone)
{
    ck_assert_int_eq(log_start(), 0);
    fd_close(&reader);
    for (int i = 0; i < 3; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "EPIPE");
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lost(), 3);
}

TEST(disk_full)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(full, 0);
    int pipe_end = dup(STDERR_FILENO);
    dup2(full, STDERR_FILENO);
    close(full);
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 3; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "ENOSPC");
    WAIT_FOR(lost() == 3);
    dup2(pipe_end, STDERR_FILENO); /* room again */
    close(pipe_end);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "afterwards");
    log_stop(USEC_PER_SEC);
    output();
    ck_assert_ptr_nonnull(strstr(text, "3 messages were lost"));
    ck_assert(strstr(text, "3 messages were lost") < strstr(text, "afterwards"));
}

TEST(waits_for_a_nonblocking_stderr)
{
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0); /* as another process may */
    ck_assert_int_eq(log_start(), 0);
    fault_rules("write@other:EAGAIN:1-3");
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "patience");
    wait_for("patience");
    ck_assert_uint_eq(fault_disarm(), 3);
    ck_assert_uint_eq(lost(), 0);
    fill_pipe();
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "too late");
    log_stop(20 * USEC_PER_MSEC);
    ck_assert_uint_eq(lost(), 1);
}

TEST(short_and_interrupted_writes)
{
    ck_assert_int_eq(log_start(), 0);
    fault_rules("write@other:short=3:1-5 write@other:EINTR:6");
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "in pieces");
    wait_for(" info: in pieces\n");
    ck_assert_uint_ge(fault_disarm(), 6);
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lines_with("\n"), 1);
    ck_assert_uint_eq(lost(), 0);
}

TEST(direct_waits_once)
{
    fill_pipe();
    for (int i = 0; i < MANY_WAITS; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "never read");
    ck_assert_uint_eq(lost(), MANY_WAITS);
    drain_junk();
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "read");
    ck_assert_uint_eq(lines_with(MANY_WAITS_TEXT " messages were lost"), 1);
}

TEST(impossible_clock)
{
    fault_arm("gmtime_r", EOVERFLOW, 1);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "timeless");
    fault_disarm();
    ck_assert_ptr_nonnull(strstr(output(), "Z info: timeless\n"));
}

TEST(stderr_that_cannot_be_looked_at)
{
    setenv("JOURNAL_STREAM", "1:2", 1);
    fault_arm("fstat", EBADF, 1);
    configure(LOG_LEVEL_INFO, 0);
    ck_assert_uint_eq(fault_disarm(), 1);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "plain");
    ck_assert_ptr_nonnull(strstr(output(), "Z info: plain\n"));
    unsetenv("JOURNAL_STREAM");
}
