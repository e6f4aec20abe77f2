#include "settings/file.h"

#include "base/cleanup.h"
#include "base/escape.h"
#include "settings/pitfalls.h"
#include "settings/problems.h"
#include "settings/syntax.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More is no settings file, but something that was named by mistake. */
#define FILE_LIMIT 1048576 /* bytes */

#define EXCERPT 64

static int refuse(const struct settings_file *file, const char *why)
{
    settings_file_report(file, 0, "%s", why);
    return -EINVAL;
}

static int refuse_errno(const struct settings_file *file, int error)
{
    settings_file_report(file, 0, "cannot be read: %s", strerrordesc_np(error));
    return -EINVAL;
}

/* ---- libconfig's errors ---- */

static const config_setting_t *last_of(const config_setting_t *setting)
{
    int length = config_setting_is_aggregate(setting) ? config_setting_length(setting) : 0;
    return length > 0 ? config_setting_get_elem(setting, (unsigned)length - 1) : NULL;
}

/* The setting that has this name already, in one of the groups that were read last. */
static const config_setting_t *find_first(const config_setting_t *group, const char *name)
{
    for (; group; group = last_of(group)) {
        const config_setting_t *first =
            config_setting_is_group(group) ? config_setting_get_member(group, name) : NULL;
        if (first)
            return first;
    }
    return NULL;
}

/* libconfig stops at a name that its group has already: of the names in this line, the first that was read
 * before. */
static void report_duplicate(struct settings_file *file, int line)
{
    char name[EXCERPT];
    const char *start = syntax_line(file->text, line), *end = start + strcspn(start, "\n");
    for (const char *at = start; at < end;) {
        size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-*");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        const config_setting_t *first =
            length > 0 ? find_first(config_root_setting(&file->config), name) : NULL;
        if (first && (settings_line(first) < line || memmem(start, (size_t)(at - start), name, length))) {
            settings_file_report(file, line, "\"%s\" is set a second time; the first is in line %d", name,
                                 settings_line(first));
            return;
        }
        at += length > 0 ? length : 1;
    }
    settings_file_report(file, line, "a name is set a second time");
}

static int count_lines(const char *text)
{
    int lines = 0;
    for (; (text = strchr(text, '\n')); text++)
        lines++;
    return lines;
}

/* The first error ends libconfig's reading. What the pass before it has said of the line explains it. */
static int report_syntax(struct settings_file *file, size_t reported)
{
    char cause[SYNTAX_CAUSE_SIZE];
    const char *error = config_error_text(&file->config);
    int line = config_error_line(&file->config), lines = count_lines(file->text);
    for (size_t i = reported; i < file->problems->count; i++)
        if (file->problems->items[i].line == line)
            return -EINVAL;
    bool at_end = line > lines, is_found = syntax_cause(file->text, at_end ? lines : line, cause);
    if (at_end && !is_found)
        settings_file_report(file, lines,
                             "syntax error: the file ends where a value or a closing bracket is due");
    else if (error && strncmp(error, "duplicate", 9) == 0)
        report_duplicate(file, line);
    else if (error && strncmp(error, "mismatched", 10) == 0)
        settings_file_report(file, line,
                             "the elements of an array [ ] must be of one type, all text or all numbers");
    else
        settings_file_report(file, at_end ? lines : line, "%s%s", error ? error : "syntax error", cause);
    return -EINVAL;
}

/* ---- Reading ---- */

/* Of the text, which is owned and ends in a newline: libconfig 1.5 takes a comment in a last line without one
 * for a syntax error. */
static int parse(struct settings_file *file, size_t length)
{
    static const char mark[] = "\xef\xbb\xbf";
    size_t reported = file->problems->count;
    const char *start = file->text;
    file->misread = calloc((size_t)count_lines(file->text) + 2, sizeof *file->misread);
    if (!file->misread)
        return refuse_errno(file, ENOMEM);
    if (strncmp(start, mark, sizeof mark - 1) == 0) {
        settings_file_report(file, 1, "the file starts with a byte order mark; save it as UTF-8 without one");
        start += sizeof mark - 1;
    }
    if (!pitfalls_report(start, length - (size_t)(start - file->text), file->name, file->problems,
                         file->misread))
        return -EINVAL;
    return config_read_string(&file->config, start) == CONFIG_TRUE ? 0 : report_syntax(file, reported);
}

/* Files may grow while they are read, and those of /proc have no size. */
static int read_all(int fd, char *buffer, size_t size, size_t *length)
{
    for (*length = 0; *length < size;) {
        ssize_t n = read(fd, buffer + *length, size - *length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *length += (size_t)n;
    }
    return 0;
}

static void prepare(const char *name, struct problems *problems, struct settings_file *out)
{
    *out = (struct settings_file){.name = name, .problems = problems};
    config_init(&out->config);
}

int settings_file_open(const char *name, struct problems *problems, struct settings_file *out)
{
    CLEANUP(fd_close) int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = errno;
    struct stat status;
    size_t length;
    prepare(name, problems, out);
    if (fd < 0)
        return error == ENOENT ? -ENOENT : refuse_errno(out, error);
    if (fstat(fd, &status) < 0)
        return refuse_errno(out, errno);
    if (S_ISDIR(status.st_mode))
        return refuse(out, "is a directory, not a settings file");
    if (!S_ISREG(status.st_mode))
        return refuse(out, "is not a regular file");
    out->text = malloc(FILE_LIMIT + 2); /* a newline and a NUL more */
    if (!out->text)
        return refuse_errno(out, ENOMEM);
    int r = read_all(fd, out->text, FILE_LIMIT + 1, &length);
    if (r < 0)
        return refuse_errno(out, -r);
    if (length > FILE_LIMIT)
        return refuse(out, "is larger than 1 MiB, which no settings file needs");
    if (length == 0 || out->text[length - 1] != '\n')
        out->text[length++] = '\n';
    out->text[length] = '\0';
    return parse(out, length);
}

int settings_file_from_text(const char *text, struct problems *problems, struct settings_file *out)
{
    prepare(NULL, problems, out);
    int length = asprintf(&out->text, "%s\n", text);
    if (length < 0) {
        out->text = NULL;
        return refuse_errno(out, ENOMEM);
    }
    return parse(out, (size_t)length);
}

void settings_file_close(struct settings_file *file)
{
    config_destroy(&file->config);
    free(file->text);
    free(file->misread);
}

/* ---- What is said of it ---- */

void settings_file_report(const struct settings_file *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    problems_vadd(file->problems, file->name, file->name ? line : 0, format, arguments);
    va_end(arguments);
}

bool settings_file_misread(const struct settings_file *file, const config_setting_t *setting)
{
    return config_setting_is_number(setting) && file->misread[settings_line(setting)];
}

int settings_line(const config_setting_t *setting)
{
    return (int)config_setting_source_line(setting);
}

/* libconfig has read on to the next token before it knows that a text has ended. After the last one that may
 * be a bracket on a line of its own: the text is above. */
int settings_element_line(const struct settings_file *file, const config_setting_t *element)
{
    const config_setting_t *list = config_setting_parent(element);
    int line = settings_line(element);
    if (config_setting_type(element) != CONFIG_TYPE_STRING || last_of(list) != element)
        return line;
    const char *at = syntax_line(file->text, line);
    for (; line > settings_line(list) && strchr("\r\n,])#/", at[strspn(at, " \t")]); line--)
        at = syntax_line_before(file->text, at);
    return line;
}

int64_t settings_whole_number(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_INT ? config_setting_get_int(setting)
                                                           : config_setting_get_int64(setting);
}

const char *settings_value_text(const config_setting_t *setting, char out[static VALUE_TEXT_SIZE])
{
    char excerpt[4 * EXCERPT + 4];
    const char *text;
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "{ ... }";
    case CONFIG_TYPE_LIST:
        return config_setting_length(setting) > 0 ? "( ... )" : "( )";
    case CONFIG_TYPE_ARRAY:
        return config_setting_length(setting) > 0 ? "[ ... ]" : "[ ]";
    case CONFIG_TYPE_BOOL:
        return config_setting_get_bool(setting) ? "true" : "false";
    case CONFIG_TYPE_FLOAT:
        snprintf(out, VALUE_TEXT_SIZE, "%.10g", config_setting_get_float(setting));
        return out;
    case CONFIG_TYPE_STRING:
        text = config_setting_get_string(setting);
        snprintf(out, VALUE_TEXT_SIZE, "\"%s\"", escape_excerpt(text, strlen(text), EXCERPT, excerpt));
        return out;
    default:
        snprintf(out, VALUE_TEXT_SIZE,
                 config_setting_get_format(setting) == CONFIG_FORMAT_HEX ? "0x%" PRIx64 : "%" PRId64,
                 settings_whole_number(setting));
        return out;
    }
}
