#include "serve/end_word.h"

#include "common.h"

/* The plain definition, over the whole stream at once: the end of the first line that is the word. */
static size_t reference(const char *word, size_t word_length, const uint8_t *bytes, size_t length)
{
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != '\n')
            continue;
        size_t line = i - start;
        if ((line == word_length || (line == word_length + 1 && bytes[i - 1] == '\r')) &&
            memcmp(bytes + start, word, word_length) == 0)
            return i + 1;
        start = i + 1;
    }
    return 0;
}

/* Feeds the stream in pieces that end at `cuts`; returns where the word's line ends, 0 for nowhere. */
static size_t feed(const char *word, size_t word_length, const uint8_t *bytes, size_t length,
                   const size_t *cuts, size_t cut_count)
{
    uint16_t line = 0;
    size_t start = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : length;
        size_t found = end_word_find(word, word_length, &line, bytes + start, end - start);
        if (found > 0)
            return start + found;
        start = end;
    }
    return 0;
}

static size_t find(const char *word, const char *stream)
{
    uint16_t line = 0;
    return end_word_find(word, strlen(word), &line, (const uint8_t *)stream, strlen(stream));
}

TEST(whole_pieces)
{
    static const struct {
        const char *stream;
        size_t end;
    } cases[] = {
        {"end\n", 4},
        {"end\r\n", 5},
        {"\nend\n", 5},
        {"a\r\nend\r\nend\n", 8}, /* the first of two */
        {"end\nend\n", 4},
        {"end", 0},
        {"end\r", 0},
        {"", 0},
        {"\n", 0},
        {"\r\n", 0},
        {"endend\n", 0},
        {"ending\n", 0},
        {"the end\n", 0},
        {"weekend\n", 0},
        {"en\n", 0},
        {"enend\n", 0},
        {"End\n", 0},
        {"END\n", 0},
        {" end\n", 0},
        {"end \n", 0},
        {"end\r\r\n", 0},
        {"e\rnd\n", 0},
        {"\rend\n", 0},
        {"end\rend\n", 0},
        {"ending\nend\n", 11},
        {"en\nd\nend\n", 9},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_msg(find("end", cases[i].stream) == cases[i].end, "%zu: %zu", i,
                      find("end", cases[i].stream));
}

TEST(byte_by_byte)
{
    static const char stream[] = "send\nthe end\nend\r\nend\n";
    uint16_t line = 0;
    size_t ended = 0;
    for (size_t i = 0; i < strlen(stream) && ended == 0; i++) {
        size_t found = end_word_find("end", 3, &line, (const uint8_t *)stream + i, 1);
        ck_assert_uint_le(found, 1);
        if (found == 1)
            ended = i + 1;
    }
    ck_assert_uint_eq(ended, strlen("send\nthe end\nend\r\n"));
}

TEST(state_is_of_the_line_under_way)
{
    uint16_t line = 0;
    ck_assert_uint_eq(end_word_find("end", 3, &line, (const uint8_t *)"x\nen", 4), 0);
    ck_assert_uint_eq(line, 2);
    ck_assert_uint_eq(end_word_find("end", 3, &line, (const uint8_t *)"d\r", 2), 0);
    ck_assert_uint_eq(line, 4);
    ck_assert_uint_eq(end_word_find("end", 3, &line, (const uint8_t *)"", 0), 0);
    ck_assert_uint_eq(line, 4);
    ck_assert_uint_eq(end_word_find("end", 3, &line, (const uint8_t *)"\n", 1), 1);
    ck_assert_uint_eq(line, 0);
    ck_assert_uint_eq(end_word_find("end", 3, &line, (const uint8_t *)"z", 1), 0);
    ck_assert_uint_eq(line, END_WORD_NO_MATCH);
}

TEST(longest_word)
{
    char word[END_WORD_MAX + 1];
    uint8_t stream[END_WORD_MAX + 3];
    memset(word, 'w', END_WORD_MAX);
    word[END_WORD_MAX] = '\0';
    memcpy(stream, word, END_WORD_MAX);
    memcpy(stream + END_WORD_MAX, "\r\n", 2);
    for (size_t cut = 0; cut <= END_WORD_MAX + 2; cut++)
        ck_assert_uint_eq(feed(word, END_WORD_MAX, stream, END_WORD_MAX + 2, &cut, 1), END_WORD_MAX + 2);
    ck_assert_uint_eq(feed(word, END_WORD_MAX - 1, stream, END_WORD_MAX + 2, NULL, 0), 0);
}

/* Bytes over 127, NUL and a CR of its own are bytes like others. */
TEST(any_bytes)
{
    static const char word[] = {'\xff', '\0', '\r', '\xc3'};
    static const uint8_t stream[] = {0xff, 0, '\r', 0xc3, 'x', '\n', 0xff, 0, '\r', 0xc3, '\r', '\n'};
    for (size_t cut = 0; cut <= sizeof stream; cut++)
        ck_assert_uint_eq(feed(word, sizeof word, stream, sizeof stream, &cut, 1), sizeof stream);
}

TEST(random_streams_at_every_split)
{
    static const char *const words[] = {"end", "e", "ee", "ene", "e\r", "\r"};
    static const char letters[] = "een\r\n\nd";
    uint64_t random = 868;
    unsigned found = 0;
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t stream[24];
        const char *word = words[round % COUNT_OF(words)];
        size_t word_length = strlen(word);
        size_t length = 1 + next_random(&random) % sizeof stream;
        for (size_t i = 0; i < length; i++)
            stream[i] = (uint8_t)letters[next_random(&random) % (sizeof letters - 1)];
        size_t expected = reference(word, word_length, stream, length);
        found += expected > 0;
        unsigned wrong = 0;
        for (size_t one = 0; one <= length; one++)
            for (size_t two = one; two <= length; two++) {
                const size_t cuts[] = {one, two};
                wrong += feed(word, word_length, stream, length, cuts, 2) != expected;
            }
        ck_assert_uint_eq(wrong, 0);
    }
    ck_assert_uint_gt(found, 300); /* or the streams prove little */
}
