#include "serve/reason.h"

#include "common.h"

TEST(names_are_the_documented_ones)
{
    static const struct {
        enum reason reason;
        const char *name;
    } cases[] = {
        {REASON_NONE, "none"},
        {REASON_CLIENT_CLOSED, "client_closed"},
        {REASON_END_WORD, "end_word"},
        {REASON_SERVED, "served"},
        {REASON_IDLE_TIMEOUT, "idle_timeout"},
        {REASON_WRITE_TIMEOUT, "write_timeout"},
        {REASON_RESET, "reset"},
        {REASON_DRAINED, "drained"},
        {REASON_ERROR, "error"},
        {REASON_QUEUE_FULL, "queue_full"},
        {REASON_MAX_CONNECTIONS, "max_connections"},
        {REASON_PER_SOURCE, "per_source"},
        {REASON_DENIED, "denied"},
        {REASON_DESCRIPTOR_LIMIT, "descriptor_limit"},
        {REASON_DRAINING, "draining"},
    };
    ck_assert_uint_eq(COUNT_OF(cases), REASON_COUNT);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(reason_name(cases[i].reason), cases[i].name);
}

TEST(each_has_a_name_of_its_own)
{
    for (int a = 0; a < REASON_COUNT; a++) {
        ck_assert_ptr_nonnull(reason_name((enum reason)a));
        for (int b = 0; b < a; b++)
            ck_assert_str_ne(reason_name((enum reason)a), reason_name((enum reason)b));
    }
}
