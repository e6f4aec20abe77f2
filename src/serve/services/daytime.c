/* Daytime (RFC 867): one line with the date and the local time, as inetd writes it. */

#include "serve/service.h"

#include <string.h>

/* asctime_r(3) needs 26 bytes: "Sat Nov 21 10:15:00 2026\n" and a NUL; more only for a year over 9999. */
static size_t produce(const struct service_params *params, struct service_state *state, time_t now,
                      uint8_t *out, size_t size)
{
    (void)params;
    (void)size; /* at least SERVICE_MIN_OUTPUT */
    struct tm local;
    char line[SERVICE_MIN_OUTPUT];
    size_t length = 0;
    if (localtime_r(&now, &local) && asctime_r(&local, line))
        length = strcspn(line, "\n");
    memcpy(out, line, length);
    memcpy(out + length, "\r\n", 2);
    state->done = true;
    return length + 2;
}

const struct service service_daytime = {
    .name = "daytime",
    .summary = "one line with the date and time (RFC 867)",
    .produce = produce,
};
