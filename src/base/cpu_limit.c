#include "base/cpu_limit.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* ROOT, a mount's point, a path below it and the name of a file. */
#define FILE_PATH_MAX (3 * PATH_MAX)

/* A mounted hierarchy that may have quotas. */
struct mount {
    bool is_v2;
    char root[PATH_MAX];  /* which of its groups the mount shows as its root */
    char point[PATH_MAX]; /* where */
};

/* What the kernel writes as \040 and the like (proc_pid_mountinfo(5)). In place. */
static void unescape(char *text)
{
    char *out = text;
    unsigned byte;
    for (const char *in = text; *in;) {
        int length = 0;
        if (sscanf(in, "\\%3o%n", &byte, &length) == 1 && length == 4 && byte <= UINT8_MAX) {
            *out++ = (char)byte;
            in += length;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

/* Whether a comma-separated list has this word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (;; list++) {
        size_t here = strcspn(list, ",");
        if (here == length && strncmp(list, word, length) == 0)
            return true;
        list += here;
        if (*list == '\0')
            return false;
    }
}

/* "36 35 0:30 ROOT POINT rw,relatime shared:1 - cgroup cgroup rw,cpu": false for a mount of something else.
 */
static bool parse_mount(const char *line, struct mount *mount)
{
    char type[16], options[256];
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(rest, " - %15s %*s %255s", type, options) != 2)
        return false;
    mount->is_v2 = strcmp(type, "cgroup2") == 0;
    if (!mount->is_v2 && (strcmp(type, "cgroup") != 0 || !has_word(options, "cpu")))
        return false;
    _Static_assert(PATH_MAX == 4096, "the widths below");
    if (sscanf(line, "%*s %*s %*s %4095s %4095s", mount->root, mount->point) != 2)
        return false;
    unescape(mount->root);
    unescape(mount->point);
    return true;
}

static FILE *open_file(const char *root, const char *path, const char *name)
{
    char full[FILE_PATH_MAX];
    if (snprintf(full, sizeof full, "%s%s%s", root, path, name) >= (int)sizeof full)
        return NULL;
    return fopen(full, "re");
}

/* The process's control group in version 2, "0::PATH", or in the hierarchy of version 1 that has quotas,
 * "3:cpu,cpuacct:PATH". Returns whether it is in one. */
static bool find_own_group(const char *root, bool is_v2, char path[static PATH_MAX])
{
    CLEANUP(close_stream) FILE *file = open_file(root, "/proc/self/cgroup", "");
    CLEANUP(free_pointer) char *line = NULL;
    size_t size = 0;
    while (file && getline(&line, &size, file) >= 0) {
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (is_v2 ? strcmp(line, "0:") != 0 : !has_word(controllers + 1, "cpu"))
            continue;
        return snprintf(path, PATH_MAX, "%.*s", (int)strcspn(group, "\n"), group) < PATH_MAX;
    }
    return false;
}

/* Whether the way to it leads out of the process's namespace: "/..", "/../x". */
static bool leads_out(const char *path)
{
    return strncmp(path, "/..", 3) == 0 && (path[3] == '/' || path[3] == '\0');
}

/* Whether it is above the namespace's root: "/..", "/../..". */
static bool is_above_namespace(const char *path)
{
    while (leads_out(path))
        path += 3;
    return *path == '\0';
}

/* The group as the mount shows it: "" is the mount's own root. Returns whether it shows it, or at least a
 * group above. */
static bool find_below(const struct mount *mount, char *group)
{
    size_t length = strlen(mount->root);
    if (strcmp(mount->root, "/") == 0)
        length = 0;
    /* The names between the two are unknown; the mount's root is above them, and its quota counts. A group
     * that is itself outside of the namespace is nowhere to be found. */
    if (length > 0 && is_above_namespace(mount->root)) {
        bool is_inside = !leads_out(group);
        *group = '\0';
        return is_inside;
    }
    if (strncmp(group, mount->root, length) != 0 || (group[length] != '/' && group[length] != '\0') ||
        leads_out(group + length))
        return false;
    memmove(group, group + length, strlen(group + length) + 1);
    if (strcmp(group, "/") == 0)
        *group = '\0';
    return true;
}

static bool read_number(const char *root, const char *path, const char *name, int64_t *out)
{
    CLEANUP(close_stream) FILE *file = open_file(root, path, name);
    return file && fscanf(file, "%" SCNd64, out) == 1;
}

/* Of one group. Version 2 has "max 100000" where there is no quota, and version 1 has -1. */
static unsigned limit_at(const char *root, bool is_v2, const char *path)
{
    int64_t quota, period;
    if (is_v2) {
        CLEANUP(close_stream) FILE *file = open_file(root, path, "/cpu.max");
        if (!file || fscanf(file, "%" SCNd64 " %" SCNd64, &quota, &period) != 2)
            return CPU_LIMIT_NONE;
    } else if (!read_number(root, path, "/cpu.cfs_quota_us", &quota) ||
               !read_number(root, path, "/cpu.cfs_period_us", &period)) {
        return CPU_LIMIT_NONE;
    }
    if (quota <= 0 || period <= 0)
        return CPU_LIMIT_NONE;
    int64_t cpus = quota / period + (quota % period > 0);
    return cpus < CPU_LIMIT_NONE ? (unsigned)cpus : CPU_LIMIT_NONE;
}

/* Of the group and of all above it, up to the mount's root. */
static unsigned limit_of(const char *root, const struct mount *mount, const char *group)
{
    char path[2 * PATH_MAX];
    size_t top = strlen(mount->point);
    unsigned least = CPU_LIMIT_NONE;
    snprintf(path, sizeof path, "%s%s", mount->point, group);
    for (;;) {
        unsigned limit = limit_at(root, mount->is_v2, path);
        if (limit < least)
            least = limit;
        if (path[top] == '\0')
            return least;
        *strrchr(path, '/') = '\0';
    }
}

unsigned cpu_limit(const char *root)
{
    CLEANUP(close_stream) FILE *file = open_file(root, "/proc/self/mountinfo", "");
    CLEANUP(free_pointer) char *line = NULL;
    size_t size = 0;
    struct mount mount;
    char group[PATH_MAX];
    unsigned least = CPU_LIMIT_NONE;
    while (file && getline(&line, &size, file) >= 0) {
        if (!parse_mount(line, &mount) || !find_own_group(root, mount.is_v2, group) ||
            !find_below(&mount, group))
            continue;
        unsigned limit = limit_of(root, &mount, group);
        if (limit < least)
            least = limit;
    }
    return least;
}

static unsigned count_affine(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    /* EINVAL: more CPUs than the set has bits for. */
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned cpu_count(void)
{
    unsigned cpus = count_affine(), limit = cpu_limit("");
    return cpus < limit ? cpus : limit;
}
