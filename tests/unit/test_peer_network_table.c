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

START_TEST(counts_and_limits)
{
    struct address client = v4(0x0a000001);
    struct peer_network *sources[3];
    start();
    for (int i = 0; i < 3; i++)
        sources[i] = take(&client, 32, 0, 3);
    ck_assert_ptr_eq(sources[0], sources[2]);
    ck_assert_uint_eq(atomic_load(&sources[0]->connections), 3);
    ck_assert_uint_eq(table.entries, 1);

    struct peer_network *other = sources[0];
    ck_assert_int_eq(peer_network_table_take(&table, &client, 32, 0, 3, &other), -EUSERS);
    ck_assert_uint_eq(atomic_load(&sources[0]->connections), 3);
    peer_network_release(sources[0]);
    ck_assert_ptr_eq(take(&client, 32, 0, 3), sources[0]);
    ck_assert_ptr_eq(take(&client, 32, 0, 0), sources[0]); /* no limit */
    peer_network_release(NULL);
    peer_network_table_deinit(&table);
    ck_assert_uint_eq(table.entries, 0);
    ck_assert_ptr_null(table.buckets);
}
END_TEST

START_TEST(port_does_not_count)
{
    struct address one = v4(0x0a000001), two = one;
    two.port = 9999;
    start();
    ck_assert_ptr_eq(take(&one, 32, 0, 0), take(&two, 32, 0, 0));
    peer_network_table_deinit(&table);
}
END_TEST

START_TEST(source_is_a_network)
{
    struct address a = v4(0x0a000001), b = v4(0x0a0000fe), c = v4(0x0a000101);
    struct address d = v6(1, 1), e = v6(1, 2), f = v6(2, 1);
    start();
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
    peer_network_table_deinit(&table);
}
END_TEST

START_TEST(scopes_count_apart)
{
    struct address client = v4(0x7f000001);
    struct peer_network *refused;
    start();
    struct peer_network *whole = take(&client, 32, 0, 1);
    struct peer_network *one = take(&client, 32, 1, 1), *two = take(&client, 32, 2, 1);
    ck_assert(whole != one && one != two && whole != two);
    ck_assert_int_eq(peer_network_table_take(&table, &client, 32, 2, 1, &refused), -EUSERS);
    peer_network_release(two);
    ck_assert_ptr_eq(take(&client, 32, 2, 1), two);
    peer_network_table_deinit(&table);
}
END_TEST

#define MANY 5000

START_TEST(grows_and_keeps_everybody)
{
    static struct peer_network *sources[MANY];
    start();
    size_t buckets = table.bucket_count;
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        sources[i] = take(&client, 32, i % 3, 2);
    }
    ck_assert_uint_gt(table.bucket_count, buckets);
    ck_assert_uint_eq(table.bucket_count & (table.bucket_count - 1), 0);
    ck_assert_uint_eq(table.entries, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        ck_assert_ptr_eq(take(&client, 32, i % 3, 2), sources[i]);
        ck_assert_uint_eq(atomic_load(&sources[i]->connections), 2);
    }
    size_t longest = 0;
    for (size_t i = 0; i < table.bucket_count; i++) {
        size_t length = 0;
        for (const struct peer_network *source = table.buckets[i]; source; source = source->next)
            length++;
        longest = length > longest ? length : longest;
    }
    ck_assert_uint_le(longest, 20); /* the hash spreads neighbours */
    peer_network_table_deinit(&table);
}
END_TEST

START_TEST(sweeps_who_has_left)
{
    start();
    size_t buckets = table.bucket_count;
    struct address staying = v4(0xc0000201);
    struct peer_network *stays = take(&staying, 32, 0, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        struct address client = v4(0x0a000000 + i);
        peer_network_release(take(&client, 32, 0, 0));
    }
    ck_assert_uint_eq(table.bucket_count, buckets); /* nobody but one stayed: no need to grow */
    ck_assert_uint_le(table.entries, buckets);
    ck_assert_ptr_eq(take(&staying, 32, 0, 0), stays);
    ck_assert_uint_eq(atomic_load(&stays->connections), 2);
    peer_network_table_deinit(&table);
}
END_TEST

START_TEST(entry_at_zero_is_used_again)
{
    struct address client = v4(0x0a000001);
    start();
    struct peer_network *source = take(&client, 32, 0, 1);
    peer_network_release(source);
    ck_assert_ptr_eq(take(&client, 32, 0, 1), source);
    ck_assert_uint_eq(table.entries, 1);
    peer_network_table_deinit(&table);
}
END_TEST

START_TEST(short_memory)
{
    struct address client = v4(0x0a000001);
    struct peer_network *source = NULL;
    fault_arm("calloc", ENOMEM, 1);
    int r = peer_network_table_init(&table);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    fault_arm("getrandom", ENOSYS, 1);
    r = peer_network_table_init(&table);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSYS);

    start();
    fault_arm("malloc", ENOMEM, 1);
    r = peer_network_table_take(&table, &client, 32, 0, 0, &source);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_ptr_null(source);
    ck_assert_uint_eq(table.entries, 0);

    /* Without memory for more buckets the chains grow instead. */
    size_t buckets = table.bucket_count;
    for (uint32_t i = 0; i < 300; i++) {
        client = v4(0x0a000000 + i);
        fault_arm("calloc", ENOMEM, 0);
        r = peer_network_table_take(&table, &client, 32, 0, 0, &source);
        fault_disarm();
        ck_assert_int_eq(r, 0);
    }
    ck_assert_uint_eq(table.bucket_count, buckets);
    ck_assert_uint_eq(table.entries, 300);
    client = v4(0x0a000000 + 300);
    take(&client, 32, 0, 0);
    ck_assert_uint_gt(table.bucket_count, buckets);
    for (uint32_t i = 0; i <= 300; i++) {
        client = v4(0x0a000000 + i);
        ck_assert_uint_eq(atomic_load(&take(&client, 32, 0, 0)->connections), 2);
    }
    peer_network_table_deinit(&table);
}
END_TEST

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

START_TEST(another_thread_releases)
{
    pthread_t thread;
    start();
    atomic_store(&finished, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, release_handed, NULL), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        struct address client = v4(i % 777);
        peer_network_release(atomic_exchange(&handed, take(&client, 32, 0, 0)));
    }
    atomic_store(&finished, true);
    pthread_join(thread, NULL);
    size_t left = 0;
    for (size_t i = 0; i < table.bucket_count; i++)
        for (const struct peer_network *source = table.buckets[i]; source; source = source->next)
            left += atomic_load(&source->connections);
    ck_assert_uint_eq(left, 0);
    peer_network_table_deinit(&table);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("source_table");
    tcase_add_test(tests, counts_and_limits);
    tcase_add_test(tests, port_does_not_count);
    tcase_add_test(tests, source_is_a_network);
    tcase_add_test(tests, scopes_count_apart);
    tcase_add_test(tests, grows_and_keeps_everybody);
    tcase_add_test(tests, sweeps_who_has_left);
    tcase_add_test(tests, entry_at_zero_is_used_again);
    tcase_add_test(tests, short_memory);
    tcase_add_test(tests, another_thread_releases);
    return run_case(tests);
}
