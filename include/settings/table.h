/* One table of all settings: one row a setting. What a row says is what the reader accepts, what a message
 * about it calls allowed, what --dump and conf/tcpechod.conf print, and of the global ones what --help lists.
 *
 * README.md says how to add one. All functions are pure and may be called from any thread. */
#pragma once

#include "settings/setting.h"

/* In the order in which they are shown; ended by a row without a name. */
extern const struct setting_row setting_table[];

/* The row of this name; NULL when the scope has none. */
const struct setting_row *setting_find(enum setting_scope scope, const char *name);
