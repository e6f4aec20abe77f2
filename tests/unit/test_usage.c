#include "base/usage.h"

#include "common.h"

#include <getopt.h>

static const char *problem_of(const char *word, const char *next)
{
    static char out[USAGE_PROBLEM_SIZE];
    static const struct option options[] = {
        {"file", required_argument, NULL, 'f'}, {"flag", no_argument, NULL, 'g'}, {NULL, 0, NULL, 0}};
    char *argv[] = {"anything", (char *)word, (char *)next, NULL};
    int kind;

    opterr = 0;
    optind = 0;
    while ((kind = getopt_long(next ? 3 : 2, argv, ":f:g", options, NULL)) == 'g')
        ;
    ck_assert(kind == ':' || kind == '?');
    return usage_problem(argv, kind, options, out);
}

TEST(each_kind)
{
    ck_assert_str_eq(problem_of("-x", NULL), "-x: unknown option");
    ck_assert_str_eq(problem_of("-gx", NULL), "-x: unknown option");
    ck_assert_str_eq(problem_of("-gxg", "--file"), "-x: unknown option");
    ck_assert_str_eq(problem_of("-f", NULL), "-f needs an argument");
    ck_assert_str_eq(problem_of("--file", NULL), "--file needs an argument");
    ck_assert_str_eq(problem_of("--flag=1", NULL), "--flag=1 takes no argument");
    ck_assert_str_eq(problem_of("--none", NULL), "--none: unknown option");
    ck_assert_str_eq(problem_of("--f", NULL), "--f: ambiguous option, as --file or --flag");
}

TEST(misspelled)
{
    ck_assert_str_eq(problem_of("--flga", NULL), "--flga: unknown option; did you mean --flag?");
    ck_assert_str_eq(problem_of("--fiel=x", NULL), "--fiel=x: unknown option; did you mean --file?");
    ck_assert_str_eq(problem_of("--FLAG", NULL), "--FLAG: unknown option; did you mean --flag?");
    ck_assert_str_eq(problem_of("--=x", NULL), "--=x: unknown option");
}

TEST(long_words_are_cut)
{
    char word[300] = "--";
    memset(word + 2, 'x', sizeof word - 3);
    const char *text = problem_of(word, NULL);
    ck_assert_uint_eq(strcspn(text, ":"), 64);
    ck_assert_str_eq(text + 64, ": unknown option");
}
