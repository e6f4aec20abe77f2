/* What talk and chat share: a conversation with whoever is connected, and what is said about it. */
#pragma once

#include "client/options.h"

/* `fd` stays the caller's; `interrupt_fd` is interrupt_open's. Returns an exit status, after one line on
 * stderr when it is not 0. A signal ends the program by itself, behind the summary. */
int talk_with(int fd, const char *peer, int interrupt_fd, const struct client_options *options);
