#include "serve/peer_network_table.h"

#include "common.h"
#include "faults.h"

#include <pthread.h>

static struct peer_network_table table;

static struct address v4(uint32_t ip)
{
    struct address address = {.family = AF_INET, .port = (uint16_t)(ip * 31)};
    for (unsigned i = 0; i < 4; i++)
        address.ip[i] = (uint8_t)(ip >> (24 - 8 * i));
    return address;
}

static struct address v6(uint8_t network, uint8_t host)
{
    return (struct address){.family = AF_INET6, .ip = {0x20, 0x01, [7] = network, [15] = host}};
}

static struct peer_network *take(const struct address *client, unsigned bits, uint64_t scope, uint32_t limit)
{
    struct peer_network *source = NULL;
    ck_assert_int_eq(peer_network_table_take(&table, client, bits, scope, limit, &source), 0);
    ck_assert_ptr_nonnull(source);
    return source;
}

static void start(void)
{
    ck_assert_int_eq(peer_network_table_init(&table), 0);
}

static void stop(void)
{
    peer_network_table_deinit(&table);
}

FIXTURE(start, stop)

static void expect_full(const struct address *client, uint64_t scope, uint32_t limit)
{
    struct peer_network *source = NULL;
    ck_assert_int_eq(peer_network_table_take(&table, client, 32, scope, limit, &source), -EUSERS);
    ck_assert_ptr_null(source);
}

TEST(counts_and_limits)
{
    struct address client = v4(0x0a000001), other_port = client;
    other_port.port++;
    struct peer_network *source = take(&client, 32, 0, 3);
    take(&client, 32, 0, 3);
    ck_assert_ptr_eq(take(&other_port, 32, 0, 3), source);
    expect_full(&client, 0, 3);
    peer_network_release(source);
    take(&client, 32, 0, 3); /* what was refused is not counted */
    expect_full(&client, 0, 3);
    take(&client, 32, 0, 0); /* no limit */
    for (int i = 0; i < 4; i++)
        peer_network_release(source);
    peer_network_release(NULL);
    ck_assert_ptr_eq(take(&client, 32, 0, 1), source); /* an entry at zero is used again */
    expect_full(&client, 0, 1);
}

TEST(source_is_a_network)
{
    struct address a = v4(0x0a000001), b = v4(0x0a0000fe), c = v4(0x0a000101);
    struct address d = v6(1, 1), e = v6(1, 2), f = v6(2, 1);
    struct peer_network *of_a = take(&a, 24, 0, 0);
    ck_assert_ptr_eq(take(&b, 24, 0, 0), of_a);
    ck_assert_ptr_ne(take(&c, 24, 0, 0), of_a);
    ck_assert_ptr_ne(take(&b, 32, 0, 0), of_a); /* another prefix length is another network */
    struct peer_network *of_d = take(&d, 64, 0, 0);
    ck_assert_ptr_eq(take(&e, 64, 0, 0), of_d);
    ck_assert_ptr_ne(take(&f, 64, 0, 0), of_d);
    /* 0 bits: everybody of the family, and no other family. */
    ck_assert_ptr_eq(take(&a, 0, 0, 0), take(&c, 0, 0, 0));
    ck_assert_ptr_ne(take(&a, 0, 0, 0), take(&d, 0, 0, 0));
}

TEST(scopes_count_apart)
{
    struct address client = v4(0x7f000001);
    struct peer_network *whole = take(&client, 32, 0, 1);
    struct peer_network *one = take(&client, 32, 1, 1), *two = take(&client, 32, 2, 1);
    ck_assert(whole != one && one != two && whole != two);
    expect_full(&client, 2, 1);
    peer_network_release(two);
    ck_assert_ptr_eq(take(&client, 32, 2, 1), two);
}

#define MANY 5000

static void take_many(uint32_t limit)
{
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        take(&client, 32, i % 3, limit);
    }
}

TEST(grows_and_keeps_everybody)
{
    fault_rules("calloc:count");
    take_many(2);
    ck_assert_uint_ge(fault_disarm(), 1);
    take_many(2);
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        expect_full(&client, i % 3, 2);
    }
    size_t longest = 0;
    for (size_t i = 0; i < table.bucket_count; i++) {
        size_t length = 0;
        for (const struct peer_network *source = table.buckets[i]; source; source = source->next)
            length++;
        longest = length > longest ? length : longest;
    }
    ck_assert_uint_le(longest, 20); /* the hash spreads neighbours, which shows in nothing but time */
}

/* Nobody but one stays: no need to grow. */
TEST(sweeps_who_has_left)
{
    struct address staying = v4(0xc0000201);
    take(&staying, 32, 0, 0);
    fault_rules("calloc:count");
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        peer_network_release(take(&client, 32, 0, 0));
    }
    ck_assert_uint_eq(fault_disarm(), 0);
    expect_full(&staying, 0, 1);
}

static const char *const rules[] = {"calloc:ENOMEM:1", "getrandom:ENOMEM:1"};

TEST_EACH(failing_init, rules)
{
    struct peer_network_table other;
    fault_rules(*c);
    int r = peer_network_table_init(&other);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
}

TEST(short_memory)
{
    struct address client = v4(0x0a000001);
    struct peer_network *source = NULL;
    fault_arm("malloc", ENOMEM, 1);
    int r = peer_network_table_take(&table, &client, 32, 0, 1, &source);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_ptr_null(source);
    peer_network_release(take(&client, 32, 0, 1));

    /* Without memory for more buckets the chains grow instead; with it they are made good. */
    for (uint32_t i = 0; i < 300; i++) {
        client = v4(0x0a000000 + i);
        fault_arm("calloc", ENOMEM, 0);
        r = peer_network_table_take(&table, &client, 32, 0, 0, &source);
        fault_disarm();
        ck_assert_int_eq(r, 0);
    }
    client = v4(0x0a000000 + 300);
    fault_rules("calloc:count");
    take(&client, 32, 0, 0);
    ck_assert_uint_eq(fault_disarm(), 1);
    for (uint32_t i = 0; i <= 300; i++) {
        client = v4(0x0a000000 + i);
        expect_full(&client, 0, 1);
    }
}

/* Workers count down while the main thread adds, sweeps and counts up. */
static _Atomic(struct peer_network *) handed;
static atomic_bool finished;

static void *release_handed(void *argument)
{
    (void)argument;
    while (!atomic_load(&finished))
        peer_network_release(atomic_exchange(&handed, NULL));
    peer_network_release(atomic_exchange(&handed, NULL));
    return NULL;
}

TEST(another_thread_releases)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, release_handed, NULL), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        struct address client = v4(i % 777);
        peer_network_release(atomic_exchange(&handed, take(&client, 32, 0, 0)));
    }
    atomic_store(&finished, true);
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < 777; i++) { /* none of them is left */
        struct address client = v4(i);
        take(&client, 32, 0, 1);
    }
}
