/* What tcpecho(1) can do: a function a mode, run by main.c. Each returns the exit status, after one line on
 * stderr when it is not 0 and nothing else has said why. SIGPIPE is ignored, and 0 to 2 are open. */
#pragma once

#include "client/options.h"

int talk_run(const struct client_options *options);
int ping_run(const struct client_options *options);
int chat_run(const struct client_options *options);
int bench_run(const struct client_options *options);
int watch_run(const struct client_options *options);
