#include "serve/misbehaviour.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

#include <math.h>

#define ROOM 262144
#define START 1000000 /* usec: when the connection was accepted */
#define STREAM 6000

static const struct misbehaviour_params none = {.after = USEC_NEVER, .toxicity = 1, .seed = 7};

/* What a client gets of one connection. */
struct heard {
    uint8_t bytes[4 * STREAM];
    size_t length;
    unsigned pieces;
    enum { OPEN, DONE, ENDED } end;
};

static uint8_t stream[STREAM];

static void make_stream(void)
{
    for (size_t i = 0; i < STREAM; i++)
        stream[i] = (uint8_t)(i % 251 + i / 251);
}

FIXTURE(make_stream, NULL)

static void begin(struct misbehaviour *m, const struct misbehaviour_params *params, uint64_t number)
{
    misbehaviour_init(m, params, number, START, ROOM);
}

static void put(struct misbehaviour *m, uint64_t now, const void *bytes, size_t length)
{
    if (!misbehaviour_put(m, now, bytes, length))
        ck_abort_msg("memory is short");
}

/* Takes what may be sent at this time, and no more. */
static void hear(struct misbehaviour *m, uint64_t now, struct heard *heard)
{
    for (;;) {
        struct misbehaviour_step step = misbehaviour_next(m, now, true);
        if (step.kind == MISBEHAVIOUR_DONE && heard->end == OPEN)
            heard->end = DONE;
        if (step.kind == MISBEHAVIOUR_END)
            heard->end = ENDED;
        if (step.kind != MISBEHAVIOUR_SEND)
            return;
        if (heard->length + step.length > sizeof heard->bytes) /* an assertion costs more than a step */
            ck_abort_msg("too much was said");
        memcpy(heard->bytes + heard->length, step.bytes, step.length);
        heard->length += step.length;
        heard->pieces++;
    }
}

/* The same, until nothing more will happen by itself; each time as late as a timer may be. Returns when. */
static uint64_t hear_all(struct misbehaviour *m, uint64_t now, uint64_t lateness, struct heard *heard)
{
    hear(m, now, heard);
    while (heard->end == OPEN && m->wake != USEC_NEVER) {
        if (m->wake <= now)
            ck_abort_msg("woken for nothing");
        now = m->wake + lateness;
        hear(m, now, heard);
    }
    return now;
}

static void expect(const struct heard *heard, const void *bytes, size_t length)
{
    ck_assert_uint_eq(heard->length, length);
    ck_assert_mem_eq(heard->bytes, bytes, length);
}

/* The whole stream in pieces of this size, a millisecond apart, and its end. */
static void converse(const struct misbehaviour_params *params, uint64_t number, size_t size,
                     struct heard *heard)
{
    struct misbehaviour m;
    uint64_t now = START;
    *heard = (struct heard){0};
    begin(&m, params, number);
    for (size_t at = 0; at < STREAM; at += size) {
        put(&m, now, stream + at, size < STREAM - at ? size : STREAM - at);
        hear(&m, now, heard);
        now += USEC_PER_MSEC;
    }
    ck_assert(misbehaviour_finish(&m, now));
    hear_all(&m, now, 0, heard);
    misbehaviour_clear(&m);
}

static bool is_same(const struct heard *a, const struct heard *b)
{
    return a->length == b->length && a->end == b->end && memcmp(a->bytes, b->bytes, a->length) == 0;
}

TEST(no_fault_changes_nothing)
{
    struct heard heard;
    converse(&none, 1, 100, &heard);
    expect(&heard, stream, STREAM);
    ck_assert(heard.end == DONE && !misbehaviour_is_any(&none));
}

TEST(answer_is_held_for_the_delay)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.delay = 200 * USEC_PER_MSEC;
    begin(&m, &params, 1);
    put(&m, START + 5, "one", 3);
    put(&m, START + 90, "two", 3);
    ck_assert(misbehaviour_holds(&m));
    hear(&m, START + 5 + params.delay - 1, &heard);
    expect(&heard, "", 0);
    ck_assert_uint_eq(m.wake, START + 5 + params.delay);
    hear(&m, START + 5 + params.delay, &heard);
    expect(&heard, "one", 3);
    hear(&m, m.wake, &heard);
    expect(&heard, "onetwo", 6);
    ck_assert(!misbehaviour_holds(&m) && heard.end == OPEN && m.wake == USEC_NEVER);

    /* The end is an answer, too. */
    ck_assert(misbehaviour_finish(&m, START + USEC_PER_SEC));
    hear(&m, START + USEC_PER_SEC + params.delay - 1, &heard);
    ck_assert_int_eq(heard.end, OPEN);
    hear(&m, START + USEC_PER_SEC + params.delay, &heard);
    ck_assert_int_eq(heard.end, DONE);
    misbehaviour_clear(&m);
}

TEST(jitter_is_uniform_around_the_delay)
{
    enum { ANSWERS = 20000, CLASSES = 20 };
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    unsigned classes[CLASSES] = {0};
    double chi2 = 0;
    params.delay = 50000;
    params.jitter = 20000;
    begin(&m, &params, 1);
    uint64_t now = START;
    for (unsigned i = 0; i < ANSWERS; i++) {
        struct heard heard = {0};
        put(&m, now, "x", 1);
        hear(&m, now, &heard);
        uint64_t held = m.wake - now;
        ck_assert(held >= params.delay - params.jitter && held <= params.delay + params.jitter);
        classes[(held - (params.delay - params.jitter)) * CLASSES / (2 * params.jitter + 1)]++;
        now = m.wake;
        hear(&m, now, &heard);
        expect(&heard, "x", 1);
    }
    for (unsigned i = 0; i < CLASSES; i++)
        chi2 += pow(classes[i] - (double)ANSWERS / CLASSES, 2) / ((double)ANSWERS / CLASSES);
    ck_assert(chi2 < 43.8); /* 19 degrees of freedom: one in a thousand seeds is above, and this is not */
    misbehaviour_clear(&m);
}

TEST(jitter_lets_nothing_overtake)
{
    struct misbehaviour_params params = none;
    struct heard heard;
    params.delay = params.jitter = 100 * USEC_PER_MSEC;
    converse(&params, 1, 10, &heard);
    expect(&heard, stream, STREAM);
}

static const struct {
    uint64_t rate, usec, lateness;
} rates[] = {{1, 1000000000, 0},
             {1024, 10000000, 1500},
             {1048576, 10000000, 1500},
             {104857600, 10000000, 1500},
             {UINT64_C(1) << 36, 10000, 0}};

/* Whoever reads at once gets the rate, also when timers are late. */
TEST_EACH(rate_is_kept, rates)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    static uint8_t block[ROOM];
    uint64_t now = START, end = START + c->usec, said = 0;
    params.rate = c->rate;
    begin(&m, &params, 1);
    while (now < end) {
        size_t more = misbehaviour_may_speak(&m);
        if (more > 0)
            put(&m, now, block, more < sizeof block ? more : sizeof block);
        struct misbehaviour_step step = misbehaviour_next(&m, now, true);
        if (said > (now - START) * c->rate / USEC_PER_SEC + c->rate / 50 + 1)
            ck_abort_msg("too early");
        if (step.kind == MISBEHAVIOUR_SEND) {
            said += step.length;
            now += c->rate > 1000000000; /* the time that it takes to send */
        } else {
            now = m.wake + c->lateness;
        }
    }
    uint64_t wanted = c->usec * c->rate / USEC_PER_SEC;
    ck_assert_uint_ge(said, wanted - wanted / 100);
    ck_assert_uint_le(said, wanted + wanted / 100 + 1);
    misbehaviour_clear(&m);
}

TEST(rate_does_not_save_up_while_nothing_is_said)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.rate = 1000;
    begin(&m, &params, 1);
    put(&m, START + 60 * USEC_PER_SEC, stream, 1000);
    hear(&m, START + 60 * USEC_PER_SEC, &heard);
    ck_assert_uint_le(heard.length, 41); /* a piece, and the credit for one */
    uint64_t now = hear_all(&m, START + 60 * USEC_PER_SEC, 0, &heard);
    ck_assert(now > START + 60 * USEC_PER_SEC + 940000 && now < START + 61 * USEC_PER_SEC);
    expect(&heard, stream, 1000);
    misbehaviour_clear(&m);
}

/* As in a time namespace, or soon after the machine has started. */
TEST(clock_may_be_near_zero)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.delay = params.jitter = USEC_PER_SEC;
    params.rate = 1000;
    misbehaviour_init(&m, &params, 1, 0, ROOM);
    put(&m, 0, stream, 1000);
    uint64_t now = hear_all(&m, 0, 0, &heard);
    expect(&heard, stream, 1000);
    ck_assert(now > 940000 && now < 3 * USEC_PER_SEC);
    misbehaviour_clear(&m);
}

/* All at their most: nothing is due before its time, or never. */
TEST(settings_at_their_most)
{
    static const uint64_t hour = 3600 * USEC_PER_SEC;
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.delay = params.jitter = params.slice_delay = params.accept_delay = params.close_delay = hour;
    params.slice = 65536;
    params.rate = params.limit = UINT64_C(1) << 40;
    params.after = 365 * 24 * hour;
    misbehaviour_init(&m, &params, 1, START, 16777216);
    hear(&m, START + hour - 1, &heard);
    ck_assert(m.wake == START + hour && misbehaviour_may_read(&m) == 0);
    hear(&m, START + hour, &heard);
    ck_assert_uint_ge(misbehaviour_may_read(&m), 16777216 - 100);
    put(&m, START + hour, stream, STREAM);
    put(&m, START + hour + 1, stream, STREAM);
    hear(&m, START + hour + 1, &heard);
    while (heard.length < 2 * STREAM) {
        ck_assert(m.wake > START && m.wake <= START + 5 * hour);
        hear(&m, m.wake, &heard);
    }
    ck_assert_uint_eq(heard.pieces, 2);
    ck_assert_uint_eq(m.wake, START + params.after);
    hear(&m, m.wake, &heard);
    ck_assert_int_eq(heard.end, ENDED);
    misbehaviour_clear(&m);
}

TEST(slices_are_so_long_and_so_far_apart)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.slice = 4;
    begin(&m, &params, 1);
    put(&m, START, "0123456789", 10);
    hear(&m, START, &heard);
    ck_assert_uint_eq(heard.pieces, 3);
    expect(&heard, "0123456789", 10);

    params.slice_delay = 1000;
    put(&m, START, "0123456789", 10);
    heard = (struct heard){0};
    uint64_t now = START + 5000;
    for (size_t i = 0; i < 3; i++) {
        hear(&m, now, &heard);
        ck_assert_uint_eq(heard.pieces, i + 1);
        hear(&m, now + 999, &heard);
        ck_assert_uint_eq(heard.pieces, i + 1);
        now += 1000;
    }
    expect(&heard, "0123456789", 10);
    misbehaviour_clear(&m);
}

TEST(nothing_happens_during_the_accept_delay)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.accept_delay = USEC_PER_SEC;
    begin(&m, &params, 1);
    hear(&m, START + 999999, &heard);
    ck_assert(misbehaviour_may_read(&m) == 0 && misbehaviour_may_speak(&m) == 0 && misbehaviour_holds(&m));
    ck_assert_uint_eq(m.wake, START + USEC_PER_SEC);
    hear(&m, m.wake, &heard);
    ck_assert(misbehaviour_may_read(&m) > 0 && misbehaviour_may_speak(&m) > 0 && !misbehaviour_holds(&m));
}

TEST(end_is_held_after_the_last_byte)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.delay = 1000;
    params.close_delay = USEC_PER_SEC;
    begin(&m, &params, 1);
    ck_assert(misbehaviour_put(&m, START, (const uint8_t *)"abc", 3));
    ck_assert(misbehaviour_finish(&m, START));
    hear(&m, START + 1000, &heard);
    expect(&heard, "abc", 3);
    ck_assert(misbehaviour_holds(&m));
    ck_assert_uint_eq(m.wake, START + 1000 + USEC_PER_SEC);
    hear(&m, m.wake - 1, &heard);
    ck_assert(misbehaviour_holds(&m));
    hear(&m, m.wake, &heard);
    ck_assert_int_eq(heard.end, DONE);
    misbehaviour_clear(&m);
}

TEST(limit_is_exact)
{
    struct misbehaviour_params params = none;
    for (params.limit = 1; params.limit < 200; params.limit += 7)
        for (size_t size = 1; size < 300; size += 37) {
            struct heard heard;
            converse(&params, 1, size, &heard);
            expect(&heard, stream, params.limit);
            ck_assert_int_eq(heard.end, ENDED);
        }
}

TEST(after_drops_what_is_held)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    struct heard heard = {0};
    params.delay = USEC_PER_SEC;
    params.after = USEC_PER_SEC / 2;
    begin(&m, &params, 1);
    put(&m, START, "lost", 4);
    hear(&m, START + params.after - 1, &heard);
    ck_assert(heard.end == OPEN && m.wake == START + params.after && !misbehaviour_fault_name(&m));
    /* Also while the kernel has not taken what was sent. */
    ck_assert_int_eq(misbehaviour_next(&m, START + params.after, false).kind, MISBEHAVIOUR_END);
    ck_assert_str_eq(misbehaviour_fault_name(&m), "after");
    ck_assert(!misbehaviour_holds(&m) && misbehaviour_may_read(&m) == 0 && misbehaviour_may_speak(&m) == 0);
    hear(&m, START + 2 * USEC_PER_SEC, &heard);
    ck_assert(heard.length == 0 && heard.end == DONE && m.wake == USEC_NEVER);
    ck_assert(!m.held);
}

static const struct {
    enum misbehaviour_end end;
    bool stays, hangs;
} ends[] = {{MISBEHAVIOUR_CLOSE, false, false},
            {MISBEHAVIOUR_RESET, false, false},
            {MISBEHAVIOUR_HALF_CLOSE, true, false},
            {MISBEHAVIOUR_HANG, true, true}};

TEST_EACH(some_ends_stay, ends)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    params.limit = 1;
    params.end = c->end;
    begin(&m, &params, 1);
    put(&m, START, "xy", 2);
    ck_assert(misbehaviour_next(&m, START, true).kind == MISBEHAVIOUR_SEND && !misbehaviour_stays(&m));
    ck_assert(misbehaviour_next(&m, START, false).kind == MISBEHAVIOUR_WAIT);
    ck_assert(misbehaviour_next(&m, START, true).kind == MISBEHAVIOUR_END);
    ck_assert_str_eq(misbehaviour_fault_name(&m), "limit");
    ck_assert(misbehaviour_stays(&m) == c->stays && misbehaviour_hangs(&m) == c->hangs);
    misbehaviour_hurry(&m);
    ck_assert(!misbehaviour_stays(&m));
    misbehaviour_clear(&m);
}

TEST(silent_reads_and_says_nothing)
{
    struct misbehaviour_params params = none;
    struct heard heard;
    struct misbehaviour m;
    params.silent = true;
    begin(&m, &params, 1);
    ck_assert(misbehaviour_may_read(&m) > ROOM && misbehaviour_may_speak(&m) == 0);
    converse(&params, 1, 100, &heard);
    ck_assert(heard.length == 0 && heard.end == DONE);
}

TEST(deaf_speaks_and_reads_nothing)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    params.deaf = true;
    begin(&m, &params, 1);
    ck_assert(misbehaviour_may_read(&m) == 0 && misbehaviour_may_speak(&m) > 0);
    misbehaviour_hurry(&m);
    ck_assert_uint_eq(misbehaviour_may_read(&m), 0);
}

TEST(corrupt_changes_one_bit_of_its_share_of_bytes)
{
    struct misbehaviour_params params = none;
    unsigned changed = 0, bits[8] = {0};
    params.corrupt = 0.1;
    for (uint64_t number = 1; number <= 50; number++) {
        struct heard heard;
        converse(&params, number, 100, &heard);
        ck_assert_uint_eq(heard.length, STREAM);
        for (size_t i = 0; i < STREAM; i++) {
            unsigned difference = heard.bytes[i] ^ stream[i];
            ck_assert_int_le(__builtin_popcount(difference), 1);
            if (difference)
                bits[__builtin_ctz(difference)]++;
            changed += difference != 0;
        }
    }
    ck_assert(changed > 29000 && changed < 31000); /* of 300,000; 6 standard deviations */
    for (size_t i = 0; i < 8; i++)
        ck_assert(bits[i] > 3300 && bits[i] < 4200);
    params.corrupt = 1;
    struct heard heard;
    converse(&params, 1, 100, &heard);
    for (size_t i = 0; i < STREAM; i++)
        ck_assert_uint_ne(heard.bytes[i], stream[i]);
}

/* How often each piece of the stream has come, which must be all that has come. */
static void count_pieces(const struct heard *heard, size_t size, unsigned counts[3])
{
    size_t at = 0;
    for (size_t piece = 0; piece * size < STREAM; piece++) {
        size_t length = size < STREAM - piece * size ? size : STREAM - piece * size;
        unsigned times = 0;
        while (times < 2 && heard->length - at >= length &&
               memcmp(heard->bytes + at, stream + piece * size, length) == 0) {
            at += length;
            times++;
        }
        counts[times]++;
    }
    ck_assert_uint_eq(at, heard->length);
}

static const struct {
    double lose, repeat;
    uint64_t slice;
    unsigned least[3], most[3]; /* of the pieces: not come, once, twice, in percent */
} shares[] = {
    {0.25, 0, 0, {21, 71, 0}, {29, 79, 0}},    {0, 0.25, 0, {0, 71, 21}, {0, 79, 29}},
    {0.5, 0.5, 0, {46, 21, 21}, {54, 29, 29}}, {0, 1, 7, {0, 0, 100}, {0, 0, 100}},
    {1, 0, 7, {100, 0, 0}, {100, 0, 0}},       {0.1, 0.2, 7, {8, 68, 15}, {12, 76, 21}},
};

TEST_EACH(pieces_are_lost_and_repeated_in_their_shares, shares)
{
    struct misbehaviour_params params = none;
    unsigned counts[3] = {0}, all = 0;
    params.lose = c->lose;
    params.repeat = c->repeat;
    params.slice = c->slice;
    for (uint64_t number = 1; number <= 30; number++) {
        struct heard heard;
        converse(&params, number, 100, &heard);
        count_pieces(&heard, c->slice ? c->slice : MISBEHAVIOUR_PIECE, counts);
        ck_assert_int_eq(heard.end, DONE);
    }
    all = counts[0] + counts[1] + counts[2];
    for (size_t i = 0; i < 3; i++)
        ck_assert(counts[i] * 100 >= c->least[i] * all && counts[i] * 100 <= c->most[i] * all);
}

/* Each alone, and together. */
static const struct misbehaviour_params spoiled[] = {
    {.after = USEC_NEVER, .seed = 7, .corrupt = 0.05},
    {.after = USEC_NEVER, .seed = 7, .lose = 0.3},
    {.after = USEC_NEVER, .seed = 7, .repeat = 0.3},
    {.after = USEC_NEVER, .seed = 7, .repeat = 1, .slice = 1},
    {.after = USEC_NEVER, .seed = 7, .limit = 3333, .repeat = 0.4, .lose = 0.2},
    {.after = USEC_NEVER, .seed = 7, .corrupt = 0.05, .lose = 0.2, .repeat = 0.3, .slice = 33},
    {.after = USEC_NEVER,
     .seed = 7,
     .corrupt = 0.05,
     .lose = 0.2,
     .repeat = 0.3,
     .slice = 100,
     .slice_delay = 10,
     .delay = 3000,
     .jitter = 3000,
     .rate = 100000,
     .accept_delay = 5000,
     .limit = 5555},
};

TEST_EACH(cuts_do_not_matter, spoiled)
{
    struct heard whole, cut;
    converse(c, 1, STREAM, &whole);
    for (size_t size = 1; size < 200; size++) {
        converse(c, 1, size, &cut);
        ck_assert_msg(is_same(&whole, &cut), "reads of %zu bytes", size);
    }
}

TEST_EACH(same_seed_and_number_are_the_same_again, spoiled)
{
    struct misbehaviour_params other = *c;
    struct heard first, again, another;
    unsigned same = 0;
    other.seed = 8;
    for (uint64_t number = 1; number < 50; number++) {
        converse(c, number, 71, &first);
        converse(c, number, 93, &again);
        ck_assert(is_same(&first, &again));
        converse(&other, number, 71, &another);
        same += is_same(&first, &another);
        converse(c, number + 1, 71, &another);
        same += is_same(&first, &another);
    }
    ck_assert_uint_eq(same, c->repeat == 1 ? 98 : 0);
}

/* As a restart does it, at every byte. */
TEST_EACH(another_process_goes_on_without_a_wrong_byte, spoiled)
{
    struct heard whole;
    converse(c, 3, 50, &whole);
    for (size_t stop = 0; stop < STREAM; stop += 13) {
        struct misbehaviour before, after;
        struct heard heard = {0};
        uint64_t now = START;
        begin(&before, c, 3);
        put(&before, now, stream, stop);
        hear(&before, now + 20, &heard);
        after = before;
        const uint8_t *held = before.held ? before.held->bytes + before.held->start : NULL;
        const uint8_t *again = before.again ? before.again->bytes + before.again->start : NULL;
        size_t held_length = held ? before.held->end - before.held->start : 0;
        size_t again_length = again ? before.again->end - before.again->start : 0;
        ck_assert(misbehaviour_is_possible(c, &before, held, held_length, again_length));
        ck_assert(misbehaviour_restore(&after, c, ROOM, held, held_length, again, again_length));
        misbehaviour_clear(&before);
        put(&after, now, stream + stop, STREAM - stop);
        ck_assert(misbehaviour_finish(&after, now));
        hear_all(&after, now, 0, &heard);
        misbehaviour_clear(&after);
        ck_assert(is_same(&whole, &heard));
    }
}

TEST(damaged_state_is_found)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    params.delay = 1000;
    begin(&m, &params, 1);
    put(&m, START, "abc", 3);
    uint8_t *held = m.held->bytes;
    size_t length = m.held->end;
    ck_assert(misbehaviour_is_possible(&params, &m, held, length, 0));
    for (size_t cut = 1; cut < length; cut++)
        ck_assert(!misbehaviour_is_possible(&params, &m, held, cut, 0));
    ck_assert(!misbehaviour_is_possible(&params, &m, held, length, MISBEHAVIOUR_PIECE));
    held[8]++;
    ck_assert(!misbehaviour_is_possible(&params, &m, held, length, 0));
    held[8]--;
    m.ended_by = MISBEHAVIOUR_FAULTS;
    ck_assert(!misbehaviour_is_possible(&params, &m, held, length, 0));
    misbehaviour_clear(&m);
}

/* However it has ended, and whatever else would have come later. */
TEST(nothing_wakes_it_after_its_end)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    params.after = USEC_PER_SEC;
    begin(&m, &params, 1);
    ck_assert(misbehaviour_finish(&m, START));
    ck_assert_int_eq(misbehaviour_next(&m, START, true).kind, MISBEHAVIOUR_DONE);
    ck_assert_uint_eq(m.wake, USEC_NEVER);

    params.limit = 1;
    struct heard heard = {0};
    begin(&m, &params, 1);
    put(&m, START, "x", 1);
    hear(&m, START, &heard);
    ck_assert(heard.end == ENDED && m.wake == USEC_NEVER);

    /* As it is read from what another process has written down. */
    m.wake = 0;
    ck_assert(misbehaviour_restore(&m, &params, ROOM, NULL, 0, NULL, 0));
    ck_assert_uint_eq(m.wake, USEC_NEVER);
}

TEST(toxicity_is_the_share_of_connections)
{
    struct misbehaviour_params params = none;
    unsigned hit = 0;
    params.toxicity = 0.2;
    for (uint64_t number = 1; number <= 10000; number++) {
        ck_assert(misbehaviour_befalls(&none, number));
        hit += misbehaviour_befalls(&params, number);
        ck_assert_int_eq(misbehaviour_befalls(&params, number), misbehaviour_befalls(&params, number));
    }
    ck_assert(hit > 1760 && hit < 2240);
    params.toxicity = 0;
    ck_assert(!misbehaviour_befalls(&params, 1));
}

TEST(hurry_waits_for_nothing)
{
    struct misbehaviour_params params = spoiled[6];
    struct misbehaviour m;
    struct heard slow, heard = {0};
    converse(&params, 9, 100, &slow);
    params.after = 1;
    begin(&m, &params, 9);
    misbehaviour_hurry(&m);
    put(&m, START, stream, STREAM);
    ck_assert(misbehaviour_finish(&m, START));
    hear(&m, START, &heard);
    ck_assert_uint_eq(heard.length, slow.length);
    ck_assert_mem_eq(heard.bytes, slow.bytes, slow.length);
    misbehaviour_clear(&m);
}

/* Whoever reads only as much as it may. */
TEST_EACH(memory_is_bounded, spoiled)
{
    struct misbehaviour m;
    struct misbehaviour_params params = *c;
    params.delay = 1000 * USEC_PER_SEC;
    params.jitter = 0;
    for (size_t size = 1; size < 3000; size = size * 3 + 1) {
        misbehaviour_init(&m, &params, 1, START, 4096);
        m.is_started = true;
        size_t may, reads = 0, most = 0;
        while ((may = misbehaviour_may_read(&m)) > 0 && reads < 10000) {
            put(&m, START, stream, size < may ? size : may);
            reads++;
            if (m.held && m.held->size > most)
                most = m.held->size;
        }
        ck_assert_uint_le(most, 4096);
        misbehaviour_clear(&m);
    }
}

/* Each allocation of a put, of the end and of a restore fails in turn. */
TEST(short_memory_is_told)
{
    struct misbehaviour_params params = none;
    struct misbehaviour m;
    params.repeat = 1;
    for (unsigned long nth = 1; nth <= 2; nth++) {
        begin(&m, &params, 1);
        fault_arm("malloc", ENOMEM, nth);
        bool is_taken = misbehaviour_put(&m, START, stream, 10);
        ck_assert_uint_eq(fault_disarm(), 1);
        ck_assert(!is_taken);
        misbehaviour_clear(&m);
    }

    struct heard heard = {0};
    begin(&m, &params, 1);
    put(&m, START, stream, 10);
    hear(&m, START, &heard);
    fault_arm("malloc", ENOMEM, 1);
    bool is_finished = misbehaviour_finish(&m, START);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert(!is_finished);

    for (unsigned long nth = 1; nth <= 2; nth++) {
        struct misbehaviour after = m;
        fault_arm("malloc", ENOMEM, nth);
        bool is_restored = misbehaviour_restore(&after, &params, ROOM, stream, 5, stream, 5);
        ck_assert_uint_eq(fault_disarm(), 1);
        ck_assert(!is_restored && !after.held && !after.again);
    }
    misbehaviour_clear(&m);
}
