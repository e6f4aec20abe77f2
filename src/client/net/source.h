/* From where to connect, and how packets are marked: -I and --tos. Any thread, but for source_parse. */
#pragma once

#include "base/address.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct source {
    struct address *addresses;   /* owned; of this host */
    size_t count;                /* 0: the system chooses */
    char interface[IF_NAMESIZE]; /* "": any */
    int tos;                     /* the byte of IPv4 and IPv6; -1: as the system has it */
};

#define SOURCE_ANY ((struct source){.tos = -1})

/* "10.0.0.1", "eth0", or several addresses, "10.0.0.1,10.0.0.2". Fills in all but tos. Main thread. Returns
 * 0, or an exit status after one line on stderr with nothing to release. */
int source_parse(const char *text, struct source *source);
void source_clear(struct source *source);

/* Whether a connection to an address of this family may come from there. */
bool source_has(const struct source *source, int family);

/* Before connect(2). Of several addresses of the family it takes one by `number`. Returns 0 or a negative
 * errno. */
int source_apply(const struct source *source, int fd, int family, uint64_t number);
