/* Settings as text in the file's own syntax: what --dump and conf/tcpechod.conf have in common. */
#pragma once

#include "daemon/setting_table.h"

#include <stdio.h>

/* "INDENT NAME = VALUE;" and a newline, of the field in `base`. Errors of the stream wait for print_finish
 * (base/streams.h). Returns 0 or -ENOMEM. */
int setting_print(const struct setting_row *row, const void *base, const char *indent, FILE *out);
