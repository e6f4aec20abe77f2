#include "daemon/listener_settings.h"

#include "base/cleanup.h"
#include "daemon/setting_table.h"
#include "serve/services.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MODE 0666
#define DEFAULT_SERVICE "echo"

void prefix_list_clear(struct prefix_list *list)
{
    free(list->items);
    *list = (struct prefix_list){0};
}

void listener_init(struct listener_settings *listener)
{
    *listener = (struct listener_settings){.mode = DEFAULT_MODE, .service = service_find(DEFAULT_SERVICE)};
}

void listener_clear(struct listener_settings *listener)
{
    free(listener->address);
    free(listener->path);
    free(listener->text);
    free(listener->greeting);
    free(listener->end_word);
    prefix_list_clear(&listener->allow);
    prefix_list_clear(&listener->deny);
    *listener = (struct listener_settings){0};
}

int listener_resolve(struct listener_settings *listener)
{
    listener->any = strcmp(listener->address, "*") == 0;
    if (listener->any)
        return 0;
    return address_parse(listener->address, listener->port, &listener->at);
}

static int copy_prefixes(const struct prefix_list *from, struct prefix_list *to)
{
    struct prefix *items;

    if (from->count == 0)
        return 0;
    items = calloc(from->count, sizeof *items);
    if (!items)
        return -ENOMEM;
    memcpy(items, from->items, from->count * sizeof *items);
    *to = (struct prefix_list){items, from->count};
    return 0;
}

int listener_inherit(struct listener_settings *listener, const struct settings *settings)
{
    if (!listener->own_idle_timeout)
        listener->idle_timeout = settings->idle_timeout;
    if (!listener->own_max_connections_per_source)
        listener->max_connections_per_source = settings->max_connections_per_source;
    if (!listener->own_allow && copy_prefixes(&settings->allow, &listener->allow) < 0)
        return -ENOMEM;
    if (!listener->own_deny && copy_prefixes(&settings->deny, &listener->deny) < 0)
        return -ENOMEM;
    return 0;
}

int settings_add_listener(struct settings *settings, struct listener_settings *listener)
{
    struct listener_settings *grown;

    grown = reallocarray(settings->listeners, settings->listener_count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    settings->listeners = grown;
    grown[settings->listener_count++] = *listener;
    *listener = (struct listener_settings){0};
    return 0;
}

const char *listener_place_text(const struct listener_settings *listener,
                                char out[static LISTENER_PLACE_SIZE])
{
    if (listener->path)
        (void)snprintf(out, LISTENER_PLACE_SIZE, "%s", listener->path);
    else
        (void)snprintf(out, LISTENER_PLACE_SIZE, strchr(listener->address, ':') ? "[%s]:%u" : "%s:%u",
                       listener->address, listener->port);
    return out;
}

bool listener_clashes(const struct listener_settings *a, const struct listener_settings *b)
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
    return address_equal_ip(&a->at, &b->at) && a->at.scope == b->at.scope;
}

/* Of a text that is no address, with a '%' in it. */
static const char *interface_problem(const char *text, char *out)
{
    struct address address;
    char bare[ADDRESS_TEXT_SIZE];
    const char *interface = strchr(text, '%') + 1;

    (void)snprintf(bare, sizeof bare, "%.*s", (int)(interface - 1 - text), text);
    if (address_parse(bare, 0, &address) < 0)
        return "";
    if (!address_is_link_local(&address) && !address_is_multicast(&address))
        return "; only a link-local IPv6 address has an interface";
    (void)snprintf(out, LISTENER_WHY_SIZE, "; there is no interface \"%.64s\" ('ip link' lists them)",
                   interface);
    return out;
}

static const char *syntax_problem(const char *text, char *out)
{
    struct address address;
    char inner[ADDRESS_TEXT_SIZE];

    if (strcasecmp(text, "localhost") == 0)
        return ", not a name; did you mean \"127.0.0.1\" or \"::1\"?";
    if (text[0] == '[') {
        (void)snprintf(inner, sizeof inner, "%.*s", (int)strcspn(text + 1, "]"), text + 1);
        if (address_parse(inner, 0, &address) == 0)
            return ", without brackets";
    }
    if (strchr(text, '%'))
        return interface_problem(text, out);
    if (text[strspn(text, "0123456789.:/abcdefABCDEF")] != '\0')
        return ", not a name";
    return "";
}

const char *listener_address_problem(const char *text, char out[static LISTENER_WHY_SIZE])
{
    struct address address;

    if (strcmp(text, "*") == 0)
        return NULL;
    if (address_parse(text, 0, &address) < 0)
        return syntax_problem(text, out);
    if (address_is_multicast(&address))
        return "; no TCP client can reach a multicast address";
    if (address_is_broadcast(&address))
        return "; no TCP client can reach the broadcast address";
    if (address_is_link_local(&address) && address.scope == 0) {
        (void)snprintf(out, LISTENER_WHY_SIZE,
                       "; a link-local address needs its interface, such as \"%.48s%%eth0\"", text);
        return out;
    }
    return NULL;
}

/* "[V6]:PORT" or "V4:PORT" or "*:PORT". Returns where the port starts, or NULL; what stands for the address
 * goes to `out`. */
static const char *split_address(const char *text, char *out, size_t size)
{
    const char *end;
    bool bracket = text[0] == '[';

    text += bracket;
    end = bracket ? strchr(text, ']') : strrchr(text, ':');
    if (!end || (size_t)(end - text) >= size || (bracket && end[1] != ':'))
        return NULL;
    memcpy(out, text, (size_t)(end - text));
    out[end - text] = '\0';
    if (bracket != (strchr(out, ':') != NULL)) /* an IPv6 address without brackets is ambiguous */
        return NULL;
    return end + (bracket ? 2 : 1);
}

/* Decimal digits only, without a leading zero. Returns 0 or -EINVAL. */
static int parse_port(const char *text, uint16_t *out)
{
    size_t length = strlen(text);
    unsigned long port;

    if (length == 0 || length > 5 || text[strspn(text, "0123456789")] != '\0' ||
        (length > 1 && text[0] == '0'))
        return -EINVAL;
    port = strtoul(text, NULL, 10);
    if (port > UINT16_MAX)
        return -EINVAL;
    *out = (uint16_t)port;
    return 0;
}

/* Puts the reason into `why`, of LISTENER_WHY_SIZE bytes, and returns `error`. */
static int refuse(char *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(char *why, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why, LISTENER_WHY_SIZE, format, arguments);
    va_end(arguments);
    return error;
}

/* What stands before the "@". */
static int parse_service(const char *name, size_t length, struct listener_settings *listener, char *why)
{
    char text[32];
    char expectation[SETTING_EXPECTATION_SIZE];

    (void)snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text - 1), name);
    listener->service = service_find(text);
    if (!listener->service)
        return refuse(why, -EINVAL, "service \"%s\": %s", text,
                      setting_expectation(setting_find(SCOPE_LISTENER, "service", 7), expectation));
    if (listener->service->takes_text)
        return refuse(why, -EINVAL, "%s needs a text, which only a listener of the settings file can have",
                      text);
    return 0;
}

static int parse_place(const char *place, struct listener_settings *listener, char *why)
{
    char address[ADDRESS_TEXT_SIZE], reason[LISTENER_WHY_SIZE];
    const struct setting_row *path = setting_find(SCOPE_LISTENER, "path", 4);
    const char *port, *problem;

    if (place[0] == '/') {
        if (strlen(place) > (size_t)path->maximum)
            return refuse(why, -EINVAL, "a path may have at most %.0f bytes", path->maximum);
        listener->path = strdup(place);
        return listener->path ? 0 : refuse(why, -ENOMEM, "%s", strerror(ENOMEM));
    }
    port = split_address(place, address, sizeof address);
    if (!port)
        return refuse(
            why, -EINVAL,
            "must be [SERVICE@]ADDRESS:PORT, [SERVICE@][IPV6ADDRESS]:PORT or [SERVICE@]/PATH, with a numeric "
            "address or \"*\"");
    problem = listener_address_problem(address, reason);
    if (problem)
        return refuse(why, -EINVAL, "address \"%s\": must be a numeric address or \"*\"%s", address, problem);
    if (parse_port(port, &listener->port) < 0)
        return refuse(why, -EINVAL, "port \"%.32s\": must be 0 to 65535", port);
    listener->address = strdup(address);
    if (!listener->address)
        return refuse(why, -ENOMEM, "%s", strerror(ENOMEM));
    return listener_resolve(listener);
}

int listener_from_spec(const char *spec, struct listener_settings *out, char why[static LISTENER_WHY_SIZE])
{
    CLEANUP(listener_clear) struct listener_settings listener;
    const char *at = spec[0] == '/' ? NULL : strchr(spec, '@');
    int r;

    listener_init(&listener);
    r = at ? parse_service(spec, (size_t)(at - spec), &listener, why) : 0;
    if (r == 0)
        r = parse_place(at ? at + 1 : spec, &listener, why);
    if (r < 0)
        return r;
    *out = listener;
    listener = (struct listener_settings){0};
    return 0;
}
