/* Faults of any kind, an answer in pieces of any size at any time, and a restart at any point, whose state
 * may be damaged. What the client gets does not depend on the pieces, nor on the restart. */
#include "fuzz.h"

#include "serve/misbehaviour.h"

#include "base/clock.h"

#define STREAM_MAX ((size_t)2000)
#define START UINT64_C(1000000)
#define ROOM 4096

struct heard {
    uint8_t bytes[2 * STREAM_MAX];
    size_t length;
    bool is_over;
};

static double share(struct span *input)
{
    static const double shares[] = {0, 0, 0, 0.01, 0.3, 0.7, 1};
    return shares[fuzz_number(input, sizeof shares / sizeof shares[0] - 1)];
}

static struct misbehaviour_params make_faults(struct span *input)
{
    struct misbehaviour_params faults = {.toxicity = 1, .after = USEC_NEVER};
    uint8_t kinds = fuzz_byte(input);
    faults.seed = fuzz_byte(input);
    faults.corrupt = share(input);
    faults.lose = share(input);
    faults.repeat = share(input);
    faults.delay = kinds & 1 ? fuzz_number(input, 100000) : 0;
    faults.jitter = faults.delay > 0 ? fuzz_number(input, (size_t)faults.delay) : 0;
    faults.rate = kinds & 2 ? 1 + fuzz_number(input, 1000000) : 0;
    faults.slice = kinds & 4 ? 1 + fuzz_number(input, 300) : 0;
    faults.slice_delay = faults.slice > 0 ? fuzz_number(input, 1000) : 0;
    faults.accept_delay = kinds & 8 ? fuzz_number(input, 100000) : 0;
    faults.close_delay = kinds & 8 ? fuzz_number(input, 100000) : 0;
    faults.limit = kinds & 16 ? 1 + fuzz_number(input, 1500) : 0;
    return faults;
}

static void hear(struct misbehaviour *m, uint64_t now, struct heard *heard)
{
    for (;;) {
        struct misbehaviour_step step = misbehaviour_next(m, now, true);
        heard->is_over = step.kind == MISBEHAVIOUR_DONE || step.kind == MISBEHAVIOUR_END;
        if (step.kind != MISBEHAVIOUR_SEND)
            return;
        FUZZ_CHECK(step.length > 0 && heard->length + step.length <= sizeof heard->bytes);
        memcpy(heard->bytes + heard->length, step.bytes, step.length);
        heard->length += step.length;
    }
}

static void finish(struct misbehaviour *m, uint64_t now, struct heard *heard)
{
    FUZZ_CHECK(misbehaviour_finish(m, now));
    for (hear(m, now, heard); !heard->is_over; hear(m, now, heard)) {
        FUZZ_CHECK(m->wake > now && m->wake < USEC_NEVER);
        now = m->wake;
    }
    misbehaviour_clear(m);
}

/* What this process writes down, the next can take up; damaged, it may be refused, and does no harm. */
static void restart(struct misbehaviour *m, struct span *input)
{
    const struct misbehaviour_params *params = m->params;
    struct span held = {0}, again = {0};
    if (m->held)
        held = (struct span){m->held->bytes + m->held->start, m->held->end - m->held->start};
    if (m->again)
        again = (struct span){m->again->bytes + m->again->start, m->again->end - m->again->start};
    uint8_t *held_copy = fuzz_copy(held), *again_copy = fuzz_copy(again);
    FUZZ_CHECK(misbehaviour_is_possible(params, m, held_copy, held.length, again.length));
    struct misbehaviour next = *m, damaged = *m;
    FUZZ_CHECK(misbehaviour_restore(&next, params, ROOM, held_copy, held.length, again_copy, again.length));
    if (held.length > 0)
        held_copy[fuzz_number(input, held.length - 1)] ^= fuzz_byte(input);
    damaged.first_length ^= fuzz_byte(input);
    if (misbehaviour_is_possible(params, &damaged, held_copy, held.length, again.length) &&
        misbehaviour_restore(&damaged, params, ROOM, held_copy, held.length, again_copy, again.length)) {
        struct heard ignored = {0};
        misbehaviour_hurry(&damaged);
        hear(&damaged, START, &ignored);
        misbehaviour_clear(&damaged);
    }
    misbehaviour_clear(m);
    *m = next;
    free(held_copy);
    free(again_copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    struct misbehaviour_params faults = make_faults(&input);
    struct span decisions = fuzz_bytes(&input, 64);
    struct span stream = span_first(input, STREAM_MAX);
    struct heard whole = {0}, pieces = {0};
    struct misbehaviour m;

    misbehaviour_init(&m, &faults, 1, START, 8 * STREAM_MAX);
    FUZZ_CHECK(misbehaviour_put(&m, START, stream.bytes, stream.length));
    finish(&m, START, &whole);

    misbehaviour_init(&m, &faults, 1, START, ROOM);
    uint64_t now = START;
    for (size_t at = 0; at < stream.length && !pieces.is_over;) {
        size_t may = misbehaviour_may_read(&m), piece = 1 + fuzz_number(&decisions, 400);
        struct span part = span_first(span_first(span_from(stream, at), piece), may);
        FUZZ_CHECK(misbehaviour_put(&m, now, part.bytes, part.length));
        FUZZ_CHECK(!m.held || m.held->size <= ROOM);
        at += part.length;
        if (fuzz_byte(&decisions) & 1)
            restart(&m, &decisions);
        now += may > 0 ? fuzz_number(&decisions, 5000) : 100000;
        hear(&m, now, &pieces);
    }
    if (pieces.is_over)
        misbehaviour_clear(&m);
    else
        finish(&m, now, &pieces);
    FUZZ_CHECK(pieces.length == whole.length && memcmp(pieces.bytes, whole.bytes, whole.length) == 0);
    return 0;
}
