#include "daemon/settings_text.h"

#include "base/cleanup.h"
#include "daemon/problems.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int refuse(struct problems *problems, const char *file, const char *why)
{
    problems_add(problems, file, 0, "%s", why);
    return -EINVAL;
}

static int refuse_errno(struct problems *problems, const char *file, int error)
{
    problems_add(problems, file, 0, "cannot be read: %s", strerror(error));
    return -EINVAL;
}

/* Files may grow while they are read, and those of /proc have no size: one byte more than is allowed is asked
 * for. */
static int read_all(int fd, char *buffer, size_t size, size_t *length)
{
    size_t used = 0;

    while (used < size) {
        ssize_t n = read(fd, buffer + used, size - used);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    *length = used;
    return 0;
}

int text_read(const char *file, struct problems *problems, char **out, size_t *length)
{
    CLEANUP(fd_close) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    CLEANUP(free_pointer) char *buffer = NULL;
    struct stat status;
    size_t used = 0;
    int r;

    if (fd < 0)
        return errno == ENOENT ? -ENOENT : refuse_errno(problems, file, errno);
    if (fstat(fd, &status) < 0)
        return refuse_errno(problems, file, errno);
    if (S_ISDIR(status.st_mode))
        return refuse(problems, file, "is a directory, not a settings file");
    if (!S_ISREG(status.st_mode))
        return refuse(problems, file, "is not a regular file");
    buffer = malloc(SETTINGS_FILE_LIMIT + 1);
    if (!buffer)
        return refuse_errno(problems, file, ENOMEM);
    r = read_all(fd, buffer, SETTINGS_FILE_LIMIT + 1, &used);
    if (r < 0)
        return refuse_errno(problems, file, -r);
    if (used > SETTINGS_FILE_LIMIT)
        return refuse(problems, file, "is larger than 1 MiB, which no settings file needs");
    *length = used;
    *out = TAKE_PTR(buffer);
    return 0;
}

char *text_copy(const char *bytes, size_t length)
{
    char *copy = malloc(length + 2);

    if (!copy)
        return NULL;
    if (length)
        memcpy(copy, bytes, length);
    copy[length] = '\n';
    copy[length + 1] = '\0';
    return copy;
}

int text_count_lines(const char *text, size_t length)
{
    int lines = 0;

    for (const char *p = text, *end = text + length; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    return lines;
}

void text_drop_mark(char *text, char *source, const char *file, struct problems *problems)
{
    static const char mark[] = "\xef\xbb\xbf";

    if (strncmp(text, mark, sizeof mark - 1) != 0)
        return;
    problems_add(problems, file, 1, "the file starts with a byte order mark; save it as UTF-8 without one");
    memset(text, ' ', sizeof mark - 1);
    memset(source, ' ', sizeof mark - 1);
}

void text_drop_nuls(char *text, char *source, size_t length, const char *file, struct problems *problems)
{
    int line = 1, reported = 0;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            line++;
        if (text[i] != '\0')
            continue;
        text[i] = source[i] = ' ';
        if (reported != line)
            problems_add(problems, file, line, "a NUL byte is not allowed in a settings file");
        reported = line;
    }
}

bool text_has_nul(const char *bytes, size_t length, int line)
{
    const char *end = bytes + length, *newline;

    for (int i = 1; i < line; i++) {
        newline = memchr(bytes, '\n', (size_t)(end - bytes));
        if (!newline)
            return false;
        bytes = newline + 1;
    }
    newline = memchr(bytes, '\n', (size_t)(end - bytes));
    return memchr(bytes, '\0', (size_t)((newline ? newline : end) - bytes)) != NULL;
}
