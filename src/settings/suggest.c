#include "settings/suggest.h"

#include "base/nearest.h"

#include <stdio.h>

/* NULL: nowhere but in this scope. */
static const char *other_place(enum setting_scope scope, const char *name)
{
    if (scope != SCOPE_LISTENER && setting_find(SCOPE_LISTENER, name))
        return "it belongs to a listener";
    if (scope != SCOPE_LOG && setting_find(SCOPE_LOG, name))
        return "it belongs into the group \"log\"";
    if (scope != SCOPE_GLOBAL && setting_find(SCOPE_GLOBAL, name))
        return "it is set for the whole daemon, at the top of the file";
    return NULL;
}

const struct setting_row *suggest_setting(enum setting_scope scope, const char *name,
                                          char out[static SUGGESTION_SIZE])
{
    const char *place = other_place(scope, name);
    if (place) {
        snprintf(out, SUGGESTION_SIZE, "%s", place);
        return NULL;
    }
    struct nearest nearest = nearest_to(name);
    size_t used = (size_t)snprintf(out, SUGGESTION_SIZE, "known are");
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope != scope)
            continue;
        nearest_offer(&nearest, row->name);
        if (used < SUGGESTION_SIZE)
            used += (size_t)snprintf(out + used, SUGGESTION_SIZE - used, "%s %s",
                                     out[used - 1] == 'e' && used == 9 ? "" : ",", row->name);
    }
    if (!nearest_name(&nearest))
        return NULL;
    snprintf(out, SUGGESTION_SIZE, "did you mean \"%s\"?", nearest_name(&nearest));
    return setting_find(scope, nearest_name(&nearest));
}
