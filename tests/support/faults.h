/* System and library calls that fail when a test says so.
 *
 * The linker turns each call of the functions that tests/support/meson.build lists (ld(1), --wrap) into one
 * of a wrapper in fault_wrappers.c, which lets it through unless a rule says otherwise. Without rules the
 * wrappers are inert, so the executable is the daemon itself, object for object, with its calls routed.
 *
 * Rules, separated by commas or white space:
 *
 *     CALL[@THREAD]:EFFECT[:WHICH]
 *
 *     CALL     accept4, epoll_ctl, malloc ... as in fault_calls.h; and for one kind of a call:
 *              epoll_ctl_add, epoll_ctl_mod, epoll_ctl_del, socket_inet, socket_inet6, socket_unix
 *     THREAD   main, other (every thread but main), or the beginning of a thread's name
 *     EFFECT   EMFILE ...  it is not made, and fails with this error
 *              short, short=N  made, with at most 1 or N bytes (recv, send, read, write, splice)
 *              sleep=MSEC  made after this time, or sooner when other rules come
 *              count       made, and counted
 *     WHICH    3  the third call from now on;  3-5;  3-  from the third on;  *  all, which is the default;
 *              /10  each tenth
 *
 * Of several rules for a call the first that fails or shortens it counts; `sleep` and `count` add to others.
 *
 * Where the rules come from:
 *     $FAULTS            from the start of the process
 *     $FAULTS_FILE       a file of the size of struct fault_page, shared with a test that changes the rules
 *                        of a running daemon: daemons.py
 *     the functions here, in unit tests
 *
 * Rules that cannot be read end the process with status 99 and a line on stderr. All of it may be used from
 * any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FAULT_RULES 32

/* The layout of $FAULTS_FILE. A test writes `spec` first and then counts `generation` up; the next wrapped
 * call reads the rules, restarts their counters, and copies the number to `loaded`. */
struct fault_page {
    _Atomic uint32_t generation;
    _Atomic uint32_t loaded;
    _Atomic uint64_t hits[FAULT_RULES]; /* how often each rule in force has had its effect */
    char spec[4096 - 8 - 8 * FAULT_RULES];
};

/* In place of the rules before, from this call on. Check's own assertions allocate and write, too: disarm
 * before the first of them. */
void fault_rules(const char *spec);

/* The same as fault_rules("CALL:ERROR:NTH"); `nth` 0 means every call. */
void fault_arm(const char *call, int error, unsigned long nth);

/* No rules. Returns how many effects those in force had. */
unsigned long fault_disarm(void);
