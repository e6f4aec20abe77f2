#include "daemon/settings_file.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "daemon/problems.h"
#include "daemon/settings_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXCERPT 64

/* GCC and clang say in different ways that the leak checker is there. */
#ifdef __SANITIZE_ADDRESS__
#define CHECKS_LEAKS
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define CHECKS_LEAKS
#endif
#endif

#ifdef CHECKS_LEAKS
/* libconfig 1.5 forgets to free the text that it has just read when it meets a syntax error: 64 bytes and
 * more for each broken file, which no caller can reach. The leak checker is told to expect that. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}
#endif

/* Hangs the scan's nodes onto libconfig's, which come in the same order. Should they ever differ, the rest of
 * the tree keeps libconfig's own lines. Returns false then. The depth of the tree is bounded by the scan. */
static bool link_nodes(config_setting_t *setting, struct settings_scan *scan, int error_line, size_t *next)
{
    for (int i = 0; i < config_setting_length(setting); i++) {
        config_setting_t *child = config_setting_get_elem(setting, (unsigned)i);
        struct scan_node *node = *next < scan->node_count ? &scan->nodes[(*next)++] : NULL;

        if (!node || node->named != (child->name != NULL) || (child->name && node->line != (int)child->line))
            return false;
        if (error_line > 0 && node->end_line >= error_line)
            node->incomplete = true;
        config_setting_set_hook(child, node);
        if (config_setting_is_aggregate(child) && !link_nodes(child, scan, error_line, next))
            return false;
    }
    return true;
}

/* Says what libconfig found, unless it only follows from what the scan has reported already. */
static void report_syntax(struct settings_source *source)
{
    const struct settings_scan *scan = &source->scan;
    int line = config_error_line(&source->config);
    const char *text = config_error_text(&source->config);
    char explanation[EXPLANATION_SIZE];

    if (line > scan->lines)
        line = scan->lines; /* the newline that text_copy adds is none of the file's */
    source->error_line = line > 0 ? line : 1;
    if (scan->cut_line > 0 && line >= scan->cut_line) {
        source->error_line = scan->cut_line;
        return;
    }
    if (scan->duplicates > 0 && text && strncmp(text, "duplicate", 9) == 0)
        return;
    if (text_has_nul(source->bytes, source->length, line))
        return;
    if (text && strncmp(text, "mismatched", 10) == 0)
        problems_add(source->problems, source->file, line,
                     "the elements of an array [ ] must be of one type, all text or all numbers");
    else if (text && strcmp(text, "syntax error") != 0)
        problems_add(source->problems, source->file, line, "%s", text);
    else
        problems_add(source->problems, source->file, line, "syntax error%s",
                     settings_explain(scan, line, explanation));
}

/* An odd quote turns all text behind it inside out; when libconfig has stumbled over that, the quote that is
 * left over at the end is the same mistake. */
static void report_unclosed_string(struct settings_source *source)
{
    int line = source->scan.unclosed_string_line;

    if (line > 0 && (source->error_line == 0 || source->error_line >= source->scan.cut_line))
        problems_add(source->problems, source->file, line, "the text that starts here has no closing quote");
}

int settings_source_open(const char *file, struct problems *problems, struct settings_source *out)
{
    bool whole;
    size_t next = 0;
    int r;

    *out = (struct settings_source){.file = file, .problems = problems};
    r = text_read(file, problems, &out->bytes, &out->length);
    if (r < 0)
        return r;
    if (out->length >= 2 &&
        (memcmp(out->bytes, "\xff\xfe", 2) == 0 || memcmp(out->bytes, "\xfe\xff", 2) == 0)) {
        problems_add(problems, file, 1, "the file is UTF-16; save it as UTF-8");
        return -EINVAL;
    }
    r = settings_scan(out->bytes, out->length, file, problems, &out->scan);
    if (r < 0) {
        problems_add(problems, file, 0, "cannot be read: %s", strerror(-r));
        return -EINVAL;
    }
    config_init(&out->config);
    out->config_ready = true;
    whole = config_read_string(&out->config, out->scan.text) == CONFIG_TRUE;
    if (!whole)
        report_syntax(out);
    report_unclosed_string(out);
    (void)link_nodes(config_root_setting(&out->config), &out->scan,
                     out->error_line ? out->error_line : out->scan.cut_line, &next);
    return 0;
}

void settings_source_clear(struct settings_source *source)
{
    if (source->config_ready)
        config_destroy(&source->config);
    settings_scan_clear(&source->scan);
    free(source->bytes);
    *source = (struct settings_source){0};
}

const struct scan_node *settings_node(const config_setting_t *setting)
{
    return config_setting_get_hook(setting);
}

int settings_line(const config_setting_t *setting)
{
    const struct scan_node *node = settings_node(setting);

    return node ? node->line : (int)config_setting_source_line(setting);
}

void settings_report(struct settings_source *source, int line, const char *format, ...)
{
    va_list arguments;

    if (source->error_line > 0 && line >= source->error_line)
        return;
    va_start(arguments, format);
    problems_vadd(source->problems, source->file, line, format, arguments);
    va_end(arguments);
}

const char *settings_value_text(const struct settings_source *source, const config_setting_t *setting,
                                char out[static VALUE_TEXT_SIZE])
{
    const struct scan_node *node = settings_node(setting);
    char excerpt[4 * EXCERPT + 4];
    const char *text;

    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "{ ... }";
    case CONFIG_TYPE_LIST:
        return config_setting_length(setting) > 0 ? "( ... )" : "( )";
    case CONFIG_TYPE_ARRAY:
        return config_setting_length(setting) > 0 ? "[ ... ]" : "[ ]";
    case CONFIG_TYPE_STRING:
        text = config_setting_get_string(setting);
        (void)snprintf(out, VALUE_TEXT_SIZE, "\"%s\"",
                       escape_excerpt(text ? text : "", text ? strlen(text) : 0, EXCERPT, excerpt));
        return out;
    default:
        if (!node || node->value + node->length > source->scan.length)
            return "value";
        (void)snprintf(out, VALUE_TEXT_SIZE, "%s",
                       escape_excerpt(source->scan.source + node->value, node->length, EXCERPT, excerpt));
        return out;
    }
}
