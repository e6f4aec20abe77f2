#include "settings/listener_settings.h"

#include "settings/table.h"
#include "settings/types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void listener_settings_clear(struct listener_settings *listener)
{
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope == SCOPE_LISTENER && row->type->clear)
            row->type->clear(setting_field(row, listener));
    *listener = (struct listener_settings){0};
}

int listener_settings_inherit(struct listener_settings *listener, const struct settings *settings)
{
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->own_offset == 0 || *(const bool *)((const char *)listener + row->own_offset))
            continue;
        const void *from = setting_field_const(setting_find(SCOPE_GLOBAL, row->name), settings);
        void *to = setting_field(row, listener);
        if (!row->type->copy)
            memcpy(to, from, row->type->size);
        else if (row->type->copy(to, from) < 0)
            return -ENOMEM;
    }
    return 0;
}

int listener_settings_add(struct settings *settings, struct listener_settings *listener)
{
    struct listener_settings *grown =
        reallocarray(settings->listeners, settings->listener_count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    settings->listeners = grown;
    grown[settings->listener_count++] = *listener;
    *listener = (struct listener_settings){0};
    return 0;
}

const char *listener_settings_place(const struct listener_settings *listener,
                                    char out[static LISTENER_PLACE_SIZE])
{
    if (listener->path)
        snprintf(out, LISTENER_PLACE_SIZE, "%s", listener->path);
    else
        snprintf(out, LISTENER_PLACE_SIZE, strchr(listener->address, ':') ? "[%s]:%u" : "%s:%u",
                 listener->address, listener->port);
    return out;
}

bool listener_settings_clash(const struct listener_settings *a, const struct listener_settings *b)
{
    if (a->path || b->path)
        return a->path && b->path && strcmp(a->path, b->path) == 0;
    if (a->port != b->port || a->port == 0)
        return false;
    if (a->any || b->any)
        return true;
    if (a->at.family != b->at.family)
        return false;
    if (address_is_any(&a->at) || address_is_any(&b->at))
        return true;
    return address_equal_ip(&a->at, &b->at);
}
