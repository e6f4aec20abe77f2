/* Every service of the daemon, with and without an end word, whose client sends anything in pieces of any
 * size. */
#include "fuzz.h"

#include "base/escape.h"
#include "serve/connection_view.h"
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

/* One JSON object on a line of its own, as far as its braces, quotes and characters tell. */
static void check_line(const char *line, size_t length)
{
    unsigned depth = 0;
    bool is_text = false;
    FUZZ_CHECK(length > 2 && line[0] == '{' && line[length - 2] == '}' && line[length - 1] == '\n');
    for (size_t at = 0, character; at < length - 1; at += character) {
        character = line[at] & 0x80 ? utf8_length(line + at) : 1;
        FUZZ_CHECK(character > 0 && (line[at] & 0x80 || (line[at] >= ' ' && line[at] < 0x7f)));
        if (is_text && line[at] == '\\')
            character = 2;
        else if (line[at] == '"')
            is_text = !is_text;
        else if (!is_text && line[at] == '{')
            depth++;
        else if (!is_text && line[at] == '}')
            FUZZ_CHECK(--depth > 0 || at == length - 2);
    }
    FUZZ_CHECK(depth == 0 && !is_text);
}

/* Of a client that the input names, after its header if it has one. */
static void describe(const struct service *service, struct service_state *state, struct span input)
{
    char listener[108] = "", host[65] = "";
    const struct tcp_view tcp = {.rtt_usec = fuzz_byte(&input), .congestion_control = "cubic"};
    const struct ucred credentials = {.uid = fuzz_byte(&input)};
    struct span text = fuzz_bytes(&input, fuzz_number(&input, sizeof listener - 1));
    struct proxy_header header;
    if (text.length > 0)
        memcpy(listener, text.bytes, text.length);
    memcpy(host, listener, sizeof host - 1);
    bool is_unix = fuzz_byte(&input) & 1;
    struct proxy_endpoint end = {.address = {.family = AF_INET6, .port = 7}, .path = {NULL, 0}};
    if (is_unix)
        end = (struct proxy_endpoint){.address = {.family = AF_UNIX}, .path = text};
    bool has_header = proxy_header_parse(input, &header) == PROXY_HEADER_COMPLETE;
    if (!has_header) /* any bytes in any of its texts */
        header = (struct proxy_header){
            .is_relayed = true,
            .source = end,
            .alpn = input,
            .authority = span_from(input, input.length / 2),
            .unique_id = span_first(input, 128),
            .has_tls = true,
            .tls_client = fuzz_byte(&input),
            .tls_version = text,
            .tls_common_name = text,
        };
    const struct connection_view view = {
        .listener = listener,
        .service = service->name,
        .host = host,
        .peer = end,
        .server = end,
        .credentials = is_unix ? &credentials : NULL,
        .tcp = is_unix ? NULL : &tcp,
        .header = &header,
    };
    char *out = malloc(SERVICE_DESCRIPTION_SIZE + 1);
    FUZZ_CHECK(out);
    size_t made = service_describe(service, state, &view, (uint8_t *)out);
    FUZZ_CHECK(made <= SERVICE_DESCRIPTION_SIZE && state->done);
    out[made] = '\0'; /* utf8_length needs it */
    check_line(out, made);
    free(out);
}

static void produce(const struct service *service, const struct service_params *params,
                    struct service_state *state, struct span input)
{
    for (unsigned i = 0; i < 4 && service_has_output(service, params, state); i++) {
        if (service_describes(service, params, state)) {
            describe(service, state, input);
            break;
        }
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
        produce(service, params, &state, *input);
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
