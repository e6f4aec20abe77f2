#include "serve/service_config.h"

#include "common.h"
#include "faults.h"
#include "serve/services.h"

#include <pthread.h>

static char text[] = "te\0xt", greeting[] = "hello\n", end_word[] = "end", listener[] = "127.0.0.1:7";

static struct prefix allowed[2], denied[1];

static struct service_config example(void)
{
    return (struct service_config){
        .references = 77, /* does not matter */
        .service = service_find("echo"),
        .params = {.text = text,
                   .text_length = 5,
                   .greeting = greeting,
                   .greeting_length = 6,
                   .end_word = end_word,
                   .end_word_length = 3},
        .rules = {.allow = {allowed, 2}, .deny = {denied, 1}, .per_source = 5, .scope = 3},
        .proxy = {.protocol = true, .timeout_usec = 44, .from = {denied, 1}},
        .trace = true,
        .idle_timeout_usec = 11,
        .write_timeout_usec = 22,
        .unsent_limit = 33,
        .listener = listener,
    };
}

TEST(copies_everything)
{
    const struct service_config from = example();
    struct service_config *config = service_config_new(&from);
    ck_assert_ptr_nonnull(config);
    ck_assert_uint_eq(atomic_load(&config->references), 1);
    ck_assert_ptr_eq(config->service, service_find("echo"));
    ck_assert(config->trace);
    ck_assert_uint_eq(config->idle_timeout_usec, 11);
    ck_assert_uint_eq(config->write_timeout_usec, 22);
    ck_assert_uint_eq(config->unsent_limit, 33);
    ck_assert_ptr_ne(config->params.text, text);
    ck_assert_ptr_ne(config->params.greeting, greeting);
    ck_assert_ptr_ne(config->params.end_word, end_word);
    ck_assert_ptr_ne(config->listener, listener);
    ck_assert_uint_eq(config->params.text_length, 5);
    ck_assert_mem_eq(config->params.text, "te\0xt", 6);
    ck_assert_str_eq(config->params.greeting, "hello\n");
    ck_assert_uint_eq(config->params.greeting_length, 6);
    ck_assert_str_eq(config->params.end_word, "end");
    ck_assert_uint_eq(config->params.end_word_length, 3);
    ck_assert_str_eq(config->listener, "127.0.0.1:7");
    ck_assert_ptr_ne(config->rules.allow.items, allowed);
    ck_assert_ptr_ne(config->rules.deny.items, denied);
    ck_assert_uint_eq(config->rules.allow.count, 2);
    ck_assert_uint_eq(config->rules.deny.count, 1);
    ck_assert_mem_eq(config->rules.allow.items, allowed, sizeof allowed);
    ck_assert_uint_eq(config->rules.per_source, 5);
    ck_assert_uint_eq(config->rules.scope, 3);
    ck_assert(config->proxy.protocol);
    ck_assert_uint_eq(config->proxy.timeout_usec, 44);
    ck_assert_uint_eq(config->proxy.from.count, 1);
    ck_assert_ptr_ne(config->proxy.from.items, denied);
    service_config_unref(config);
}

TEST(without_texts)
{
    const struct service_config from = {.service = service_find("time"), .listener = listener};
    struct service_config *config = service_config_new(&from);
    ck_assert_ptr_nonnull(config);
    ck_assert_ptr_null(config->params.text);
    ck_assert_ptr_null(config->params.greeting);
    ck_assert_ptr_null(config->params.end_word);
    service_config_unref(config);
    service_config_unref(NULL);
}

TEST(lives_until_the_last_reference)
{
    const struct service_config from = example();
    struct service_config *config = service_config_new(&from);
    ck_assert_ptr_eq(service_config_ref(config), config);
    ck_assert_ptr_eq(service_config_ref(config), config);
    service_config_unref(config);
    service_config_unref(config);
    ck_assert_str_eq(config->listener, "127.0.0.1:7"); /* a sanitizer would know */
    ck_assert_uint_eq(atomic_load(&config->references), 1);
    service_config_unref(config);
}

TEST(short_memory_leaves_nothing)
{
    static const char *const calls[] = {"malloc", "strdup", "calloc"};
    const struct service_config from = example();
    unsigned failed = 0;
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        for (unsigned long nth = 1;; nth++) {
            fault_arm(calls[i], ENOMEM, nth);
            struct service_config *config = service_config_new(&from);
            unsigned long hits = fault_disarm();
            ck_assert((config == NULL) == (hits > 0));
            service_config_unref(config);
            if (hits == 0)
                break;
            failed++;
        }
    }
    ck_assert_uint_ge(failed, 5);
}

static void *ref_and_unref(void *argument)
{
    for (int i = 0; i < 20000; i++)
        service_config_unref(service_config_ref(argument));
    service_config_unref(argument);
    return NULL;
}

TEST(counted_by_several_threads)
{
    const struct service_config from = example();
    struct service_config *config = service_config_new(&from);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ref_and_unref, service_config_ref(config)), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&config->references), 1);
    service_config_unref(config);
}
