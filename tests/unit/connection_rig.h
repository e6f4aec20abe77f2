/* What the tests of connections share: their services, and what their clients see. */
#pragma once

#include "rig.h"

/* Texts that are NULL are not set. */
static inline struct service_config terms_with(const char *service, const char *greeting, const char *text,
                                               const char *end_word)
{
    struct service_config config = config_for(service);
    config.params = (struct service_params){
        .greeting = greeting,
        .greeting_length = greeting ? strlen(greeting) : 0,
        .text = text,
        .text_length = text ? strlen(text) : 0,
        .end_word = end_word,
        .end_word_length = end_word ? strlen(end_word) : 0,
    };
    return config;
}

static inline uint64_t bytes_in(void)
{
    return counter_read(&rig.worker.counters.bytes_in);
}

static inline uint64_t bytes_out(void)
{
    return counter_read(&rig.worker.counters.bytes_out);
}

static inline unsigned long turn_under(const char *rules)
{
    fault_rules(rules);
    turn();
    return fault_disarm();
}

/* Sends, and waits until the worker can read it. */
static inline void send_and_arrive(int client, const void *bytes, size_t length)
{
    send_all(client, bytes, length);
    WAIT_FOR(arrived(rig.server) == length);
}

/* The stream has ended, and the worker waits for the client's FIN: what still comes is thrown away and costs
 * no reset. */
static inline void expect_lingering(int client, enum reason reason)
{
    uint64_t before = closed_as(reason), read_before = bytes_in();
    turn_and_expect_end(client);
    for (int i = 0; i < 5; i++) {
        send_text(client, "more and more");
        turn();
    }
    WAIT_FOR(responded() && bytes_in() >= read_before + 5 * strlen("more and more"));
    ck_assert_uint_eq(closed_as(reason), before);
    expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(reason, before + 1);
}

/* The first bytes of the service. */
static inline void expect_chargen(const uint8_t *bytes, size_t length)
{
    size_t i = 0;
    while (i < length && bytes[i] == (i % 74 == 72   ? '\r'
                                      : i % 74 == 73 ? '\n'
                                                     : (uint8_t)(' ' + (i / 74 + i % 74) % 95)))
        i++;
    ck_assert_uint_eq(i, length);
}
