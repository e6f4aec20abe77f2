/* What somebody most likely meant by a name that no setting has. Pure; any thread. */
#pragma once

#include "settings/table.h"

#define SUGGESTION_SIZE 512

/* "did you mean "idle_timeout"?", "it belongs to a listener", or which names the scope has. Returns `out`. */
const char *suggest_setting(enum setting_scope scope, const char *name, char out[static SUGGESTION_SIZE]);
