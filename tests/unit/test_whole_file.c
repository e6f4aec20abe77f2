#include "base/whole_file.h"

#include "faults.h"
#include "socket_directory.h"

#include <sys/stat.h>

/* Its end sees that nothing but `path` was left. */
FIXTURE(make_directory, remove_directory)

static void fill(FILE *out, const void *text)
{
    fputs(text, out);
}

static void expect_content(const char *text)
{
    char got[64] = "";
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    got[fread(got, 1, sizeof got - 1, file)] = '\0';
    fclose(file);
    ck_assert_str_eq(got, text);
}

TEST(replaces_a_file)
{
    struct stat written, there;
    umask(077);
    ck_assert_int_eq(whole_file_write(path, 0640, fill, "first and long", NULL), 0);
    expect_content("first and long");
    ck_assert_int_eq(whole_file_write(path, 0604, fill, "second", &written), 0);
    expect_content("second");
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_int_eq(there.st_mode & 07777, 0604);
    ck_assert(there.st_ino == written.st_ino && there.st_dev == written.st_dev);
}

static const struct {
    const char *rules;
    int error;
} failures[] = {
    {"asprintf:ENOMEM", ENOMEM}, {"mkostemp:EACCES", EACCES}, {"fchmod:EPERM", EPERM},
    {"fdopen:ENOMEM", ENOMEM},   {"fflush:ENOSPC", ENOSPC},   {"fstat:EIO", EIO},
    {"rename:EIO", EIO},
};

TEST_EACH(or_leaves_it, failures)
{
    struct stat written;
    ck_assert_int_eq(whole_file_write(path, 0644, fill, "before", NULL), 0);
    unsigned descriptors = open_descriptors();
    fault_rules(c->rules);
    int r = whole_file_write(path, 0644, fill, "after", &written);
    fault_disarm();
    ck_assert_int_eq(r, -c->error);
    ck_assert_uint_eq(open_descriptors(), descriptors);
    expect_content("before");
}

/* The link, and not what it leads to, would be gone. */
TEST(is_no_other_thing)
{
    char target[8] = "";
    ck_assert_int_eq(symlink("nowhere", path), 0);
    ck_assert_int_eq(whole_file_write(path, 0644, fill, "x", NULL), -EEXIST);
    ck_assert_int_eq(readlink(path, target, sizeof target), 7);
}
