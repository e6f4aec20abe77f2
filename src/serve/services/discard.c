/* Discard (RFC 863): nothing comes back. A service without answer() throws away what it gets. */

#include "serve/service.h"

const struct service service_discard = {
    .name = "discard",
    .summary = "throws away what it gets (RFC 863)",
};
