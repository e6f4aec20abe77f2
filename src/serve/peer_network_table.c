#include "serve/peer_network_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_BUCKETS 64

/* The finalizer of MurmurHash3: every bit of the input changes half of the output's. */
static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= UINT64_C(0xff51afd7ed558ccd);
    value ^= value >> 33;
    value *= UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

static uint64_t hash(const struct peer_network_table *table, const struct address *prefix, uint64_t scope)
{
    uint64_t halves[2];
    memcpy(halves, prefix->ip, sizeof halves);
    return mix(mix(mix(halves[0] ^ table->secret) ^ halves[1]) ^ scope ^ (uint64_t)prefix->family << 48);
}

static struct peer_network **bucket_of(const struct peer_network_table *table, const struct address *prefix,
                                       uint64_t scope)
{
    return &table->buckets[hash(table, prefix, scope) & (table->bucket_count - 1)];
}

int peer_network_table_init(struct peer_network_table *table)
{
    uint64_t secret;
    /* Up to 256 bytes are never cut short (getrandom(2)). */
    if (getrandom(&secret, sizeof secret, 0) < 0)
        return -errno;
    struct peer_network **buckets = calloc(FIRST_BUCKETS, sizeof *buckets);
    if (!buckets)
        return -ENOMEM;
    *table = (struct peer_network_table){.buckets = buckets, .bucket_count = FIRST_BUCKETS, .secret = secret};
    return 0;
}

void peer_network_table_deinit(struct peer_network_table *table)
{
    for (size_t i = 0; i < table->bucket_count; i++)
        for (struct peer_network *source = table->buckets[i], *next; source; source = next) {
            next = source->next;
            free(source);
        }
    free(table->buckets);
    *table = (struct peer_network_table){0};
}

/* Frees the entries of one bucket that nobody holds. */
static void sweep_bucket(struct peer_network_table *table, struct peer_network **link)
{
    while (*link) {
        struct peer_network *source = *link;
        if (atomic_load_explicit(&source->connections, memory_order_acquire) > 0) {
            link = &source->next;
            continue;
        }
        *link = source->next;
        free(source);
        table->entries--;
    }
}

/* Makes room before the buckets grow long: first by freeing, then by doubling. Without memory they just grow
 * long. */
static void make_room(struct peer_network_table *table)
{
    if (table->entries < table->bucket_count)
        return;
    for (size_t i = 0; i < table->bucket_count; i++)
        sweep_bucket(table, &table->buckets[i]);
    if (table->entries < table->bucket_count / 2)
        return;

    struct peer_network_table larger = *table;
    larger.bucket_count = table->bucket_count * 2;
    larger.buckets = calloc(larger.bucket_count, sizeof *larger.buckets);
    if (!larger.buckets)
        return;
    for (size_t i = 0; i < table->bucket_count; i++)
        for (struct peer_network *source = table->buckets[i], *next; source; source = next) {
            next = source->next;
            struct peer_network **bucket = bucket_of(&larger, &source->prefix, source->scope);
            source->next = *bucket;
            *bucket = source;
        }
    free(table->buckets);
    *table = larger;
}

static struct peer_network *find(const struct peer_network_table *table, const struct address *prefix,
                                 uint64_t scope)
{
    struct peer_network *source = *bucket_of(table, prefix, scope);
    while (source && !(source->scope == scope && address_equal_ip(&source->prefix, prefix)))
        source = source->next;
    return source;
}

static struct peer_network *add(struct peer_network_table *table, const struct address *prefix,
                                uint64_t scope)
{
    make_room(table);
    struct peer_network *source = malloc(sizeof *source);
    if (!source)
        return NULL;
    struct peer_network **bucket = bucket_of(table, prefix, scope);
    *source = (struct peer_network){.next = *bucket, .prefix = *prefix, .scope = scope};
    *bucket = source;
    table->entries++;
    return source;
}

int peer_network_table_take(struct peer_network_table *table, const struct address *client,
                            unsigned prefix_bits, uint64_t scope, uint32_t limit, struct peer_network **out)
{
    struct address prefix = *client;
    address_mask(&prefix, prefix_bits);
    struct peer_network *source = find(table, &prefix, scope);
    if (!source)
        source = add(table, &prefix, scope);
    if (!source)
        return -ENOMEM;
    if (limit > 0 && atomic_load_explicit(&source->connections, memory_order_acquire) >= limit)
        return -EUSERS;
    atomic_fetch_add_explicit(&source->connections, 1, memory_order_relaxed);
    *out = source;
    return 0;
}

void peer_network_release(struct peer_network *source)
{
    if (source)
        atomic_fetch_sub_explicit(&source->connections, 1, memory_order_release);
}
