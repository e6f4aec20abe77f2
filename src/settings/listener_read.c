#include "settings/listener_read.h"

#include "base/cleanup.h"
#include "settings/listener_settings.h"
#include "settings/read.h"
#include "settings/types.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* More sockets than any test needs; comparing each with all others stays cheap. */
#define LISTENER_LIMIT 4096

struct reading {
    struct settings_file *file;
    const config_setting_t *group;
    const char *where;
    struct listener_settings *listener;
    struct misbehaviour_params behaves; /* the defaults of the faults */
    row_set refused;                    /* wrong or misspelt: nothing more is to be said of these */
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

/* Neither given nor misspelt. */
static bool is_absent(const struct reading *r, const char *name)
{
    return !is_given(r, name) && !is_refused(r, name);
}

/* Address and port, or path. */
static void check_place(const struct reading *r)
{
    bool address = is_given(r, "address"), port = is_given(r, "port"), path = is_given(r, "path");
    if (path && (address || port))
        report(r, "path", "both \"%s\" and \"path\": a listener has either address and port, or path",
               port ? "port" : "address");
    else if (is_absent(r, "path") && is_absent(r, "address"))
        report(r, "port", "%s",
               port ? "\"port\" without \"address\"; \"*\" is every address"
                    : "has neither address and port nor path");
    else if (address && is_absent(r, "port"))
        report(r, "address", "\"address\" without \"port\"");
}

/* What has no use for this place, or for this service. */
static void check_uses(const struct reading *r)
{
    const struct service *service = r->listener->service;
    bool address = is_given(r, "address"), path = is_given(r, "path");
    bool may_have_proxy = r->listener->proxy_protocol || is_refused(r, "proxy_protocol");
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope != SCOPE_LISTENER || !is_given(r, row->name) || strcmp(row->name, "port") == 0)
            continue;
        if (row->place == PLACE_PATH && address && !path)
            report(r, row->name, "\"%s\" has no use without a path", row->name);
        if (row->place == PLACE_ADDRESS && path && !address)
            report(r, row->name, "\"%s\" has no use with a path, whose \"mode\" says who may connect",
                   row->name);
        if (row->place == PLACE_CLIENT_ADDRESS && path && !address && !may_have_proxy)
            report(r, row->name, "\"%s\" has no use with a path, whose clients have no address", row->name);
        if (row->service_offset > 0 && !is_refused(r, "service") &&
            !*(const bool *)((const char *)service + row->service_offset))
            report(r, row->name, "\"%s\" has no use: the service %s takes none", row->name, service->name);
    }
    if (service->takes_text && is_absent(r, "text"))
        report(r, "service", "service = \"%s\": needs a \"text\" to send", service->name);
}

static void check_proxy(const struct reading *r)
{
    bool may_have_proxy = r->listener->proxy_protocol || is_refused(r, "proxy_protocol");
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->of_proxy && !may_have_proxy && is_given(r, row->name))
            report(r, row->name, "\"%s\" without \"proxy_protocol\"", row->name);
}

/* Something else than its default. */
static bool is_set(const struct reading *r, const struct setting_row *row)
{
    size_t offset = row->offset - offsetof(struct listener_settings, misbehaviour);
    return memcmp(setting_field_const(row, r->listener), (const char *)&r->behaves + offset,
                  row->type->size) != 0;
}

/* Neither in this row nor mistaken there. */
static bool lacks(const struct reading *r, const char *name)
{
    return !is_refused(r, name) && !is_set(r, setting_find(SCOPE_LISTENER, name));
}

static bool has(const struct reading *r, const char *name)
{
    return is_set(r, setting_find(SCOPE_LISTENER, name));
}

static void check_faults_of_answers(const struct reading *r)
{
    const struct service *service = r->listener->service;
    bool is_mute = r->listener->misbehaviour.silent;
    bool has_none = !service_speaks(service) && !r->listener->greeting && !is_refused(r, "greeting");
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (!row->is_fault || !is_set(r, row))
            continue;
        if (row->of_answers && is_mute)
            report(r, row->name, "\"%s\" has no use: a silent listener answers nothing", row->name);
        else if ((row->of_answers || strcmp(row->name, "silent") == 0) && has_none &&
                 !is_refused(r, "service"))
            report(r, row->name, "\"%s\" has no use: the service %s answers nothing", row->name,
                   service->name);
    }
}

/* Faults that need others, or go against them. */
static void check_faults(const struct reading *r)
{
    const struct misbehaviour_params *faults = &r->listener->misbehaviour;
    if (has(r, "jitter") && lacks(r, "delay"))
        report(r, "jitter", "\"jitter\" without \"delay\", which it is around");
    else if (has(r, "jitter") && has(r, "delay") && faults->jitter > faults->delay)
        report(r, "jitter", "\"jitter\" is more than \"delay\": no answer can come before its question");
    if (has(r, "slice_delay") && lacks(r, "slice"))
        report(r, "slice_delay", "\"slice_delay\" without \"slice\", the size of the pieces");
    if (has(r, "end") && lacks(r, "limit") && lacks(r, "after"))
        report(r, "end", "\"end\" without \"limit\" or \"after\", which say when");
    if (!misbehaviour_is_any(faults) && r->refused == 0 && (has(r, "toxicity") || has(r, "seed")))
        report(r, has(r, "seed") ? "seed" : "toxicity", "\"%s\" without a fault",
               has(r, "seed") ? "seed" : "toxicity");
    check_faults_of_answers(r);
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
    r.behaves = listener.misbehaviour;
    listener.line = file->name ? settings_line(group) : 0;
    r.refused = read_group(file, group, SCOPE_LISTENER, where, &listener);
    check_place(&r);
    check_uses(&r);
    check_proxy(&r);
    check_faults(&r);
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
