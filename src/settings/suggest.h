/* What somebody most likely meant by a name that no setting has. Pure; any thread. */
#pragma once

#include "settings/table.h"

#define SUGGESTION_SIZE 512

/* Writes "did you mean "idle_timeout"?", "it belongs to a listener", or which names the scope has. Returns
 * the setting of the scope that was meant; NULL: none is near. */
const struct setting_row *suggest_setting(enum setting_scope scope, const char *name,
                                          char out[static SUGGESTION_SIZE]);
