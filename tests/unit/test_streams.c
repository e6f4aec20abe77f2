#include "base/streams.h"

#include "base/cleanup.h"
#include "common.h"
#include "faults.h"

#include <sys/wait.h>

/* What a process of its own with these descriptors closed comes to: 0 or an errno. */
static int held_without(const int *closed, size_t count, const char *fault)
{
    char byte = 'x';
    for (size_t i = 0; i < count; i++)
        close(closed[i]);
    if (fault)
        fault_rules(fault);
    int r = streams_hold_standard();
    fault_disarm();
    if (r < 0)
        return -r;
    for (size_t i = 0; i < count; i++) {
        ssize_t n = closed[i] == STDIN_FILENO ? read(closed[i], &byte, 1) : write(closed[i], &byte, 1);
        if (n != -1 || errno != EBADF)
            return EINVAL;
    }
    int next = dup(STDERR_FILENO);
    return next > STDERR_FILENO ? 0 : EBADF;
}

static void expect_held(const int *closed, size_t count, const char *fault, int wanted)
{
    pid_t child = fork();
    int status;
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(held_without(closed, count, fault));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == wanted, "status %#x", status);
}

TEST(holds_what_is_closed)
{
    static const int all[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    expect_held(all, 0, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        expect_held(&all[i], COUNT_OF(all) - i, NULL, 0);
    expect_held(all, 1, NULL, 0);
    expect_held(all, 1, "open:EMFILE", EMFILE);
}

TEST(a_full_disk_shows)
{
    CLEANUP(close_stream) FILE *full = fopen("/dev/full", "w");
    CLEANUP(close_stream) FILE *null = fopen("/dev/null", "w");
    ck_assert_ptr_nonnull(full);
    ck_assert_ptr_nonnull(null);
    fputs("text", null);
    ck_assert_int_eq(print_finish(null), 0);
    fputs("text", full);
    ck_assert_int_eq(print_finish(full), -ENOSPC);
    /* Told once by errno, and then by the stream alone. */
    ck_assert_int_lt(print_finish(full), 0);
    clearerr(full);
}
