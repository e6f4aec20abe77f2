/* The echo in capitals: ASCII a-z become A-Z, every other byte stays, so UTF-8 text stays valid. */

#include "serve/services.h"

/* Without a branch, and each byte for itself, so that compilers make it 16 or 32 bytes at a time. */
static void to_upper(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t is_lower = (uint8_t)(bytes[i] - 'a') < 26;
        bytes[i] = (uint8_t)(bytes[i] - (is_lower << 5));
    }
}

static size_t answer(const struct service_params *params, struct service_state *state, uint8_t *bytes,
                     size_t length)
{
    /* The end word is compared with what the client wrote, not with its capitals. */
    size_t answered = service_until_end_word(params, state, bytes, length);
    to_upper(bytes, answered);
    return answered;
}

const struct service service_upper = {
    .name = "upper",
    .summary = "every byte back, a-z as A-Z",
    .takes_end_word = true,
    .answer = answer,
};
