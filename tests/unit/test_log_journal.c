/* The log to journald. libsystemd's path of the socket is fixed, so the whole program moves into a mount
 * namespace of its own, where /run is empty, and plays journald there. */
#include "base/log_sink.h"
#include "log_fixture.h"

#include <endian.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SOCKET_PATH "/run/systemd/journal/socket"

static int journald = -1;
static char datagram[1 << 16];
static size_t datagram_length;

static void to_journal(enum log_level level, unsigned rate)
{
    const struct log_settings settings = {.level = level, .target = LOG_TARGET_JOURNAL, .rate = rate};
    log_configure(&settings);
}

static void journald_begins(void)
{
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
    journald = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(journald, 0);
    unlink(SOCKET_PATH);
    ck_assert_int_eq(bind(journald, (const struct sockaddr *)&address, sizeof address), 0);
}

static void journal_setup(void)
{
    setup();
    journald_begins();
    to_journal(LOG_LEVEL_INFO, 0);
}

static void journal_teardown(void)
{
    teardown();
    fd_close(&journald);
    unlink(SOCKET_PATH);
}

/* The next message. */
static void receive(void)
{
    ck_assert(becomes_readable(journald));
    ssize_t n = recv(journald, datagram, sizeof datagram, 0);
    ck_assert_int_gt(n, 0);
    datagram_length = (size_t)n;
}

/* A field of the message received, as systemd's native protocol has it: "NAME=value" LF, or NAME LF and eight
 * bytes of length before a value with a newline in it. NULL: there is none. */
static const char *field(const char *name)
{
    static char value[4096];
    const char *at = datagram, *end = datagram + datagram_length;
    while (at < end) {
        size_t name_length = strcspn(at, "=\n"), length;
        const char *start = at + name_length + 1;
        if (at[name_length] == '\n') {
            uint64_t bytes;
            memcpy(&bytes, start, sizeof bytes);
            start += sizeof bytes;
            length = (size_t)le64toh(bytes);
        } else {
            length = strcspn(start, "\n");
        }
        ck_assert_uint_lt(length, sizeof value);
        if (name_length == strlen(name) && memcmp(at, name, name_length) == 0) {
            memcpy(value, start, length);
            value[length] = '\0';
            return value;
        }
        at = start + length + 1;
    }
    return NULL;
}

FIXTURE(journal_setup, journal_teardown)

TEST(fields_arrive)
{
    const struct log_field fields[] = {LOG_TEXT("TCPECHOD_CLIENT", "[2001:db8::1]:4711"),
                                       LOG_NUMBER("TCPECHOD_BYTES_IN", UINT64_MAX)};
    ck_assert_int_eq(log_start(), 0);
    log_event(&own, LOG_LEVEL_WARNING, fields, 2, "two\n%s", "lines");
    receive();
    ck_assert_str_eq(field("MESSAGE"), "two\nlines");
    ck_assert_str_eq(field("PRIORITY"), "4");
    ck_assert_str_eq(field("MESSAGE_ID"), own.message_id);
    ck_assert_str_eq(field("SYSLOG_IDENTIFIER"), "tcpechod");
    ck_assert_str_eq(field("TCPECHOD_CLIENT"), "[2001:db8::1]:4711");
    ck_assert_str_eq(field("TCPECHOD_BYTES_IN"), "18446744073709551615");
    ck_assert_ptr_null(field("CODE_FILE"));

    log_event(NULL, LOG_LEVEL_ERROR, NULL, 0, "no kind");
    receive();
    ck_assert_ptr_null(field("MESSAGE_ID"));
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lost(), 0);
    ck_assert_str_eq(output(), "");
}

TEST(fields_that_do_not_fit_are_left_out)
{
    char big[LOG_DATA_SIZE];
    struct log_field fields[LOG_FIELDS_MAX + 1];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (size_t i = 0; i <= LOG_FIELDS_MAX; i++)
        fields[i] = LOG_NUMBER("LAST", i);
    fields[0] = LOG_TEXT("BIG", big);
    log_event(&own, LOG_LEVEL_INFO, fields, LOG_FIELDS_MAX + 1, "%s", big);
    receive();
    ck_assert_uint_eq(strlen(field("MESSAGE")), LOG_MESSAGE_MAX);
    ck_assert_ptr_null(field("BIG"));
    ck_assert_str_eq(field("LAST"), "1");
    ck_assert_ptr_nonnull(memmem(datagram, datagram_length, "LAST=15\n", 8));
    ck_assert_ptr_null(memmem(datagram, datagram_length, "LAST=16\n", 8));
}

TEST(auto_follows_the_journal_stream)
{
    const struct log_settings automatic = {.level = LOG_LEVEL_INFO, .target = LOG_TARGET_AUTO};
    log_configure(&automatic);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "to stderr");
    ck_assert_ptr_nonnull(strstr(output(), "to stderr"));

    stderr_becomes_the_stream();
    log_configure(&automatic);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "to the journal");
    receive();
    ck_assert_str_eq(field("MESSAGE"), "to the journal");
    ck_assert_ptr_null(strstr(output(), "journal"));
    unsetenv("JOURNAL_STREAM");
}

TEST(held_back_and_lost_have_their_fields)
{
    to_journal(LOG_LEVEL_ERROR, 1); /* whatever the level */
    ck_assert_int_eq(log_start(), 0);
    begin_second();
    for (int i = 0; i < 3; i++)
        log_event(&clients, LOG_LEVEL_ERROR, NULL, 0, "client");
    receive();
    ck_assert_str_eq(field("MESSAGE_ID"), clients.message_id);
    receive();
    ck_assert_str_eq(field("MESSAGE_ID"), LOG_HELD_BACK_MESSAGE_ID);
    ck_assert_str_eq(field("TCPECHOD_HELD_BACK"), "2");
    ck_assert_str_eq(field("PRIORITY"), "5");

    fault_rules("sd_journal_sendv:EIO,write:EIO"); /* neither journald nor stderr takes any, then they do */
    for (int i = 0; i < 2; i++)
        log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "nobody");
    WAIT_FOR(lost() == 2);
    fault_disarm();
    log_event(&own, LOG_LEVEL_ERROR, NULL, 0, "afterwards");
    receive();
    ck_assert_str_eq(field("MESSAGE_ID"), LOG_LOST_MESSAGE_ID);
    ck_assert_str_eq(field("TCPECHOD_LOST"), "2");
    ck_assert_str_eq(field("PRIORITY"), "4");
    receive();
    ck_assert_str_eq(field("MESSAGE"), "afterwards");
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lost(), 2);
}

/* Without a journald messages go to stderr, and it says so once. */
static void expect_diverted(const char *why)
{
    ck_assert(log_goes_to_journal());
    ck_assert(log_shows_on_stderr());
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "directly");
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 5; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "queued");
    WAIT_FOR(lines_with("queued") == 5);
    ck_assert_uint_eq(lines_with(" info: directly"), 1);
    ck_assert_uint_eq(lines_with(" warning: the journal takes no messages (" SOCKET_PATH ": "), 1);
    ck_assert_uint_eq(lines_with(why), 1);

    fd_close(&journald);
    journald_begins();
    ck_assert(!log_shows_on_stderr());
    for (int i = 0; i < 2; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "to the journal");
    receive();
    ck_assert_str_eq(field("MESSAGE"),
                     "6 messages went to standard error because the journal did not take them");
    ck_assert_str_eq(field("TCPECHOD_DIVERTED"), "6");
    ck_assert_str_eq(field("PRIORITY"), "5");
    for (int i = 0; i < 2; i++) {
        receive();
        ck_assert_str_eq(field("MESSAGE"), "to the journal");
    }
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lines_with("to the journal"), 0);
    ck_assert_uint_eq(lost(), 0);
}

TEST(absent)
{
    unlink(SOCKET_PATH);
    expect_diverted("No such file or directory");
}

/* Neither it nor a stderr that takes messages. */
TEST(absent_and_no_stderr)
{
    unlink(SOCKET_PATH);
    fd_close(&reader);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "directly");
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < 5; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "queued");
    log_stop(USEC_PER_SEC);
    ck_assert_uint_eq(lost(), 6);
}

/* A service in a root directory of its own has journald's stream, and not its socket. */
TEST(absent_behind_the_stream)
{
    const struct log_settings automatic = {.level = LOG_LEVEL_INFO, .target = LOG_TARGET_AUTO};
    unlink(SOCKET_PATH);
    stderr_becomes_the_stream();
    log_configure(&automatic);
    log_event(&own, LOG_LEVEL_WARNING, NULL, 0, "two\nlines");
    ck_assert_str_eq(output(), "<4>two\\nlines\n");
    ck_assert_int_eq(log_start(), 0);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "from the queue");
    wait_for("<6>from the queue\n");

    fd_close(&journald); /* it is there again, and gets the next one */
    journald_begins();
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "to the journal");
    receive();
    ck_assert_str_eq(field("MESSAGE"), "to the journal");
    log_stop(USEC_PER_SEC);
    ck_assert_ptr_null(strstr(output(), "to the journal"));
    ck_assert_uint_eq(lost(), 0);
    unsetenv("JOURNAL_STREAM");
}

TEST(nobody_listens)
{
    fd_close(&journald); /* and its name stays */
    expect_diverted("Connection refused");
}

/* More than the socket's own queue (net.unix.max_dgram_qlen) and the ring together hold. */
#define FLOOD 3000

TEST(frozen)
{
    ck_assert_int_eq(log_start(), 0);
    for (int i = 0; i < FLOOD; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "flood");
    log_stop(100 * USEC_PER_MSEC);
    ck_assert_uint_ge(lost(), 1024);

    for (int i = 0; i < MANY_WAITS; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "on the way out");

    /* None is missing that was not counted. */
    uint64_t received = 0;
    while (recv(journald, datagram, sizeof datagram, 0) > 0)
        received++;
    ck_assert_uint_eq(received + lost(), FLOOD + MANY_WAITS);
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "thawed");
    receive();
    ck_assert_uint_eq((uint64_t)atoll(field("TCPECHOD_LOST")), lost());
}

TEST(frozen_before_the_start)
{
    uint64_t start = clock_monotonic_usec();
    for (int i = 0; i < FLOOD; i++)
        log_event(&own, LOG_LEVEL_INFO, NULL, 0, "flood");
    ck_assert_uint_ge(since(start), 900 * USEC_PER_MSEC); /* one second for all of them, not for each */
    ck_assert_uint_ge(lost(), 1);
}

TEST(interrupted)
{
    fault_rules("sd_journal_sendv:EINTR:1-2");
    log_event(&own, LOG_LEVEL_INFO, NULL, 0, "at the third try");
    ck_assert_uint_eq(fault_disarm(), 2);
    receive();
    ck_assert_uint_eq(lost(), 0);
}

static int write_file(const char *path, const char *content)
{
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, content, strlen(content)) < 0)
        return -errno;
    return 0;
}

/* Who is not root is it in a user namespace of its own. Returns 0 or a negative errno. */
static int enter_user_namespace(void)
{
    char uid_map[32], gid_map[32];
    snprintf(uid_map, sizeof uid_map, "0 %u 1", geteuid());
    snprintf(gid_map, sizeof gid_map, "0 %u 1", getegid());

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -errno;
    int r = write_file("/proc/self/setgroups", "deny");
    if (r == 0)
        r = write_file("/proc/self/uid_map", uid_map);
    if (r == 0)
        r = write_file("/proc/self/gid_map", gid_map);
    return r;
}

/* Returns 0 or a negative errno. */
static int enter_namespace(void)
{
    int r = unshare(CLONE_NEWNS) < 0 ? enter_user_namespace() : 0;
    if (r < 0)
        return r;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
        return -errno;
    if (mkdir("/run/systemd", 0755) < 0 || mkdir("/run/systemd/journal", 0755) < 0)
        return -errno;
    return 0;
}

int main(void)
{
    int r = enter_namespace();
    if (r < 0) {
        printf("1..0 # SKIP no mount namespace to play journald in: %s\n", strerror(-r));
        return EXIT_SUCCESS;
    }
    return unit_run();
}
