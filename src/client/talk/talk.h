/* What talk and chat share: a conversation with the other side, and what is said about it. */
#pragma once

#include "client/session.h"

/* With the session's connection. Returns an exit status, after one line on stderr when it is not 0. A signal
 * ends the program by itself, after the summary. */
int talk_with_peer(const struct session *session);

/* Before anything that may fail: with --json, errors become a text of the summary. */
void talk_begin(const struct client_options *options);

/* The summary of a talk that has not begun. Returns the status. */
int talk_fail(const struct session *session, int status);
