#include "client/report/prometheus.h"

#include "base/whole_file.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <string.h>

int prometheus_check(const char *path)
{
    int r = whole_file_check(path);
    if (r == 0)
        return 0;
    print_error("cannot write %.512s: %s", path, prometheus_error(r));
    return EXIT_FILE;
}

const char *prometheus_error(int r)
{
    return r == -EEXIST ? "it is no regular file, and would be lost" : strerror(-r);
}

int prometheus_write(const char *path, void (*fill)(FILE *out, const void *what), const void *what)
{
    mode_t mask = umask(0);
    umask(mask);
    return whole_file_write(path, 0644 & ~mask, fill, what, NULL);
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
