/* The echo in capitals: ASCII a-z become A-Z, every other byte stays, so UTF-8 text stays valid. */

#include "base/ascii.h"
#include "serve/service.h"

static size_t answer(const struct service_params *params, struct service_state *state, uint8_t *bytes,
                     size_t length)
{
    /* The end word is compared with what the client wrote, not with its capitals. */
    size_t answered = service_until_end_word(params, state, bytes, length);
    ascii_to_upper(bytes, answered);
    return answered;
}

const struct service service_upper = {
    .name = "upper",
    .summary = "every byte back, a-z as A-Z",
    .takes_end_word = true,
    .answer = answer,
};
