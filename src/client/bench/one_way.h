/* tcpecho --bench --send and --receive: bytes one way, as fast as they go. */
#pragma once

#include "client/session.h"

/* With the session's connection, which becomes the first of all. Returns an exit status, after one line on
 * stderr when it is not 0 and nothing else has said why. `quit_fd` is that of interrupt_open_quit. */
int one_way_run(struct session *session, int quit_fd);
