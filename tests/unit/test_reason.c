#include "serve/reason.h"

#include "common.h"

static const char *const documented[REASON_COUNT] = {
    [REASON_NONE] = "none",
    [REASON_CLIENT_CLOSED] = "client_closed",
    [REASON_END_WORD] = "end_word",
    [REASON_SERVED] = "served",
    [REASON_IDLE_TIMEOUT] = "idle_timeout",
    [REASON_WRITE_TIMEOUT] = "write_timeout",
    [REASON_RESET] = "reset",
    [REASON_DRAINED] = "drained",
    [REASON_ERROR] = "error",
    [REASON_FAULT] = "fault",
    [REASON_NOT_RESUMED] = "not_resumed",
    [REASON_QUEUE_FULL] = "queue_full",
    [REASON_MAX_CONNECTIONS] = "max_connections",
    [REASON_PER_SOURCE] = "per_source",
    [REASON_DENIED] = "denied",
    [REASON_DESCRIPTOR_LIMIT] = "descriptor_limit",
    [REASON_DRAINING] = "draining",
    [REASON_BAD_PROXY_HEADER] = "bad_proxy_header",
};

TEST_EACH(names_are_the_documented_ones, documented)
{
    const char *name = reason_name((enum reason)(c - documented));
    ck_assert_msg(name, "names[] of reason.c lacks reason %d", (int)(c - documented));
    ck_assert_msg(*c, "documented[] of this test lacks the reason %s", name);
    ck_assert_str_eq(name, *c);
}

TEST(each_has_a_name_of_its_own)
{
    for (int a = 0; a < REASON_COUNT; a++)
        for (int b = 0; b < a; b++)
            ck_assert_msg(strcmp(reason_name((enum reason)a), reason_name((enum reason)b)) != 0,
                          "two reasons have the name %s", reason_name((enum reason)a));
}

TEST_EACH(found_by_its_name, documented)
{
    ck_assert_int_eq(reason_find(*c), c - documented);
}

static const char *const unknown[] = {"", "non", "none ", "None", "client_closed_", "queue full"};

TEST_EACH(no_other_name, unknown)
{
    ck_assert_int_eq(reason_find(*c), REASON_COUNT);
}
