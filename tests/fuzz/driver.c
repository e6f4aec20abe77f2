/* Runs a fuzz target without libFuzzer, so that any compiler and the test suite can: every seed as it is, and
 * then inputs that are made of them.
 *
 *     fuzz_NAME [-runs=N] [-seed=N] [FILE | FOLDER ...]
 *
 * The same arguments make the same inputs. One that is a failure is left as ./crash-NUMBER. */
#include "fuzz.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)4096)
#define SEEDS_MAX 256

/* There with a sanitizer. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static struct seed {
    uint8_t bytes[INPUT_MAX];
    size_t length;
} seeds[SEEDS_MAX];
static size_t seed_count;

static uint8_t input[INPUT_MAX];
static size_t input_length;
static uint64_t runs;
static uint64_t state;

static uint32_t next_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

static size_t below(size_t limit)
{
    return limit > 0 ? next_random() % limit : 0;
}

static void keep_input(void)
{
    char name[64];
    (void)snprintf(name, sizeof name, "crash-%" PRIu64, runs);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool kept = fd >= 0 && write(fd, input, input_length) == (ssize_t)input_length;
    (void)fprintf(stderr, "input %" PRIu64 "%s%s\n", runs, kept ? " is in " : " could not be kept",
                  kept ? name : "");
}

static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    keep_input();
    (void)raise(number);
}

static void run(void)
{
    /* A block of its own length, so that a sanitizer sees the end of it. */
    uint8_t *copy = fuzz_copy((struct span){input, input_length});

    (void)LLVMFuzzerTestOneInput(copy, input_length);
    free(copy);
    runs++;
}

static void read_seed(const char *path)
{
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 || seed_count == SEEDS_MAX ? -1 : read(fd, seeds[seed_count].bytes, INPUT_MAX);
    if (length < 0) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        exit(EXIT_FAILURE);
    }
    seeds[seed_count++].length = (size_t)length;
}

/* In an order that is the same everywhere. */
static void read_seeds(const char *path)
{
    char name[4096];
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        read_seed(path);
        return;
    }
    for (int i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            read_seed(name);
        free(entries[i]);
    }
    free(entries);
}

static void insert(size_t at, size_t length)
{
    if (length > INPUT_MAX - input_length)
        length = INPUT_MAX - input_length;
    memmove(input + at + length, input + at, input_length - at);
    for (size_t i = 0; i < length; i++)
        input[at + i] = (uint8_t)next_random();
    input_length += length;
}

static void cut(size_t at, size_t length)
{
    if (length > input_length - at)
        length = input_length - at;
    memmove(input + at, input + at + length, input_length - at - length);
    input_length -= length;
}

static void append_seed(size_t at)
{
    const struct seed *other = &seeds[below(seed_count)];
    size_t from = below(other->length + 1), length = other->length - from;
    if (length > INPUT_MAX - at)
        length = INPUT_MAX - at;
    memcpy(input + at, other->bytes + from, length);
    input_length = at + length;
}

static void change(void)
{
    size_t at = below(input_length + 1);
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '"', '\\'};
    switch (next_random() % 7) {
    case 0:
        insert(at, 1 + below(4));
        break;
    case 1:
        insert(at, 1 + below(64));
        break;
    case 2:
        cut(at, 1 + below(16));
        break;
    case 3:
        if (seed_count > 0)
            append_seed(at);
        break;
    case 4:
        if (at < input_length)
            input[at] ^= (uint8_t)(1U << below(8));
        break;
    case 5:
        if (at < input_length)
            input[at] = edges[below(sizeof edges)];
        break;
    default:
        if (at < input_length)
            input[at] = (uint8_t)next_random();
        break;
    }
}

/* Out of a seed, of the input before or of nothing. */
static void make_input(void)
{
    uint32_t from = next_random() % 8;
    if (from == 0) {
        input_length = 0;
        insert(0, below(512));
    } else if (from < 6 && seed_count > 0) {
        const struct seed *seed = &seeds[below(seed_count)];
        memcpy(input, seed->bytes, seed->length);
        input_length = seed->length;
    }
    for (size_t changes = 1 + below(6); changes > 0; changes--)
        change();
}

int main(int argc, char **argv)
{
    uint64_t wanted = 10000;
    state = 1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0)
            wanted = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            state = strtoull(argv[i] + 6, NULL, 10) | 1;
        else if (argv[i][0] != '-')
            read_seeds(argv[i]);
    }
    (void)signal(SIGABRT, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_input);
    else
        (void)signal(SIGSEGV, on_signal);
    for (size_t i = 0; i < seed_count; i++) {
        memcpy(input, seeds[i].bytes, seeds[i].length);
        input_length = seeds[i].length;
        run();
    }
    while (runs < wanted) {
        make_input();
        run();
    }
    (void)printf("%" PRIu64 " inputs\n", runs);
    return EXIT_SUCCESS;
}
