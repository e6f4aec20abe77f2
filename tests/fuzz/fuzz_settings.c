/* A settings file of anything: it is read, or there are problems; and what is read is dumped as a file that
 * reads the same. The same bytes as a SPEC of --listen: a listener, or problems. */
#include "fuzz.h"

#include "settings/problems.h"
#include "settings/settings.h"

#include <sys/mman.h>
#include <unistd.h>

static int file = -1;

static struct settings *load(struct span text)
{
    char path[64];
    struct problems problems = {0};
    struct settings *settings = NULL;
    if (file < 0)
        file = memfd_create("settings", MFD_CLOEXEC);
    FUZZ_CHECK(file >= 0 && ftruncate(file, 0) == 0);
    FUZZ_CHECK(pwrite(file, text.bytes, text.length, 0) == (ssize_t)text.length);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    const struct settings_source source = {
        .file = path, .file_is_named = true, .workers = -1, .log_level = -1};
    int r = settings_load(&source, &problems, &settings);
    FUZZ_CHECK((r == 0) == (settings != NULL) && (r == 0) == (problems.count == 0));
    for (size_t i = 0; i < problems.count; i++)
        FUZZ_CHECK(problems.items[i].message && problems.items[i].message[0]);
    problems_clear(&problems);
    return settings;
}

static char *dump(const struct settings *settings, size_t *length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, length);
    FUZZ_CHECK(out && settings_dump(settings, out) == 0 && fclose(out) == 0);
    return text;
}

static void read_spec(const uint8_t *bytes, size_t length)
{
    struct problems problems = {0};
    struct listener_settings listener = {0};
    char *spec = strndup((const char *)bytes, length);
    FUZZ_CHECK(spec);
    int r = listener_settings_from_spec(spec, &problems, &listener);
    FUZZ_CHECK((r == 0) == (problems.count == 0) && (r == 0) == (listener.service != NULL));
    listener_settings_clear(&listener);
    problems_clear(&problems);
    free(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    read_spec(bytes, length);
    struct settings *settings = load((struct span){bytes, length});
    if (!settings)
        return 0;
    size_t first_length, second_length;
    char *first = dump(settings, &first_length);
    struct settings *again = load((struct span){(const uint8_t *)first, first_length});
    FUZZ_CHECK(again);
    char *second = dump(again, &second_length);
    FUZZ_CHECK(first_length == second_length && memcmp(first, second, first_length) == 0);
    settings_free(settings);
    settings_free(again);
    free(first);
    free(second);
    return 0;
}
