/* Looks at the AF_UNIX datagram sockets of others before a library writes to them: sd_journal_sendv(3) and
 * sd_notify(3) block for as long as the receiver's queue is full, and its process may be frozen. Any thread.
 */
#pragma once

#include <stdbool.h>

/* Whether somebody receives at `path`, which would take what is sent; false also when this cannot be found
 * out. */
bool datagram_has_reader(const char *path);

/* Waits at most `timeout_msec` until a datagram to `path` can be sent without blocking ('@' begins an
 * abstract name). True also when sending will fail at once, as it does when nobody is there. Another process
 * that sends to the same socket can make it wrong. */
bool datagram_is_writable(const char *path, int timeout_msec);
