/* Ctrl-C as something to poll for, so that the summary is printed on the way out. Main thread, before any
 * other starts. */
#pragma once

/* Blocks SIGINT and SIGTERM. Returns a descriptor, owned by the caller, that is readable once one of them has
 * come, or a negative errno. */
int interrupt_open(void);

/* Reads the signal, and lets the next one end the program at once. Returns its number, or 0 when none has
 * come. */
int interrupt_take(int fd);

/* Ends the program by this signal, so that a shell knows and stops its loop. */
void interrupt_die(int number) __attribute__((noreturn));
