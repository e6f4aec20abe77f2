/* Defaults, the file, the command line over it, and what listeners inherit: in this order. */
#include "daemon/settings.h"

#include "base/cleanup.h"
#include "daemon/listener_settings.h"
#include "daemon/options.h"
#include "daemon/problems.h"
#include "daemon/settings_check.h"
#include "daemon/settings_file.h"
#include "serve/services.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The built-in listeners: what the daemon serves without any file. */
static const struct {
    const char *service, *address;
    uint16_t port;
    const char *end_word;
} built_in[] = {
    {"echo", "127.0.0.1", 7007, NULL},
    {"echo", "::1", 7007, NULL},
    {"upper", "127.0.0.1", 7008, "end"},
    {"upper", "::1", 7008, "end"},
};

static void set_default(const struct setting_row *row, struct settings *settings)
{
    void *field = setting_field(row, settings);

    switch (row->type) {
    case SETTING_INTEGER:
    case SETTING_CHOICE:
        *(int64_t *)field = (int64_t)row->fallback;
        break;
    case SETTING_SECONDS:
        *(double *)field = row->fallback;
        break;
    case SETTING_BOOLEAN:
        *(bool *)field = row->fallback != 0;
        break;
    default:
        break; /* text and lists are empty */
    }
}

struct settings *settings_new(void)
{
    struct settings *settings = calloc(1, sizeof *settings);

    if (!settings)
        return NULL;
    for (const struct setting_row *row = setting_table; row->name; row++) {
        if (row->scope != SCOPE_LISTENER)
            set_default(row, settings);
    }
    return settings;
}

static int add_built_in(struct settings *settings)
{
    for (size_t i = 0; i < sizeof built_in / sizeof *built_in; i++) {
        CLEANUP(listener_clear) struct listener_settings listener;

        listener_init(&listener);
        listener.service = service_find(built_in[i].service);
        listener.port = built_in[i].port;
        listener.address = strdup(built_in[i].address);
        listener.end_word = built_in[i].end_word ? strdup(built_in[i].end_word) : NULL;
        if (!listener.address || (built_in[i].end_word && !listener.end_word) ||
            listener_resolve(&listener) < 0)
            return -ENOMEM;
        if (settings_add_listener(settings, &listener) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* Returns 0, also after problems were found, or -ENOMEM. */
static int read_file(const struct options *options, struct problems *problems, struct settings *settings)
{
    CLEANUP(settings_source_clear) struct settings_source source;
    int r = settings_source_open(options->config, problems, &source);

    if (r == -ENOENT && !options->config_named)
        return add_built_in(settings);
    if (r == -ENOENT)
        problems_add(problems, options->config, 0, "cannot be read: %s", strerror(ENOENT));
    if (r < 0)
        return 0;
    settings->from_file = true;
    return settings_check(&source, settings) ? 0 : add_built_in(settings);
}

static void report_clash(const struct settings *settings, const struct listener_settings *listener,
                         struct problems *problems)
{
    char place[LISTENER_PLACE_SIZE], taken[LISTENER_PLACE_SIZE];

    for (size_t i = 0; i < settings->listener_count; i++) {
        if (!listener_clashes(listener, &settings->listeners[i]))
            continue;
        problems_add(problems, NULL, 0, "--listen: %s is already taken by the listener on %s",
                     listener_place_text(listener, place),
                     listener_place_text(&settings->listeners[i], taken));
        return;
    }
}

static void drop_listeners(struct settings *settings)
{
    for (size_t i = 0; i < settings->listener_count; i++)
        listener_clear(&settings->listeners[i]);
    free(settings->listeners);
    settings->listeners = NULL;
    settings->listener_count = 0;
}

static int apply_command_line(const struct options *options, struct problems *problems,
                              struct settings *settings)
{
    char why[LISTENER_WHY_SIZE];

    if (options->workers >= 0)
        settings->workers = options->workers;
    if (options->log_level >= 0)
        settings->log_level = options->log_level;
    if (options->listen_count > 0)
        drop_listeners(settings);
    for (size_t i = 0; i < options->listen_count; i++) {
        CLEANUP(listener_clear) struct listener_settings listener = {0};
        int r = listener_from_spec(options->listen[i], &listener, why);

        if (r < 0) { /* options_parse has let none pass, but callers may make their options themselves */
            problems_add(problems, NULL, 0, "--listen %s: %s", options->listen[i], why);
            continue;
        }
        report_clash(settings, &listener, problems);
        if (settings_add_listener(settings, &listener) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int load(const struct options *options, struct problems *problems, struct settings *settings)
{
    int r = read_file(options, problems, settings);

    if (r == 0)
        r = apply_command_line(options, problems, settings);
    for (size_t i = 0; r == 0 && i < settings->listener_count; i++)
        r = listener_inherit(&settings->listeners[i], settings);
    return r;
}

int settings_load(const struct options *options, struct problems *problems, struct settings **out)
{
    CLEANUP(settings_freep) struct settings *settings = settings_new();
    size_t before = problems->count;
    int r = settings ? load(options, problems, settings) : -ENOMEM;

    if (r < 0)
        problems_add(problems, NULL, 0, "the settings cannot be read: %s", strerror(-r));
    problems_sort(problems);
    if (problems->count > before)
        return -EINVAL;
    *out = TAKE_PTR(settings);
    return 0;
}

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    drop_listeners(settings);
    prefix_list_clear(&settings->allow);
    prefix_list_clear(&settings->deny);
    free(settings);
}

void settings_freep(struct settings **settings)
{
    settings_free(*settings);
    *settings = NULL;
}
