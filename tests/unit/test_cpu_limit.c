/* Control groups as the kernel shows them, in a directory. */
#include "base/cpu_limit.h"

#include "common.h"
#include "faults.h"

#include <ftw.h>
#include <sched.h>
#include <sys/stat.h>

static char root[] = "/tmp/tcpechod-test-XXXXXX";

static void setup(void)
{
    strcpy(strrchr(root, '-'), "-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void teardown(void)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* With the directories above it. */
static void put(const char *path, const char *text)
{
    char full[8192];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        ck_assert(mkdir(full, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "we");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

#define V2 "25 21 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_CPU "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
#define V1_SET "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"

static void machine(const char *mounts, const char *groups)
{
    put("/proc/self/mountinfo", mounts);
    put("/proc/self/cgroup", groups);
}

static void quota_v1(const char *group, const char *quota, const char *period)
{
    char path[512];
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu,cpuacct%s/cpu.cfs_quota_us", group);
    put(path, quota);
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu,cpuacct%s/cpu.cfs_period_us", group);
    put(path, period);
}

FIXTURE(setup, teardown)

static const struct {
    const char *text;
    unsigned cpus;
} quotas[] = {
    {"max 100000\n", CPU_LIMIT_NONE},
    {"50000 100000\n", 1},
    {"100000 100000\n", 1},
    {"100001 100000\n", 2},
    {"150000 100000\n", 2},
    {"400000 100000\n", 4},
    {"1000 1000000\n", 1},
    {"350000 100000", 4},
    {"9000000000000000000 1\n", CPU_LIMIT_NONE},
    {"", CPU_LIMIT_NONE},
    {"\n", CPU_LIMIT_NONE},
    {"50000\n", CPU_LIMIT_NONE},
    {"50000 0\n", CPU_LIMIT_NONE},
    {"0 50000\n", CPU_LIMIT_NONE},
    {"-1 50000\n", CPU_LIMIT_NONE},
    {"50000 -1\n", CPU_LIMIT_NONE},
    {"half a CPU\n", CPU_LIMIT_NONE},
};

TEST_EACH(version_2, quotas)
{
    machine("21 1 8:1 / / rw - ext4 /dev/root rw\n" V2, "0::/system.slice/tcpechod.service\n");
    put("/sys/fs/cgroup/system.slice/tcpechod.service/cpu.max", c->text);
    ck_assert_uint_eq(cpu_limit(root), c->cpus);
}

static const struct {
    const char *quota, *period;
    unsigned cpus;
} quotas_v1[] = {
    {"50000\n", "100000\n", 1},           {"250000\n", "100000\n", 3},
    {"-1\n", "100000\n", CPU_LIMIT_NONE}, {"many\n", "100000\n", CPU_LIMIT_NONE},
    {"50000\n", "\n", CPU_LIMIT_NONE},    {"50000\n", "0\n", CPU_LIMIT_NONE},
};

TEST_EACH(version_1, quotas_v1)
{
    machine(V1_SET V1_CPU,
            "4:memory:/other\n3:cpuset:/other\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n");
    quota_v1("", "-1\n", "100000\n");
    quota_v1("/docker", "-1\n", "100000\n");
    quota_v1("/docker/abc", c->quota, c->period);
    put("/sys/fs/cgroup/cpuset/other/cpu.max", "100000 100000\n"); /* of no hierarchy that has quotas */
    ck_assert_uint_eq(cpu_limit(root), c->cpus);
}

TEST(the_lowest_of_those_above_counts)
{
    machine(V2, "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 8);
    put("/sys/fs/cgroup/a/cpu.max", "150000 50000\n");
    ck_assert_uint_eq(cpu_limit(root), 3);
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n"); /* a namespace's root has one */
    ck_assert_uint_eq(cpu_limit(root), 2);
    put("/sys/fs/cgroup/a/b/c/cpu.max", "10000 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 1);
    put("/sys/fs/cgroup/a/b2/cpu.max", "1 100000\n"); /* beside the way */
    put("/sys/fs/cgroup/a/b/c/d/cpu.max", "1 100000\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 2);
}

TEST(both_versions)
{
    machine("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" V1_CPU
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "1:cpu,cpuacct:/\n0::/x\n");
    put("/sys/fs/cgroup/unified/x/cpu.pressure", "");
    quota_v1("", "350000", "100000");
    ck_assert_uint_eq(cpu_limit(root), 4);
    put("/sys/fs/cgroup/unified/x/cpu.max", "200000 100000");
    ck_assert_uint_eq(cpu_limit(root), 2);
}

/* As a container's runtime mounts the group alone, without a namespace. */
TEST(mount_of_a_group)
{
    machine("9 8 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
            "2:cpuacct,cpu:/docker/abc/d\n");
    quota_v1("/d", "400000\n", "100000\n");
    ck_assert_uint_eq(cpu_limit(root), 4);
    quota_v1("", "200000\n", "100000\n");
    ck_assert_uint_eq(cpu_limit(root), 2);
    put("/proc/self/cgroup", "2:cpu,cpuacct:/docker/abc\n");
    ck_assert_uint_eq(cpu_limit(root), 2);
    put("/proc/self/cgroup", "2:cpu,cpuacct:/docker/abcd\n"); /* not below it */
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
    put("/proc/self/cgroup", "2:cpu,cpuacct:/\n");
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
}

/* cgroup_namespaces(7): the root of a mount that was made outside is above the namespace's. */
TEST(namespaces)
{
    machine("9 8 0:30 /../.. /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 3);
    put("/proc/self/cgroup", "0::/init.scope\n");
    put("/sys/fs/cgroup/init.scope/cpu.max", "100000 100000\n"); /* another's, two levels up */
    ck_assert_uint_eq(cpu_limit(root), 3);
    /* The group is outside of the namespace, so nobody knows where the mount has it. */
    put("/proc/self/cgroup", "0::/../../x\n");
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
    put("/proc/self/mountinfo", V2);
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
    put("/proc/self/cgroup", "0::/..\n");
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
    put("/proc/self/cgroup", "0::/..a\n"); /* a name like any other */
    put("/sys/fs/cgroup/..a/cpu.max", "200000 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 2);
}

TEST(escaped_paths)
{
    machine("9 8 0:30 /a\\040b /mnt/c\\011d\\134e ro - cgroup2 my\\040groups rw\n", "0::/a b/c\n");
    put("/mnt/c\td\\e/c/cpu.max", "200000 100000\n");
    ck_assert_uint_eq(cpu_limit(root), 2);
}

static const struct {
    const char *mounts, *groups;
} unseen[] = {
    {"", "0::/a\n"},
    {"\n", "0::/a\n"},
    {" - ", "0::/a\n"},
    {"9 8 0:30 - cgroup2 cgroup2 rw\n", "0::/a\n"},
    {"9 8 0:30 / /sys/fs/cgroup ro cgroup2 cgroup2 rw\n", "0::/a\n"},
    {"9 8 0:30 / /sys/fs/cgroup ro - cgroup2\n", "0::/a\n"},
    {"9 8 0:30 / /sys/fs/cgroup ro - cgroup cgroup rw,cpuset\n", "0::/a\n"},
    {"9 8 0:30 / /elsewhere ro - cgroup2 cgroup2 rw\n", "0::/a\n"},
    {"9 8 0:30 / /sys/fs/cgroup ro - tmpfs tmpfs rw,cpu\n", "0::/a\n"},
    {V2, ""},
    {V2, "\n"},
    {V2, "0"},
    {V2, "0:"},
    {V2, "0:x\n"},
    {V2, "::\n"},
    {V2, "1:cpu:/a\n"},
    {V2, "0::b\n"},
    {V2, "0::/b\n"},
};

TEST_EACH(nothing_to_be_seen, unseen)
{
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE); /* no /proc */
    put("/sys/fs/cgroup/a/cpu.max", "100000 100000\n");
    put("/proc/self/mountinfo", c->mounts);
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE); /* half of it */
    put("/proc/self/cgroup", c->groups);
    ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
    machine(V2, "0::/a\n");
    ck_assert_uint_eq(cpu_limit(root), 1);
}

/* As long as paths may be, and longer. */
TEST(long_paths)
{
    char name[4096], groups[3 * sizeof name], mounts[3 * sizeof name];
    memset(name, 'x', sizeof name - 1);
    name[0] = '/';
    for (size_t length = sizeof name - 4; length < sizeof name; length++) {
        name[length] = '\0';
        snprintf(groups, sizeof groups, "0::%s%s\n", name, length == sizeof name - 1 ? name : "");
        snprintf(mounts, sizeof mounts,
                 "9 8 0:30 / %s ro - cgroup2 cgroup2 rw\n9 8 0:30 %s%s / ro - cgroup2 x rw\n", name, name,
                 name);
        machine(mounts, groups);
        ck_assert_uint_eq(cpu_limit(root), CPU_LIMIT_NONE);
        name[length] = 'x';
    }
}

TEST(unreadable_files)
{
    unsigned before = open_descriptors();
    machine(V2, "0::/a\n");
    put("/sys/fs/cgroup/a/cpu.max", "200000 100000\n");
    for (unsigned long nth = 1; nth <= 3; nth++) {
        fault_arm("fopen", EMFILE, nth);
        unsigned cpus = cpu_limit(root);
        fault_disarm();
        ck_assert_uint_eq(cpus, CPU_LIMIT_NONE);
        ck_assert_uint_eq(open_descriptors(), before);
    }
    ck_assert_uint_eq(cpu_limit(root), 2);
}

/* Of this process, whatever it is: it is one. */
TEST(the_real_one)
{
    ck_assert_uint_ge(cpu_limit(""), 1);
}

TEST(cpus_are_those_it_may_use)
{
    cpu_set_t all, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_uint_eq(cpu_count(), (unsigned)CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned cpus = cpu_count();
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    ck_assert_uint_eq(cpus, 1);
    fault_arm("sched_getaffinity", EINVAL, 1);
    cpus = cpu_count();
    fault_disarm();
    ck_assert_uint_eq(cpus, (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
}
