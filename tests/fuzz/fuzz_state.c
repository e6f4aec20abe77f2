/* What one process has written down for the next: any bytes as the whole of it, or after a header that fits
 * them, since hardly any input would have the right checksum. What is read must be fit for use. */
#include "fuzz.h"

#include "base/proxy_header.h"
#include "handover/state.h"

#include <unistd.h>
#include <xxhash.h>

/* As src/handover/state.c has it. */
struct header {
    char magic[8];
    uint64_t version, length, checksum;
};

#define ANSWER_MAX 64

/* As a connection that goes on does it. */
static void go_on(const struct service_config *config, const struct progress *progress, struct span says)
{
    struct service_state state = progress->state;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *out = malloc(SERVICE_MIN_OUTPUT), *copy = fuzz_copy(says);
        FUZZ_CHECK(out);
        if (service_has_output(config->service, &config->params, &state))
            FUZZ_CHECK(service_produce(config->service, &config->params, &state, 1000000, out,
                                       SERVICE_MIN_OUTPUT) <= SERVICE_MIN_OUTPUT);
        if (says.length > 0)
            FUZZ_CHECK(service_answer(config->service, &config->params, &state, copy, says.length) <=
                       says.length);
        FUZZ_CHECK(service_state_is_possible(config->service, &config->params, &state));
        free(out);
        free(copy);
    }
}

/* What is held can be sent, all at once. */
static void say_all(const struct service_config *config, const struct progress *progress)
{
    struct misbehaviour m = progress->misbehaviour;
    struct misbehaviour_step step;
    size_t said = 0;
    FUZZ_CHECK(misbehaviour_restore(&m, config->misbehaviour, config->unsent_limit, progress->held,
                                    progress->held_length, progress->again, progress->again_length));
    misbehaviour_hurry(&m);
    FUZZ_CHECK(misbehaviour_finish(&m, 0));
    while ((step = misbehaviour_next(&m, 0, true)).kind == MISBEHAVIOUR_SEND)
        said += step.length;
    FUZZ_CHECK(said <= progress->held_length + progress->again_length);
    FUZZ_CHECK(step.kind == MISBEHAVIOUR_DONE || step.kind == MISBEHAVIOUR_END);
    misbehaviour_clear(&m);
}

static void use_proxied(const struct saved_proxied *proxied)
{
    struct proxy_header header;
    struct span bytes = {proxied->header, proxied->header_length};
    FUZZ_CHECK(bytes.length == 0 || proxied->is_there);
    if (bytes.length > 0)
        FUZZ_CHECK(proxy_header_parse(bytes, &header) == PROXY_HEADER_COMPLETE &&
                   header.length == bytes.length);
}

static void use_connection(const struct saved_state *state, const struct saved_connection *connection,
                           struct span says)
{
    char text[ADDRESS_TEXT_SIZE];
    FUZZ_CHECK(saved_state_connection(state, connection->cookie));
    FUZZ_CHECK(connection->config < state->config_count);
    FUZZ_CHECK(reason_find(reason_name(connection->progress.reason)) == connection->progress.reason);
    FUZZ_CHECK(address_format(&connection->client.client, ADDRESS_FULL, text)[0] != '\0');
    use_proxied(&connection->proxied);
    struct progress *progress = progress_copy(&connection->progress);
    FUZZ_CHECK(progress);
    FUZZ_CHECK(!progress->lingering || progress->unsent_length == 0);
    go_on(state->configs[connection->config], progress, says);
    if (progress->misbehaves)
        say_all(state->configs[connection->config], progress);
    free(progress);
}

static void use_rules(const struct admission_rules *rules)
{
    static const struct address clients[] = {{.family = AF_INET}, {.family = AF_INET6}, {.family = AF_UNIX}};
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++)
        FUZZ_CHECK(!prefix_list_contains(&rules->allow, &clients[i]) || rules->allow.count > 0);
}

static void use_listener(const struct saved_state *state, const struct saved_listener *listener)
{
    FUZZ_CHECK(listener->name);
    FUZZ_CHECK(listener->config < state->config_count);
    use_rules(&state->configs[listener->config]->rules);
}

/* It can be handed on. */
static void write_again(const struct saved_state *state)
{
    struct saved_state again;
    int fd = saved_state_write(state);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(saved_state_read(fd, &again) == 0);
    FUZZ_CHECK(again.config_count == state->config_count && again.listener_count == state->listener_count &&
               again.connection_count == state->connection_count);
    saved_state_clear(&again);
    close(fd);
}

static void use(const struct saved_state *state, struct span says)
{
    FUZZ_CHECK(state->kind < SAVED_KINDS);
    for (size_t i = 0; i < state->listener_count; i++)
        use_listener(state, &state->listeners[i]);
    for (size_t i = 0; i < state->connection_count; i++)
        use_connection(state, &state->connections[i], says);
    write_again(state);
}

static uint8_t *with_header(struct span body)
{
    struct header header = {
        .magic = "tcpechod",
        .version = HANDOVER_STATE_VERSION,
        .length = body.length,
        .checksum = XXH3_64bits(body.bytes, body.length),
    };
    uint8_t *whole = malloc(sizeof header + body.length);
    FUZZ_CHECK(whole);
    memcpy(whole, &header, sizeof header);
    memcpy(whole + sizeof header, body.bytes, body.length);
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    struct saved_state state;
    bool is_body = fuzz_byte(&input) % 2 == 0;
    if (is_body && input.length == 0)
        return 0;
    uint8_t *whole = is_body ? with_header(input) : fuzz_copy(input);
    if (saved_state_parse(whole, input.length + (is_body ? sizeof(struct header) : 0), &state) == 0)
        use(&state, span_first(input, ANSWER_MAX));
    else
        FUZZ_CHECK(!state.configs && !state.listeners && !state.connections);
    saved_state_clear(&state);
    free(whole);
    return 0;
}
