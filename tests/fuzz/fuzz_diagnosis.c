/* What is said about a wrong answer: of any part of any stream, and of a stream of the pattern. */
#include "fuzz.h"

#include "client/check/diagnosis.h"

#define PART_MAX 1024

static void check_fault(const struct fault *fault, struct span due, struct span before, struct span came,
                        uint64_t offset)
{
    char text[FAULT_TEXT_SIZE];
    FUZZ_CHECK(fault->offset == offset);
    FUZZ_CHECK(fault->got == came.bytes[0]);
    FUZZ_CHECK(due.length == 0 || fault->wanted == due.bytes[0]);
    FUZZ_CHECK((fault->kind == FAULT_SURPLUS) == (due.length == 0));
    switch (fault->kind) {
    case FAULT_CHANGED:
        FUZZ_CHECK(fault->length >= 1 && fault->length <= span_differing(came, due));
        break;
    case FAULT_MISSING: /* what came is found that much later */
        FUZZ_CHECK(fault->length >= 1 && fault->length < due.length);
        FUZZ_CHECK(span_shared(came, span_from(due, fault->length)) >= 3);
        break;
    case FAULT_REORDERED:
        FUZZ_CHECK(fault->length >= 1 && fault->length <= due.length && fault->length <= came.length);
        break;
    case FAULT_REPEATED:
        FUZZ_CHECK(fault->length >= 1 && fault->length <= before.length + came.length);
        FUZZ_CHECK(before.length > 0);
        break;
    case FAULT_INSERTED:
        FUZZ_CHECK(fault->length >= 1 && fault->length <= came.length + 8);
        break;
    default: /* all of it */
        FUZZ_CHECK(fault->kind == FAULT_OTHER || fault->kind == FAULT_CASE || fault->kind == FAULT_SURPLUS);
        FUZZ_CHECK(fault->length == came.length);
        break;
    }
    FUZZ_CHECK(strlen(fault_format(fault, text)) < FAULT_TEXT_SIZE - 1);
    FUZZ_CHECK(fault_kind_name(fault->kind));
}

/* The parts of a stream that people send: bytes of the input, again and again. */
static uint8_t *make_part(struct span *input, size_t length)
{
    struct span bytes = fuzz_bytes(input, fuzz_number(input, 200));
    uint8_t *part = malloc(length > 0 ? length : 1);
    FUZZ_CHECK(part);
    for (size_t i = 0; i < length; i++)
        part[i] = bytes.length > 0 ? bytes.bytes[i % bytes.length] ^ (uint8_t)(i / bytes.length / 3) : 0;
    return part;
}

static void diagnose_any(struct span input, enum expectation expect)
{
    size_t length = fuzz_number(&input, PART_MAX), here = fuzz_number(&input, length);
    uint8_t *part = make_part(&input, length);
    struct span around = {part, length}, due = span_from(around, here);
    uint8_t answer[PART_MAX];
    size_t came = 0;
    while (input.length > 0 && came < sizeof answer) { /* parts of it, and others */
        uint8_t kind = fuzz_byte(&input);
        struct span piece = kind & 1 ? fuzz_bytes(&input, kind >> 1)
                                     : span_first(span_from(around, fuzz_number(&input, length)), kind >> 1);
        piece = span_first(piece, sizeof answer - came);
        memcpy(answer + came, piece.bytes, piece.length);
        came += piece.length;
    }
    if (came > 0) {
        if (due.length > 0 && answer[0] == due.bytes[0])
            answer[0] ^= 1; /* the first is wrong, or nobody would ask */
        uint8_t *copy = fuzz_copy((struct span){answer, came});
        const struct answer_part whole = {around, here};
        struct fault fault = diagnose_part(&whole, expect, 1000, (struct span){copy, came});
        check_fault(&fault, due, span_first(around, here), (struct span){copy, came}, 1000);
        free(copy);
    }
    free(part);
}

static void diagnose_pattern(struct span input, enum expectation expect)
{
    struct pattern pattern = pattern_make(fuzz_byte(&input), fuzz_byte(&input), fuzz_number(&input, 300));
    uint64_t sent = fuzz_number(&input, 3000);
    struct fuzz_server server = {.input = &input, .pattern = &pattern, .expect = expect};
    uint8_t answer[4 * FUZZ_PIECE], right[3000];
    size_t came = 0;
    for (size_t piece; came <= sizeof answer - FUZZ_PIECE; came += piece)
        if ((piece = fuzz_server_says(&server, answer + came)) == 0)
            break;
    pattern_answer(&pattern, expect, 0, right, sent);
    struct span whole = {right, sent}, all = {answer, came};
    size_t same = span_shared(whole, all);
    if (same == came)
        return;
    struct span wrong = span_from(all, same);
    uint8_t *copy = fuzz_copy(wrong);
    struct fault fault = diagnose(&pattern, expect, same, sent, (struct span){copy, wrong.length});
    check_fault(&fault, span_from(whole, same), span_first(whole, same), wrong, same);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    enum expectation expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO;
    if (kind & 2)
        diagnose_any(input, expect);
    else
        diagnose_pattern(input, expect);
    return 0;
}
