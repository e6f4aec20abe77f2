/* What a person does about a listener that cannot be opened. Looks at the host as it is now, so that the
 * advice is true: at the path, at the IPv6 addresses, at the ports that need a privilege. Main thread. */
#pragma once

#include "settings/settings.h"

#define LISTEN_ADVICE_SIZE 512

/* `error` as listener_open returns it, positive. Returns `out`. */
const char *listen_advice(const struct listener_settings *settings, int error,
                          char out[static LISTEN_ADVICE_SIZE]);
