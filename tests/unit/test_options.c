#include "daemon/options.h"

#include "base/cleanup.h"
#include "common.h"
#include "faults.h"
#include "serve/services.h"
#include "settings/table.h"

#define ARGUMENTS_MAX 16

/* options_parse of these words, ended by NULL. */
static int parse(struct options *out, const char *const words[])
{
    char *argv[ARGUMENTS_MAX + 2] = {(char *)"tcpechod"};
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)words[argc - 1];
    return options_parse(argc, argv, out);
}

#define PARSE(out, ...) parse((out), (const char *const[]){__VA_ARGS__, NULL})

TEST(defaults)
{
    CLEANUP(options_clear) struct options options = {0};
    ck_assert_int_eq(parse(&options, (const char *const[]){NULL}), 0);
    ck_assert_int_eq(options.action, ACTION_RUN);
    ck_assert_str_eq(options.settings.file, DEFAULT_SETTINGS_FILE);
    ck_assert(!options.settings.file_is_named);
    ck_assert_uint_eq(options.settings.listen_count, 0);
    ck_assert_int_eq(options.settings.workers, -1);
    ck_assert_int_eq(options.settings.log_level, -1);
}

TEST(every_option)
{
    CLEANUP(options_clear) struct options options = {0};
    ck_assert_int_eq(PARSE(&options, "-c", "x.conf", "-l", "upper@[::1]:7", "-p", "8", "--listen=/run/x",
                           "-w", "4", "-L", "debug", "-t"),
                     0);
    ck_assert_int_eq(options.action, ACTION_TEST);
    ck_assert_str_eq(options.settings.file, "x.conf");
    ck_assert(options.settings.file_is_named);
    ck_assert_uint_eq(options.settings.listen_count, 3);
    ck_assert_str_eq(options.settings.listen[0], "upper@[::1]:7");
    ck_assert_str_eq(options.settings.listen[1], "echo@*:8");
    ck_assert_str_eq(options.settings.listen[2], "/run/x");
    ck_assert_int_eq(options.settings.workers, 4);
    ck_assert_int_eq(options.settings.log_level, LOG_LEVEL_DEBUG);
}

TEST(actions)
{
    static const struct {
        const char *word;
        enum options_action action;
    } words[] = {{"-t", ACTION_TEST},     {"--test", ACTION_TEST}, {"-T", ACTION_DUMP},
                 {"--dump", ACTION_DUMP}, {"-V", ACTION_VERSION},  {"--version", ACTION_VERSION},
                 {"-h", ACTION_HELP},     {"--help", ACTION_HELP}};

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        CLEANUP(options_clear) struct options options = {0};

        ck_assert_int_eq(PARSE(&options, words[i].word), 0);
        ck_assert_int_eq(options.action, words[i].action);
    }
}

TEST(refused_ones_leave_the_result_alone)
{
    static const char *const refused[][3] = {
        {"-x"},
        {"--no-such"},
        {"-c"},
        {"-c", ""},
        {"operand"},
        {"-w", "1025"},
        {"-w", "01"},
        {"-w", "-1"},
        {"-p", ""},
        {"-p", "x"},
        {"-p", "65536"},
        {"-L", "loud"},
        {"--test=1"},
        {"-t", "-T"},
        {"-l", ""},
        {"-l", "::"},
        {"-l", "greet@*:7"},
        {"-l", "no@*:7"},
        {"-l", "*:070"},
        {"-p", "007"},
        {"-tx"},
        {"--config"},
        {"-l", "localhost:7"},
        {"-l", "*:7,"},
        {"-l", "*:7,x=1"},
        {"-l", "*:7,trace=2"},
        {"-l", "*:7,trace"},
        {"-l", "*:7,=x"},
        {"-l", "*:7,mode=0600"},
        {"-l", "/x,path=/y"},
        {"-l", "*:7,text=x"},
        {"-l", "*:7,idle_timeout=007"},
    };

    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct options options = {.settings.workers = 77};
        ck_assert_int_eq(parse(&options, refused[i]), -EINVAL);
        ck_assert_int_eq(options.settings.workers, 77);
        ck_assert_ptr_null(options.settings.listen);
    }
}

/* Fails the first, second, ... call of its kind, until none is left to fail. */
TEST(memory_may_be_short)
{
    static const char *const calls[] = {"reallocarray", "asprintf", "strdup"};
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        unsigned long failed = 1;
        for (unsigned long nth = 1; failed > 0; nth++) {
            CLEANUP(options_clear) struct options options = {0};

            fault_arm(calls[i], ENOMEM, nth);
            int r = PARSE(&options, "-p", "7", "-l", "/run/x", "-p", "8", "-l", "127.0.0.1:0");
            failed = fault_disarm();
            ck_assert_int_eq(r, failed > 0 ? -EINVAL : 0);
        }
    }
}

TEST(help_names_every_setting)
{
    CLEANUP(free_pointer) char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(options_print_help(out), 0);
    fclose(out);
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope == SCOPE_GLOBAL)
            ck_assert_msg(strstr(text, row->name) != NULL, "%s", row->name);
    }
    for (size_t i = 0; services[i]; i++)
        ck_assert_ptr_nonnull(strstr(text, services[i]->summary));
}

TEST(a_full_disk_shows)
{
    CLEANUP(close_stream) FILE *full = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(full);
    ck_assert_int_eq(options_print_help(full), -ENOSPC);
    clearerr(full);
    ck_assert_int_eq(options_print_version(full), -ENOSPC);
}
