/* The answers to a stream of the pattern, in pieces, against a comparison byte by byte. */
#include "fuzz.h"

#include "client/check/checked_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    enum expectation expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO;
    struct checked_stream stream = {
        .pattern = pattern_make(kind, fuzz_byte(&input), fuzz_number(&input, 300)),
        .expect = expect,
        .due = fuzz_number(&input, 6000),
    };
    struct fuzz_server server = {.input = &input, .pattern = &stream.pattern, .expect = expect};
    uint8_t piece[FUZZ_PIECE];
    size_t came;

    stream.sent = fuzz_number(&input, (size_t)stream.due);
    if (fuzz_is_seldom(input)) { /* far into a stream: takes a look at a megabyte of it */
        stream.received = server.place = (uint64_t)fuzz_number(&input, SIZE_MAX >> 8);
        stream.sent += stream.received;
        stream.due += stream.received;
    }
    while ((came = fuzz_server_says(&server, piece)) > 0) {
        uint64_t before = stream.received;
        uint8_t *copy = fuzz_copy((struct span){piece, came});
        size_t right = checked_stream_take(&stream, copy, came), naive = 0;
        FUZZ_CHECK(right <= came && stream.received == before + right && stream.received <= stream.sent);
        for (uint8_t wanted; naive <= right && naive < came && before + naive < stream.sent; naive++) {
            /* One byte by itself is made as it is in a row. */
            pattern_answer(&stream.pattern, expect, before + naive, &wanted, 1);
            if (wanted != piece[naive])
                break;
        }
        FUZZ_CHECK(right == naive);
        struct fault fault = checked_stream_cut(&stream);
        FUZZ_CHECK(fault.offset == stream.received && fault.offset + fault.length == stream.due);
        if (right < came) {
            fault = checked_stream_diagnose(&stream, copy + right, came - right);
            FUZZ_CHECK(fault.offset == stream.received && fault.got == piece[right]);
            FUZZ_CHECK((fault.kind == FAULT_SURPLUS) == (stream.received == stream.sent));
        }
        free(copy);
        if (right < came)
            break;
    }
    return 0;
}
