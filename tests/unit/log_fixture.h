/* What the tests of the log share: fd 2 is a pipe for the time of a test. */
#pragma once

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "common.h"
#include "faults.h"

#include <signal.h>
#include <sys/stat.h>

__attribute__((unused)) static const struct log_kind own = {.message_id = "00000000000000000000000000000001"};
__attribute__((unused)) static const struct log_kind clients = {
    .message_id = "00000000000000000000000000000002", .by_clients = true};

/* So many messages, that Check ends the test where each of them waits for its reader. */
#define MANY_WAITS 300
#define MANY_WAITS_TEXT "300"

static int real_stderr = -1;
static int reader = -1; /* the other end of fd 2 */
static uint64_t lost_before;
static char text[1 << 20]; /* what came out of it */
static size_t text_length;

static inline void configure(enum log_level level, unsigned rate)
{
    const struct log_settings settings = {.level = level, .target = LOG_TARGET_STDERR, .rate = rate};
    log_configure(&settings);
}

static inline void configure_json(void)
{
    const struct log_settings settings = {
        .level = LOG_LEVEL_INFO, .target = LOG_TARGET_STDERR, .format = LOG_FORMAT_JSON};
    log_configure(&settings);
}

static inline void setup(void)
{
    int ends[2];
    unsetenv("JOURNAL_STREAM");
    signal(SIGPIPE, SIG_IGN);
    real_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
    ck_assert_int_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0); /* this end alone: a pipe has two open files */
    configure(LOG_LEVEL_INFO, 0);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "what the test before has lost is told now");
    while (read(reader, text, sizeof text) > 0)
        continue;
    text_length = 0;
    lost_before = log_lost();
}

static inline void teardown(void)
{
    fault_disarm();
    log_stop(
        0); /* a test that failed leaves it running, and without fork(2) the next one is in this process */
    dup2(real_stderr, STDERR_FILENO);
    fd_close(&real_stderr);
    fd_close(&reader);
}

/* Adds what has arrived to `text`. */
static inline const char *output(void)
{
    ssize_t n;
    while ((n = read(reader, text + text_length, sizeof text - 1 - text_length)) > 0)
        text_length += (size_t)n;
    text[text_length] = '\0';
    return text;
}

static inline void wait_for(const char *part)
{
    WAIT_FOR(strstr(output(), part));
}

static inline unsigned lines_with(const char *part)
{
    unsigned count = 0;
    for (const char *at = output(); (at = strstr(at, part)); at++)
        count++;
    return count;
}

/* Smallest capacity, nothing more fits in. */
static inline void fill_pipe(void)
{
    static const char junk[4096];
    ck_assert_int_ge(fcntl(STDERR_FILENO, F_SETPIPE_SZ, 4096), 4096);
    ck_assert_int_eq(write(STDERR_FILENO, junk, sizeof junk), sizeof junk);
}

static inline void drain_junk(void)
{
    char junk[4096];
    ck_assert_int_eq(read(reader, junk, sizeof junk), sizeof junk);
}

static inline uint64_t lost(void)
{
    return log_lost() - lost_before;
}

static inline uint64_t since(uint64_t start)
{
    return clock_monotonic_usec() - start;
}

/* Rate tests begin with a second, so that all of it is theirs. */
static inline void begin_second(void)
{
    clock_move(USEC_PER_SEC - clock_monotonic_usec() % USEC_PER_SEC);
}

/* What systemd says of a service whose stderr is journald's. */
static inline void stderr_becomes_the_stream(void)
{
    char stream[64];
    struct stat status;
    ck_assert_int_eq(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
}
