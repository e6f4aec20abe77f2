/* A talk, with a server that says anything: what it says is what comes out. */
#include "fuzz.h"

#include "client/process/exit_status.h"
#include "client/talk/conversation.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* There with a sanitizer. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

/* In the place of ioctl(2), which tells a talk whether all that it sent has been taken: here nobody takes it.
 */
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    (void)fd;
    (void)request;
    errno = ENOTTY;
    return -1;
}

static int errors, nowhere, input_file, output_file;

/* Files in the place of the standard streams: the input, the output, and nothing of what is complained about.
 */
static void set_up(void)
{
    errors = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    input_file = memfd_create("input", MFD_CLOEXEC);
    output_file = memfd_create("output", MFD_CLOEXEC);
    FUZZ_CHECK(errors >= 0 && nowhere >= 0 && input_file >= 0 && output_file >= 0);
    FUZZ_CHECK(dup2(input_file, STDIN_FILENO) >= 0);
    if (__sanitizer_set_report_fd)
        __sanitizer_set_report_fd((void *)(intptr_t)errors);
}

static int converse_silently(int fd, struct conversation_terms *terms, struct conversation_totals *totals)
{
    struct output output;
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
    FUZZ_CHECK(dup2(nowhere, STDERR_FILENO) >= 0 && dup2(output_file, STDOUT_FILENO) >= 0);
    FUZZ_CHECK(output_open(&output, -1) == 0);
    terms->output = &output;
    int status = converse(fd, terms, totals);
    output_close(&output);
    FUZZ_CHECK(dup2(errors, STDERR_FILENO) >= 0);
    if (out >= 0) {
        FUZZ_CHECK(dup2(out, STDOUT_FILENO) >= 0);
        close(out);
    }
    return status;
}

static void fill(int file, struct span bytes)
{
    FUZZ_CHECK(ftruncate(file, 0) == 0);
    FUZZ_CHECK(pwrite(file, bytes.bytes, bytes.length, 0) == (ssize_t)bytes.length);
    FUZZ_CHECK(lseek(file, 0, SEEK_SET) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    struct conversation_terms terms = {
        .peer = "server",
        .interrupt_fd = -1,
        .expect = kind & 1   ? EXPECT_ANYTHING
                  : kind & 2 ? EXPECT_ECHO
                             : EXPECT_UPPER,
        .wait_usec = USEC_NEVER,
    };
    struct span said = fuzz_bytes(&input, fuzz_number(&input, 300));
    struct conversation_totals totals;
    uint8_t answer[4096], came[sizeof answer + 1];
    size_t answered = 0;
    int fds[2];

    if (input_file == 0)
        set_up();
    while (input.length > 0 &&
           answered < sizeof answer) { /* a part of what was said, in capitals perhaps, or others */
        uint8_t step = fuzz_byte(&input);
        struct span piece =
            step & 1 ? fuzz_bytes(&input, step >> 1) : span_first(span_from(said, answered), step >> 1);
        piece = span_first(piece, sizeof answer - answered);
        memcpy(answer + answered, piece.bytes, piece.length);
        answered += piece.length;
    }
    expect_apply(terms.expect, answer, kind & 4 ? answered : 0);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    fill(input_file, said);
    fill(output_file, (struct span){answer, 0});
    FUZZ_CHECK(send(fds[1], answer, answered, MSG_NOSIGNAL) == (ssize_t)answered || answered == 0);
    (void)shutdown(fds[1], SHUT_WR);
    int status = converse_silently(fds[0], &terms, &totals);
    ssize_t out = pread(output_file, came, sizeof came, 0);

    bool is_right = said.length == answered;
    for (size_t i = 0; i < answered && is_right; i++) {
        uint8_t wanted = said.bytes[i];
        expect_apply(terms.expect, &wanted, 1);
        is_right = answer[i] == wanted;
    }
    FUZZ_CHECK(out >= 0 && (size_t)out == answered && memcmp(answer, came, answered) == 0);
    FUZZ_CHECK(totals.received == answered);
    FUZZ_CHECK(status == 0 || status == EXIT_WRONG_ANSWER);
    FUZZ_CHECK((status == 0) == (terms.expect == EXPECT_ANYTHING || is_right));
    close(fds[0]);
    close(fds[1]);
    return 0;
}
