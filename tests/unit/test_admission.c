#include "serve/admission.h"

#include "common.h"
#include "faults.h"

#include <pthread.h>

static struct admission admission;

static struct address address(const char *text)
{
    struct address out;
    ck_assert_msg(address_parse(text, 40000, &out) == 0, "%s", text);
    return out;
}

static enum reason check_text(const struct admission_rules *rules, const char *client,
                              struct peer_network **source)
{
    struct address from = address(client);
    return admission_check(&admission, rules, &from, source);
}

static void expect(const struct admission_rules *rules, const char *client, enum reason expected)
{
    struct peer_network *source = NULL;
    ck_assert_msg(check_text(rules, client, &source) == expected, "%s", client);
    ck_assert((source != NULL) == (expected == REASON_NONE));
    peer_network_release(source);
}

static void start(unsigned v4, unsigned v6)
{
    ck_assert_int_eq(admission_init(&admission, v4, v6), 0);
}

static void stop(void)
{
    admission_deinit(&admission);
}

FIXTURE(NULL, stop)

TEST(empty_rules_admit_everyone)
{
    const struct admission_rules rules = {0};
    start(32, 64);
    expect(&rules, "192.0.2.1", REASON_NONE);
    expect(&rules, "2001:db8::1", REASON_NONE);
    expect(&rules, "::1", REASON_NONE);
}

TEST(lists)
{
    struct prefix allow[2], deny[2];
    ck_assert_int_eq(prefix_parse("10.0.0.0/8", &allow[0]), 0);
    ck_assert_int_eq(prefix_parse("2001:db8::/32", &allow[1]), 0);
    ck_assert_int_eq(prefix_parse("10.6.6.0/24", &deny[0]), 0);
    ck_assert_int_eq(prefix_parse("2001:db8:bad::/48", &deny[1]), 0);
    const struct admission_rules both = {.allow = {allow, 2}, .deny = {deny, 2}};
    const struct admission_rules only_deny = {.deny = {deny, 2}};
    start(32, 64);
    expect(&both, "10.1.2.3", REASON_NONE);
    expect(&both, "::ffff:10.1.2.3", REASON_NONE);
    expect(&both, "10.6.6.6", REASON_DENIED); /* deny wins */
    expect(&both, "11.0.0.1", REASON_DENIED);
    expect(&both, "2001:db8:1::1", REASON_NONE);
    expect(&both, "2001:db8:bad::1", REASON_DENIED);
    expect(&both, "2001:db9::1", REASON_DENIED);
    expect(&only_deny, "10.6.6.6", REASON_DENIED);
    expect(&only_deny, "11.0.0.1", REASON_NONE);
}

TEST(limits_per_source)
{
    const struct admission_rules rules = {.per_source = 2};
    struct peer_network *held[4];
    start(24, 48);
    ck_assert_int_eq(check_text(&rules, "192.0.2.1", &held[0]), REASON_NONE);
    ck_assert_int_eq(check_text(&rules, "192.0.2.200", &held[1]), REASON_NONE);
    expect(&rules, "192.0.2.3", REASON_PER_SOURCE);
    expect(&rules, "192.0.3.3", REASON_NONE);
    ck_assert_int_eq(check_text(&rules, "2001:db8:1:1::1", &held[2]), REASON_NONE);
    ck_assert_int_eq(check_text(&rules, "2001:db8:1:2::1", &held[3]), REASON_NONE);
    expect(&rules, "2001:db8:1:3::1", REASON_PER_SOURCE);
    expect(&rules, "2001:db8:2:1::1", REASON_NONE);
    peer_network_release(held[0]);
    expect(&rules, "192.0.2.3", REASON_NONE);
}

static const unsigned prefixes[] = {48, 64, 128};

/* All of a link share their first 64 bits, and two links may have the same address. */
TEST_EACH(link_local_address_is_a_source, prefixes)
{
    const struct admission_rules rules = {.per_source = 1};
    struct peer_network *held;
    start(32, *c);
    ck_assert_int_eq(check_text(&rules, "fe80::aaaa%1", &held), REASON_NONE);
    expect(&rules, "fe80::aaaa%1", REASON_PER_SOURCE);
    expect(&rules, "fe80::bbbb%1", REASON_NONE);
    expect(&rules, "fe80::aaaa%2", REASON_NONE);
    expect(&rules, "fe80:0:0:0:8000::aaaa%1", REASON_NONE);
    peer_network_release(held);
    expect(&rules, "fe80::aaaa%1", REASON_NONE);
}

/* A list of networks holds on every interface. */
TEST(lists_hold_link_local_clients)
{
    struct prefix deny[1];
    ck_assert_int_eq(prefix_parse("fe80::aaaa", &deny[0]), 0);
    const struct admission_rules rules = {.deny = {deny, 1}};
    start(32, 64);
    expect(&rules, "fe80::aaaa%1", REASON_DENIED);
    expect(&rules, "fe80::aaaa%2", REASON_DENIED);
    expect(&rules, "fe80::bbbb%1", REASON_NONE);
}

TEST(counts_without_a_limit)
{
    const struct admission_rules none = {0}, one = {.per_source = 1}, own = {.per_source = 1, .scope = 9};
    struct peer_network *held;
    start(32, 64);
    ck_assert_int_eq(check_text(&none, "192.0.2.1", &held), REASON_NONE);
    expect(&one, "192.0.2.1", REASON_PER_SOURCE); /* a limit that came later knows of it */
    expect(&own, "192.0.2.1", REASON_NONE);       /* a listener that counts for itself does not */
}

static struct peer_network *count_text(const struct admission_rules *rules, const char *client)
{
    struct address from = address(client);
    return admission_count(&admission, rules, &from);
}

/* Who is in already stays in, and counts for whoever comes next. */
TEST(counts_whoever_is_in)
{
    struct prefix everything[1];
    ck_assert_int_eq(prefix_parse("0.0.0.0/0", &everything[0]), 0);
    const struct admission_rules rules = {.per_source = 2};
    const struct admission_rules closed = {.deny = {everything, 1}, .per_source = 2};
    const struct admission_rules own = {.per_source = 1, .scope = 9};
    struct peer_network *held[4];
    start(24, 64);
    for (int i = 0; i < 3; i++) {
        held[i] = count_text(i == 0 ? &closed : &rules, i == 1 ? "192.0.2.1" : "192.0.2.200");
        ck_assert_ptr_nonnull(held[i]);
    }
    expect(&own, "192.0.2.3", REASON_NONE);
    held[3] = count_text(&own, "192.0.2.4");
    expect(&own, "192.0.2.3", REASON_PER_SOURCE);
    peer_network_release(held[3]);
    expect(&own, "192.0.2.3", REASON_NONE);
    for (int i = 0; i < 2; i++) {
        expect(&rules, "192.0.2.3", REASON_PER_SOURCE);
        peer_network_release(held[i]);
    }
    expect(&rules, "192.0.2.3", REASON_NONE);
    peer_network_release(held[2]);
}

TEST(counts_nobody)
{
    const struct admission_rules rules = {.per_source = 1};
    const struct address local = {.family = AF_UNIX};
    struct address client = address("192.0.2.1");
    start(32, 64);
    ck_assert_ptr_null(admission_count(&admission, &rules, &local));
    fault_arm("malloc", ENOMEM, 1);
    struct peer_network *source = admission_count(&admission, &rules, &client);
    fault_disarm();
    ck_assert_ptr_null(source);
    expect(&rules, "192.0.2.1", REASON_NONE);
}

TEST(local_clients_have_no_address)
{
    struct prefix everything[2];
    ck_assert_int_eq(prefix_parse("0.0.0.0/0", &everything[0]), 0);
    ck_assert_int_eq(prefix_parse("::/0", &everything[1]), 0);
    const struct admission_rules rules = {.deny = {everything, 2}, .per_source = 1};
    const struct address local = {.family = AF_UNIX};
    start(32, 64);
    for (int i = 0; i < 3; i++) {
        struct peer_network *source = (struct peer_network *)&admission;
        ck_assert_int_eq(admission_check(&admission, &rules, &local, &source), REASON_NONE);
        ck_assert_ptr_null(source);
    }
}

TEST(who_may_be_a_proxy)
{
    struct prefix networks[2];
    const struct prefix_list none = {0}, some = {networks, 2};
    const struct address local = {.family = AF_UNIX};
    const struct address in = address("10.0.0.2"), in6 = address("2001:db8::2"), out = address("11.0.0.2");
    ck_assert_int_eq(prefix_parse("10.0.0.0/24", &networks[0]), 0);
    ck_assert_int_eq(prefix_parse("2001:db8::/64", &networks[1]), 0);
    start(32, 64);
    ck_assert(admission_may_proxy(&none, &out) && admission_may_proxy(&none, &local));
    ck_assert(admission_may_proxy(&some, &in) && admission_may_proxy(&some, &in6));
    ck_assert(!admission_may_proxy(&some, &out));
    ck_assert(admission_may_proxy(&some, &local));
}

TEST(short_memory)
{
    const struct admission_rules rules = {0};
    struct peer_network *source;
    struct address client = address("192.0.2.1");
    fault_arm("calloc", ENOMEM, 1);
    int r = admission_init(&admission, 32, 64);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);

    start(32, 64);
    fault_arm("malloc", ENOMEM, 1);
    enum reason reason = admission_check(&admission, &rules, &client, &source);
    fault_disarm();
    ck_assert_int_eq(reason, REASON_ERROR);
    ck_assert_ptr_null(source);
}

/* Workers and the acceptor let clients of the same few sources in, all at once. */
enum { THREADS = 4, ROUNDS = 20000, SOURCES = 200, LIMIT = 2 };

static _Atomic int inside[SOURCES];

static void *come_and_go(void *argument)
{
    const struct admission_rules rules = {.per_source = LIMIT};
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        struct peer_network *source;
        struct address client = address("10.0.0.0");
        unsigned which = (seed = seed * 1103515245 + 12345) / 65536 % SOURCES;
        client.ip[3] = (uint8_t)which;
        if (i % 1000 == 0)
            admission_configure(&admission, 32, 48);
        if (admission_check(&admission, &rules, &client, &source) != REASON_NONE)
            continue;
        ck_assert_int_le(++inside[which], LIMIT);
        inside[which]--;
        peer_network_release(source);
    }
    return NULL;
}

TEST(several_threads)
{
    pthread_t threads[THREADS];
    const struct admission_rules one = {.per_source = 1};
    start(32, 64);
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < SOURCES; i++) {
        char client[32];
        snprintf(client, sizeof client, "10.0.0.%u", i);
        expect(&one, client, REASON_NONE); /* nobody is left */
    }
}
