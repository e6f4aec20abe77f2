#include "serve/misbehaviour.h"

#include "base/clock.h"
#include "serve/service.h"

#include <stdlib.h>
#include <string.h>

/* With a rate, pieces of so much time each: few enough packets, and smooth. */
#define RATE_PIECE_USEC (20 * USEC_PER_MSEC)

/* So much of a rate may be made up for: a timer is late by a millisecond, and a client that has just read
 * its answer by a round trip. */
#define RATE_CREDIT_NSEC (20 * USEC_PER_MSEC * NSEC_PER_USEC)

#define FIRST_BUFFER 128

/* What stands before the bytes of an answer in `held`. */
struct record {
    uint64_t due; /* usec */
    uint64_t length;
};

/* ---- Chance ---- */

/* What is drawn for a place in the answer; each draw is its own. */
enum draw {
    DRAW_TOXICITY,
    DRAW_JITTER,
    DRAW_CORRUPT,
    DRAW_LOSE,
    DRAW_REPEAT,
    DRAW_END,
};

/* The output function of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the input counts for every
 * bit of the result. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t key_of(const struct misbehaviour_params *params, uint64_t number)
{
    return mix(mix(params->seed) ^ number);
}

static uint64_t draw(uint64_t key, enum draw what, uint64_t place)
{
    return mix(mix(key + what) ^ place);
}

/* True for this share of all numbers; of the highest 53 bits, which a double holds exactly. */
static bool is_among(uint64_t number, double share)
{
    return (double)(number >> 11) * 0x1p-53 < share;
}

/* ---- Buffers ---- */

static size_t length_of(const struct misbehaviour_buffer *buffer)
{
    return buffer ? buffer->end - buffer->start : 0;
}

static void drop(struct misbehaviour_buffer **buffer)
{
    free(*buffer);
    *buffer = NULL;
}

/* Makes room for so many more bytes at the end, and for not many more than `most` in all. Returns false when
 * memory is short. */
static bool reserve(struct misbehaviour_buffer **buffer, size_t more, size_t most)
{
    struct misbehaviour_buffer *old = *buffer;
    size_t length = length_of(old), needed = length + more;
    if (old && old->size - old->end >= more)
        return true;
    if (old && old->size >= needed && old->start >= length) {
        memmove(old->bytes, old->bytes + old->start, length);
        old->start = 0;
        old->end = length;
        return true;
    }
    size_t size = 2 * needed < FIRST_BUFFER ? FIRST_BUFFER : 2 * needed;
    if (size > most)
        size = needed > most ? needed : most;
    struct misbehaviour_buffer *grown = malloc(sizeof *grown + size);
    if (!grown)
        return false;
    *grown = (struct misbehaviour_buffer){.end = length, .size = size};
    if (old)
        memcpy(grown->bytes, old->bytes + old->start, length);
    free(old);
    *buffer = grown;
    return true;
}

/* There is room. Returns where they are now. */
static uint8_t *append(struct misbehaviour_buffer *buffer, const void *bytes, size_t length)
{
    uint8_t *at = buffer->bytes + buffer->end;
    memcpy(at, bytes, length);
    buffer->end += length;
    return at;
}

/* Goes on to the next answer, when the first one has gone. Something is held. */
static void begin_next(struct misbehaviour *m)
{
    struct record record;
    if (m->first_length > 0)
        return;
    memcpy(&record, m->held->bytes + m->held->start, sizeof record);
    m->held->start += sizeof record;
    m->first_due = record.due;
    m->first_length = record.length;
}

static const uint8_t *take(struct misbehaviour *m, size_t length)
{
    const uint8_t *bytes = m->held->bytes + m->held->start;
    m->held->start += length;
    m->first_length -= length;
    return bytes;
}

/* ---- What happens to the bytes ---- */

enum fate {
    FATE_SAID,
    FATE_LOST,
    FATE_REPEATED,
};

static size_t piece_size(const struct misbehaviour_params *params)
{
    return params->slice > 0 ? params->slice : MISBEHAVIOUR_PIECE;
}

static enum fate fate_of(const struct misbehaviour *m, uint64_t piece)
{
    if (is_among(draw(m->key, DRAW_LOSE, piece), m->params->lose))
        return FATE_LOST;
    return is_among(draw(m->key, DRAW_REPEAT, piece), m->params->repeat) ? FATE_REPEATED : FATE_SAID;
}

/* Changes a bit of some of them; the first is the answer's byte number m->made. */
static void corrupt(const struct misbehaviour *m, uint8_t *bytes, size_t length)
{
    if (m->params->corrupt == 0)
        return;
    for (size_t i = 0; i < length; i++) {
        uint64_t number = draw(m->key, DRAW_CORRUPT, m->made + i);
        if (is_among(number, m->params->corrupt))
            bytes[i] ^= (uint8_t)(1U << (number & 7)); /* is_among() looks at other bits */
    }
}

/* The rest of a piece that is said twice, and its second time. There is room. */
static void repeat(struct misbehaviour *m)
{
    append(m->held, m->again->bytes + m->again->start, length_of(m->again));
    drop(&m->again);
}

/* Puts at most a piece's rest into the record under way. Returns how many bytes that is, or 0 when memory is
 * short. There is room in `held`. */
static size_t put_piece(struct misbehaviour *m, const uint8_t *bytes, size_t length)
{
    const struct misbehaviour_params *params = m->params;
    size_t size = piece_size(params);
    size_t left = size - (size_t)(m->made % size);
    enum fate fate = FATE_SAID;
    if (params->lose > 0 || params->repeat > 0) {
        fate = fate_of(m, m->made / size);
        length = left < length ? left : length;
    }
    if (fate == FATE_REPEATED && !reserve(&m->again, length, size))
        return 0;
    if (fate != FATE_LOST) {
        uint8_t *said = append(m->held, bytes, length);
        corrupt(m, said, length);
        if (fate == FATE_REPEATED)
            append(m->again, said, length);
    }
    if (fate == FATE_REPEATED && length == left)
        repeat(m);
    m->made += length;
    return length;
}

/* When what is made now is due; what was made before is not overtaken. */
static uint64_t due_of(struct misbehaviour *m, uint64_t now, enum draw what)
{
    const struct misbehaviour_params *params = m->params;
    uint64_t due = now + params->delay;
    if (params->jitter > 0)
        due = due - params->jitter + draw(m->key, what, m->made) % (2 * params->jitter + 1);
    if (due < m->last_due)
        due = m->last_due;
    m->last_due = due;
    return due;
}

/* How much `length` bytes of the service may become. */
static size_t most_of(const struct misbehaviour *m, size_t length)
{
    return sizeof(struct record) + (m->params->repeat > 0 ? 2 * length + length_of(m->again) : length);
}

/* Begins a record, and ends it once it is known how long it is. Returns where it is, from the front. */
static size_t begin_record(struct misbehaviour *m, uint64_t due)
{
    const struct record record = {.due = due};
    size_t at = m->held->end - m->held->start;
    append(m->held, &record, sizeof record);
    return at;
}

static void end_record(struct misbehaviour *m, size_t at)
{
    struct misbehaviour_buffer *held = m->held;
    struct record record;
    uint8_t *head = held->bytes + held->start + at;
    memcpy(&record, head, sizeof record);
    record.length = (size_t)(held->bytes + held->end - head) - sizeof record;
    memcpy(head, &record, sizeof record);
    if (record.length == 0)
        held->end -= sizeof record;
}

bool misbehaviour_put(struct misbehaviour *m, uint64_t now, const uint8_t *bytes, size_t length)
{
    if (m->params->silent || m->is_done || length == 0)
        return true;
    if (!reserve(&m->held, most_of(m, length), m->room))
        return false;
    size_t record = begin_record(m, due_of(m, now, DRAW_JITTER));
    for (size_t at = 0, piece; at < length; at += piece) {
        piece = put_piece(m, bytes + at, length - at);
        if (piece == 0)
            return false;
    }
    end_record(m, record);
    return true;
}

bool misbehaviour_finish(struct misbehaviour *m, uint64_t now)
{
    if (m->is_finished)
        return true;
    uint64_t due = due_of(m, now, DRAW_END);
    if (m->again && !m->is_done) {
        if (!reserve(&m->held, most_of(m, 0), m->room))
            return false;
        size_t record = begin_record(m, due);
        repeat(m);
        end_record(m, record);
    }
    m->last_due += m->params->close_delay;
    m->is_finished = true;
    return true;
}

/* ---- When they go ---- */

void misbehaviour_hurry(struct misbehaviour *m)
{
    m->is_hurried = true;
    m->is_started = true;
}

static size_t room_left(const struct misbehaviour *m)
{
    size_t held = length_of(m->held) + length_of(m->again) + sizeof(struct record);
    size_t left = m->room > held ? (size_t)m->room - held : 0;
    /* Half of the room at least, so that what is held is not a heap of crumbs. */
    if (left < m->room / 2)
        return 0;
    return m->params->repeat > 0 ? left / 2 : left;
}

size_t misbehaviour_may_read(const struct misbehaviour *m)
{
    if (m->params->deaf || !m->is_started || m->is_finished || m->is_done)
        return 0;
    return m->params->silent ? SIZE_MAX : room_left(m);
}

size_t misbehaviour_may_speak(const struct misbehaviour *m)
{
    size_t room = m->params->silent || !m->is_started || m->is_done ? 0 : room_left(m);
    return room < SERVICE_MIN_OUTPUT ? 0 : room;
}

static void wake_by(struct misbehaviour *m, uint64_t usec)
{
    if (usec < m->wake)
        m->wake = usec;
}

/* Whether the time has come; else sees to it that the caller comes back. */
static bool is_due(struct misbehaviour *m, uint64_t now, uint64_t due)
{
    if (due <= now || m->is_hurried)
        return true;
    wake_by(m, due);
    return false;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t greatest_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* How much of the first answer goes at once. */
static size_t next_length(const struct misbehaviour *m)
{
    const struct misbehaviour_params *params = m->params;
    uint64_t length = m->first_length;
    if (params->slice > 0)
        length = least_of(length, params->slice);
    else if (params->rate > 0 && !m->is_hurried)
        length = least_of(length, greatest_of(params->rate / (USEC_PER_SEC / RATE_PIECE_USEC), 1));
    if (params->limit > 0)
        length = least_of(length, params->limit - m->said);
    return (size_t)length;
}

/* So much is said now: what is said next has to wait accordingly. */
static void note_said(struct misbehaviour *m, uint64_t now, size_t length)
{
    const struct misbehaviour_params *params = m->params;
    uint64_t now_nsec = now * NSEC_PER_USEC;
    m->said += length;
    m->slice_due = now + params->slice_delay;
    if (params->rate == 0)
        return;
    uint64_t credit = now_nsec > RATE_CREDIT_NSEC ? now_nsec - RATE_CREDIT_NSEC : 0;
    m->rate_due = greatest_of(m->rate_due, credit) + length * NSEC_PER_SEC / params->rate;
}

static struct misbehaviour_step end_by(struct misbehaviour *m, enum misbehaviour_fault fault)
{
    m->ended_by = (uint8_t)fault;
    m->is_done = true;
    m->wake = USEC_NEVER;
    m->first_length = 0;
    drop(&m->held);
    drop(&m->again);
    return (struct misbehaviour_step){.kind = MISBEHAVIOUR_END};
}

struct misbehaviour_step misbehaviour_next(struct misbehaviour *m, uint64_t now, bool may_send)
{
    const struct misbehaviour_params *params = m->params;
    struct misbehaviour_step step = {.kind = MISBEHAVIOUR_WAIT};
    m->wake = USEC_NEVER;
    m->is_ready = false;
    if (length_of(m->held) == 0)
        drop(&m->held);
    if (m->is_done)
        return (struct misbehaviour_step){.kind = MISBEHAVIOUR_DONE};
    if (params->after != USEC_NEVER && !m->is_hurried && is_due(m, now, m->accepted + params->after))
        return end_by(m, MISBEHAVIOUR_AFTER);
    /* A client that leaves before that has nothing to wait for. */
    m->is_started = m->is_started || m->is_finished || is_due(m, now, m->accepted + params->accept_delay);
    if (!m->is_started || !may_send)
        return step;
    if (params->limit > 0 && m->said >= params->limit)
        return end_by(m, MISBEHAVIOUR_LIMIT);
    if (!m->held) {
        m->is_done = m->is_finished && is_due(m, now, m->last_due);
        if (m->is_done)
            m->wake = USEC_NEVER;
        step.kind = m->is_done ? MISBEHAVIOUR_DONE : MISBEHAVIOUR_WAIT;
        return step;
    }
    begin_next(m);
    uint64_t rate_due = (m->rate_due + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
    if (!is_due(m, now, greatest_of(m->first_due, greatest_of(m->slice_due, rate_due))))
        return step;
    step = (struct misbehaviour_step){.kind = MISBEHAVIOUR_SEND, .length = next_length(m)};
    step.bytes = take(m, step.length);
    note_said(m, now, step.length);
    m->is_ready = true;
    return step;
}

bool misbehaviour_holds(const struct misbehaviour *m)
{
    return !m->is_done && (length_of(m->held) > 0 || !m->is_started || m->is_finished);
}

/* A stop cuts faults short: then it is a close like any other. */
static bool has_ended_by(const struct misbehaviour *m, enum misbehaviour_end end)
{
    return m->ended_by != MISBEHAVIOUR_NONE && !m->is_hurried && m->params->end == end;
}

bool misbehaviour_resets(const struct misbehaviour *m)
{
    return has_ended_by(m, MISBEHAVIOUR_RESET);
}

bool misbehaviour_hangs(const struct misbehaviour *m)
{
    return has_ended_by(m, MISBEHAVIOUR_HANG);
}

bool misbehaviour_stays(const struct misbehaviour *m)
{
    return has_ended_by(m, MISBEHAVIOUR_HALF_CLOSE) || has_ended_by(m, MISBEHAVIOUR_HANG);
}

bool misbehaviour_is_mute(const struct misbehaviour *m)
{
    return m->params->silent;
}

bool misbehaviour_is_deaf(const struct misbehaviour *m)
{
    return m->params->deaf;
}

const char *misbehaviour_fault_name(const struct misbehaviour *m)
{
    static const char *const names[MISBEHAVIOUR_FAULTS] = {
        [MISBEHAVIOUR_LIMIT] = "limit", [MISBEHAVIOUR_AFTER] = "after"};
    return names[m->ended_by];
}

/* ---- A connection's state, from its beginning to its end ---- */

bool misbehaviour_is_any(const struct misbehaviour_params *params)
{
    return params->delay > 0 || params->rate > 0 || params->slice > 0 || params->accept_delay > 0 ||
           params->close_delay > 0 || params->limit > 0 || params->after != USEC_NEVER || params->silent ||
           params->deaf || params->corrupt > 0 || params->lose > 0 || params->repeat > 0;
}

bool misbehaviour_is_random(const struct misbehaviour_params *params)
{
    return params->jitter > 0 || params->corrupt > 0 || params->lose > 0 || params->repeat > 0 ||
           params->toxicity < 1;
}

bool misbehaviour_is_equal(const struct misbehaviour_params *a, const struct misbehaviour_params *b)
{
    return a->delay == b->delay && a->jitter == b->jitter && a->rate == b->rate && a->slice == b->slice &&
           a->slice_delay == b->slice_delay && a->accept_delay == b->accept_delay &&
           a->close_delay == b->close_delay && a->limit == b->limit && a->after == b->after &&
           a->end == b->end && a->silent == b->silent && a->deaf == b->deaf && a->corrupt == b->corrupt &&
           a->lose == b->lose && a->repeat == b->repeat && a->toxicity == b->toxicity && a->seed == b->seed;
}

bool misbehaviour_befalls(const struct misbehaviour_params *params, uint64_t number)
{
    return is_among(draw(key_of(params, number), DRAW_TOXICITY, 0), params->toxicity);
}

void misbehaviour_init(struct misbehaviour *m, const struct misbehaviour_params *params, uint64_t number,
                       uint64_t accepted, size_t room)
{
    *m = (struct misbehaviour){
        .params = params,
        .room = room,
        .key = key_of(params, number),
        .accepted = accepted,
        .rate_due = accepted * NSEC_PER_USEC,
        .wake = USEC_NEVER,
        .is_started = params->accept_delay == 0,
    };
}

void misbehaviour_clear(struct misbehaviour *m)
{
    drop(&m->held);
    drop(&m->again);
}

bool misbehaviour_is_possible(const struct misbehaviour_params *params, const struct misbehaviour *m,
                              const uint8_t *held, size_t held_length, size_t again_length)
{
    if (m->ended_by >= MISBEHAVIOUR_FAULTS || (params->limit > 0 && m->said > params->limit) ||
        again_length >= piece_size(params) || m->first_length > held_length ||
        (m->is_done && held_length + again_length > 0))
        return false;
    for (size_t at = (size_t)m->first_length; at < held_length;) {
        struct record record;
        if (held_length - at < sizeof record)
            return false;
        memcpy(&record, held + at, sizeof record);
        at += sizeof record;
        if (record.length == 0 || record.length > held_length - at)
            return false;
        at += record.length;
    }
    return true;
}

static bool restore_buffer(struct misbehaviour_buffer **buffer, const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return true;
    if (!reserve(buffer, length, length))
        return false;
    append(*buffer, bytes, length);
    return true;
}

bool misbehaviour_restore(struct misbehaviour *m, const struct misbehaviour_params *params, size_t room,
                          const uint8_t *held, size_t held_length, const uint8_t *again, size_t again_length)
{
    m->params = params;
    m->room = room;
    m->wake = USEC_NEVER;
    m->held = m->again = NULL;
    if (restore_buffer(&m->held, held, held_length) && restore_buffer(&m->again, again, again_length))
        return true;
    misbehaviour_clear(m);
    return false;
}
