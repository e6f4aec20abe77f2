#include "client/options.h"

#include "base/clock.h"
#include "capture.h"
#include "faults.h"

#include <ctype.h>

static struct client_options options;

/* Words separated by single blanks. Returns what client_options_parse returned, and what it said in *told. */
static int parse(const char *line, const char **told)
{
    static char copy[4096];
    static char program[] = "tcpecho";
    static char *argv[600] = {program}; /* what is parsed refers to it */
    int argc = 1;
    ck_assert_uint_lt(strlen(line), sizeof copy);
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    memset(&options, 0, sizeof options);
    capture(LOG_LEVEL_DEBUG);
    int r = client_options_parse(argc, argv, &options);
    *told = written();
    return r;
}

static void accept_line(const char *line)
{
    const char *told;
    int r = parse(line, &told);
    ck_assert_msg(r == 0 && told[0] == '\0', "\"%s\": %d, %s", line, r, told);
}

TEST(a_host)
{
    accept_line("localhost");
    ck_assert_int_eq(options.mode, MODE_TALK);
    ck_assert_str_eq(options.host, "localhost");
    ck_assert_ptr_null(options.port);
    ck_assert_int_eq(options.expect, EXPECT_ANYTHING);
    ck_assert_uint_eq(options.wait_usec, USEC_NEVER);
    ck_assert_uint_eq(options.connect_timeout_usec, 10 * USEC_PER_SEC);
    ck_assert(!options.verbose);
}

TEST(everything_of_talk)
{
    accept_line("--no-half-close localhost");
    ck_assert(options.no_half_close);
    accept_line("-v --expect upper localhost -W 250ms --connect-timeout=0.5 echo");
    ck_assert_str_eq(options.port, "echo");
    ck_assert_int_eq(options.expect, EXPECT_UPPER);
    ck_assert_uint_eq(options.wait_usec, 250 * USEC_PER_MSEC);
    ck_assert_uint_eq(options.connect_timeout_usec, USEC_PER_SEC / 2);
    ck_assert(options.verbose);
    accept_line("-- -v 7");
    ck_assert_str_eq(options.host, "-v");
}

TEST(a_port)
{
    accept_line("-p 7 localhost");
    ck_assert_str_eq(options.port, "7");
    accept_line("--watch localhost --port=echo");
    ck_assert_str_eq(options.port, "echo");
    accept_line("--proxy-protocol 1 --proxy-source 192.0.2.1:5 tcp://localhost/");
}

TEST(one_way)
{
    accept_line("--bench --send host");
    ck_assert(options.send && !options.receive);
    ck_assert_uint_eq(options.size, 0);
    accept_line("--bench --receive -s 1M host");
    ck_assert(options.receive);
    accept_line("--bench --reconnect host");
    ck_assert(options.reconnect);
}

TEST(where_from)
{
    accept_line("-6 -I eth0 -Q 0x10 localhost");
    ck_assert(options.ipv6 && !options.ipv4);
    ck_assert_str_eq(options.source, "eth0");
    ck_assert(options.tos_given);
    ck_assert_uint_eq(options.tos, 16);
    accept_line("--tos af11 localhost");
    ck_assert_uint_eq(options.tos, 40);
    accept_line("--bench -I 10.0.0.1,10.0.0.2 localhost");
    accept_line("localhost");
    ck_assert(!options.tos_given);
}

TEST(a_chat)
{
    accept_line("-v --listen [::1]:7777");
    ck_assert_int_eq(options.mode, MODE_CHAT);
    ck_assert_str_eq(options.listen, "[::1]:7777");
    ck_assert(options.verbose);
}

/* An option means what it means in the mode, also when that comes after it. */
TEST(everything_of_ping)
{
    accept_line("--wait 3 -c 5 -i 0.2 -s 1k -q --expect echo host --ping 7");
    ck_assert_int_eq(options.mode, MODE_PING);
    ck_assert_uint_eq(options.wait_usec, 3 * USEC_PER_SEC);
    ck_assert_uint_eq(options.count, 5);
    ck_assert_uint_eq(options.interval_usec, USEC_PER_SEC / 5);
    ck_assert_uint_eq(options.size, 1024);
    ck_assert(options.quiet);
    accept_line("--ping -i .5 -c 2k host");
    ck_assert_uint_eq(options.interval_usec, USEC_PER_SEC / 2);
    ck_assert_uint_eq(options.count, 2000);
    accept_line("--bench --rate 10k -c 1.5k -n 3k -t 2 host");
    ck_assert_uint_eq(options.rate, 10000);
    ck_assert_uint_eq(options.connections, 1500);
    ck_assert_uint_eq(options.count, 3000);
    ck_assert_uint_eq(options.threads, 2);
    accept_line("--ping host");
    ck_assert_uint_eq(options.wait_usec, 2 * USEC_PER_SEC);
    ck_assert_uint_eq(options.count, 0);
    ck_assert_uint_eq(options.size, 64);
    ck_assert_uint_eq(options.interval_usec, USEC_NEVER);
    accept_line("--ping --ping host");
    accept_line("--ping -D -f -w 10 --connect host 7");
    ck_assert(options.timestamps && options.flood && options.connect);
    ck_assert_uint_eq(options.deadline_usec, 10 * USEC_PER_SEC);
    ck_assert_uint_eq(options.host_count, 1);
    ck_assert_str_eq(options.port, "7");
    accept_line("--ping a b");
    ck_assert_uint_eq(options.host_count, 2);
    ck_assert_str_eq(options.hosts[1], "b");
    ck_assert_ptr_null(options.port);
    accept_line("--ping -p 7 a b c");
    ck_assert_uint_eq(options.host_count, 3);
}

TEST(help_and_version)
{
    accept_line("-h");
    ck_assert(options.help);
    accept_line("--ping --help --count nonsense");
    ck_assert(options.help && options.mode_given && options.mode == MODE_PING);
    accept_line("-V");
    ck_assert(options.version);
    accept_line("--vers");
    ck_assert(options.version);
    const char *const of_a_chat[] = {"--listen --help", "--listen -h", "--help --listen",
                                     "-4 --listen 7 --help"};
    for (size_t i = 0; i < COUNT_OF(of_a_chat); i++) {
        accept_line(of_a_chat[i]);
        ck_assert(options.help && options.mode_given && options.mode == MODE_CHAT);
    }
    accept_line("--listen --version");
    ck_assert(options.version);
}

static const struct {
    const char *line, *told;
} refused[] = {
    {"", "no HOST to connect to"},
    {"--ping", "no HOST to connect to"},
    {"a b c", "c: no more than one HOST and one PORT"},
    {"--listen 7 a", "a: --listen takes no HOST"},
    {"-x a", "-x: unknown option"},
    {"-vx a", "-x: unknown option"},
    {"--nonsense a", "--nonsense: unknown option"},
    {"--ver a", "--ver: ambiguous option, as --verbose or --version"},
    {"--intervall 1 a", "--intervall: unknown option; did you mean --interval?"},
    {"--verbose=1 a", "--verbose=1 takes no argument"},
    {"a -W", "-W needs an argument"},
    {"a --expect", "--expect needs an argument"},
    {"--expect both a", "--expect both: must be echo or upper"},
    {"--ping --listen 7", "--ping and --listen cannot be used together"},
    {"-c 1 a", "a talk takes no -c; it goes with --ping (--count), --bench (--connections)"},
    {"--listen 7 --expect echo", "--listen takes no --expect; it goes with a talk, --ping, --bench, --watch"},
    {"--ping -v a", "--ping takes no -v; it goes with a talk (--verbose), --listen (--verbose)"},
    {"--ping -c 0 a", "-c 0: --count must be 1 to 4294967295"},
    {"--ping -c -1 a", "-c -1: --count must be 1 to 4294967295, as 100, 10k or 1M"},
    {"--ping -i 2h a", "-i 2h: --interval must be 1 ms to 1 h"},
    {"--ping -i 5parsecs a", "-i 5parsecs: --interval must be 1 ms to 1 h"},
    {"--ping -s 2M a", "-s 2M: --size must be 16 bytes to 1 MiB"},
    {"--ping --quiet=1 a", "--quiet=1 takes no argument"},
    {"--ping -c 4294967296 a", "-c 4294967296: --count must be 1 to 4294967295"},
    {"--ping -s 15 a", "-s 15: --size must be 16 bytes to 1 MiB, as 512, 64k or 1M"},
    {"--ping -i 0.9ms a", "-i 0.9ms: --interval must be 1 ms to 1 h, as 0.5, 250ms, 10s or 5m"},
    {"-W 61m a", "-W 61m: --wait must be 1 ms to 1 h, as 0.5, 250ms, 10s or 5m"},
    {"--connect-timeout never a", "--connect-timeout never: must be 1 ms to 1 h"},
    {"--listen", "--listen needs an argument"},
    {"--listen -v 7", "--listen needs an argument"},
    {"--bench --receive -W 5 a", "--receive ends without waiting for anything: no --wait"},
    {"--proxy-protocol 1 --proxy-source 192.0.2.1:5 /a",
     "/a: a path has no addresses to tell; leave out --proxy-source"},
    /* What had another letter, or is another option elsewhere. */
    {"-b a", "-b: unknown option; type --bench"},
    {"-e echo a", "-e: unknown option; type --expect"},
    {"-g 1 a", "-g: unknown option; type --gap"},
    {"--bench -j a", "-j: unknown option; type --json"},
    {"-l 7", "-l: unknown option; type --listen"},
    {"-p a", "-p a: --port must be 1 to 65535 or the name of a service; to ping, type --ping"},
    {"-p -c 5 a", "-p -c: --port must be 1 to 65535 or the name of a service; to ping, type --ping"},
    {"--bench -r 5 a", "-r: unknown option; type --rate"},
    {"-t 5 a",
     "a talk takes no -t; it goes with --bench (--threads); how long to connect is --connect-timeout"},
    {"--bench -t 5s a",
     "-t 5s: --threads must be 1 to 1024, as 100, 10k or 1M; how long to connect is --connect-timeout"},
    {"--bench -T 2 a", "-T: unknown option; type -t, of --bench"},
    {"-w a", "a talk takes no -w; it goes with --ping (--deadline); to look out for outages, type --watch"},
    {"--ping -d 5 a", "--ping takes no -d; type -w or --deadline"},
    {"--watch -w 5 a", "--watch takes no -w; type -d or --duration"},
    {"--ping -p 7 a 8", "8: --port has set the port to 7"},
    {"--ping a b 8", "8: the port of several HOSTs is given by -p"},
    {"--bench --count 5 a", "--bench takes no --count; type -n or --messages"},
    {"--ping -n 5 a", "--ping takes no -n; type -c or --count"},
    {"--watch --rate 5 a", "--watch takes no --rate; type -i or --interval"},
    {"--bench -i 1 a", "--bench takes no -i; type --rate"},
    {"-p 0 a", "-p 0: --port must be 1 to 65535"},
    {"-p 65536 a", "-p 65536: --port must be 1 to 65535"},
    {"--port 0 a", "--port 0: must be 1 to 65535"},
    {"-p 7 a:8", "a:8: has its port already, and --port has set it to 7"},
    {"--ping -p 7 a tcp://b:8", "tcp://b:8: has its port already, and --port has set it to 7"},
    {"--ping -p 7 [::1] [::1]:8", "[::1]:8: has its port already, and --port has set it to 7"},
    {"--json -v a", "--json says what --verbose would: leave out --verbose"},
    {"-p 7 a 7", "7: --port has set the port to 7"},
    {"--ping --json -D a", "--timestamps is for lines of text: leave it out with --json"},
    {"--ping --csv -D a", "--timestamps is for lines of text: leave it out with --csv"},
    {"--ping --nagios 1,2 -D a", "--timestamps is for lines of text: leave it out with --nagios"},
    {"--ping --csv -q a", "--csv prints no summary: leave out --quiet"},
    {"--ping --nagios 1,2 -q a", "--nagios prints one line: leave out --quiet"},
    {"--watch --nagios 1,2 --gap 1 a", "--nagios has limits of its own: leave out --gap"},
    {"--ping --prometheus x a:1 b a:1", "a:1: given twice, and --prometheus has one series of each HOST"},
    {"--ping --connect -s 100 a", "--connect sends nothing: leave out --size"},
    {"--expect echo --connect --ping a", "--connect reads nothing: leave out --expect"},
    {"--ping --connect --connect-timeout 1 a",
     "--connect waits for as long as --wait says: leave out --connect-timeout"},
};

TEST_EACH(refusals, refused)
{
    const char *told;
    int r = parse(c->line, &told);
    ck_assert_int_eq(r, -EINVAL);
    expect_in(told, c->told);
    expect_in(told, "; see tcpecho --help\n");
    ck_assert_ptr_eq(strchr(told, '\n'), told + strlen(told) - 1);
}

TEST(too_many)
{
    char line[4096] = "a";
    const char *told;
    for (size_t i = 0; i < 65; i++)
        strcat(line, " -v");
    ck_assert_int_eq(parse(line, &told), -EINVAL);
    expect_in(told, "more than 64 options");
}

/* The rows are as parsing takes them to be. */
TEST(the_table)
{
    size_t count = 0;
    for (const struct option_row *row = option_table; row->name; row++, count++) {
        ck_assert_uint_ne(row->modes, 0);
        ck_assert_ptr_nonnull(row->help);
        ck_assert_uint_lt(row->offset, sizeof options);
        ck_assert_int_eq(row->argument != NULL,
                         row->type != OPTION_FLAG && !(row->type == OPTION_MODE && row->offset == 0));
        for (const struct option_row *other = option_table; other != row; other++) {
            bool same_name = strcmp(row->name, other->name) == 0;
            bool same_letter = row->letter != 0 && row->letter == other->letter;
            ck_assert_msg(!same_name || row->letter == other->letter, "-%c", row->letter);
            ck_assert_msg(same_name || !same_letter || (row->modes & other->modes) == 0, "-%c", row->letter);
            ck_assert_msg(!same_letter || !row->argument == !other->argument, "-%c", row->letter);
            ck_assert_msg(!same_name || (row->modes & other->modes) == 0, "--%s twice in a mode", row->name);
            ck_assert_msg(!same_name || !row->argument == !other->argument, "--%s", row->name);
        }
    }
    ck_assert_uint_lt(count, 64);
}

static const char *help(const char *line)
{
    static char text[16384];
    accept_line(line);
    FILE *out = fmemopen(text, sizeof text, "w");
    ck_assert_int_eq(client_options_print_help(&options, out), 0);
    fclose(out);
    return text;
}

/* Each blank or end of a line as one blank. */
static const char *unwrapped(const char *text)
{
    static char out[16384];
    size_t length = 0;
    for (; *text && length + 1 < sizeof out; text++)
        if (!isspace((unsigned char)*text))
            out[length++] = *text;
        else if (length > 0 && out[length - 1] != ' ')
            out[length++] = ' ';
    out[length] = '\0';
    return out;
}

TEST(help_of_all)
{
    const char *text = help("--help");
    char option[64];
    for (const struct option_row *row = option_table; row->name; row++) {
        if (row->letter)
            (void)snprintf(option, sizeof option, "  -%c, --%s", row->letter, row->name);
        else
            (void)snprintf(option, sizeof option, "      --%s", row->name);
        expect_in(text, option);
        expect_in(unwrapped(text), row->help);
    }
    for (size_t i = 0; i < MODE_COUNT; i++)
        expect_in(text, mode_table[i].synopsis);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        ck_assert_msg(strcspn(line, "\n") < 80, "too wide: %.*s", (int)strcspn(line, "\n"), line);
}

TEST(help_of_one)
{
    const char *text = help("--listen 7 -h");
    expect_in(text, "tcpecho --listen");
    expect_in(text, "--verbose");
    ck_assert_ptr_null(strstr(text, "--interval"));
    ck_assert_ptr_null(strstr(text, "--expect "));
    ck_assert_ptr_null(strstr(text, "one mode only"));
    expect_in(help("-h"), "one mode only");
}

TEST(nowhere_to_print)
{
    FILE *full = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(full);
    ck_assert_int_eq(client_options_print_help(&options, full), -ENOSPC);
    ck_assert_int_eq(client_options_print_version(full), -ENOSPC);
    fclose(full);
}
