/* Defaults, the file, the command line over it, and what listeners inherit: in this order. */
#include "settings/settings.h"

#include "base/cleanup.h"
#include "settings/listener_read.h"
#include "settings/problems.h"
#include "settings/read.h"
#include "settings/table.h"
#include "settings/types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct settings *settings_new(void)
{
    CLEANUP(settings_freep) struct settings *settings = calloc(1, sizeof *settings);
    if (!settings || read_defaults(SCOPE_GLOBAL, settings) < 0 || read_defaults(SCOPE_LOG, settings) < 0)
        return NULL;
    return TAKE_PTR(settings);
}

/* What the daemon serves without any file. */
static int add_built_in(struct settings *settings)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(free_pointer) char *text = NULL;
    if (asprintf(&text, "listeners = %s;", setting_find(SCOPE_GLOBAL, "listeners")->fallback) < 0) {
        text = NULL;
        return -ENOMEM;
    }
    CLEANUP(settings_file_close) struct settings_file file;
    if (settings_file_from_text(text, &problems, &file) == 0)
        listeners_read(&file, config_lookup(&file.config, "listeners"), settings);
    return problems.count == 0 ? 0 : -ENOMEM;
}

static void read_root(struct settings_file *file, struct settings *settings)
{
    const config_setting_t *root = config_root_setting(&file->config);
    const config_setting_t *log = config_setting_get_member(root, "log");
    const config_setting_t *listeners = config_setting_get_member(root, "listeners");
    read_group(file, root, SCOPE_GLOBAL, "", settings);
    if (log && config_setting_is_group(log))
        read_group(file, log, SCOPE_LOG, "", settings);
    if (listeners && config_setting_is_list(listeners))
        listeners_read(file, listeners, settings);
}

/* Returns 0, also after problems were found, or -ENOMEM. */
static int read_file(const struct settings_source *source, struct problems *problems,
                     struct settings *settings)
{
    CLEANUP(settings_file_close) struct settings_file file;
    int r = settings_file_open(source->file, problems, &file);
    if (r == -ENOENT && source->file_is_named)
        settings_file_report(&file, 0, "cannot be read: %s", strerrordesc_np(ENOENT));
    settings->from_file = r == 0;
    if (r == 0)
        read_root(&file, settings);
    return settings->listener_count == 0 ? add_built_in(settings) : 0;
}

static void drop_listeners(struct settings *settings)
{
    for (size_t i = 0; i < settings->listener_count; i++)
        listener_settings_clear(&settings->listeners[i]);
    free(settings->listeners);
    settings->listeners = NULL;
    settings->listener_count = 0;
}

static int add_listeners(const struct settings_source *source, struct problems *problems,
                         struct settings *settings)
{
    struct settings_file no_file = {.problems = problems};
    if (source->listen_count > 0)
        drop_listeners(settings);
    for (size_t i = 0; i < source->listen_count; i++) {
        CLEANUP(listener_settings_clear) struct listener_settings listener = {0};
        if (listener_settings_from_spec(source->listen[i], problems, &listener) < 0)
            continue;
        listener_report_clash(&no_file, "--listen: ", settings, &listener);
        if (listener_settings_add(settings, &listener) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* The piece under way of a listener that repeats is kept beside what is held. */
static void check_slices(const struct settings_source *source, const struct settings *settings,
                         struct problems *problems)
{
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct listener_settings *listener = &settings->listeners[i];
        char place[LISTENER_PLACE_SIZE];
        if (listener->misbehaviour.repeat > 0 && listener->misbehaviour.slice > settings->unsent_limit / 4)
            problems_add(
                problems, listener->line > 0 ? source->file : NULL, listener->line,
                "the listener on %s: \"slice\" must be at most a quarter of unsent_limit, where pieces "
                "are repeated: %u",
                listener_settings_place(listener, place), settings->unsent_limit / 4);
    }
}

static int load(const struct settings_source *source, struct problems *problems, struct settings *settings)
{
    settings->is_quiet = source->is_quiet;
    if (source->is_quiet)
        settings->log_level = LOG_LEVEL_WARNING;
    int r = read_file(source, problems, settings);
    if (r == 0)
        r = add_listeners(source, problems, settings);
    if (source->workers >= 0)
        settings->workers = (unsigned)source->workers;
    if (source->log_level >= 0)
        settings->log_level = (enum log_level)source->log_level;
    for (size_t i = 0; r == 0 && i < settings->listener_count; i++)
        r = listener_settings_inherit(&settings->listeners[i], settings);
    check_slices(source, settings, problems);
    return r;
}

int settings_load(const struct settings_source *source, struct problems *problems, struct settings **out)
{
    CLEANUP(settings_freep) struct settings *settings = settings_new();
    size_t before = problems->count;
    int r = settings ? load(source, problems, settings) : -ENOMEM;
    if (r < 0)
        problems_add(problems, NULL, 0, "the settings cannot be read: %s", strerrordesc_np(-r));
    problems_sort(problems);
    if (problems->count > before)
        return -EINVAL;
    *out = TAKE_PTR(settings);
    return 0;
}

/* For a message; NULL when memory is short. */
static char *value_text(const struct setting_row *row, const struct settings *settings)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    setting_print(row, settings, out);
    fclose(out);
    return text;
}

void settings_keep_until_restart(const struct settings *in_force, struct settings *wanted,
                                 void (*tell)(const char *name, const char *in_force, const char *wanted))
{
    for (const struct setting_row *row = setting_table; row->name; row++) {
        const void *kept = setting_field_const(row, in_force);
        void *field = setting_field(row, wanted);
        if (!row->needs_restart || memcmp(kept, field, row->type->size) == 0)
            continue;
        CLEANUP(free_pointer) char *old = value_text(row, in_force);
        CLEANUP(free_pointer) char *new = value_text(row, wanted);
        tell(row->name, old ? old : "the old value", new ? new : "another value");
        memcpy(field, kept, row->type->size);
    }
}

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    drop_listeners(settings);
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope != SCOPE_LISTENER && row->type->clear)
            row->type->clear(setting_field(row, settings));
    free(settings);
}

void settings_freep(struct settings **settings)
{
    settings_free(*settings);
    *settings = NULL;
}
