#include "serve/service.h"

#include "serve/end_word.h"

#include <string.h>

static bool is_greeting(const struct service_params *params, const struct service_state *state)
{
    return state->greeted < params->greeting_length;
}

bool service_state_is_possible(const struct service *service, const struct service_params *params,
                               const struct service_state *state)
{
    return state->greeted <= params->greeting_length &&
           (!service->takes_text || state->produced <= params->text_length) &&
           (state->line == END_WORD_NO_MATCH || state->line <= params->end_word_length + 1);
}

bool service_speaks(const struct service *service)
{
    return service->answer || service->produce || service->describe;
}

bool service_has_output(const struct service *service, const struct service_params *params,
                        const struct service_state *state)
{
    if (is_greeting(params, state))
        return true;
    return (service->produce || service->describe) && !state->done &&
           (!service->speaks_when_asked || state->asked);
}

bool service_describes(const struct service *service, const struct service_params *params,
                       const struct service_state *state)
{
    return service->describe && !is_greeting(params, state);
}

size_t service_describe(const struct service *service, struct service_state *state,
                        const struct connection_view *view, uint8_t out[static SERVICE_DESCRIPTION_SIZE])
{
    size_t length = service->describe(view, out);
    state->produced += length;
    state->done = true;
    return length;
}

size_t service_produce(const struct service *service, const struct service_params *params,
                       struct service_state *state, time_t now, uint8_t *out, size_t size)
{
    if (is_greeting(params, state)) {
        size_t rest = params->greeting_length - state->greeted;
        size_t length = rest < size ? rest : size;
        memcpy(out, params->greeting + state->greeted, length);
        state->greeted += (uint32_t)length;
        return length;
    }
    size_t length = service->produce(params, state, now, out, size);
    state->produced += length;
    return length;
}

size_t service_answer(const struct service *service, const struct service_params *params,
                      struct service_state *state, uint8_t *bytes, size_t length)
{
    state->asked = true;
    return service->answer ? service->answer(params, state, bytes, length) : 0;
}

size_t service_produce_text(const struct service_params *params, struct service_state *state, time_t now,
                            uint8_t *out, size_t size)
{
    (void)now;
    size_t rest = params->text_length - (size_t)state->produced;
    size_t length = rest < size ? rest : size;
    memcpy(out, params->text + state->produced, length);
    state->done = length == rest;
    return length;
}

size_t service_until_end_word(const struct service_params *params, struct service_state *state,
                              const uint8_t *bytes, size_t length)
{
    if (params->end_word_length == 0)
        return length;
    size_t end = end_word_find(params->end_word, params->end_word_length, &state->line, bytes, length);
    if (end == 0)
        return length;
    state->done = true;
    state->end_word_came = true;
    return end;
}
