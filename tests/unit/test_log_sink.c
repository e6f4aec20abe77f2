/* Lines on stderr, as text and as JSON, and a stderr that does not take them. */
#include "base/log_sink.h"
#include "log_fixture.h"

#include <limits.h>
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
    stderr_becomes_the_stream();
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

/* ---- JSON ---- */

#define KIND ", \"MESSAGE_ID\": \"00000000000000000000000000000001\""

/* The line, after its time. */
static const char *json_line(void)
{
    int matched = 0;
    output();
    ck_assert_int_eq(sscanf(text, "{\"time\": \"%*4u-%*2u-%*2uT%*2u:%*2u:%*2u.%*6uZ\", %n", &matched), 0);
    ck_assert_msg(matched == 40, "%s", text);
    ck_assert_ptr_eq(strchr(text, '\n'), text + text_length - 1);
    return text + matched;
}

TEST(json_has_every_field)
{
    const struct log_field fields[] = {
        LOG_NUMBER("TCPECHOD_CONNECTION", UINT64_MAX),
        LOG_TEXT("TCPECHOD_CLIENT", "[::1]:7"),
        LOG_TEXT("TCPECHOD_REASON", "17"),
        LOG_NUMBER("TCPECHOD_WORKER", 0),
    };
    configure_json();
    log_event(&own, LOG_LEVEL_WARNING, fields, 4, "one %s", "thing");
    ck_assert_str_eq(json_line(), "\"level\": \"warning\", \"PRIORITY\": 4, \"MESSAGE\": \"one thing\"" KIND
                                  ", \"TCPECHOD_CONNECTION\": 18446744073709551615"
                                  ", \"TCPECHOD_CLIENT\": \"[::1]:7\", \"TCPECHOD_REASON\": \"17\""
                                  ", \"TCPECHOD_WORKER\": 0}\n");
    text_length = 0;
    log_event(NULL, LOG_LEVEL_INFO, NULL, 0, "no kind");
    ck_assert_str_eq(json_line(), "\"level\": \"info\", \"PRIORITY\": 6, \"MESSAGE\": \"no kind\"}\n");
    text_length = 0;
    configure(LOG_LEVEL_INFO, 0); /* as a reload does */
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "for people");
    ck_assert_ptr_nonnull(strstr(output(), "Z info: for people\n"));
}

TEST(json_escapes_hostile_bytes)
{
    const struct log_field field = LOG_TEXT("TCPECHOD_LISTENER", "/a\"=\n");
    configure_json();
    log_event(NULL, LOG_LEVEL_INFO, &field, 1, "a\nb\"c\\\x1b[2J\x7f\xff Grüße");
    ck_assert_str_eq(json_line(), "\"level\": \"info\", \"PRIORITY\": 6, \"MESSAGE\": "
                                  "\"a\\u000ab\\\"c\\\\\\u001b[2J\\u007f\\ufffd Grüße\""
                                  ", \"TCPECHOD_LISTENER\": \"/a\\\"=\\u000a\"}\n");
}

/* A pipe takes PIPE_BUF bytes at once, so that no other process's line gets between them. */
TEST(json_line_is_never_too_long)
{
    char longest[LOG_MESSAGE_MAX + 1], path[300], other[100];
    const struct log_field fields[] = {
        LOG_TEXT("TCPECHOD_LISTENER", path),
        LOG_NUMBER("TCPECHOD_WORKER", 3),
        LOG_TEXT("TCPECHOD_CLIENT", other),
    };
    memset(path, '\n', sizeof path);
    memset(other, 'o', sizeof other);
    path[sizeof path - 1] = other[sizeof other - 1] = '\0';
    configure_json();

    /* A message of ordinary bytes stays whole, with all fields. */
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    log_event(&own, LOG_LEVEL_INFO, fields, 3, "%s", longest);
    ck_assert_ptr_nonnull(strstr(json_line(), "xxx\"" KIND ", \"TCPECHOD_LISTENER\": \"\\u000a"));
    ck_assert_uint_le(text_length, PIPE_BUF);
    ck_assert_ptr_nonnull(strstr(text, "oo\"}\n"));

    /* One of control characters is cut, and of the fields those stay for which there is room. */
    text_length = 0;
    memset(longest, '\x01', sizeof longest - 1);
    log_event(&own, LOG_LEVEL_INFO, fields, 3, "%s", longest);
    ck_assert_ptr_nonnull(
        strstr(json_line(), "\\u0001...\"" KIND ", \"TCPECHOD_WORKER\": 3, \"TCPECHOD_CLIENT\": "));
    ck_assert_uint_le(text_length, PIPE_BUF);
    ck_assert_uint_ge(lines_with("\\u0001"), 480);
    ck_assert_uint_eq(lost(), 0);
}

TEST(json_of_the_journals_stream)
{
    stderr_becomes_the_stream();
    configure_json();
    log_event(NULL, LOG_LEVEL_ERROR, NULL, 0, "two");
    ck_assert_ptr_eq(strstr(output(), "<3>{\"time\": \""), text);
    unsetenv("JOURNAL_STREAM");
}

TEST(json_without_memory)
{
    configure_json();
    fault_arm("fmemopen", ENOMEM, 0);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "lost");
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "lost as well");
    fault_disarm();
    ck_assert_str_eq(output(), "");
    ck_assert_uint_eq(lost(), 2);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "told");
    ck_assert_ptr_nonnull(strstr(output(), "\"TCPECHOD_LOST\": 2}\n{\"time\": \""));
}
