/* A stream of bytes that either end can make up from any offset: what bench and watch send, and what every
 * byte of the answer is compared with. Pure; any thread.
 *
 * Eight bytes are a hash of their place, so no part of the stream is like another, and a part that is
 * missing, comes twice or comes early is told from a changed one. Every byte value occurs but LF, which ends
 * each message of eight bytes or more: servers that read lines answer, and no line is ever an end word. */
#pragma once

#include "client/check/expectation.h"

#include <stddef.h>
#include <stdint.h>

struct pattern {
    uint64_t seed;
    uint64_t message; /* bytes of a message that ends in LF; 0: there is no LF */
};

/* The stream of connection `number` in the run `run`; no two are alike. */
struct pattern pattern_make(uint64_t run, uint64_t number, size_t message_size);

/* The bytes to send from `offset` of the stream on. */
void pattern_fill(const struct pattern *pattern, uint64_t offset, void *out, size_t length);

/* The bytes that have to come back for them. */
void pattern_answer(const struct pattern *pattern, enum expectation expect, uint64_t offset, void *out,
                    size_t length);

/* Returns how many of the bytes are right, up to the first wrong one: `length` when all are. */
size_t pattern_check(const struct pattern *pattern, enum expectation expect, uint64_t offset,
                     const void *bytes, size_t length);

/* What a server with this expectation makes of bytes, in place. */
void expect_apply(enum expectation expect, void *bytes, size_t length);

/* "echo" or "upper". */
const char *expect_name(enum expectation expect);
