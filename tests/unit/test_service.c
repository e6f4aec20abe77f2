#include "serve/services.h"

#include "common.h"
#include "serve/connection_view.h"
#include "serve/end_word.h"

/* For tables of rows; elsewhere they are found by their names. */
extern const struct service service_echo, service_upper, service_discard, service_chargen, service_daytime,
    service_time, service_greet, service_reply, service_whoami;

#define NOON 1795262400 /* some time of day */

/* Of the connection whose service it is. */
static struct service_params params;
static struct service_state state;
static uint8_t out[65536];

static size_t produce(const struct service *service, size_t size)
{
    static const struct connection_view view = {.listener = "", .service = "", .host = ""};
    if (service_describes(service, &params, &state))
        return service_describe(service, &state, &view, out);
    return service_produce(service, &params, &state, NOON, out, size);
}

static bool has_output(const struct service *service)
{
    return service_has_output(service, &params, &state);
}

static size_t answer(const struct service *service, void *bytes, size_t length)
{
    return service_answer(service, &params, &state, bytes, length);
}

/* Produces everything in pieces of `size`; returns how much, at most `out` holds. */
static size_t produce_all(const struct service *service, size_t size)
{
    size_t length = 0;
    while (has_output(service) && length + size <= sizeof out) {
        size_t made = service_produce(service, &params, &state, NOON, out + length, size);
        ck_assert_uint_le(made, size);
        length += made;
    }
    return length;
}

static const struct {
    const char *name;
    bool answers, produces, describes, takes_text, takes_end_word, speaks_when_asked;
} expected[] = {
    {"echo", true, false, false, false, true, false},
    {"upper", true, false, false, false, true, false},
    {"discard", false, false, false, false, false, false},
    {"chargen", false, true, false, false, false, false},
    {"daytime", false, true, false, false, false, false},
    {"time", false, true, false, false, false, false},
    {"greet", false, true, false, true, false, false},
    {"reply", false, true, false, true, false, true},
    {"whoami", false, false, true, false, false, false},
};

TEST_EACH(table_is_whole, expected)
{
    const struct service *service = services[c - expected];
    ck_assert_ptr_nonnull(service);
    ck_assert_str_eq(service->name, c->name);
    ck_assert_ptr_eq(service_find(c->name), service);
    ck_assert(service->summary && service->summary[0] && !strchr(service->summary, '\n'));
    ck_assert(!!service->answer == c->answers);
    ck_assert(!!service->produce == c->produces);
    ck_assert(!!service->describe == c->describes);
    ck_assert(service_speaks(service) == (c->answers || c->produces || c->describes));
    ck_assert(service->takes_text == c->takes_text);
    ck_assert(service->takes_end_word == c->takes_end_word);
    ck_assert(service->speaks_when_asked == c->speaks_when_asked);
}

TEST(no_other_service)
{
    const struct service *more = services[COUNT_OF(expected)];
    ck_assert_msg(!more, "expected[] of this test lacks the service %s", more ? more->name : "");
    ck_assert_ptr_null(service_find("Echo"));
    ck_assert_ptr_null(service_find("ech"));
    ck_assert_ptr_null(service_find(""));
}

static const struct {
    const struct service *service;
    const char *answer;
} answers[] = {
    {&service_echo, "na\xc3\xafve \xe2\x82\xac stra\xc3\x9f"
                    "e\xff\x01 {`az[@AZ"},
    {&service_upper, "NA\xc3\xafVE \xe2\x82\xac STRA\xc3\x9f"
                     "E\xff\x01 {`AZ[@AZ"}, /* ASCII letters alone */
};

TEST_EACH(answers_what_was_asked, answers)
{
    char bytes[] = "na\xc3\xafve \xe2\x82\xac stra\xc3\x9f"
                   "e\xff\x01 {`az[@AZ";
    ck_assert(!has_output(c->service));
    ck_assert_uint_eq(answer(c->service, bytes, sizeof bytes - 1), sizeof bytes - 1);
    ck_assert_str_eq(bytes, c->answer);
    ck_assert(state.asked && !state.done);
    ck_assert(!has_output(c->service));
}

TEST_EACH(end_word_ends_the_answer, answers)
{
    char bytes[] = "one\nend\nend\nmore", first[] = "endless\nen", second[] = "d\r\nx", capitals[] = "END\n";
    params.end_word = "end";
    params.end_word_length = 3;
    ck_assert_uint_eq(answer(c->service, bytes, sizeof bytes - 1), 8);
    ck_assert(state.done);
    ck_assert_mem_eq(bytes, c->service == &service_echo ? "one\nend\nend" : "ONE\nEND\nend", 11);

    state = (struct service_state){0};
    ck_assert_uint_eq(answer(c->service, first, 10), 10);
    ck_assert(!state.done);
    ck_assert_uint_eq(answer(c->service, second, 4), 3);
    ck_assert(state.done);

    state =
        (struct service_state){0}; /* compared with what the client wrote: its capitals are another word */
    ck_assert_uint_eq(answer(c->service, capitals, 4), 4);
    ck_assert(!state.done);
}

static const struct service *const silent[] = {&service_discard, &service_chargen, &service_daytime,
                                               &service_time,    &service_greet,   &service_reply,
                                               &service_whoami};

TEST_EACH(silent_services_answer_nothing, silent)
{
    char bytes[] = "end\n";
    params.text = "text";
    params.text_length = 4;
    ck_assert_uint_eq(answer(*c, bytes, 4), 0);
    ck_assert(state.asked && !state.done);
    if (*c == &service_discard)
        ck_assert(!has_output(*c));
}

/* RFC 864 by its words: line n shows 72 characters from the n-th printable one on. */
static uint8_t chargen_byte(uint64_t position)
{
    uint64_t line = position / 74, column = position % 74;
    if (column == 72)
        return '\r';
    if (column == 73)
        return '\n';
    return (uint8_t)(' ' + (line + column) % 95);
}

/* The first of what was produced are the RFC's. */
static void expect_chargen(size_t length, uint64_t position)
{
    size_t i = 0;
    while (i < length && out[i] == chargen_byte(position + i))
        i++;
    ck_assert_uint_eq(i, length);
}

static const size_t piece_sizes[] = {64, 73, 74, 75, 100, 148, 1000, 4999, 5000, 5001, 65536};

TEST_EACH(chargen_turns, piece_sizes)
{
    for (int piece = 0; piece < 120; piece++) {
        uint64_t start = state.produced;
        ck_assert(has_output(&service_chargen));
        ck_assert_uint_eq(produce(&service_chargen, *c), *c);
        ck_assert_uint_eq(state.produced, start + *c);
        expect_chargen(*c, start);
    }
}

TEST(chargen_first_lines_are_the_known_ones)
{
    produce(&service_chargen, 148);
    ck_assert_mem_eq(out, " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n",
                     74);
    ck_assert_mem_eq(out + 74,
                     "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n", 74);
}

static const uint64_t positions[] = {
    74 * 95 - 1,       74 * 95, UINT32_MAX - 5, UINT64_C(1) << 40, UINT64_C(74) * 95 * 1000000007 + 71,
    UINT64_C(1) << 62,
};

TEST_EACH(chargen_far_on, positions)
{
    state.produced = *c;
    ck_assert_uint_eq(produce(&service_chargen, 300), 300);
    expect_chargen(300, *c);
}

TEST(chargen_ends_with_its_line)
{
    for (uint64_t position = 0; position < 3 * 74; position++) {
        state = (struct service_state){.produced = position, .ending = true};
        size_t length = produce_all(&service_chargen, SERVICE_MIN_OUTPUT);
        ck_assert(state.done);
        ck_assert_uint_lt(length, 74);
        ck_assert_uint_eq((position + length) % 74, 0);
        expect_chargen(length, position);
        ck_assert(!has_output(&service_chargen));
    }
}

static const char *const zones[] = {"UTC0", "XST-5:30", "NST3:30NDT2:30,M3.2.0,M11.1.0"};

TEST_EACH(daytime_is_what_libc_says, zones)
{
    static const time_t times[] = {0, 1, NOON, 951782400, 2147483648, 4102444799, 253402300799};
    ck_assert_int_eq(setenv("TZ", *c, 1), 0);
    tzset();
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        struct tm local;
        char wanted[64];
        state = (struct service_state){0};
        ck_assert_ptr_nonnull(localtime_r(&times[i], &local));
        if (local.tm_year > 8099) /* strftime writes year 10000 otherwise than asctime */
            continue;
        ck_assert_uint_gt(strftime(wanted, sizeof wanted, "%a %b %e %H:%M:%S %Y\r\n", &local), 0);
        size_t length = service_produce(&service_daytime, &params, &state, times[i], out, SERVICE_MIN_OUTPUT);
        ck_assert_uint_eq(length, strlen(wanted));
        ck_assert_mem_eq(out, wanted, length);
        ck_assert(state.done);
        ck_assert_uint_eq(state.produced, length);
        ck_assert(!has_output(&service_daytime));
    }
    unsetenv("TZ");
    tzset();
}

static const time_t broken[] = {INT64_MAX, INT64_MIN, INT64_C(67767976233532799)};

TEST_EACH(daytime_of_a_broken_clock, broken)
{
    size_t length = service_produce(&service_daytime, &params, &state, *c, out, SERVICE_MIN_OUTPUT);
    ck_assert_uint_ge(length, 2);
    ck_assert_mem_eq(out + length - 2, "\r\n", 2);
    ck_assert(state.done);
}

static const struct {
    time_t now;
    uint8_t bytes[4];
} times_since_1900[] = {
    {0, {0x83, 0xaa, 0x7e, 0x80}}, /* the RFC's own examples: 2208988800 is 1970 */
    {1, {0x83, 0xaa, 0x7e, 0x81}},
    {2085978495, {0xff, 0xff, 0xff, 0xff}}, /* the last second before it wraps in 2036 */
    {2085978496, {0, 0, 0, 0}},
    {2085978497, {0, 0, 0, 1}},
};

TEST_EACH(time_counts_from_1900, times_since_1900)
{
    ck_assert_uint_eq(service_produce(&service_time, &params, &state, c->now, out, SERVICE_MIN_OUTPUT), 4);
    ck_assert_mem_eq(out, c->bytes, 4);
    ck_assert(state.done);
}

TEST_EACH(text_comes_in_pieces, piece_sizes)
{
    static const struct service *const both[] = {&service_greet, &service_reply};
    static char text[5000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 251);
    params.text = text;
    params.text_length = sizeof text;
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        state = (struct service_state){0};
        if (i == 1) {
            uint8_t request = '?';
            ck_assert(!has_output(both[i]));
            ck_assert_uint_eq(answer(both[i], &request, 1), 0);
        }
        ck_assert_uint_eq(produce_all(both[i], *c), sizeof text);
        ck_assert_mem_eq(out, text, sizeof text);
        ck_assert(state.done);
        ck_assert_uint_eq(state.produced, sizeof text);
    }
}

TEST_EACH(greeting_comes_first_in_pieces, expected)
{
    static char greeting[300];
    const struct service *service = services[c - expected];
    memset(greeting, 'g', sizeof greeting - 1);
    greeting[sizeof greeting - 1] = '\n';
    params = (struct service_params){
        .greeting = greeting, .greeting_length = sizeof greeting, .text = "text", .text_length = 4};
    size_t length = 0;
    while (state.greeted < sizeof greeting) {
        ck_assert(has_output(service));
        ck_assert(!service_describes(service, &params, &state));
        length += service_produce(service, &params, &state, NOON, out + length, 64);
    }
    ck_assert_uint_eq(length, sizeof greeting); /* nothing else in a piece with it */
    ck_assert_mem_eq(out, greeting, sizeof greeting);
    ck_assert_uint_eq(state.produced, 0);
    ck_assert(!state.done);
    ck_assert(has_output(service) == ((c->produces || c->describes) && !c->speaks_when_asked));
    if (c->describes) {
        ck_assert(service_describes(service, &params, &state));
        length = produce(service, sizeof out);
        ck_assert_uint_eq(state.produced, length);
        ck_assert(length > 0 && state.done && !has_output(service));
    }
}

/* As another process may have written it down. */
static const struct {
    const char *service;
    struct service_state state;
    bool is_possible;
} states[] = {
    {"echo", {0}, true},
    {"echo", {.greeted = 6, .asked = true}, true},
    {"echo", {.greeted = 7}, false},
    {"echo", {.greeted = UINT32_MAX}, false},
    {"echo", {.line = 4}, true}, /* "end" and a CR */
    {"echo", {.line = 5}, false},
    {"echo", {.line = END_WORD_NO_MATCH - 1}, false},
    {"echo", {.line = END_WORD_NO_MATCH}, true},
    {"greet", {.produced = 4, .done = true}, true},
    {"greet", {.produced = 5}, false},
    {"greet", {.produced = UINT64_MAX}, false},
    {"reply", {.produced = 3, .asked = true}, true},
    {"reply", {.produced = 5, .done = true}, false},
    {"chargen", {.produced = UINT64_MAX}, true}, /* has no end */
    {"daytime", {.produced = 26, .done = true}, true},
    {"time", {.produced = 4, .done = true}, true},
    {"discard", {.greeted = 6, .ending = true, .done = true, .end_word_came = true}, true},
};

TEST_EACH(states_of_another_process, states)
{
    const struct service *service = service_find(c->service);
    params = (struct service_params){.greeting = "hello\n",
                                     .greeting_length = 6,
                                     .text = "text",
                                     .text_length = 4,
                                     .end_word = "end",
                                     .end_word_length = 3};
    ck_assert(service_state_is_possible(service, &params, &c->state) == c->is_possible);
    params = (struct service_params){0}; /* none of the three are set */
    const struct service_state fresh = {0};
    ck_assert(service_state_is_possible(service, &params, &fresh));
    ck_assert(!service_state_is_possible(service, &params, &(struct service_state){.greeted = 1}));
}

/* Each state that a connection comes through is possible. */
TEST_EACH(states_of_our_own, expected)
{
    const struct service *service = services[c - expected];
    char bytes[] = "x\nen\nend\r\nend\r\n";
    params = (struct service_params){.greeting = "hello\n",
                                     .greeting_length = 6,
                                     .text = "some text",
                                     .text_length = 9,
                                     .end_word = c->takes_end_word ? "end\r" : NULL,
                                     .end_word_length = c->takes_end_word ? 4 : 0};
    for (size_t i = 0; i < sizeof bytes - 1; i++) {
        ck_assert(service_state_is_possible(service, &params, &state));
        if (has_output(service))
            produce(service, SERVICE_MIN_OUTPUT);
        ck_assert(service_state_is_possible(service, &params, &state));
        answer(service, &bytes[i], 1);
    }
    state.ending = true;
    produce_all(service, SERVICE_MIN_OUTPUT);
    ck_assert(service_state_is_possible(service, &params, &state));
}
