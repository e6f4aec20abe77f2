/* Every service of the daemon, with and without an end word, whose client sends anything in pieces of any
 * size. */
#include "fuzz.h"

#include "serve/end_word.h"
#include "serve/service.h"
#include "serve/services.h"

#define STREAM_MAX 4096

static size_t count_services(void)
{
    size_t count = 0;
    while (services[count])
        count++;
    return count;
}

/* How much of the stream is answered when it comes in one piece: up to the first line that is the word. */
static size_t find_end(struct span stream, const char *word, size_t word_length)
{
    for (size_t at = 0; word_length > 0 && at < stream.length;) {
        const uint8_t *end = memchr(stream.bytes + at, '\n', stream.length - at);
        if (!end)
            break;
        size_t line = (size_t)(end - stream.bytes) - at;
        size_t text = line > 0 && stream.bytes[at + line - 1] == '\r' ? line - 1 : line;
        if ((text == word_length || line == word_length) && memcmp(stream.bytes + at, word, word_length) == 0)
            return at + line + 1;
        at += line + 1;
    }
    return stream.length;
}

static void produce(const struct service *service, const struct service_params *params,
                    struct service_state *state)
{
    for (unsigned i = 0; i < 4 && service_has_output(service, params, state); i++) {
        uint8_t *out = malloc(SERVICE_MIN_OUTPUT);
        FUZZ_CHECK(out);
        size_t made = service_produce(service, params, state, 1000000, out, SERVICE_MIN_OUTPUT);
        FUZZ_CHECK(made <= SERVICE_MIN_OUTPUT);
        free(out);
    }
}

static uint8_t made_of(const struct service *service, uint8_t byte)
{
    return strcmp(service->name, "upper") == 0 && byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 'a' + 'A')
                                                                             : byte;
}

static void check_byte(const struct service *service, uint8_t byte, uint8_t made)
{
    if (made == made_of(service, byte))
        return;
    (void)fprintf(stderr, "%s makes %#x of %#x, and made_of() here %#x\n", service->name, made, byte,
                  made_of(service, byte));
    abort();
}

static void answer(const struct service *service, const struct service_params *params, struct span *input)
{
    struct service_state state = {0};
    struct span stream = span_first(*input, STREAM_MAX);
    size_t wanted = service->takes_end_word ? find_end(stream, params->end_word, params->end_word_length) : 0;
    size_t answered = 0;
    for (size_t at = 0, piece; at < stream.length && !state.done; at += piece) {
        piece = 1 + stream.bytes[at] % 40;
        struct span part = span_first(span_from(stream, at), piece);
        uint8_t *copy = fuzz_copy(part);
        size_t back = service_answer(service, params, &state, copy, part.length);
        FUZZ_CHECK(back <= part.length);
        for (size_t i = 0; service->takes_end_word && i < back; i++)
            check_byte(service, part.bytes[i], copy[i]);
        answered += back;
        free(copy);
        produce(service, params, &state);
    }
    if (service->takes_end_word)
        FUZZ_CHECK(answered == wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    const struct service *service = services[fuzz_number(&input, count_services() - 1)];
    uint8_t kind = fuzz_byte(&input);
    struct span word = fuzz_bytes(&input, kind & 7);
    struct span greeting = fuzz_bytes(&input, kind >> 4);
    struct service_params params = {
        .text = "text\n",
        .text_length = 5,
        .greeting = greeting.length > 0 ? (const char *)greeting.bytes : NULL,
        .greeting_length = greeting.length,
    };

    /* As the settings allow it: printable, no ends of lines. */
    char text[8];
    for (size_t i = 0; i < word.length; i++)
        text[i] = (char)('a' + word.bytes[i] % 3);
    if (word.length > 0 && service->takes_end_word) {
        params.end_word = text;
        params.end_word_length = word.length;
    }
    answer(service, &params, &input);
    return 0;
}
