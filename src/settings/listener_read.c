#include "settings/listener_read.h"

#include "base/cleanup.h"
#include "settings/listener_settings.h"
#include "settings/read.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* More sockets than any test needs; comparing each with all others stays cheap. */
#define LISTENER_LIMIT 4096

struct reading {
    struct settings_file *file;
    const config_setting_t *group;
    const char *where;
    struct listener_settings *listener;
    row_set refused; /* nothing more is to be said of these */
};

static bool is_given(const struct reading *r, const char *name)
{
    return config_setting_get_member(r->group, name) != NULL;
}

static bool is_refused(const struct reading *r, const char *name)
{
    return (r->refused & row_bit(setting_find(SCOPE_LISTENER, name))) != 0;
}

/* In the line of the setting, or of the group when it does not have it. */
static void __attribute__((format(printf, 3, 4))) report(const struct reading *r, const char *name,
                                                         const char *format, ...)
{
    const config_setting_t *setting = config_setting_get_member(r->group, name);
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    settings_file_report(r->file, settings_line(setting ? setting : r->group), "%s%s", r->where, text);
}

/* Address and port, or path. */
static void check_place(const struct reading *r)
{
    bool address = is_given(r, "address"), port = is_given(r, "port"), path = is_given(r, "path");
    if (path && (address || port))
        report(r, "path", "both \"%s\" and \"path\": a listener has either address and port, or path",
               port ? "port" : "address");
    else if (!path && !address)
        report(r, "port", "%s",
               port ? "\"port\" without \"address\"; \"*\" is every address"
                    : "has neither address and port nor path");
    else if (address && !port)
        report(r, "address", "\"address\" without \"port\"");
}

/* What has no use for this place, or for this service. */
static void check_uses(const struct reading *r)
{
    const struct service *service = r->listener->service;
    bool address = is_given(r, "address"), path = is_given(r, "path");
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope != SCOPE_LISTENER || !is_given(r, row->name) || strcmp(row->name, "port") == 0)
            continue;
        if (row->place == PLACE_PATH && address && !path)
            report(r, row->name, "\"%s\" has no use without a path", row->name);
        if (row->place == PLACE_ADDRESS && path && !address)
            report(r, row->name, "\"%s\" has no use with a path, whose clients have no address", row->name);
        if (row->service_offset > 0 && !is_refused(r, "service") &&
            !*(const bool *)((const char *)service + row->service_offset))
            report(r, row->name, "\"%s\" has no use: the service %s takes none", row->name, service->name);
    }
    if (service->takes_text && !is_given(r, "text"))
        report(r, "service", "service = \"%s\": needs a \"text\" to send", service->name);
}

/* Returns whether the listener has a place. */
static bool resolve(const struct reading *r)
{
    struct listener_settings *listener = r->listener;
    if (!listener->address)
        return listener->path && !is_given(r, "port") && !is_given(r, "address");
    listener->any = strcmp(listener->address, "*") == 0;
    return is_given(r, "port") && !is_refused(r, "port") && !listener->path &&
           (listener->any || address_parse(listener->address, listener->port, &listener->at) == 0);
}

bool listener_read(struct settings_file *file, const config_setting_t *group, const char *where,
                   struct listener_settings *out)
{
    CLEANUP(listener_settings_clear) struct listener_settings listener = {0};
    struct reading r = {.file = file, .group = group, .where = where, .listener = &listener};
    if (read_defaults(SCOPE_LISTENER, &listener) < 0) {
        report(&r, "", "%s", strerrordesc_np(ENOMEM));
        return false;
    }
    listener.line = file->name ? settings_line(group) : 0;
    r.refused = read_group(file, group, SCOPE_LISTENER, where, &listener);
    check_place(&r);
    check_uses(&r);
    if (!resolve(&r))
        return false;
    *out = listener;
    listener = (struct listener_settings){0};
    return true;
}

void listener_report_clash(struct settings_file *file, const char *where, const struct settings *settings,
                           const struct listener_settings *listener)
{
    char place[LISTENER_PLACE_SIZE], taken[LISTENER_PLACE_SIZE], line[32] = "";
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct listener_settings *other = &settings->listeners[i];
        if (!listener_settings_clash(listener, other))
            continue;
        if (other->line > 0)
            snprintf(line, sizeof line, " in line %d", other->line);
        settings_file_report(file, listener->line, "%s%s is already taken by the listener on %s%s", where,
                             listener_settings_place(listener, place), listener_settings_place(other, taken),
                             line);
        return;
    }
}

static void read_element(struct settings_file *file, const config_setting_t *group, const char *where,
                         struct settings *settings)
{
    CLEANUP(listener_settings_clear) struct listener_settings listener = {0};
    char text[VALUE_TEXT_SIZE];
    if (settings_file_misread(file, group))
        return;
    if (!config_setting_is_group(group)) {
        settings_file_report(file, settings_element_line(file, group),
                             "%s%s: must be a group, such as { address = \"127.0.0.1\"; port = 7; }", where,
                             settings_value_text(group, text));
        return;
    }
    if (!listener_read(file, group, where, &listener))
        return;
    listener_report_clash(file, where, settings, &listener);
    if (listener_settings_add(settings, &listener) < 0)
        settings_file_report(file, settings_line(group), "%s%s", where, strerrordesc_np(ENOMEM));
}

void listeners_read(struct settings_file *file, const config_setting_t *list, struct settings *settings)
{
    int length = config_setting_length(list);
    if (length == 0)
        settings_file_report(file, settings_line(list), "listeners = ( ): must have at least one listener");
    if (length > LISTENER_LIMIT) {
        settings_file_report(file, settings_line(list), "listeners: must have at most %d rows",
                             LISTENER_LIMIT);
        return;
    }
    for (int i = 0; i < length; i++) {
        char where[32];
        snprintf(where, sizeof where, "listener %d: ", i + 1);
        read_element(file, config_setting_get_elem(list, (unsigned)i), where, settings);
    }
}
