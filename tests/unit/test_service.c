#include "serve/services.h"

#include "common.h"
#include "serve/end_word.h"

#define NOON 1795262400 /* some time of day */

/* Produces everything in pieces of `size`; returns how much, at most `room`. */
static size_t produce_all(const struct service *service, const struct service_params *params,
                          struct service_state *state, size_t size, uint8_t *out, size_t room)
{
    size_t length = 0;
    while (service_has_output(service, params, state) && length + size <= room) {
        size_t made = service_produce(service, params, state, NOON, out + length, size);
        ck_assert_uint_le(made, size);
        length += made;
    }
    return length;
}

START_TEST(table_is_whole)
{
    static const struct {
        const char *name;
        bool answers, produces, takes_text, takes_end_word, speaks_when_asked;
    } expected[] = {
        {"echo", true, false, false, true, false},      {"upper", true, false, false, true, false},
        {"discard", false, false, false, false, false}, {"chargen", false, true, false, false, false},
        {"daytime", false, true, false, false, false},  {"time", false, true, false, false, false},
        {"greet", false, true, true, false, false},     {"reply", false, true, true, false, true},
    };
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        const struct service *service = services[i];
        ck_assert_ptr_nonnull(service);
        ck_assert_str_eq(service->name, expected[i].name);
        ck_assert_ptr_eq(service_find(expected[i].name), service);
        ck_assert(service->summary && service->summary[0] && !strchr(service->summary, '\n'));
        ck_assert(!!service->answer == expected[i].answers);
        ck_assert(!!service->produce == expected[i].produces);
        ck_assert(service->takes_text == expected[i].takes_text);
        ck_assert(service->takes_end_word == expected[i].takes_end_word);
        ck_assert(service->speaks_when_asked == expected[i].speaks_when_asked);
    }
    ck_assert_ptr_null(services[COUNT_OF(expected)]);
    ck_assert_ptr_null(service_find("Echo"));
    ck_assert_ptr_null(service_find("ech"));
    ck_assert_ptr_null(service_find(""));
}
END_TEST

START_TEST(echo_changes_nothing)
{
    const struct service_params params = {0};
    struct service_state state = {0};
    uint8_t bytes[1000], copy[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = copy[i] = (uint8_t)(i * 7);
    ck_assert(!service_has_output(service_find("echo"), &params, &state));
    ck_assert_uint_eq(service_answer(service_find("echo"), &params, &state, bytes, sizeof bytes),
                      sizeof bytes);
    ck_assert_mem_eq(bytes, copy, sizeof bytes);
    ck_assert(state.asked && !state.done);
    ck_assert(!service_has_output(service_find("echo"), &params, &state));
}
END_TEST

START_TEST(upper_changes_ascii_letters_alone)
{
    const struct service_params params = {0};
    for (int byte = 0; byte < 256; byte++) {
        struct service_state state = {0};
        uint8_t bytes[67]; /* longer than a vector, and not a multiple of one */
        memset(bytes, byte, sizeof bytes);
        ck_assert_uint_eq(service_answer(service_find("upper"), &params, &state, bytes, sizeof bytes),
                          sizeof bytes);
        uint8_t expected = byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 'a' + 'A') : (uint8_t)byte;
        uint8_t all[sizeof bytes];
        memset(all, expected, sizeof all);
        ck_assert_mem_eq(bytes, all, sizeof all);
        ck_assert(!state.done);
    }
    struct service_state state = {0};
    char text[] = "na\xc3\xafve \xe2\x82\xac stra\xc3\x9f"
                  "e";
    service_answer(service_find("upper"), &params, &state, (uint8_t *)text, strlen(text));
    ck_assert_str_eq(text, "NA\xc3\xafVE \xe2\x82\xac STRA\xc3\x9f"
                           "E");
}
END_TEST

START_TEST(end_word_ends_the_answer)
{
    const struct service *const both[] = {service_find("echo"), service_find("upper")};
    const struct service_params params = {.end_word = "end", .end_word_length = 3};
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        const char *expected = i == 0 ? "one\nend\n" : "ONE\nEND\n";
        struct service_state state = {0};
        uint8_t bytes[] = "one\nend\nend\nmore";
        ck_assert_uint_eq(service_answer(both[i], &params, &state, bytes, sizeof bytes - 1), 8);
        ck_assert(state.done);
        ck_assert_mem_eq(bytes, expected, 8);
        ck_assert_mem_eq(bytes + 8, "end", 3); /* what is not answered is not touched */

        state = (struct service_state){0};
        uint8_t first[] = "endless\nen", second[] = "d\r\nx";
        ck_assert_uint_eq(service_answer(both[i], &params, &state, first, 10), 10);
        ck_assert(!state.done);
        ck_assert_uint_eq(service_answer(both[i], &params, &state, second, 4), 3);
        ck_assert(state.done);
    }
    /* Compared with what the client wrote: its capitals are another word. */
    struct service_state state = {0};
    uint8_t capitals[] = "END\n";
    ck_assert_uint_eq(service_answer(service_find("upper"), &params, &state, capitals, 4), 4);
    ck_assert(!state.done);
}
END_TEST

START_TEST(silent_services_answer_nothing)
{
    const struct service *const silent[] = {service_find("discard"), service_find("chargen"),
                                            service_find("daytime"), service_find("time"),
                                            service_find("greet"),   service_find("reply")};
    const struct service_params params = {.text = "text", .text_length = 4};
    for (size_t i = 0; i < COUNT_OF(silent); i++) {
        struct service_state state = {0};
        uint8_t bytes[] = "end\n";
        ck_assert_uint_eq(service_answer(silent[i], &params, &state, bytes, 4), 0);
        ck_assert(state.asked && !state.done);
    }
    struct service_state state = {.asked = true};
    ck_assert(!service_has_output(service_find("discard"), &params, &state));
}
END_TEST

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

/* Returns where the bytes differ from the RFC's, or `length`. */
static size_t chargen_until(const uint8_t *bytes, size_t length, uint64_t position)
{
    size_t i = 0;
    while (i < length && bytes[i] == chargen_byte(position + i))
        i++;
    return i;
}

START_TEST(chargen_turns)
{
    const struct service_params params = {0};
    static const size_t sizes[] = {64, 73, 74, 75, 148, 1000, 65536};
    static uint8_t out[65536];
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        struct service_state state = {0};
        for (int piece = 0; piece < 120; piece++) {
            uint64_t start = state.produced;
            ck_assert(service_has_output(service_find("chargen"), &params, &state));
            ck_assert_uint_eq(service_produce(service_find("chargen"), &params, &state, NOON, out, sizes[s]),
                              sizes[s]);
            ck_assert_uint_eq(state.produced, start + sizes[s]);
            ck_assert_uint_eq(chargen_until(out, sizes[s], start), sizes[s]);
        }
    }
}
END_TEST

START_TEST(chargen_first_lines_are_the_known_ones)
{
    const struct service_params params = {0};
    struct service_state state = {0};
    uint8_t out[148];
    service_produce(service_find("chargen"), &params, &state, NOON, out, sizeof out);
    ck_assert_mem_eq(out, " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n",
                     74);
    ck_assert_mem_eq(out + 74,
                     "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n", 74);
}
END_TEST

START_TEST(chargen_far_on)
{
    static const uint64_t positions[] = {
        74 * 95 - 1,       74 * 95, UINT32_MAX - 5, UINT64_C(1) << 40, UINT64_C(74) * 95 * 1000000007 + 71,
        UINT64_C(1) << 62,
    };
    const struct service_params params = {0};
    uint8_t out[300];
    for (size_t p = 0; p < COUNT_OF(positions); p++) {
        struct service_state state = {.produced = positions[p]};
        ck_assert_uint_eq(service_produce(service_find("chargen"), &params, &state, NOON, out, sizeof out),
                          sizeof out);
        ck_assert_uint_eq(chargen_until(out, sizeof out, positions[p]), sizeof out);
    }
}
END_TEST

START_TEST(chargen_ends_with_its_line)
{
    const struct service_params params = {0};
    for (uint64_t position = 0; position < 3 * 74; position++) {
        struct service_state state = {.produced = position, .ending = true};
        uint8_t out[4096];
        size_t length =
            produce_all(service_find("chargen"), &params, &state, SERVICE_MIN_OUTPUT, out, sizeof out);
        ck_assert(state.done);
        ck_assert_uint_lt(length, 74);
        ck_assert_uint_eq((position + length) % 74, 0);
        ck_assert_uint_eq(chargen_until(out, length, position), length);
        ck_assert(!service_has_output(service_find("chargen"), &params, &state));
    }
}
END_TEST

START_TEST(daytime_is_what_libc_says)
{
    static const time_t times[] = {0, 1, NOON, 951782400, 2147483648, 4102444799, 253402300799};
    const struct service_params params = {0};
    static const char *const zones[] = {"UTC0", "XST-5:30", "NST3:30NDT2:30,M3.2.0,M11.1.0"};
    for (size_t z = 0; z < COUNT_OF(zones); z++) {
        ck_assert_int_eq(setenv("TZ", zones[z], 1), 0);
        tzset();
        for (size_t i = 0; i < COUNT_OF(times); i++) {
            struct service_state state = {0};
            struct tm local;
            char expected[64];
            uint8_t out[SERVICE_MIN_OUTPUT];
            ck_assert_ptr_nonnull(localtime_r(&times[i], &local));
            if (local.tm_year > 8099) /* strftime writes year 10000 otherwise than asctime */
                continue;
            ck_assert_uint_gt(strftime(expected, sizeof expected, "%a %b %e %H:%M:%S %Y\r\n", &local), 0);
            size_t length =
                service_produce(service_find("daytime"), &params, &state, times[i], out, sizeof out);
            ck_assert_uint_eq(length, strlen(expected));
            ck_assert_mem_eq(out, expected, length);
            ck_assert(state.done);
            ck_assert_uint_eq(state.produced, length);
            ck_assert(!service_has_output(service_find("daytime"), &params, &state));
        }
    }
    unsetenv("TZ");
    tzset();
}
END_TEST

START_TEST(daytime_of_a_broken_clock)
{
    const struct service_params params = {0};
    static const time_t times[] = {INT64_MAX, INT64_MIN, INT64_C(67767976233532799)};
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        struct service_state state = {0};
        uint8_t out[SERVICE_MIN_OUTPUT];
        size_t length = service_produce(service_find("daytime"), &params, &state, times[i], out, sizeof out);
        ck_assert_uint_ge(length, 2);
        ck_assert_mem_eq(out + length - 2, "\r\n", 2);
        ck_assert(state.done);
    }
}
END_TEST

START_TEST(time_counts_from_1900)
{
    static const struct {
        time_t now;
        uint8_t bytes[4];
    } cases[] = {
        {0, {0x83, 0xaa, 0x7e, 0x80}}, /* the RFC's own examples: 2208988800 is 1970 */
        {1, {0x83, 0xaa, 0x7e, 0x81}},
        {2085978495, {0xff, 0xff, 0xff, 0xff}}, /* the last second before it wraps in 2036 */
        {2085978496, {0, 0, 0, 0}},
        {2085978497, {0, 0, 0, 1}},
    };
    const struct service_params params = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct service_state state = {0};
        uint8_t out[SERVICE_MIN_OUTPUT];
        ck_assert_uint_eq(
            service_produce(service_find("time"), &params, &state, cases[i].now, out, sizeof out), 4);
        ck_assert_mem_eq(out, cases[i].bytes, 4);
        ck_assert(state.done);
    }
}
END_TEST

START_TEST(text_comes_in_pieces)
{
    static char text[5000];
    static uint8_t out[2 * sizeof text];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 251);
    const struct service *const both[] = {service_find("greet"), service_find("reply")};
    static const size_t sizes[] = {64, 100, 1000, 4999, 5000, 5001};
    for (size_t s = 0; s < COUNT_OF(sizes); s++)
        for (size_t i = 0; i < COUNT_OF(both); i++) {
            const struct service_params params = {.text = text, .text_length = sizeof text};
            struct service_state state = {0};
            if (i == 1) {
                uint8_t request = '?';
                ck_assert(!service_has_output(both[i], &params, &state));
                ck_assert_uint_eq(service_answer(both[i], &params, &state, &request, 1), 0);
            }
            ck_assert_uint_eq(produce_all(both[i], &params, &state, sizes[s], out, sizeof out), sizeof text);
            ck_assert_mem_eq(out, text, sizeof text);
            ck_assert(state.done);
            ck_assert_uint_eq(state.produced, sizeof text);
        }
}
END_TEST

START_TEST(greeting_comes_first_in_pieces)
{
    static char greeting[300];
    memset(greeting, 'g', sizeof greeting);
    greeting[sizeof greeting - 1] = '\n';
    for (size_t i = 0; services[i]; i++) {
        const struct service_params params = {
            .greeting = greeting, .greeting_length = sizeof greeting, .text = "text", .text_length = 4};
        struct service_state state = {0};
        uint8_t out[sizeof greeting + 64];
        size_t length = 0;
        while (state.greeted < sizeof greeting) {
            ck_assert(service_has_output(services[i], &params, &state));
            length += service_produce(services[i], &params, &state, NOON, out + length, 64);
        }
        ck_assert_uint_eq(length, sizeof greeting); /* nothing else in a piece with it */
        ck_assert_mem_eq(out, greeting, sizeof greeting);
        ck_assert_uint_eq(state.produced, 0);
        ck_assert(!state.done);
        bool speaks = services[i]->produce && !services[i]->speaks_when_asked;
        ck_assert(service_has_output(services[i], &params, &state) == speaks);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("service");
    tcase_add_test(tests, table_is_whole);
    tcase_add_test(tests, echo_changes_nothing);
    tcase_add_test(tests, upper_changes_ascii_letters_alone);
    tcase_add_test(tests, end_word_ends_the_answer);
    tcase_add_test(tests, silent_services_answer_nothing);
    tcase_add_test(tests, chargen_turns);
    tcase_add_test(tests, chargen_first_lines_are_the_known_ones);
    tcase_add_test(tests, chargen_far_on);
    tcase_add_test(tests, chargen_ends_with_its_line);
    tcase_add_test(tests, daytime_is_what_libc_says);
    tcase_add_test(tests, daytime_of_a_broken_clock);
    tcase_add_test(tests, time_counts_from_1900);
    tcase_add_test(tests, text_comes_in_pieces);
    tcase_add_test(tests, greeting_comes_first_in_pieces);
    return run_case(tests);
}
