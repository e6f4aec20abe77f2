/* stdin, stdout and stderr, which whoever started us may have closed, filled or redirected. Main thread. */
#pragma once

#include <stdio.h>

/* Takes those of the numbers 0 to 2 that are closed, before a socket gets one of them and is sent what is
 * meant for stderr. Each is opened the wrong way round, so that its use fails as if it were closed. Returns 0
 * or a negative errno. */
int streams_hold_standard(void);

/* What a person does when /dev/null cannot be opened, to follow the error's text; "" when that says enough.
 */
const char *streams_null_advice(int error);

/* Writes out what stdio has kept, so that a full disk shows. Returns 0 or a negative errno. */
int print_finish(FILE *out);
