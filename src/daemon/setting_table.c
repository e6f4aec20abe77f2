/* The table itself; what follows from it is in setting_names.c (searching) and settings_dump.c (printing). */
#include "daemon/setting_table.h"

#include <stddef.h>

#define GLOBAL(field) .scope = SCOPE_GLOBAL, .name = #field, .offset = offsetof(struct settings, field)
#define LOG(field) .scope = SCOPE_LOG, .name = #field, .offset = offsetof(struct settings, log_##field)
#define LISTENER(field)                                                                                      \
    .scope = SCOPE_LISTENER, .name = #field, .offset = offsetof(struct listener_settings, field)
/* A global setting that a listener may set for itself. */
#define OVERRIDE(field) LISTENER(field), .own_offset = offsetof(struct listener_settings, own_##field)

#define YEAR 31536000.0 /* seconds */

static const struct setting_choice overload_choices[] = {
    {"wait", OVERLOAD_WAIT}, {"refuse", OVERLOAD_REFUSE}, {NULL, 0}};
static const struct setting_choice level_choices[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},     {NULL, 0}};
static const struct setting_choice target_choices[] = {
    {"auto", LOG_TARGET_AUTO}, {"journal", LOG_TARGET_JOURNAL}, {"stderr", LOG_TARGET_STDERR}, {NULL, 0}};
static const struct setting_choice detail_choices[] = {
    {"full", ADDRESS_FULL}, {"prefix", ADDRESS_PREFIX}, {"none", ADDRESS_NONE}, {NULL, 0}};

/* clang-format off */
const struct setting_row setting_table[] = {
    {.scope = SCOPE_GLOBAL, .type = SETTING_LISTENERS, .name = "listeners",
     .offset = offsetof(struct settings, listeners),
     .meaning = "Where clients are awaited, and what they are served."},
    {LISTENER(address), .type = SETTING_ADDRESS,
     .meaning = "The numeric address to listen on, IPv4 or IPv6, or \"*\" for every address of both."},
    {LISTENER(port), .type = SETTING_PORT, .maximum = 65535,
     .meaning = "The TCP port of the address; 0 takes a free one, and the log says which."},
    {LISTENER(path), .type = SETTING_PATH, .maximum = 107,
     .meaning = "Instead of address and port: the absolute path of a Unix socket."},
    {LISTENER(mode), .type = SETTING_MODE, .maximum = 0777, .fallback = 0666,
     .meaning = "The access mode of the path, as text of octal digits; \"0666\" unless set."},
    {LISTENER(service), .type = SETTING_SERVICE,
     .meaning = "What the client gets; \"echo\" unless set."},
    {LISTENER(text), .type = SETTING_TEXT, .minimum = 1, .maximum = 65536,
     .meaning = "What greet and reply send; they need it, and no other service takes it."},
    {LISTENER(greeting), .type = SETTING_TEXT, .minimum = 1, .maximum = 65536,
     .meaning = "Text sent to each client before anything else."},
    {LISTENER(end_word), .type = SETTING_WORD, .minimum = 1, .maximum = 255,
     .meaning = "Of echo and upper: a line that is exactly this word is answered, and then the connection is "
                "closed."},
    {LISTENER(trace), .type = SETTING_BOOLEAN,
     .meaning = "Log each read and write with an excerpt of the bytes: for teaching and debugging."},
    {OVERRIDE(idle_timeout), .type = SETTING_SECONDS, .minimum = 0.001, .maximum = YEAR, .zero = "never",
     .fallback = 300, .unit = "seconds",
     .meaning = "Overrides the idle_timeout below for this listener."},
    {OVERRIDE(allow), .type = SETTING_NETWORKS,
     .meaning = "Overrides the allow below for this listener; not with a path."},
    {OVERRIDE(deny), .type = SETTING_NETWORKS,
     .meaning = "Overrides the deny below for this listener; not with a path."},
    {OVERRIDE(max_connections_per_source), .type = SETTING_INTEGER, .maximum = 1000000,
     .meaning = "Overrides the max_connections_per_source below for this listener, which then counts the "
                "connections that it accepts from now on by itself; not with a path."},

    {GLOBAL(workers), .type = SETTING_INTEGER, .maximum = 1024, .fallback = 0, .needs_restart = true,
     .unit = "threads",
     .meaning = "Threads that serve connections, each one many of them; 0: one for each CPU that the process "
                "may use."},
    {GLOBAL(queue_depth), .type = SETTING_INTEGER, .minimum = 1, .maximum = 65536, .fallback = 1024,
     .needs_restart = true, .unit = "connections",
     .meaning = "Accepted connections that no worker has taken yet. What happens when there are more says "
                "overload."},
    {GLOBAL(backlog), .type = SETTING_INTEGER, .minimum = 1, .maximum = 65535, .fallback = 4096,
     .unit = "connections",
     .meaning = "Connections that the kernel holds for each listening socket until they are accepted. The "
                "kernel's own bound is net.core.somaxconn."},
    {GLOBAL(max_connections), .type = SETTING_INTEGER, .maximum = 1000000, .fallback = 0,
     .unit = "connections",
     .meaning = "Connections at one time; 0: what the limit on descriptors allows, after the daemon's own "
                "needs. When it allows fewer than are asked for, the daemon says so at its start."},
    {GLOBAL(overload), .type = SETTING_CHOICE, .choices = overload_choices, .fallback = OVERLOAD_WAIT,
     .meaning = "What happens to new clients when the queue or the daemon is full: \"wait\" leaves them in the "
                "kernel's backlog until there is room, \"refuse\" closes them at once, counted and logged."},
    {GLOBAL(max_connections_per_source), .type = SETTING_INTEGER, .maximum = 1000000, .fallback = 0,
     .unit = "connections",
     .meaning = "Connections at one time from one source, which is a client's address or its network (see "
                "source_prefix_v4 and source_prefix_v6); 0: no limit."},
    {GLOBAL(source_prefix_v4), .type = SETTING_INTEGER, .minimum = 1, .maximum = 32, .fallback = 32,
     .unit = "bits",
     .meaning = "How many leading bits of an IPv4 address make a source; 32: each address is one."},
    {GLOBAL(source_prefix_v6), .type = SETTING_INTEGER, .minimum = 1, .maximum = 128, .fallback = 64,
     .unit = "bits",
     .meaning = "How many leading bits of an IPv6 address make a source; 64: each subnet is one."},
    {GLOBAL(allow), .type = SETTING_NETWORKS,
     .meaning = "The networks whose clients are admitted, such as [ \"192.0.2.0/24\", \"2001:db8::/32\" ]; an "
                "empty list admits everyone."},
    {GLOBAL(deny), .type = SETTING_NETWORKS,
     .meaning = "The networks whose clients are refused, even when allow names them."},
    {GLOBAL(idle_timeout), .type = SETTING_SECONDS, .minimum = 0.001, .maximum = YEAR, .zero = "never",
     .fallback = 300, .unit = "seconds",
     .meaning = "Without a byte in either direction for so long, a connection is closed; 0: never."},
    {GLOBAL(write_timeout), .type = SETTING_SECONDS, .minimum = 0.001, .maximum = YEAR, .zero = "never",
     .fallback = 60, .unit = "seconds",
     .meaning = "A client that leaves the daemon's bytes unread for so long is dropped; 0: never."},
    {GLOBAL(drain_timeout), .type = SETTING_SECONDS, .maximum = 3600, .fallback = 10, .unit = "seconds",
     .meaning = "How long a stop waits for the answers under way; 0: not at all."},
    {GLOBAL(unsent_limit), .type = SETTING_INTEGER, .minimum = 1024, .maximum = 16777216, .fallback = 262144,
     .unit = "bytes",
     .meaning = "How much of one connection the daemon holds for a client that does not read; beyond it the "
                "client is not read from either."},
    {GLOBAL(tcp_keepalive), .type = SETTING_INTEGER, .maximum = 32767, .fallback = 60, .unit = "seconds",
     .meaning = "After so long without a segment the kernel asks whether the client's host is still there; "
                "0: never."},
    {GLOBAL(busy_poll_usec), .type = SETTING_INTEGER, .maximum = 1000000, .fallback = 0,
     .unit = "microseconds",
     .meaning = "A worker looks for more work this long before it sleeps: shorter answers of a lightly loaded "
                "daemon, paid for with CPU time."},
    {.scope = SCOPE_GLOBAL, .type = SETTING_GROUP, .name = "log",
     .meaning = "Messages: which, where to, and how much of the clients they show."},
    {LOG(level), .type = SETTING_CHOICE, .choices = level_choices, .fallback = LOG_LEVEL_INFO,
     .meaning = "The least important messages that are still logged."},
    {LOG(target), .type = SETTING_CHOICE, .choices = target_choices, .fallback = LOG_TARGET_AUTO,
     .meaning = "\"auto\" is the journal when systemd has connected stderr to it, and stderr otherwise."},
    {LOG(connections), .type = SETTING_BOOLEAN, .fallback = 1,
     .meaning = "Log each connection that opens and closes."},
    {LOG(rate), .type = SETTING_INTEGER, .maximum = 1000000, .fallback = 200, .unit = "messages a second",
     .meaning = "A bound on the messages that clients cause; what is held back is counted, and the count "
                "logged. 0: no bound."},
    {LOG(addresses), .type = SETTING_CHOICE, .choices = detail_choices, .fallback = ADDRESS_FULL,
     .meaning = "How much of a client's address is shown: all of it, its network only, or nothing."},
    {0},
};
/* clang-format on */
