#include "unit.h"

#include <errno.h>
#include <stdlib.h>

static struct unit_test *first, **end = &first;
static SFun before_each, after_each;

void unit_register(struct unit_test *test)
{
    *end = test;
    end = &test->next;
}

void unit_set_fixture(SFun before, SFun after)
{
    before_each = before;
    after_each = after;
}

int unit_run(void)
{
    TCase *tests = tcase_create(program_invocation_short_name);
    tcase_add_checked_fixture(tests, before_each, after_each);
    for (const struct unit_test *test = first; test; test = test->next)
        tcase_add_loop_test(tests, test->test, 0, test->times);
    Suite *suite = suite_create("unit");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
