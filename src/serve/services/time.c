/* Time (RFC 868): seconds since 1900-01-01 00:00 UTC, four bytes in network order; they wrap in 2036. */

#include "serve/service.h"

#define SECONDS_1900_TO_1970 UINT32_C(2208988800)

static size_t produce(const struct service_params *params, struct service_state *state, time_t now,
                      uint8_t *out, size_t size)
{
    (void)params;
    (void)size; /* at least SERVICE_MIN_OUTPUT */
    uint32_t seconds = (uint32_t)now + SECONDS_1900_TO_1970;
    for (unsigned i = 0; i < 4; i++)
        out[i] = (uint8_t)(seconds >> (24 - 8 * i));
    state->done = true;
    return 4;
}

const struct service service_time = {
    .name = "time",
    .summary = "four bytes, seconds since 1900 (RFC 868)",
    .produce = produce,
};
