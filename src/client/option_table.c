#include "client/options.h"

#include "base/clock.h"
#include "client/net/target.h"

#include <stddef.h>

#define FIELD(name) offsetof(struct client_options, name)
#define HOUR (3600 * USEC_PER_SEC)
#define YEAR (365 * 24 * HOUR)

#define TALKS (MODE_BIT(MODE_TALK) | MODE_BIT(MODE_CHAT))
#define DIALS (EVERY_MODE & ~MODE_BIT(MODE_CHAT))

const struct option_row option_table[] = {
    {"listen", 0, "[ADDRESS:]PORT", MODE_BIT(MODE_CHAT), OPTION_MODE, FIELD(listen), 0, 0, 0,
     "wait for one peer at this port of all addresses, or of one"},
    {"verbose", 'v', NULL, TALKS, OPTION_FLAG, FIELD(verbose), 0, 0, 0,
     "say who is connected, and at the end how much went each way"},
    {"wait", 'W', "TIME", TALKS, OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR, USEC_NEVER,
     "how long the other side may be silent once stdin has ended (default for ever)"},
    {"no-half-close", 0, NULL, TALKS, OPTION_FLAG, FIELD(no_half_close), 0, 0, 0,
     "keep our side open until the answer is whole: some proxies end all at a half-close"},
    {"ping", 0, NULL, MODE_BIT(MODE_PING), OPTION_MODE, 0, 0, 0, 0, "send a message each interval"},
    {"count", 'c', "N", MODE_BIT(MODE_PING), OPTION_COUNT, FIELD(count), 1, UINT32_MAX, 0,
     "how many messages (default no end)"},
    {"interval", 'i', "TIME", MODE_BIT(MODE_PING), OPTION_DURATION, FIELD(interval_usec), USEC_PER_MSEC, HOUR,
     USEC_NEVER, "from one message to the next (default 1 s)"},
    {"size", 's', "BYTES", MODE_BIT(MODE_PING), OPTION_SIZE, FIELD(size), PING_SIZE_MINIMUM,
     PING_SIZE_MAXIMUM, 64, "of a message, 16 to 1M (default 64)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_PING), OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR,
     2 * USEC_PER_SEC, "how long an answer may take before it counts as lost (default 2 s)"},
    {"deadline", 'w', "TIME", MODE_BIT(MODE_PING), OPTION_DURATION, FIELD(deadline_usec), USEC_PER_MSEC, YEAR,
     USEC_NEVER, "end after this time; with --count, when so many are answered"},
    {"connect", 0, NULL, MODE_BIT(MODE_PING), OPTION_FLAG, FIELD(connect), 0, 0, 0,
     "time the handshake of a new connection instead, at any port"},
    {"flood", 'f', NULL, MODE_BIT(MODE_PING), OPTION_FLAG, FIELD(flood), 0, 0, 0,
     "the next when the answer is there, or 100 a second; dots for what is missing"},
    {"timestamps", 'D', NULL, MODE_BIT(MODE_PING), OPTION_FLAG, FIELD(timestamps), 0, 0, 0,
     "print the time (seconds since 1970) before each line"},
    {"quiet", 'q', NULL, MODE_BIT(MODE_PING), OPTION_FLAG, FIELD(quiet), 0, 0, 0, "print the summary only"},
    {"bench", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_MODE, 0, 0, 0, 0, "load the server"},
    {"connections", 'c', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(connections), 1, 10000000, 10,
     "how many at once (default 10)"},
    {"size", 's', "BYTES", MODE_BIT(MODE_BENCH), OPTION_SIZE, FIELD(size), 1, UINT64_C(1) << 30, 0,
     "of a message, 1 to 1G (default 64; of --send and --receive 256k at a time)"},
    {"duration", 'd', "TIME", MODE_BIT(MODE_BENCH), OPTION_DURATION, FIELD(duration_usec), USEC_PER_MSEC,
     YEAR, USEC_NEVER, "how long (default 10 s, or until --messages are answered)"},
    {"messages", 'n', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(count), 1, UINT32_MAX, 0,
     "how many messages, of all connections together (default no end)"},
    {"rate", 0, "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(rate), 1, 100000000, 0,
     "send N messages a second on a schedule (default: the next when the answer is there)"},
    {"threads", 't', "N", MODE_BIT(MODE_BENCH), OPTION_COUNT, FIELD(threads), 1, 1024, 1,
     "that drive the connections (default 1)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_BENCH), OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR,
     5 * USEC_PER_SEC, "how long the last answers may take (default 5 s)"},
    {"reconnect", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_FLAG, FIELD(reconnect), 0, 0, 0,
     "a new connection for each message"},
    {"send", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_FLAG, FIELD(send), 0, 0, 0,
     "only send, to discard: MiB/s each second"},
    {"receive", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_FLAG, FIELD(receive), 0, 0, 0,
     "only receive, from chargen, whose pattern is checked"},
    {"json", 0, NULL, MODE_BIT(MODE_BENCH), OPTION_FLAG, FIELD(json), 0, 0, 0, "print the report as JSON"},
    {"watch", 0, NULL, MODE_BIT(MODE_WATCH), OPTION_MODE, 0, 0, 0, 0, "look out for outages"},
    {"interval", 'i', "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(interval_usec), USEC_PER_MSEC,
     HOUR, 20 * USEC_PER_MSEC, "between messages, and between new connections (default 20 ms)"},
    {"gap", 0, "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(gap_usec), USEC_PER_MSEC, HOUR,
     USEC_PER_SEC, "a longer time without an answer is an outage (default 1 s)"},
    {"size", 's', "BYTES", MODE_BIT(MODE_WATCH), OPTION_SIZE, FIELD(size), 1, 1 << 20, 64,
     "of a message, 1 to 1M (default 64)"},
    {"duration", 'd', "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(duration_usec), USEC_PER_MSEC,
     YEAR, USEC_NEVER, "how long (default until Ctrl-C)"},
    {"wait", 'W', "TIME", MODE_BIT(MODE_WATCH), OPTION_DURATION, FIELD(wait_usec), USEC_PER_MSEC, HOUR,
     5 * USEC_PER_SEC, "how long a new connection may take to be served (default 5 s)"},
    {"json", 0, NULL, MODE_BIT(MODE_WATCH), OPTION_FLAG, FIELD(json), 0, 0, 0, "print the summary as JSON"},
    {"port", 'p', "PORT", DIALS, OPTION_PORT, FIELD(port), 0, 0, 0,
     "a number or the name of a service (default " DEFAULT_PORT ")"},
    {"expect", 0, "SERVICE", DIALS, OPTION_EXPECT, FIELD(expect), 0, 0, EXPECT_ANYTHING,
     "check every byte of the answer: echo, or upper for capitals"},
    {"connect-timeout", 0, "TIME", DIALS, OPTION_DURATION, FIELD(connect_timeout_usec), USEC_PER_MSEC, HOUR,
     10 * USEC_PER_SEC, "how long to try each address of HOST (default 10 s)"},
    {"source", 'I', "ADDRESS", DIALS, OPTION_TEXT, FIELD(source), 0, 0, 0,
     "connect from this address or interface; --bench takes several, separated by commas"},
    {"tos", 'Q', "TOS", DIALS, OPTION_TOS, FIELD(tos), 0, 255, 0,
     "mark packets with this type of service: 0 to 255, 0x10, ef, af11, cs1"},
    {"ipv4", '4', NULL, EVERY_MODE, OPTION_FLAG, FIELD(ipv4), 0, 0, 0, "use IPv4 only"},
    {"ipv6", '6', NULL, EVERY_MODE, OPTION_FLAG, FIELD(ipv6), 0, 0, 0, "use IPv6 only"},
    {"version", 'V', NULL, EVERY_MODE, OPTION_FLAG, FIELD(version), 0, 0, 0, "print the version and exit"},
    {"help", 'h', NULL, EVERY_MODE, OPTION_FLAG, FIELD(help), 0, 0, 0, "print this and exit"},
    {0},
};

const struct option_hint option_hints[] = {
    {'b', "type --bench"},
    {'e', "type --expect"},
    {'g', "type --gap"},
    {'j', "type --json"},
    {'l', "type --listen"},
    {'p', "to ping, type --ping"},
    {'r', "type --rate"},
    {'t', "how long to connect is --connect-timeout"},
    {'T', "type -t, of --bench"},
    {'w', "to look out for outages, type --watch"},
    {0},
};

const struct option_substitute option_substitutes[] = {
    {"count", MODE_BIT(MODE_BENCH), "messages"},
    {"messages", MODE_BIT(MODE_PING), "count"},
    {"deadline", MODE_BIT(MODE_BENCH) | MODE_BIT(MODE_WATCH), "duration"},
    {"duration", MODE_BIT(MODE_PING), "deadline"},
    {"rate", MODE_BIT(MODE_PING) | MODE_BIT(MODE_WATCH), "interval"},
    {"interval", MODE_BIT(MODE_BENCH), "rate"},
    {0},
};

const struct mode_row mode_table[MODE_COUNT] = {
    [MODE_TALK] =
        {.synopsis = "tcpecho [OPTIONS] HOST [PORT]",
         .help = "sends stdin to the server and writes its answer to stdout, both at once, until both end",
         .has_host = true},
    [MODE_CHAT] = {.synopsis = "tcpecho --listen [ADDRESS:]PORT [OPTIONS]",
                   .help = "waits for one peer, then the same: two terminals, a chat",
                   .option = "listen"},
    [MODE_PING] = {.synopsis = "tcpecho --ping [OPTIONS] HOST [PORT] | HOST ...",
                   .help = "measures the round trip of a message each second; Ctrl-C ends it with a summary",
                   .option = "ping",
                   .has_host = true},
    [MODE_BENCH] = {.synopsis = "tcpecho --bench [OPTIONS] HOST [PORT]",
                    .help = "loads the server, checks every byte, and tells throughput and latency",
                    .option = "bench",
                    .has_host = true},
    [MODE_WATCH] = {.synopsis = "tcpecho --watch [OPTIONS] HOST [PORT]",
                    .help =
                        "looks out for outages: a steady small client, and a new connection each interval",
                    .option = "watch",
                    .has_host = true},
};
