/* A row of `listeners`: its settings one by one, and then what they mean for one another. */
#include "daemon/settings_check.h"

#include "base/cleanup.h"
#include "daemon/listener_settings.h"
#include "daemon/problems.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* More sockets than any test needs; comparing each with all others stays cheap. */
#define LISTENER_LIMIT 4096

struct row_reader {
    struct settings_source *source;
    const config_setting_t *group;
    size_t number; /* counted from 1, as messages do */
    struct listener_settings listener;
    uint64_t given; /* a bit for each row of the table that is set here, well or badly */
    uint64_t bad;   /* ... and badly, so that nothing more is to be said of it */
    bool incomplete;
};

static uint64_t bit(const char *name)
{
    const struct setting_row *row = setting_find(SCOPE_LISTENER, name, strlen(name));

    return row ? UINT64_C(1) << (row - setting_table) : 0;
}

static bool is_given(const struct row_reader *r, const char *name)
{
    return (r->given & bit(name)) != 0;
}

static bool is_bad(const struct row_reader *r, const char *name)
{
    return (r->bad & bit(name)) != 0;
}

/* The line of a setting of the row, or of the row itself. */
static int line_of(const struct row_reader *r, const char *name)
{
    const config_setting_t *setting = config_setting_get_member(r->group, name);

    return settings_line(setting ? setting : r->group);
}

static void report(const struct row_reader *r, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "listener 2: ..." */
static void report(const struct row_reader *r, int line, const char *format, ...)
{
    char text[640];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    settings_report(r->source, line, "listener %zu: %s", r->number, text);
}

static void read_setting(struct row_reader *r, const config_setting_t *setting)
{
    const char *name = config_setting_name(setting);
    const struct setting_row *row = setting_find(SCOPE_LISTENER, name, strlen(name));
    char label[96], where[32];

    if (row)
        r->given |= bit(name);
    if (!setting_is_readable(setting)) {
        if (row)
            r->bad |= bit(name);
        return;
    }
    if (!row) {
        (void)snprintf(where, sizeof where, "listener %zu: ", r->number);
        setting_report_unknown(r->source, setting, SCOPE_LISTENER, where);
        return;
    }
    (void)snprintf(label, sizeof label, "listener %zu: %s", r->number, name);
    if (!setting_read(r->source, setting, row, label, &r->listener))
        r->bad |= bit(name);
    else if (row->own_offset > 0)
        *(bool *)((char *)&r->listener + row->own_offset) = true;
}

/* Address and port, or path. Returns false when the row has no place to compare with others. */
static bool check_place(struct row_reader *r)
{
    bool address = is_given(r, "address"), port = is_given(r, "port"), path = is_given(r, "path");

    if (path && (address || port)) {
        report(r, line_of(r, "path"),
               "both \"%s\" and \"path\": a listener has either address and port, or path",
               port ? "port" : "address");
        return false;
    }
    if (!path && !address && !r->incomplete)
        report(r, line_of(r, port ? "port" : ""), "%s",
               port ? "\"port\" without \"address\"; \"*\" is every address"
                    : "has neither address and port nor path");
    else if (address && !port && !r->incomplete)
        report(r, line_of(r, "address"), "\"address\" without \"port\"");
    if (path)
        return !is_bad(r, "path");
    if (!address || !port || is_bad(r, "address") || is_bad(r, "port"))
        return false;
    return listener_resolve(&r->listener) == 0;
}

/* What only one kind of place has. */
static void check_kind_of_place(struct row_reader *r)
{
    static const char *const of_addresses[] = {"allow", "deny", "max_connections_per_source"};

    if (is_given(r, "mode") && !is_given(r, "path") && is_given(r, "address"))
        report(r, line_of(r, "mode"), "\"mode\" has no use without a path");
    if (!is_given(r, "path") || is_given(r, "address"))
        return;
    for (size_t i = 0; i < sizeof of_addresses / sizeof *of_addresses; i++) {
        if (is_given(r, of_addresses[i]))
            report(r, line_of(r, of_addresses[i]),
                   "\"%s\" has no use with a path, whose clients have no address", of_addresses[i]);
    }
}

static void check_service(struct row_reader *r)
{
    const struct service *service = r->listener.service;

    if (is_bad(r, "service"))
        return;
    if (r->incomplete && !is_given(r, "service"))
        return; /* the service may be one that is only unread */
    if (is_given(r, "text") && !service->takes_text)
        report(r, line_of(r, "text"), "\"text\" has no use: the service %s sends none", service->name);
    if (!is_given(r, "text") && service->takes_text && !r->incomplete)
        report(r, line_of(r, "service"), "service = \"%s\": needs a \"text\" to send", service->name);
    if (is_given(r, "end_word") && !service->takes_end_word)
        report(r, line_of(r, "end_word"), "\"end_word\" has no use: the service %s looks for none",
               service->name);
}

static void check_clashes(struct row_reader *r, const struct settings *settings)
{
    char place[LISTENER_PLACE_SIZE], taken[LISTENER_PLACE_SIZE];

    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct listener_settings *other = &settings->listeners[i];

        if (!listener_clashes(&r->listener, other))
            continue;
        report(r, r->listener.line, "%s is already taken by the listener on %s in line %d",
               listener_place_text(&r->listener, place), listener_place_text(other, taken), other->line);
        return;
    }
}

static void read_row(struct settings_source *source, const config_setting_t *group, size_t number,
                     struct settings *settings)
{
    struct row_reader r = {.source = source, .group = group, .number = number};
    const struct scan_node *node = settings_node(group);
    char text[VALUE_TEXT_SIZE];

    if (node && node->faulty)
        return;
    if (config_setting_type(group) != CONFIG_TYPE_GROUP) {
        report(&r, settings_line(group),
               "%s: must be a group, such as { address = \"127.0.0.1\"; port = 7; }",
               settings_value_text(source, group, text));
        return;
    }
    listener_init(&r.listener);
    r.listener.line = settings_line(group);
    r.incomplete = node && node->incomplete;
    for (int i = 0; i < config_setting_length(group); i++)
        read_setting(&r, config_setting_get_elem(group, (unsigned)i));
    check_kind_of_place(&r);
    check_service(&r);
    if (check_place(&r)) {
        check_clashes(&r, settings);
        if (settings_add_listener(settings, &r.listener) < 0)
            problems_add(source->problems, source->file, settings_line(group), "listener %zu: %s", number,
                         strerror(ENOMEM));
    }
    listener_clear(&r.listener);
}

void listeners_read(struct settings_source *source, const config_setting_t *list, struct settings *settings)
{
    const struct scan_node *node = settings_node(list);
    int length = config_setting_length(list);

    if (length == 0 && !(node && node->incomplete))
        settings_report(source, settings_line(list), "listeners = ( ): must have at least one listener");
    if (length > LISTENER_LIMIT) {
        settings_report(source, settings_line(list), "listeners: must have at most %d rows", LISTENER_LIMIT);
        return;
    }
    for (int i = 0; i < length; i++)
        read_row(source, config_setting_get_elem(list, (unsigned)i), (size_t)i + 1, settings);
}
