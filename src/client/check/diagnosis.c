#include "client/check/diagnosis.h"

#include "base/cleanup.h"
#include "base/plural.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* So many bytes in a row that fit are no coincidence: one in 2^64 for each place that is looked at. Where
 * fewer came, fewer have to do. */
#define CERTAIN sizeof(uint64_t)
/* People's own streams have 8 bytes again and again: where so many fit, no other place is looked at. */
#define CLEAR ((size_t)64)
#define LEAST ((size_t)3)

/* How many bytes that belong nowhere may come before the stream is found again elsewhere. At its own place it
 * is looked for in all of the evidence. */
#define FOREIGN_LIMIT ((size_t)512)

/* Of a table of the words that begin there: at most a quarter of it is in use. */
#define WORD_SLOTS (4 * FOREIGN_LIMIT)

/* The part of the answer that should have come from here on: what the evidence stands in place of. */
static struct span due_part(const struct answer_part *part)
{
    return span_from(part->expected, part->offset);
}

/* Where in the stream these bytes belong, which came in the place of those at `place`: the nearest such
 * place, relative to that. */
static bool find_place(const struct answer_part *part, struct span needle, size_t place, int64_t *out)
{
    size_t earlier, later;
    bool is_earlier = span_find_last(span_first(part->expected, place + needle.length), needle, &earlier);
    bool is_later = span_find_first(span_from(part->expected, place), needle, &later);
    if (!is_earlier && !is_later)
        return false;
    int64_t forth = is_later ? (int64_t)later : INT64_MAX;
    int64_t back = is_earlier ? (int64_t)(place - earlier) : INT64_MAX;
    *out = forth <= back ? forth : -back;
    return true;
}

/* The same of the evidence from `at` on, as far as it is needed. */
static bool find_shift(const struct answer_part *part, struct span evidence, size_t at, int64_t *out)
{
    struct span rest = span_from(evidence, at);
    struct span needle = span_first(rest, CERTAIN);
    size_t place = part->offset + at;
    if (rest.length >= CLEAR && find_place(part, span_first(rest, CLEAR), place, out))
        return true;
    return needle.length >= LEAST && find_place(part, needle, place, out);
}

/* Whether the bytes are those that belong there, in whatever order. */
static bool is_permutation(struct span came, struct span due)
{
    int64_t balance[256] = {0};
    if (came.length < 2 || came.length > due.length)
        return false;
    for (size_t i = 0; i < came.length; i++) {
        balance[came.bytes[i]]++;
        balance[due.bytes[i]]--;
    }
    for (size_t i = 0; i < 256; i++)
        if (balance[i] != 0)
            return false;
    return true;
}

/* The bytes came early by `shift`. When those that they overtook came after them, they changed places. */
static void classify_early(const struct answer_part *part, struct span evidence, size_t shift,
                           struct fault *fault)
{
    size_t run = span_shared(evidence, span_from(due_part(part), shift));
    fault->kind = FAULT_MISSING;
    fault->length = shift;
    int64_t next;
    if (run < evidence.length && find_shift(part, evidence, run, &next) && next < (int64_t)shift) {
        fault->kind = FAULT_REORDERED;
        fault->length = run;
    }
}

/* The bytes came before, `back` bytes ago. Where the stream goes on says how many too many they are; when it
 * goes on in place, old bytes came instead of the right ones. */
static void classify_late(const struct answer_part *part, struct span evidence, size_t back,
                          struct fault *fault)
{
    struct span before = span_from(span_first(part->expected, part->offset), part->offset - back);
    size_t run = span_shared(evidence, before);
    int64_t next;
    fault->kind = FAULT_REPEATED;
    fault->length = back;
    if (run < evidence.length && find_shift(part, evidence, run, &next) && next <= 0)
        fault->length = next < 0 ? (uint64_t)-next : run;
}

/* The first `at` bytes belong nowhere, or to an order of their own; then the stream is found again, `shift`
 * from where it should be. */
static void classify_foreign(const struct answer_part *part, struct span evidence, size_t at, int64_t shift,
                             struct fault *fault)
{
    struct span foreign = span_first(evidence, at), due = due_part(part);
    int64_t more = -shift - (int64_t)at;
    /* The last of them may by chance be the bytes that came before the first. */
    if (more >= 0 && more < (int64_t)CERTAIN) {
        fault->kind = FAULT_INSERTED;
        fault->length = at + (uint64_t)more;
    } else if (shift == 0 && is_permutation(foreign, due)) {
        fault->kind = FAULT_REORDERED;
        fault->length = at;
    } else if (at <= due.length) { /* or some of them stand in the place of none */
        fault->kind = FAULT_CHANGED;
        fault->length = span_differing(foreign, due);
    }
}

/* Changed bytes need not be neighbours: the stream counts as found again where a certain run of it is, or one
 * of `least` bytes that are the last. */
static bool find_again_in_place(const struct answer_part *part, struct span evidence, size_t least,
                                size_t *out)
{
    struct span due = due_part(part);
    for (size_t at = 1; at < evidence.length && at < due.length; at++) {
        size_t run = span_shared(span_from(evidence, at), span_from(due, at));
        if (run >= CERTAIN || (run >= least && at + run == evidence.length)) {
            *out = at;
            return true;
        }
        at += run;
    }
    return false;
}

static uint64_t word_of(struct span span, size_t at)
{
    uint64_t word;
    memcpy(&word, span.bytes + at, sizeof word);
    return word;
}

/* The words that begin at the first bytes of the evidence, by a hash of them: at how many bytes each begins;
 * 0: none. To look for each of them in all of the answer would take seconds. */
struct word_table {
    struct span evidence;
    uint16_t at[WORD_SLOTS];
};

/* Where a word stands in the table, or the empty place where it would. */
static uint16_t *find_word(struct word_table *table, uint64_t word)
{
    size_t slot = (size_t)((word * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % WORD_SLOTS;
    while (table->at[slot] != 0 && word_of(table->evidence, table->at[slot]) != word)
        slot = (slot + 1) % WORD_SLOTS;
    return &table->at[slot];
}

/* The first bytes of the evidence, after the very first, that are anywhere in the stream. */
static bool find_again_elsewhere(const struct answer_part *part, struct span evidence, size_t *out)
{
    struct word_table table = {.evidence = evidence};
    size_t first = FOREIGN_LIMIT;
    for (size_t at = 1; at < FOREIGN_LIMIT && at + CERTAIN <= evidence.length; at++) {
        uint16_t *place = find_word(&table, word_of(evidence, at));
        if (*place == 0)
            *place = (uint16_t)at;
    }
    for (size_t i = 0; i + CERTAIN <= part->expected.length && first > 1; i++) {
        uint16_t at = *find_word(&table, word_of(part->expected, i));
        if (at != 0 && at < first)
            first = at;
    }
    *out = first;
    return first < FOREIGN_LIMIT;
}

static void classify(const struct answer_part *part, struct span evidence, struct fault *fault)
{
    int64_t shift;
    size_t at;
    fault->kind = FAULT_OTHER;
    fault->length = evidence.length;
    if (find_shift(part, evidence, 0, &shift)) {
        if (shift > 0)
            classify_early(part, evidence, (size_t)shift, fault);
        else
            classify_late(part, evidence, (size_t)-shift, fault);
        return;
    }
    if (find_again_in_place(part, evidence, CERTAIN, &at))
        classify_foreign(part, evidence, at, 0, fault);
    else if (find_again_elsewhere(part, evidence, &at) && find_shift(part, evidence, at, &shift))
        classify_foreign(part, evidence, at, shift, fault);
    else if (find_again_in_place(part, evidence, 1, &at)) /* by chance, if there are many others */
        classify_foreign(part, evidence, at, 0, fault);
    else if (evidence.length == due_part(part).length)
        /* As many bytes as there should be, so they stand in the places of others. */
        classify_foreign(part, evidence, evidence.length, 0, fault);
}

/* Whether another --expect would have it right. */
static bool is_other_case(struct span came, struct span due, enum expectation expect)
{
    if (came.length < LEAST || came.length > due.length)
        return false;
    CLEANUP(free_pointer) uint8_t *capitals = malloc(came.length);
    if (!capitals)
        return false;
    memcpy(capitals, expect == EXPECT_UPPER ? came.bytes : due.bytes, came.length);
    expect_apply(EXPECT_UPPER, capitals, came.length);
    return memcmp(capitals, expect == EXPECT_UPPER ? due.bytes : came.bytes, came.length) == 0;
}

struct fault diagnose_part(const struct answer_part *part, enum expectation expect, uint64_t offset,
                           struct span came)
{
    struct span evidence = span_first(came, FAULT_EVIDENCE), due = due_part(part);
    struct fault fault = {
        .kind = FAULT_SURPLUS, .offset = offset, .length = came.length, .got = evidence.bytes[0]};

    if (due.length == 0)
        return fault;
    fault.wanted = due.bytes[0];
    fault.kind = FAULT_CASE;
    if (!is_other_case(evidence, due, expect))
        classify(part, evidence, &fault);
    return fault;
}

struct fault diagnose(const struct pattern *pattern, enum expectation expect, uint64_t offset, uint64_t sent,
                      struct span came)
{
    uint64_t start = offset > FAULT_REACH ? offset - FAULT_REACH : 0;
    uint64_t reach = offset + FAULT_REACH + FAULT_EVIDENCE;
    uint64_t end = sent < reach ? sent : reach;
    if (end < offset)
        end = offset;

    CLEANUP(free_pointer) uint8_t *expected = malloc(end - start + 1);
    if (!expected) {
        struct fault fault = {
            .kind = FAULT_OTHER, .offset = offset, .length = came.length, .got = came.bytes[0]};
        pattern_answer(pattern, expect, offset, &fault.wanted, 1);
        return fault;
    }
    pattern_answer(pattern, expect, start, expected, end - start);
    const struct answer_part part = {{expected, end - start}, offset - start};
    return diagnose_part(&part, expect, offset, came);
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
        [FAULT_CHANGED] = "changed",   [FAULT_REORDERED] = "out of order", [FAULT_MISSING] = "missing",
        [FAULT_REPEATED] = "repeated", [FAULT_INSERTED] = "nobody sent",
    };
    int at = snprintf(out, FAULT_TEXT_SIZE, "byte %" PRIu64, fault->offset);
    char *rest = out + at;
    size_t room = FAULT_TEXT_SIZE - (size_t)at;

    switch (fault->kind) {
    case FAULT_CUT:
        snprintf(rest, room, ": the last %" PRIu64 " byte%s did not come", fault->length,
                 plural(fault->length));
        return out;
    case FAULT_SURPLUS:
        snprintf(rest, room, ": %" PRIu64 " byte%s came %s", fault->length, plural(fault->length),
                 fault->offset > 0 ? "after the whole answer" : "before anything was sent");
        return out;
    case FAULT_CASE:
        at = snprintf(rest, room, ": right for the other --expect");
        break;
    case FAULT_OTHER:
        at = snprintf(rest, room, ": no part of what was sent");
        break;
    default:
        at = snprintf(rest, room, ": %" PRIu64 " byte%s %s", fault->length, plural(fault->length),
                      what[fault->kind]);
        break;
    }
    snprintf(rest + at, room - (size_t)at, " (0x%02x, not 0x%02x)", fault->got, fault->wanted);
    return out;
}
