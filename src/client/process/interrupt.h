/* Ctrl-C as something to poll for, so that the summary is printed on the way out. Main thread, before any
 * other starts. */
#pragma once

#include "base/event_loop.h"

/* From here on the first SIGINT or SIGTERM is only noted, and the second ends the program, whatever it is
 * waiting for. Returns a descriptor, owned by the caller, that is readable once the first has come, or a
 * negative errno. */
int interrupt_open(void);

/* Makes the descriptor unreadable again. Returns the number of the signal, or 0 when none has come. */
int interrupt_take(int fd);

/* The number of the signal that has come, taken or not, or 0. Any thread. */
int interrupt_number(void);

/* From here on SIGQUIT (Ctrl-\) ends nothing, but asks for what there is to tell by now. Returns a
 * descriptor, owned by the caller, that is readable after each, or a negative errno. */
int interrupt_open_quit(void);

/* Makes that descriptor unreadable again. */
void interrupt_take_quit(int fd);

/* Puts both descriptors into a loop of this thread, as their sources say, or neither. Returns 0 or a negative
 * errno. */
int interrupt_watch(struct event_loop *loop, struct event_source *interrupt, struct event_source *quit);
void interrupt_unwatch(struct event_loop *loop, struct event_source *interrupt, struct event_source *quit);

/* Ends the program by the signal that has come, or by SIGINT, so that a shell knows and stops its loop. */
void interrupt_die(void) __attribute__((noreturn));
