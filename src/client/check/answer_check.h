/* Whether what comes back is what was sent, of any input: what has been sent and not yet come back is kept in
 * a ring of fixed size, so a sender of more than answer_check_room has to wait for the answer.
 *
 *     stdin -> answer_check_sent -> ring -> answer_check_received <- socket
 *
 * One thread. */
#pragma once

#include "client/check/diagnosis.h"
#include "client/check/expectation.h"

#include <stdbool.h>

struct answer_check {
    enum expectation expect;
    uint8_t *ring;  /* the answer as it should be; what has come stays for a while, to know it when it comes
                       again */
    uint64_t sent;  /* into the ring, from the beginning */
    uint64_t right; /* of these have come back as they should */
    uint8_t *evidence; /* from the first wrong byte on */
    size_t evidence_length;
};

/* Returns 0, or -ENOMEM with nothing to release. */
int answer_check_init(struct answer_check *check, enum expectation expect);
void answer_check_deinit(struct answer_check *check); /* also of one that is all zero */

/* How many bytes may be sent now. */
size_t answer_check_room(const struct answer_check *check);
void answer_check_sent(struct answer_check *check, const void *bytes, size_t length);

void answer_check_received(struct answer_check *check, const void *bytes, size_t length);

static inline bool answer_check_is_wrong(const struct answer_check *check)
{
    return check->evidence_length > 0;
}

/* Enough has come after the first wrong byte to say what happened. */
static inline bool answer_check_is_certain(const struct answer_check *check)
{
    return check->evidence_length == FAULT_EVIDENCE;
}

/* What is wrong with the answer: so far, or, when it has `ended`, as a whole. Returns false when nothing is.
 */
bool answer_check_fault(const struct answer_check *check, bool ended, struct fault *out);
