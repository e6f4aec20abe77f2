#include "settings/table.h"

#include "base/clock.h"
#include "settings/types.h"
#include "settings/values.h"

#include <stddef.h>
#include <string.h>

#define GLOBAL(field) .scope = SCOPE_GLOBAL, .name = #field, .offset = offsetof(struct settings, field)
#define LOG(field) .scope = SCOPE_LOG, .name = #field, .offset = offsetof(struct settings, log_##field)
#define LISTENER(field)                                                                                      \
    .scope = SCOPE_LISTENER, .name = #field, .offset = offsetof(struct listener_settings, field)
/* A global setting that a listener may set for itself. */
#define OVERRIDE(field) LISTENER(field), .own_offset = offsetof(struct listener_settings, own_##field)
/* What a listener that misbehaves does. */
#define FAULT(field)                                                                                         \
    .scope = SCOPE_LISTENER, .is_fault = true, .name = #field,                                               \
    .offset = offsetof(struct listener_settings, misbehaviour.field)
#define FAULT_OF_ANSWERS(field) FAULT(field), .of_answers = true
/* What only some services have a use for. */
#define OF_SERVICES(flag) .service_offset = offsetof(struct service, flag)

#define HOUR (3600 * USEC_PER_SEC)
#define YEAR (365 * 24 * HOUR)
#define TIB (UINT64_C(1) << 40)

/* Served without any file. */
static const char built_in_listeners[] =
    "( { address = \"127.0.0.1\"; port = 7007; }, { address = \"::1\"; port = 7007; },"
    "  { address = \"127.0.0.1\"; port = 7008; service = \"upper\"; end_word = \"end\"; },"
    "  { address = \"::1\"; port = 7008; service = \"upper\"; end_word = \"end\"; } )";

static const struct setting_choice overload_choices[] = {
    {"wait", OVERLOAD_WAIT}, {"refuse", OVERLOAD_REFUSE}, {NULL, 0}};
static const struct setting_choice level_choices[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},     {NULL, 0}};
static const struct setting_choice target_choices[] = {
    {"auto", LOG_TARGET_AUTO}, {"journal", LOG_TARGET_JOURNAL}, {"stderr", LOG_TARGET_STDERR}, {NULL, 0}};
static const struct setting_choice format_choices[] = {
    {"text", LOG_FORMAT_TEXT}, {"json", LOG_FORMAT_JSON}, {NULL, 0}};
static const struct setting_choice detail_choices[] = {
    {"full", ADDRESS_FULL}, {"prefix", ADDRESS_PREFIX}, {"none", ADDRESS_NONE}, {NULL, 0}};

static const struct setting_choice end_choices[] = {{"close", MISBEHAVIOUR_CLOSE},
                                                    {"reset", MISBEHAVIOUR_RESET},
                                                    {"half_close", MISBEHAVIOUR_HALF_CLOSE},
                                                    {"hang", MISBEHAVIOUR_HANG},
                                                    {NULL, 0}};

/* clang-format off */
const struct setting_row setting_table[] = {
    {.scope = SCOPE_GLOBAL, .type = &setting_listeners, .name = "listeners",
     .fallback = built_in_listeners,
     .meaning = "Where clients are awaited, and what they are served."},
    {LISTENER(address), .type = &setting_address,
     .meaning = "The numeric address to listen on, IPv4 or IPv6, or \"*\" for every address of both."},
    {LISTENER(port), .type = &setting_port, .maximum = 65535, .place = PLACE_ADDRESS,
     .meaning = "The TCP port of the address; 0 takes a free one, and the log says which."},
    {LISTENER(path), .type = &setting_path, .maximum = 107,
     .meaning = "Instead of address and port: the absolute path of a Unix socket."},
    {LISTENER(mode), .type = &setting_mode, .maximum = 0777, .fallback = "\"0666\"", .place = PLACE_PATH,
     .meaning = "The access mode of the path, as text of octal digits; \"0666\" unless set."},
    {LISTENER(service), .type = &setting_service, .fallback = "\"echo\"",
     .meaning = "What the client gets; \"echo\" unless set."},
    {LISTENER(text), .type = &setting_text, .minimum = 1, .maximum = 65536, OF_SERVICES(takes_text),
     .meaning = "What greet and reply send; they need it, and no other service takes it."},
    {LISTENER(greeting), .type = &setting_text, .minimum = 1, .maximum = 65536,
     .meaning = "Text sent to each client before anything else."},
    {LISTENER(end_word), .type = &setting_word, .minimum = 1, .maximum = 255, OF_SERVICES(takes_end_word),
     .meaning = "Of echo and upper: a line that is exactly this word is answered, and then the connection is "
                "closed."},
    {LISTENER(trace), .type = &setting_boolean,
     .meaning = "Log each read and write with an excerpt of the bytes: for teaching and debugging."},
    {OVERRIDE(idle_timeout), .type = &setting_duration, .minimum = USEC_PER_MSEC, .maximum = YEAR,
     .zero = "never",
     .meaning = "Overrides the idle_timeout below for this listener."},
    {OVERRIDE(allow), .type = &setting_networks, .place = PLACE_CLIENT_ADDRESS,
     .meaning = "Overrides the allow below for this listener; with a path only under proxy_protocol."},
    {OVERRIDE(deny), .type = &setting_networks, .place = PLACE_CLIENT_ADDRESS,
     .meaning = "Overrides the deny below for this listener; with a path only under proxy_protocol."},
    {OVERRIDE(max_connections_per_source), .type = &setting_integer, .maximum = 1000000,
     .place = PLACE_CLIENT_ADDRESS,
     .meaning = "Overrides the max_connections_per_source below for this listener, which then counts the "
                "connections that it accepts from now on by itself; with a path only under proxy_protocol."},
    {LISTENER(proxy_protocol), .type = &setting_boolean,
     .meaning = "Each connection begins with a PROXY protocol header, version 1 or 2, which says who the client "
                "is."},
    {LISTENER(proxy_timeout), .type = &setting_duration, .minimum = USEC_PER_MSEC, .maximum = HOUR,
     .fallback = "3", .of_proxy = true,
     .meaning = "How long the whole header may take; 3 seconds unless set."},
    {LISTENER(proxy_from), .type = &setting_networks, .place = PLACE_ADDRESS, .of_proxy = true,
     .meaning = "The networks of the proxies, from where alone clients come; an empty list trusts everyone. Not with a "
                "path, whose mode says who may connect."},

    {FAULT_OF_ANSWERS(delay), .type = &setting_duration, .maximum = HOUR,
     .meaning = "How long each answer is held."},
    {FAULT_OF_ANSWERS(jitter), .type = &setting_duration, .maximum = HOUR,
     .meaning = "So much longer or shorter, by chance, than the delay."},
    {FAULT_OF_ANSWERS(rate), .type = &setting_size, .maximum = TIB,
     .meaning = "Bytes a second to the client; 0: no bound."},
    {FAULT_OF_ANSWERS(slice), .type = &setting_size, .maximum = 65536,
     .meaning = "Answers go in pieces of so many bytes; 0: as they are."},
    {FAULT_OF_ANSWERS(slice_delay), .type = &setting_duration, .maximum = HOUR,
     .meaning = "The time between such pieces."},
    {FAULT(accept_delay), .type = &setting_duration, .maximum = HOUR,
     .meaning = "How long after the accept nothing is read or said."},
    {FAULT(close_delay), .type = &setting_duration, .maximum = HOUR,
     .meaning = "How long our end is held after the last byte."},
    {FAULT_OF_ANSWERS(limit), .type = &setting_size, .maximum = TIB,
     .meaning = "After so many bytes to the client it ends; 0: no limit."},
    {FAULT(after), .type = &setting_duration, .minimum = USEC_PER_MSEC, .maximum = YEAR, .zero = "never", .fallback = "0",
     .meaning = "So long after the accept it ends; 0: never."},
    {FAULT(end), .type = &setting_choice, .choices = end_choices, .fallback = "\"close\"",
     .meaning = "How limit and after end it: \"close\" and \"half_close\" with a FIN, \"reset\" with a RST, \"hang\" "
                "with silence."},
    {FAULT(silent), .type = &setting_boolean,
     .meaning = "Reads, and never says anything."},
    {FAULT(deaf), .type = &setting_boolean,
     .meaning = "Never reads: what the client sends fills up."},
    {FAULT_OF_ANSWERS(corrupt), .type = &setting_share,
     .meaning = "The share of bytes that come with a bit changed."},
    {FAULT_OF_ANSWERS(lose), .type = &setting_share,
     .meaning = "The share of pieces that are left out: of slice bytes, or of 64."},
    {FAULT_OF_ANSWERS(repeat), .type = &setting_share,
     .meaning = "The share of pieces that come twice."},
    {FAULT(toxicity), .type = &setting_share, .fallback = "1.0",
     .meaning = "The share of connections that any of this happens to."},
    {FAULT(seed), .type = &setting_integer, .maximum = INT32_MAX,
     .meaning = "The same seed and order of connections: the same faults. 0: one that the log says."},

    {GLOBAL(workers), .type = &setting_integer, .maximum = 1024, .fallback = "0", .needs_restart = true,
     .unit = "threads",
     .meaning = "Threads that serve connections, each one many of them; 0: one for each CPU that the process "
                "may use."},
    {GLOBAL(queue_depth), .type = &setting_integer, .minimum = 1, .maximum = 65536, .fallback = "1024",
     .needs_restart = true, .unit = "connections",
     .meaning = "Accepted connections that no worker has taken yet. overload says what happens when there are "
                "more."},
    {GLOBAL(backlog), .type = &setting_integer, .minimum = 1, .maximum = 65535, .fallback = "4096",
     .unit = "connections",
     .meaning = "Connections that the kernel holds for each listening socket until they are accepted. The "
                "kernel's own bound is net.core.somaxconn."},
    {GLOBAL(max_connections), .type = &setting_integer, .maximum = 1000000, .fallback = "0",
     .unit = "connections",
     .meaning = "Connections at one time; 0: what the limit on descriptors allows, after the daemon's own "
                "needs. When it allows fewer than are asked for, the daemon says so at its start."},
    {GLOBAL(overload), .type = &setting_choice, .choices = overload_choices, .fallback = "\"wait\"",
     .meaning = "What happens to new clients when the queue or the daemon is full: \"wait\" leaves them in the "
                "kernel's backlog until there is room, \"refuse\" closes them at once, counted and logged."},
    {GLOBAL(max_connections_per_source), .type = &setting_integer, .maximum = 1000000, .fallback = "0",
     .unit = "connections",
     .meaning = "Connections at one time from one source, which is a client's address or its network (see "
                "source_prefix_v4 and source_prefix_v6); 0: no limit."},
    {GLOBAL(source_prefix_v4), .type = &setting_integer, .minimum = 1, .maximum = 32, .fallback = "32",
     .unit = "bits",
     .meaning = "How many leading bits of an IPv4 address make a source; 32: each address is one."},
    {GLOBAL(source_prefix_v6), .type = &setting_integer, .minimum = 1, .maximum = 128, .fallback = "64",
     .unit = "bits",
     .meaning = "How many leading bits of an IPv6 address make a source; 64: each subnet is one."},
    {GLOBAL(allow), .type = &setting_networks,
     .meaning = "The networks whose clients are admitted, such as [ \"192.0.2.0/24\", \"2001:db8::/32\" ]; an "
                "empty list admits everyone."},
    {GLOBAL(deny), .type = &setting_networks,
     .meaning = "The networks whose clients are refused, even when allow names them."},
    {GLOBAL(idle_timeout), .type = &setting_duration, .minimum = USEC_PER_MSEC, .maximum = YEAR, .zero = "never",
     .fallback = "300",
     .meaning = "Without a byte in either direction for so long, a connection is closed; 0: never."},
    {GLOBAL(write_timeout), .type = &setting_duration, .minimum = USEC_PER_MSEC, .maximum = YEAR, .zero = "never",
     .fallback = "60",
     .meaning = "A client that leaves the daemon's bytes unread for so long is dropped; 0: never."},
    {GLOBAL(drain_timeout), .type = &setting_duration, .maximum = 3600 * USEC_PER_SEC, .fallback = "10",
     .meaning = "How long a stop waits for the answers under way; 0: not at all."},
    {GLOBAL(stop_delay), .type = &setting_duration, .maximum = 3600 * USEC_PER_SEC, .fallback = "0",
     .meaning = "How long new clients are still accepted after SIGTERM, for load balancers that learn late of a stop; "
                "0: not at all."},
    {GLOBAL(unsent_limit), .type = &setting_integer, .minimum = 1024, .maximum = 16777216, .fallback = "262144",
     .unit = "bytes",
     .meaning = "How much of one connection the daemon holds for a client that does not read; beyond it the "
                "client is not read from either."},
    {GLOBAL(tcp_keepalive), .type = &setting_seconds, .maximum = 32767, .fallback = "60",
     .meaning = "After so long without a segment the kernel asks whether the client's host is still there; "
                "0: never."},
    {GLOBAL(busy_poll_usec), .type = &setting_integer, .maximum = 1000000, .fallback = "0",
     .unit = "microseconds",
     .meaning = "A worker looks for more work this long before it sleeps: shorter answers of a lightly loaded "
                "daemon, paid for with CPU time."},
    {.scope = SCOPE_GLOBAL, .type = &setting_group, .name = "log",
     .meaning = "Messages: which, where to, and how much of the clients they show."},
    {LOG(level), .type = &setting_choice, .choices = level_choices, .fallback = "\"info\"",
     .meaning = "The least important messages that are still logged."},
    {LOG(target), .type = &setting_choice, .choices = target_choices, .fallback = "\"auto\"",
     .meaning = "\"auto\" is the journal when systemd has connected stderr to it, and stderr otherwise."},
    {LOG(connections), .type = &setting_boolean, .fallback = "true",
     .meaning = "Log each connection that opens and closes."},
    {LOG(rate), .type = &setting_integer, .maximum = 1000000, .fallback = "200", .unit = "messages a second",
     .meaning = "A bound on the messages that clients cause; what is held back is counted, and the count "
                "logged. 0: no bound."},
    {LOG(addresses), .type = &setting_choice, .choices = detail_choices, .fallback = "\"full\"",
     .meaning = "How much of a client's address is shown: all of it, its network only, or nothing."},
    {LOG(format), .type = &setting_choice, .choices = format_choices, .fallback = "\"text\"",
     .meaning = "Of messages on stderr: \"text\" for people, or \"json\", one object a line with every field of the "
                "journal's."},
    {0},
};
/* clang-format on */

/* read.h: row_set. */
_Static_assert(sizeof setting_table / sizeof setting_table[0] <= 65, "more than 64 settings");

const struct setting_row *setting_find(enum setting_scope scope, const char *name)
{
    for (const struct setting_row *row = setting_table; row->name; row++)
        if (row->scope == scope && strcmp(row->name, name) == 0)
            return row;
    return NULL;
}
