#include "settings/problems.h"

#include "common.h"
#include "faults.h"

TEST(say_where)
{
    struct problems problems = {0};
    problems_add(&problems, "x.conf", 12, "workers = %d: no", 5000);
    problems_add(&problems, "x.conf", 0, "is a directory");
    problems_add(&problems, NULL, 0, "--port %s", "x");
    ck_assert_uint_eq(problems.count, 3);
    ck_assert_str_eq(problems.items[0].message, "x.conf:12: workers = 5000: no");
    ck_assert_str_eq(problems.items[1].message, "x.conf: is a directory");
    ck_assert_str_eq(problems.items[2].message, "--port x");
    ck_assert_str_eq(problems.items[0].text, "workers = 5000: no");
    ck_assert_str_eq(problems.items[2].text, "--port x");
    problems_clear(&problems);
    ck_assert_uint_eq(problems.count, 0);
    ck_assert_ptr_null(problems.items);
}

TEST(as_text)
{
    struct problems problems = {0};
    char text[64], *printed;
    size_t size;
    ck_assert_str_eq(problems_first(&problems), "");
    ck_assert_str_eq(problems_join(&problems, text, sizeof text), "");
    problems_add(&problems, "x.conf", 12, "no");
    problems_add(&problems, NULL, 0, "nor this");
    ck_assert_str_eq(problems_first(&problems), "x.conf:12: no");
    ck_assert_str_eq(problems_join(&problems, text, sizeof text), "x.conf:12: no\nnor this\n");
    FILE *out = open_memstream(&printed, &size);
    problems_print(&problems, out);
    fclose(out);
    ck_assert_str_eq(printed, "x.conf:12: no\ntcpechod: nor this\n");
    free(printed);

    for (int i = 0; i < 9; i++)
        problems_add(&problems, NULL, 0, "one more");
    for (size_t room = 48; room <= sizeof text; room++) {
        problems_join(&problems, text, room);
        ck_assert_uint_lt(strlen(text), room);
        ck_assert_ptr_nonnull(strstr(text, "\nand more; the log has them all\n"));
    }
    problems_clear(&problems);
}

TEST(sort_by_line_and_stay_in_order)
{
    struct problems problems = {0};
    problems_sort(&problems); /* none at all */
    for (int i = 0; i < 1000; i++)
        problems_add(&problems, "f", 1 + (i * 7) % 10, "%d", i);
    problems_sort(&problems);
    for (size_t i = 1; i < problems.count; i++) {
        const struct problem *a = &problems.items[i - 1], *b = &problems.items[i];
        ck_assert(a->line < b->line || (a->line == b->line && a->order < b->order));
    }
    problems_clear(&problems);
}

/* The count says that there was a problem, whatever fails. */
static void add_while_failing(const char *rule, size_t before)
{
    struct problems problems = {0};
    for (size_t i = 0; i < before; i++)
        problems_add(&problems, "f", 1, "%zu", i);
    fault_rules(rule);
    problems_add(&problems, "f", 2, "this one");
    problems_add(&problems, "f", 3, "and this");
    fault_disarm();
    ck_assert_uint_ge(problems.count, 1);
    problems_sort(&problems);
    ck_assert(strstr(problems.items[0].message, "out of memory"));
    ck_assert_int_eq(problems.items[0].line, 0);
    problems_clear(&problems);
}

TEST(out_of_memory_is_a_problem)
{
    static const size_t before[] = {0, 1, 15, 16, 31, 32};
    for (size_t i = 0; i < COUNT_OF(before); i++) {
        add_while_failing("vasprintf:ENOMEM", before[i]);
        add_while_failing("asprintf:ENOMEM", before[i]);
    }
    add_while_failing("reallocarray:ENOMEM", 0);
    add_while_failing("reallocarray:ENOMEM", 16);
    add_while_failing("reallocarray:ENOMEM", 32);
}
