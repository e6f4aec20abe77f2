/* What has become of a stream whose answer went wrong: pattern_check found the first wrong byte, and some of
 * what came after it tells whether bytes were changed, lost, repeated or put in another order. Pure. */
#pragma once

#include "base/span.h"
#include "client/check/pattern.h"

enum fault_kind {
    FAULT_CHANGED,   /* `length` bytes are others than were sent, and what follows is right */
    FAULT_REORDERED, /* `length` bytes were sent later, or are those that were sent in another order */
    FAULT_MISSING,   /* `length` bytes did not come; the stream goes on after them */
    FAULT_REPEATED,  /* `length` bytes that had come already came again */
    FAULT_INSERTED,  /* `length` bytes came that were never sent */
    FAULT_OTHER,     /* nothing of what followed is of this stream, or too little followed */
    FAULT_CASE,      /* right for the other kind of server: capitals for an echo, or the reverse */
    FAULT_CUT,       /* the connection ended before the last `length` bytes of the answer */
    FAULT_SURPLUS,   /* `length` or more bytes came after the whole answer */
};

struct fault {
    enum fault_kind kind;
    uint64_t offset; /* of the first wrong byte in the stream of the answer, from 0 */
    uint64_t length;
    uint8_t got, wanted; /* the byte at `offset`; not with FAULT_CUT and FAULT_SURPLUS */
};

/* This much after the first wrong byte says nearly always what it was; more does not help. */
#define FAULT_EVIDENCE ((size_t)65536)

/* How far the stream may have shifted for that to be found out. */
#define FAULT_REACH ((size_t)1 << 20)

/* `came`, at least one byte, begins with the wrong byte at `offset`, and came in answer to the stream's first
 * `sent` bytes. */
struct fault diagnose(const struct pattern *pattern, enum expectation expect, uint64_t offset, uint64_t sent,
                      struct span came);

/* The same of any stream, as far as it is at hand: `expected` is a part of the answer as it should be, of
 * which the byte at `offset` (perhaps after them all) is the one that went wrong. Takes time for the length
 * of both, whatever is in them. */
struct answer_part {
    struct span expected;
    size_t offset; /* in it */
};
struct fault diagnose_part(const struct answer_part *part, enum expectation expect, uint64_t offset,
                           struct span came);

/* "changed", "missing" ...: for programs. */
const char *fault_kind_name(enum fault_kind kind);

#define FAULT_TEXT_SIZE 192

/* "byte 52428800: 3 bytes missing (0x41, not 0x61)". Returns `out`. */
const char *fault_format(const struct fault *fault, char out[static FAULT_TEXT_SIZE]);
