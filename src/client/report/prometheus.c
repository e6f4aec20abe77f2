#include "client/report/prometheus.h"

#include "base/cleanup.h"
#include "base/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* mkstemp(3) makes it for nobody else, and this is for a collector. */
static int make_readable(int fd)
{
    mode_t mask = umask(0);
    umask(mask);
    return fchmod(fd, 0644 & ~mask) < 0 ? -errno : 0;
}

static int write_out(int fd, void (*fill)(FILE *out, const void *what), const void *what)
{
    CLEANUP(close_stream) FILE *out = fdopen(fd, "w");
    if (!out) {
        int error = errno;
        close(fd);
        return -error;
    }
    int r = make_readable(fd);
    if (r < 0)
        return r;
    fill(out, what);
    return print_finish(out);
}

int prometheus_write(const char *path, void (*fill)(FILE *out, const void *what), const void *what)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s.XXXXXX", path) >= (int)sizeof name)
        return -ENAMETOOLONG;
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write_out(fd, fill, what);
    if (r == 0 && rename(name, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(name); /* there is nothing else to do about it */
    return r;
}

void prometheus_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void prometheus_sample(FILE *out, const char *name, const char *labels, double value)
{
    fprintf(out, "%s%s%s%s %.17g\n", name, labels[0] != '\0' ? "{" : "", labels, labels[0] != '\0' ? "}" : "",
            value);
}

const char *prometheus_label(const char *name, const char *value, char out[static PROMETHEUS_LABEL_SIZE])
{
    size_t at = (size_t)snprintf(out, PROMETHEUS_LABEL_SIZE, "%.64s=\"", name);
    for (; *value != '\0' && at + 4 < PROMETHEUS_LABEL_SIZE; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            out[at++] = '\\';
        out[at++] = *value == '\n' ? 'n' : *value;
    }
    memcpy(out + at, "\"", 2);
    return out;
}
