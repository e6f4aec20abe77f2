#include "client/report/nagios.h"

#include "client/process/exit_status.h"

static const char *const names[] = {
    [NAGIOS_OK] = "OK",
    [NAGIOS_WARNING] = "WARNING",
    [NAGIOS_CRITICAL] = "CRITICAL",
    [NAGIOS_UNKNOWN] = "UNKNOWN",
};

/* A bar, as of a path, would begin the performance data. */
static void print_text(FILE *out, enum nagios_state state, const char *text)
{
    fprintf(out, "TCPECHO %s - ", names[state]);
    for (; *text != '\0'; text++)
        if (*text == '|')
            fputs("\\x7c", out);
        else
            fputc(*text, out);
}

int nagios_print(FILE *out, enum nagios_state state, const char *text, const char *data)
{
    print_text(out, state, text);
    fprintf(out, " | %s\n", data);
    return NAGIOS_STATUS(state);
}

enum nagios_state nagios_worse(enum nagios_state a, enum nagios_state b)
{
    static const int ranks[] = {
        [NAGIOS_OK] = 0, [NAGIOS_WARNING] = 1, [NAGIOS_UNKNOWN] = 2, [NAGIOS_CRITICAL] = 3};
    return ranks[a] > ranks[b] ? a : b;
}

/* Of what says something about the server, and not about us. */
static enum nagios_state state_of(int status)
{
    switch (status) {
    case EXIT_WRONG_ANSWER:
    case EXIT_REFUSED:
    case EXIT_UNREACHABLE:
    case EXIT_TIMED_OUT:
    case EXIT_CLOSED_EARLY:
        return NAGIOS_CRITICAL;
    default:
        return NAGIOS_UNKNOWN;
    }
}

int nagios_finish(int status, const char *error)
{
    if (status >= NAGIOS_STATUS(NAGIOS_OK) && status <= NAGIOS_STATUS(NAGIOS_UNKNOWN))
        return status - NAGIOS_STATUS(NAGIOS_OK);
    enum nagios_state state = state_of(status);
    print_text(stdout, state, error[0] != '\0' ? error : "no result");
    putchar('\n');
    return fflush(stdout) == 0 ? (int)state : NAGIOS_UNKNOWN;
}
