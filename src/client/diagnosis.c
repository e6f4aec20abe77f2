#include "client/diagnosis.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* So many bytes in a row that fit are no coincidence: one in 2^64 for each place that is looked at. Where
 * fewer came, fewer have to do. */
#define CERTAIN ((size_t)8)
/* People's own streams have 8 bytes again and again: where so many fit, no other place is looked at. */
#define CLEAR ((size_t)64)
#define LEAST ((size_t)3)

/* How many bytes that belong nowhere may come before the stream is found again elsewhere. At its own place it
 * is looked for in all of the evidence. */
#define FOREIGN_LIMIT ((size_t)512)

struct evidence {
    const uint8_t *bytes;
    size_t length;
};

static size_t run_length(const uint8_t *a, const uint8_t *b, size_t length)
{
    size_t same = 0;
    while (same < length && a[same] == b[same])
        same++;
    return same;
}

/* How many bytes of the evidence, from `at` on, are those of the place that they came at. */
static size_t run_in_place(const struct answer_part *part, const struct evidence *evidence, size_t at)
{
    size_t room = part->length - part->here;
    size_t length = evidence->length < room ? evidence->length : room;
    if (at >= length)
        return 0;
    return run_length(evidence->bytes + at, part->around + part->here + at, length - at);
}

static size_t enough(const struct evidence *evidence, size_t at)
{
    size_t left = evidence->length - at;
    return left < CERTAIN ? left : CERTAIN;
}

/* Where in the stream `needle` bytes of the evidence from `at` on belong, relative to where they came: the
 * nearest place. */
static bool find_place(const struct answer_part *part, const struct evidence *evidence, size_t at,
                       size_t needle, int64_t *out)
{
    size_t place = part->here + at;
    const uint8_t *from = evidence->bytes + at, *later = NULL, *earlier = NULL;
    if (place + needle <= part->length)
        later = memmem(part->around + place, part->length - place, from, needle);
    size_t end = place + needle < part->length ? place + needle : part->length;
    for (const uint8_t *next = part->around;
         (next = memmem(next, (size_t)(part->around + end - next), from, needle)) != NULL; next++)
        earlier = next;
    if (!later && !earlier)
        return false;
    int64_t forth = later ? later - (part->around + place) : INT64_MAX;
    int64_t back = earlier ? earlier - (part->around + place) : -INT64_MAX;
    *out = forth <= -back ? forth : back;
    return true;
}

static bool find_shift(const struct answer_part *part, const struct evidence *evidence, size_t at,
                       int64_t *out)
{
    size_t needle = enough(evidence, at);

    if (evidence->length - at >= CLEAR && find_place(part, evidence, at, CLEAR, out))
        return true;
    return needle >= LEAST && find_place(part, evidence, at, needle, out);
}

/* Whether the first `count` bytes of the evidence are those that belong there, in whatever order. */
static bool is_permutation(const struct answer_part *part, const struct evidence *evidence, size_t count)
{
    int64_t balance[256] = {0};
    for (size_t i = 0; i < count; i++) {
        balance[evidence->bytes[i]]++;
        balance[part->around[part->here + i]]--;
    }
    for (size_t i = 0; i < 256; i++)
        if (balance[i] != 0)
            return false;
    return count > 1;
}

/* The bytes came early by `shift`. When those that they overtook came behind them, they changed places. */
static void classify_early(const struct answer_part *part, const struct evidence *evidence, int64_t shift,
                           struct fault *fault)
{
    size_t room = part->length - part->here - (size_t)shift;
    size_t length = evidence->length < room ? evidence->length : room;
    size_t run = run_length(evidence->bytes, part->around + part->here + shift, length);

    fault->kind = FAULT_MISSING;
    fault->length = (uint64_t)shift;
    int64_t next;
    if (run < evidence->length && find_shift(part, evidence, run, &next) && next < shift) {
        fault->kind = FAULT_REORDERED;
        fault->length = run;
    }
}

/* The bytes came before, `shift` (negative) from here. Where the stream goes on says how many too many they
 * are; when it goes on in place, old bytes came instead of the right ones. */
static void classify_late(const struct answer_part *part, const struct evidence *evidence, int64_t shift,
                          struct fault *fault)
{
    size_t run = run_length(evidence->bytes, part->around + (int64_t)part->here + shift,
                            evidence->length < (size_t)-shift ? evidence->length : (size_t)-shift);
    int64_t next;

    fault->kind = FAULT_REPEATED;
    fault->length = (uint64_t)-shift;
    if (run < evidence->length && find_shift(part, evidence, run, &next) && next <= 0)
        fault->length = next < 0 ? (uint64_t)-next : run;
}

static size_t count_changed(const struct answer_part *part, const struct evidence *evidence, size_t length)
{
    size_t changed = 0;
    for (size_t i = 0; i < length; i++)
        changed += evidence->bytes[i] != part->around[part->here + i];
    return changed;
}

/* The first bytes belong nowhere, or to an order of their own; `at` is where the stream is found again. */
static void classify_foreign(const struct answer_part *part, const struct evidence *evidence, size_t at,
                             int64_t shift, struct fault *fault)
{
    int64_t more = -shift - (int64_t)at;

    fault->length = at;
    /* The last of them may by chance be the bytes that came before the first. */
    if (more >= 0 && more < (int64_t)CERTAIN) {
        fault->kind = FAULT_INSERTED;
        fault->length += (uint64_t)more;
    } else if (shift == 0 && is_permutation(part, evidence, at)) {
        fault->kind = FAULT_REORDERED;
    } else {
        fault->kind = FAULT_CHANGED;
        fault->length = count_changed(part, evidence, at);
    }
}

/* Changed bytes need not be neighbours: the stream counts as found again where a certain run of it is. */
static bool find_again_in_place(const struct answer_part *part, const struct evidence *evidence, size_t *out)
{
    for (size_t at = 1; at < evidence->length; at++) {
        size_t run = run_in_place(part, evidence, at);
        if (run >= CERTAIN || (run > 0 && at + run == evidence->length)) {
            *out = at;
            return true;
        }
        at += run;
    }
    return false;
}

static void classify(const struct answer_part *part, const struct evidence *evidence, struct fault *fault)
{
    int64_t shift;
    size_t at;

    fault->kind = FAULT_OTHER;
    fault->length = evidence->length;
    if (find_shift(part, evidence, 0, &shift)) {
        if (shift > 0)
            classify_early(part, evidence, shift, fault);
        else
            classify_late(part, evidence, shift, fault);
        return;
    }
    if (find_again_in_place(part, evidence, &at)) {
        classify_foreign(part, evidence, at, 0, fault);
        return;
    }
    for (at = 1; at < evidence->length && at < FOREIGN_LIMIT; at++) {
        if (enough(evidence, at) == CERTAIN && find_shift(part, evidence, at, &shift)) {
            classify_foreign(part, evidence, at, shift, fault);
            return;
        }
    }
    /* As many bytes as there should be, so they stand in the places of others. */
    if (part->here + evidence->length == part->length)
        classify_foreign(part, evidence, evidence->length, 0, fault);
}

/* Whether another --expect would have it right. */
static bool is_other_case(const struct answer_part *part, enum expectation expect,
                          const struct evidence *evidence)
{
    size_t room = part->length - part->here;
    size_t length = evidence->length;
    if (length < LEAST || length > room)
        return false;
    CLEANUP(free_pointer) uint8_t *capitals = malloc(length);
    if (!capitals)
        return false;
    const uint8_t *wanted = part->around + part->here;
    memcpy(capitals, expect == EXPECT_UPPER ? evidence->bytes : wanted, length);
    expect_apply(EXPECT_UPPER, capitals, length);
    return memcmp(capitals, expect == EXPECT_UPPER ? wanted : evidence->bytes, length) == 0;
}

struct fault diagnose_part(const struct answer_part *part, enum expectation expect, uint64_t offset,
                           const void *bytes, size_t length)
{
    struct evidence evidence = {bytes, length < FAULT_EVIDENCE ? length : FAULT_EVIDENCE};
    struct fault fault = {.kind = FAULT_SURPLUS, .offset = offset, .length = length, .got = *evidence.bytes};

    if (part->here == part->length)
        return fault;
    fault.wanted = part->around[part->here];
    fault.kind = FAULT_CASE;
    if (!is_other_case(part, expect, &evidence))
        classify(part, &evidence, &fault);
    return fault;
}

struct fault diagnose(const struct pattern *pattern, enum expectation expect, uint64_t offset, uint64_t sent,
                      const void *bytes, size_t length)
{
    uint64_t start = offset > FAULT_REACH ? offset - FAULT_REACH : 0;
    uint64_t reach = offset + FAULT_REACH + FAULT_EVIDENCE;
    uint64_t end = sent < reach ? sent : reach;
    if (end < offset)
        end = offset;

    CLEANUP(free_pointer) uint8_t *around = malloc(end - start + 1);
    if (!around) {
        struct fault fault = {
            .kind = FAULT_OTHER, .offset = offset, .length = length, .got = *(const uint8_t *)bytes};
        pattern_answer(pattern, expect, offset, &fault.wanted, 1);
        return fault;
    }
    pattern_answer(pattern, expect, start, around, end - start);
    return diagnose_part(&(struct answer_part){around, end - start, offset - start}, expect, offset, bytes,
                         length);
}

const char *fault_kind_name(enum fault_kind kind)
{
    static const char *const names[] = {
        [FAULT_CHANGED] = "changed",   [FAULT_REORDERED] = "reordered",
        [FAULT_MISSING] = "missing",   [FAULT_REPEATED] = "repeated",
        [FAULT_INSERTED] = "inserted", [FAULT_OTHER] = "other",
        [FAULT_CASE] = "case",         [FAULT_CUT] = "cut",
        [FAULT_SURPLUS] = "surplus",
    };
    return names[kind];
}

const char *fault_format(const struct fault *fault, char out[static FAULT_TEXT_SIZE])
{
    static const char *const what[] = {
        [FAULT_CHANGED] = "changed",
        [FAULT_REORDERED] = "in another order than sent",
        [FAULT_MISSING] = "missing, and what follows came",
        [FAULT_REPEATED] = "repeated",
        [FAULT_INSERTED] = "that nobody sent",
    };
    int at = snprintf(out, FAULT_TEXT_SIZE, "byte %" PRIu64, fault->offset);
    char *rest = out + at;
    size_t room = FAULT_TEXT_SIZE - (size_t)at;
    const char *plural = fault->length == 1 ? "" : "s";

    switch (fault->kind) {
    case FAULT_CUT:
        snprintf(rest, room,
                 ": the connection ended, and the last %" PRIu64 " byte%s of the answer had not come",
                 fault->length, plural);
        return out;
    case FAULT_SURPLUS:
        snprintf(rest, room, ": %" PRIu64 " byte%s came %s", fault->length, plural,
                 fault->offset > 0 ? "behind the whole answer" : "before anything was sent");
        return out;
    case FAULT_CASE:
        at = snprintf(rest, room, ": right for the other kind of --expect");
        break;
    case FAULT_OTHER:
        at = snprintf(rest, room, ": what came is no part of what was sent");
        break;
    default:
        at = snprintf(rest, room, ": %" PRIu64 " byte%s %s", fault->length, plural, what[fault->kind]);
        break;
    }
    snprintf(rest + at, room - (size_t)at, " (0x%02x instead of 0x%02x)", fault->got, fault->wanted);
    return out;
}
