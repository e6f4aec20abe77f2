#include "base/datagram.h"

#include "base/clock.h"
#include "faults.h"
#include "full_queue.h"

#include <pthread.h>
#include <stddef.h>

static char directory[] = "/tmp/tcpechod-test-XXXXXX";
static struct sockaddr_un name;
static socklen_t name_length;
static char path[sizeof name.sun_path + 1];
static int receiver;

static void setup(void)
{
    strcpy(directory + sizeof directory - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void teardown(void)
{
    fault_disarm();
    if (path[0] == '/')
        unlink(path);
    path[0] = '\0';
    rmdir(directory);
}

static void bind_receiver(void)
{
    receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(receiver, 0);
    ck_assert_int_eq(bind(receiver, (const struct sockaddr *)&name, name_length), 0);
}

static void receive_at_path(void)
{
    snprintf(path, sizeof path, "%s/socket", directory);
    name = (struct sockaddr_un){.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    name_length = sizeof name;
    bind_receiver();
}

/* A name of the kernel's choosing. */
static void receive_at_abstract_name(void)
{
    name = (struct sockaddr_un){.sun_family = AF_UNIX};
    name_length = sizeof(sa_family_t);
    bind_receiver();
    name_length = sizeof name;
    ck_assert_int_eq(getsockname(receiver, (struct sockaddr *)&name, &name_length), 0);
    size_t length = name_length - offsetof(struct sockaddr_un, sun_path);
    memcpy(path, name.sun_path, length);
    path[0] = '@';
    path[length] = '\0';
}

static void (*const receive[])(void) = {receive_at_path, receive_at_abstract_name};

FIXTURE(setup, teardown)

TEST(absent_receiver_makes_nobody_wait)
{
    snprintf(path, sizeof path, "%s/socket", directory);
    ck_assert(datagram_is_writable(path, -1));
    ck_assert(datagram_is_writable("@tcpechod-test-absent", -1));
    ck_assert(datagram_is_writable("", -1));
    ck_assert(!datagram_has_reader(path));
    ck_assert(!datagram_has_reader("@tcpechod-test-absent"));
    ck_assert(!datagram_has_reader(""));
    receive_at_path();
    close(receiver); /* and its path stays */
    ck_assert(datagram_is_writable(path, -1));
}

TEST_EACH(queue_with_room, receive)
{
    (*c)();
    unsigned before = open_descriptors();
    ck_assert(datagram_is_writable(path, 0));
    ck_assert_int_eq(empty_queue(receiver), 0);
    ck_assert_uint_eq(open_descriptors(), before);
    close(receiver);
}

TEST_EACH(full_queue, receive)
{
    (*c)();
    fill_queue(&name, name_length);
    unsigned before = open_descriptors();
    ck_assert(!datagram_is_writable(path, 0));
    ck_assert(datagram_has_reader(path));
    uint64_t start = clock_monotonic_usec();
    ck_assert(!datagram_is_writable(path, 30));
    ck_assert_uint_ge(clock_monotonic_usec() - start, 30 * USEC_PER_MSEC);
    ck_assert_uint_eq(open_descriptors(), before);
    ck_assert_uint_eq(empty_queue(receiver), 0);
    ck_assert(datagram_is_writable(path, 0));
    close(receiver);
}

static void *read_later(void *argument)
{
    for (int i = 0; i < 20; i++)
        nap();
    empty_queue(*(const int *)argument);
    return NULL;
}

TEST_EACH(room_ends_the_wait, receive)
{
    pthread_t reader;
    (*c)();
    fill_queue(&name, name_length);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_later, &receiver), 0);
    ck_assert(datagram_is_writable(path, PATIENCE_MSEC));
    pthread_join(reader, NULL);
    close(receiver);
}

static const char first_bytes[] = {'/', '@'};

TEST_EACH(overlong_path, first_bytes)
{
    char longest[sizeof name.sun_path + 2] = "";
    for (size_t length = sizeof name.sun_path - 2; length < sizeof longest; length++) {
        memset(longest, 'x', length);
        longest[0] = *c;
        longest[length] = '\0';
        ck_assert(datagram_is_writable(longest, -1));
    }
}

/* What sends then finds out itself. */
TEST(without_a_free_descriptor)
{
    receive_at_path();
    fill_queue(&name, name_length);
    fault_rules("socket:EMFILE");
    bool writable = datagram_is_writable(path, -1);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert(writable);
    close(receiver);
}
