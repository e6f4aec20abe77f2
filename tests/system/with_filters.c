/* Runs a command under system call filters. It takes no arguments, so that it can stand in for the command:
 * called as .../NAME it reads $DIRECTORY/filters and executes $DIRECTORY/command/NAME, where DIRECTORY is
 * $TCPECHOD_FILTERED.
 *
 * `filters` has programs as the kernel keeps them (struct sock_filter, seccomp(2)), oldest first, each behind
 * the number of its instructions; filters.py reads them from a service that systemd has started. As systemd
 * does, this makes no call between the last of them and execve(2). */
#include <err.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PROGRAMS_MAX 128
#define PATH_SIZE 4096

static size_t read_programs(FILE *file, struct sock_fprog programs[static PROGRAMS_MAX])
{
    uint32_t length;
    size_t count = 0;
    while (fread(&length, sizeof length, 1, file) == 1) {
        if (count == PROGRAMS_MAX || length == 0 || length > BPF_MAXINSNS)
            errx(EXIT_FAILURE, "not a file of filters");
        struct sock_filter *code = calloc(length, sizeof *code);
        if (!code)
            err(EXIT_FAILURE, "calloc");
        if (fread(code, sizeof *code, length, file) != length)
            errx(EXIT_FAILURE, "the file of filters is cut short");
        programs[count++] = (struct sock_fprog){.len = (unsigned short)length, .filter = code};
    }
    return count;
}

int main(int argc, char **argv)
{
    struct sock_fprog programs[PROGRAMS_MAX];
    char filters[PATH_SIZE], command[PATH_SIZE];
    const char *directory = getenv("TCPECHOD_FILTERED");
    if (!directory || argc < 1)
        errx(EXIT_FAILURE, "$TCPECHOD_FILTERED is not set");
    snprintf(filters, sizeof filters, "%s/filters", directory);
    snprintf(command, sizeof command, "%s/command/%s", directory, basename(argv[0]));

    FILE *file = fopen(filters, "re");
    if (!file)
        err(EXIT_FAILURE, "%s", filters);
    size_t count = read_programs(file, programs);
    if (ferror(file) || fclose(file) != 0)
        err(EXIT_FAILURE, "%s", filters);

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        err(EXIT_FAILURE, "PR_SET_NO_NEW_PRIVS");
    for (size_t i = 0; i < count; i++)
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programs[i]) < 0)
            err(EXIT_FAILURE, "filter %zu", i + 1);
    execv(command, argv);
    err(EXIT_FAILURE, "%s", command);
}
