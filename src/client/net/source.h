/* How connections leave this host: from where, how their packets are marked, and what they begin with. Any
 * thread, but for source_parse. */
#pragma once

#include "base/address.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* What a connection begins with: client/net/opening.h. */
struct opening {
    unsigned proxy_version; /* of the header; 0: none is sent */
    bool has_proxy_source;
    struct address proxy_source; /* whose connection it is said to be; else it is our own */
    bool skip_line;              /* the server's first line */
    uint64_t skip;               /* bytes, after that line */
};

struct source {
    struct address *addresses;   /* owned; of this host */
    size_t count;                /* 0: the system chooses */
    char interface[IF_NAMESIZE]; /* "": any */
    struct opening opening;      /* what each connection begins with */
    int tos;                     /* the byte of IPv4 and IPv6; -1: as the system has it */
};

#define SOURCE_ANY ((struct source){.tos = -1})

/* "10.0.0.1", "eth0", or several addresses, "10.0.0.1,10.0.0.2". Fills in the first three. Main thread.
 * Returns 0, or an exit status after one line on stderr with nothing to release. */
int source_parse(const char *text, struct source *source);
void source_clear(struct source *source);

/* How many of the addresses are of this family. */
size_t source_count(const struct source *source, int family);

/* Whether a connection to an address of this family may come from there. */
bool source_has(const struct source *source, int family);

/* Before connect(2). Of several addresses of the family it takes one by `number`. Returns 0 or a negative
 * errno. */
int source_apply(const struct source *source, int fd, int family, uint64_t number);
