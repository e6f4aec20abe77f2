/* Echo (RFC 862): every byte back, unchanged and in order. */

#include "serve/service.h"

static size_t answer(const struct service_params *params, struct service_state *state, uint8_t *bytes,
                     size_t length)
{
    return service_until_end_word(params, state, bytes, length);
}

const struct service service_echo = {
    .name = "echo",
    .summary = "every byte back, unchanged (RFC 862)",
    .takes_end_word = true,
    .is_verbatim = true,
    .answer = answer,
};
