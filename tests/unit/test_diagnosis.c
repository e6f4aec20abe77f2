#include "client/check/diagnosis.h"

#include "common.h"
#include "faults.h"

#include <sys/mman.h>

#define STREAM ((size_t)300000)
#define PLACE ((size_t)150000)

/* The right answer, and one that a server made of it; both with room for what it adds. */
static uint8_t right[STREAM], answer[STREAM + 4096];
static struct pattern pattern;

static void set_up(void)
{
    pattern = pattern_make(11, 12, 64);
    pattern_answer(&pattern, EXPECT_ECHO, 0, right, sizeof right);
    memcpy(answer, right, sizeof right);
}

FIXTURE(set_up, NULL)

/* As bench does it: the first wrong byte, and at most `limit` bytes from there on. */
static struct fault find(size_t length, size_t limit)
{
    size_t good = pattern_check(&pattern, EXPECT_ECHO, 0, answer, length);
    ck_assert_uint_lt(good, length);
    size_t evidence = length - good < limit ? length - good : limit;
    return diagnose(&pattern, EXPECT_ECHO, good, STREAM, (struct span){answer + good, evidence});
}

static void expect_fault(struct fault fault, enum fault_kind kind, uint64_t offset, uint64_t length)
{
    char text[FAULT_TEXT_SIZE];
    fault_format(&fault, text);
    ck_assert_msg(fault.kind == kind && fault.offset == offset && fault.length == length,
                  "kind %d at %lu, length %lu: %s", (int)fault.kind, fault.offset, fault.length, text);
}

static const size_t lengths[] = {1, 2, 3, 7, 8, 64, 100, 1000};

/* A block that is dropped or repeated may begin with the byte that is due anyway. */
static size_t same_bytes(const uint8_t *a, const uint8_t *b)
{
    size_t same = 0;
    while (a[same] == b[same])
        same++;
    return same;
}

TEST_EACH(missing, lengths)
{
    size_t length = *c, same = same_bytes(right + PLACE, right + PLACE + length);
    memmove(answer + PLACE, right + PLACE + length, STREAM - PLACE - length);
    for (size_t limit = 16; limit <= FAULT_EVIDENCE; limit *= 4)
        expect_fault(find(STREAM - length, limit), FAULT_MISSING, PLACE + same, length);
}

TEST_EACH(repeated, lengths)
{
    size_t length = *c, same = same_bytes(right + PLACE, right + PLACE - length);
    memmove(answer + PLACE, right + PLACE - length, STREAM - PLACE);
    for (size_t limit = 16; limit <= FAULT_EVIDENCE; limit *= 4)
        expect_fault(find(STREAM, limit), FAULT_REPEATED, PLACE + same, length);
}

TEST(repeated_from_long_ago)
{
    memcpy(answer + PLACE, right + PLACE - 5000, 100);
    memcpy(answer + PLACE + 100, right + PLACE, STREAM - PLACE);
    expect_fault(find(STREAM + 100, 4096), FAULT_REPEATED, PLACE, 100);
}

TEST(old_bytes_in_place_of_new_ones)
{
    memcpy(answer + PLACE, right + PLACE - 5000, 100);
    expect_fault(find(STREAM, 4096), FAULT_REPEATED, PLACE, 100);
}

TEST(changed)
{
    answer[PLACE] ^= 1;
    for (size_t limit = 16; limit <= FAULT_EVIDENCE; limit *= 4)
        expect_fault(find(STREAM, limit), FAULT_CHANGED, PLACE, 1);
    answer[PLACE + 3] ^= 0x40;
    expect_fault(find(STREAM, 4096), FAULT_CHANGED, PLACE, 2);
}

TEST(changed_at_the_end)
{
    for (size_t place = STREAM - 1; place > STREAM - 12; place--) {
        memcpy(answer, right, STREAM);
        answer[place] ^= 0xff;
        expect_fault(find(STREAM, FAULT_EVIDENCE), FAULT_CHANGED, place, 1);
    }
}

TEST(two_bytes_change_places)
{
    answer[PLACE] = right[PLACE + 1];
    answer[PLACE + 1] = right[PLACE];
    ck_assert_uint_ne(right[PLACE], right[PLACE + 1]);
    expect_fault(find(STREAM, 4096), FAULT_REORDERED, PLACE, 2);
}

TEST(two_blocks_change_places)
{
    memcpy(answer + PLACE, right + PLACE + 300, 200);
    memcpy(answer + PLACE + 200, right + PLACE, 300);
    expect_fault(find(STREAM, 4096), FAULT_REORDERED, PLACE, 200);
}

TEST(inserted)
{
    memcpy(answer, "hello\n", 6);
    memcpy(answer + 6, right, STREAM);
    expect_fault(find(STREAM + 6, 4096), FAULT_INSERTED, 0, 6);
}

/* As an inserted line is, between two others. */
TEST(inserted_with_an_end_like_the_one_before)
{
    memcpy(answer + PLACE, "hello", 5);
    answer[PLACE + 5] = right[PLACE - 1];
    memcpy(answer + PLACE + 6, right + PLACE, STREAM - PLACE);
    expect_fault(find(STREAM + 6, 4096), FAULT_INSERTED, PLACE, 6);
}

/* Lines that begin and end alike: the nearest place where a few bytes fit is none of theirs. */
TEST(missing_in_a_text)
{
    static char text[200 * 64 + 1];
    const size_t here = 50 * 64, lost = 100 * 64;
    for (unsigned i = 0; i < 200; i++)
        (void)snprintf(text + (size_t)i * 64, 65,
                       "info: the connection from client %-5u was closed by its peer \n", i);
    size_t same = same_bytes((uint8_t *)text + here, (uint8_t *)text + here + lost);
    const uint8_t *bytes = (const uint8_t *)text;
    const struct answer_part part = {{bytes, sizeof text - 1}, here + same};
    const struct span came = {bytes + here + lost + same, 50 * 64 - same};
    expect_fault(diagnose_part(&part, EXPECT_ECHO, here + same, came), FAULT_MISSING, here + same, lost);
}

/* More bytes that nobody sent than there is answer left, and then a part of the answer that came before. What
 * lies after the part is no memory of ours. */
TEST(more_foreign_bytes_than_are_due)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(pages, MAP_FAILED);
    ck_assert_int_eq(mprotect(pages + page, page, PROT_NONE), 0);
    uint8_t *expected = memcpy(pages + page - 64, right, 64);
    const struct answer_part part = {{expected, 64}, 60};

    for (size_t foreign = 1; foreign < 600; foreign++) {
        memset(answer, 0xff, foreign);
        memcpy(answer + foreign, right + 16, 40);
        struct fault fault = diagnose_part(&part, EXPECT_ECHO, 60, (struct span){answer, foreign + 40});
        uint64_t most = fault.kind == FAULT_CHANGED ? 4 : foreign + 40;
        ck_assert_uint_le(fault.length, most);
        if (foreign == 100)
            expect_fault(fault, FAULT_OTHER, 60, 140);
    }
    munmap(pages, 2 * page);
}

/* Each place where the stream might go on takes a look at all of it, and there are many that might do: bytes
 * that all are the same, and bytes that are nowhere. Of the processor's seconds it takes a tenth of one. */
TEST_TIMES(takes_no_time_that_a_server_chooses, 3)
{
    const size_t length = (size_t)5 << 20;
    uint8_t *expected = malloc(length);
    struct timespec before, spent;
    memset(expected, variant == 0 ? 0 : 'x', length);
    if (variant == 2)
        pattern_answer(&pattern, EXPECT_ECHO, 0, expected, length);
    const struct answer_part part = {{expected, length}, length / 2};
    memset(answer, 0, STREAM);
    answer[0] = (uint8_t)(expected[length / 2] + 1);
    for (size_t i = 5; variant == 1 && i < STREAM; i += 70)
        answer[i] = 'x';
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    (void)diagnose_part(&part, EXPECT_ECHO, length / 2, (struct span){answer, STREAM});
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    ck_assert_int_lt(spent.tv_sec - before.tv_sec, 4);
    free(expected);
}

TEST(foreign)
{
    struct pattern stranger = pattern_make(11, 13, 64);
    pattern_answer(&stranger, EXPECT_ECHO, PLACE, answer + PLACE, STREAM - PLACE);
    struct fault fault = find(STREAM, 4096);
    expect_fault(fault, FAULT_OTHER, PLACE, 4096);
    ck_assert_uint_eq(fault.wanted, right[PLACE]);
    ck_assert_uint_eq(fault.got, answer[PLACE]);
}

TEST(too_little_followed)
{
    answer[PLACE] ^= 1;
    expect_fault(find(STREAM, 1), FAULT_OTHER, PLACE, 1);
    expect_fault(find(STREAM, 2), FAULT_CHANGED, PLACE, 1);
}

TEST(the_other_kind_of_server)
{
    expect_apply(EXPECT_UPPER, answer, STREAM);
    struct fault fault = find(STREAM, 64);
    ck_assert_int_eq(fault.kind, FAULT_CASE);
    fault = diagnose(&pattern, EXPECT_UPPER, fault.offset, STREAM, (struct span){right + fault.offset, 64});
    ck_assert_int_eq(fault.kind, FAULT_CASE);
}

TEST(surplus)
{
    struct fault fault = diagnose(&pattern, EXPECT_ECHO, 640, 640, (struct span){right + 639, 1});
    expect_fault(fault, FAULT_SURPLUS, 640, 1);
}

TEST(short_memory_tells_where_at_least)
{
    answer[PLACE] ^= 1;
    fault_arm("malloc", ENOMEM, 0);
    struct fault fault = diagnose(&pattern, EXPECT_ECHO, PLACE, STREAM, (struct span){answer + PLACE, 64});
    ck_assert_uint_eq(fault_disarm(), 1);
    expect_fault(fault, FAULT_OTHER, PLACE, 64);
}

TEST(in_words)
{
    static const struct {
        struct fault fault;
        const char *text;
    } cases[] = {
        {{FAULT_CHANGED, 7, 1, 0x41, 0x61}, "byte 7: 1 byte changed (0x41, not 0x61)"},
        {{FAULT_REORDERED, 7, 2, 1, 2}, "byte 7: 2 bytes out of order (0x01, not 0x02)"},
        {{FAULT_MISSING, 1, 3, 1, 2}, "byte 1: 3 bytes missing (0x01, not 0x02)"},
        {{FAULT_REPEATED, 1, 3, 1, 2}, "byte 1: 3 bytes repeated (0x01, not 0x02)"},
        {{FAULT_INSERTED, 0, 6, 1, 2}, "byte 0: 6 bytes nobody sent (0x01, not 0x02)"},
        {{FAULT_OTHER, 0, 6, 1, 2}, "byte 0: no part of what was sent (0x01, not 0x02)"},
        {{FAULT_CASE, 0, 6, 1, 2}, "byte 0: right for the other --expect (0x01, not 0x02)"},
        {{FAULT_CUT, 9, 1, 0, 0}, "byte 9: the last 1 byte did not come"},
        {{FAULT_SURPLUS, 9, 2, 0, 0}, "byte 9: 2 bytes came after the whole answer"},
        {{FAULT_SURPLUS, 0, 1, 0, 0}, "byte 0: 1 byte came before anything was sent"},
    };
    char text[FAULT_TEXT_SIZE];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(fault_format(&cases[i].fault, text), cases[i].text);
    struct fault longest = {FAULT_CUT, UINT64_MAX, UINT64_MAX, 0, 0};
    ck_assert_uint_lt(strlen(fault_format(&longest, text)), FAULT_TEXT_SIZE - 1);
}

TEST(each_kind_has_a_name)
{
    ck_assert_str_eq(fault_kind_name(FAULT_CHANGED), "changed");
    ck_assert_str_eq(fault_kind_name(FAULT_REORDERED), "reordered");
    ck_assert_str_eq(fault_kind_name(FAULT_MISSING), "missing");
    ck_assert_str_eq(fault_kind_name(FAULT_REPEATED), "repeated");
    ck_assert_str_eq(fault_kind_name(FAULT_INSERTED), "inserted");
    ck_assert_str_eq(fault_kind_name(FAULT_OTHER), "other");
    ck_assert_str_eq(fault_kind_name(FAULT_CASE), "case");
    ck_assert_str_eq(fault_kind_name(FAULT_CUT), "cut");
    ck_assert_str_eq(fault_kind_name(FAULT_SURPLUS), "surplus");
}
