#include "faults.h"

#include "fault_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXIT_STATUS_BAD_RULES 99

_Static_assert(sizeof(struct fault_page) == 4096, "harness.py knows this layout");

#define FAULT_NAME(name) [FAULT_##name] = #name,
static const char *const call_names[FAULT_CALL_COUNT] = {FAULT_CALLS(FAULT_NAME)};

/* What this file itself calls of the wrapped functions goes past the wrappers. */
ssize_t __real_write(int fd, const void *bytes, size_t length);
int __real_open64(const char *path, int flags, ...);
void *__real_mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset);

/* ---- rules ---- */

enum fault_effect {
    EFFECT_ERROR,
    EFFECT_SHORT,
    EFFECT_SLEEP,
    EFFECT_COUNT,
};

enum fault_thread {
    THREAD_ANY,
    THREAD_MAIN,
    THREAD_OTHER,
    THREAD_NAMED,
};

struct fault_rule {
    enum fault_call call;
    enum fault_thread thread;
    char thread_name[16]; /* THREAD_NAMED: how it begins */
    enum fault_effect effect;
    unsigned long amount; /* an errno, bytes, or milliseconds */
    unsigned long first;  /* of the calls that call and thread fit, counted from 1 */
    unsigned long last;
    unsigned long step;
    _Atomic unsigned long seen;
};

/* Read by any thread without a lock: but for the counters, a set never changes once it is in force, and it is
 * never given back, since some thread may still look at it. */
struct fault_set {
    size_t count;
    struct fault_rule rules[FAULT_RULES];
};

static struct fault_page own_page;
static struct fault_page *_Atomic page_in_force = &own_page;
static struct fault_set *_Atomic rules_in_force;
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- reading rules: no allocation, since malloc itself may be the caller ---- */

static void complain(const char *text)
{
    (void)!__real_write(STDERR_FILENO, text, strlen(text));
}

static _Noreturn void refuse(const char *rule, const char *why)
{
    complain("faults: '");
    complain(rule);
    complain("': ");
    complain(why);
    complain("\n");
    _exit(EXIT_STATUS_BAD_RULES);
}

/* Returns where the number ends, or NULL when there is none. */
static const char *read_number(const char *text, unsigned long *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return NULL;
    *out = strtoul(text, &end, 10);
    return end;
}

static bool read_call(const char *name, enum fault_call *out)
{
    for (int i = 0; i < FAULT_CALL_COUNT; i++) {
        if (strcmp(name, call_names[i]) != 0)
            continue;
        *out = (enum fault_call)i;
        return true;
    }
    return false;
}

static bool read_error(const char *name, unsigned long *out)
{
    for (int error = 1; error < 200; error++) {
        const char *known = strerrorname_np(error);
        if (!known || strcmp(name, known) != 0)
            continue;
        *out = (unsigned long)error;
        return true;
    }
    return false;
}

static bool has_length(enum fault_call call)
{
    return call == FAULT_recv || call == FAULT_send || call == FAULT_read || call == FAULT_write ||
           call == FAULT_splice;
}

static void read_thread(const char *name, struct fault_rule *rule, const char *whole)
{
    if (strcmp(name, "main") == 0) {
        rule->thread = THREAD_MAIN;
    } else if (strcmp(name, "other") == 0) {
        rule->thread = THREAD_OTHER;
    } else {
        rule->thread = THREAD_NAMED;
        if (name[0] == '\0' || strlen(name) >= sizeof rule->thread_name)
            refuse(whole, "a thread's name has 1 to 15 bytes");
        memcpy(rule->thread_name, name, strlen(name) + 1);
    }
}

static void read_effect(const char *text, struct fault_rule *rule, const char *whole)
{
    const char *end = "";
    rule->amount = 1;
    if (strcmp(text, "count") == 0) {
        rule->effect = EFFECT_COUNT;
    } else if (strcmp(text, "short") == 0) {
        rule->effect = EFFECT_SHORT;
    } else if (strncmp(text, "short=", 6) == 0) {
        rule->effect = EFFECT_SHORT;
        end = read_number(text + 6, &rule->amount);
    } else if (strncmp(text, "sleep=", 6) == 0) {
        rule->effect = EFFECT_SLEEP;
        end = read_number(text + 6, &rule->amount);
    } else if (read_error(text, &rule->amount)) {
        rule->effect = EFFECT_ERROR;
    } else {
        refuse(whole, "the effect is an error's name, short, short=N, sleep=MSEC or count");
    }
    if (!end || *end)
        refuse(whole, "the effect needs a number after its =");
    if (rule->effect == EFFECT_SHORT && (!has_length(rule->call) || rule->amount == 0))
        refuse(whole, "only recv, send, read, write and splice can be short, and not shorter than 1");
}

static void read_which(const char *text, struct fault_rule *rule, const char *whole)
{
    const char *end = "";
    if (*text == '/') {
        end = read_number(text + 1, &rule->step);
        rule->first = rule->step;
    } else if (strcmp(text, "*") != 0) {
        end = read_number(text, &rule->first);
        if (end && strcmp(end, "-") == 0)
            end = "";
        else if (end && *end == '-')
            end = read_number(end + 1, &rule->last);
        else
            rule->last = rule->first;
    }
    if (!end || *end || rule->first == 0 || rule->last < rule->first)
        refuse(whole, "which calls: N, N-M, N-, /N or *");
}

static void read_rule(const char *whole, struct fault_rule *out)
{
    char text[128];
    if (strlen(whole) >= sizeof text)
        refuse(whole, "too long");
    memcpy(text, whole, strlen(whole) + 1);

    char *effect = strchr(text, ':');
    if (!effect)
        refuse(whole, "it takes CALL:EFFECT or CALL:EFFECT:WHICH");
    *effect++ = '\0';
    char *which = strchr(effect, ':');
    if (which)
        *which++ = '\0';
    char *thread = strchr(text, '@');
    if (thread)
        *thread++ = '\0';

    *out = (struct fault_rule){.thread = THREAD_ANY, .first = 1, .last = (unsigned long)-1, .step = 1};
    if (!read_call(text, &out->call))
        refuse(whole, "no wrapper for this call: see fault_calls.h");
    if (thread)
        read_thread(thread, out, whole);
    read_effect(effect, out, whole);
    if (which)
        read_which(which, out, whole);
}

static void read_rules(const char *spec, struct fault_set *set)
{
    char text[sizeof page_in_force->spec];
    if (strlen(spec) >= sizeof text)
        refuse("...", "too many rules");
    memcpy(text, spec, strlen(spec) + 1);

    char *rest;
    for (char *rule = strtok_r(text, ", \t\n", &rest); rule; rule = strtok_r(NULL, ", \t\n", &rest)) {
        if (set->count == FAULT_RULES)
            refuse(rule, "too many rules");
        read_rule(rule, &set->rules[set->count++]);
    }
}

/* With load_lock held. */
static void put_in_force(struct fault_page *page, const char *spec)
{
    struct fault_set *set =
        __real_mmap64(NULL, sizeof *set, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (set == MAP_FAILED)
        refuse(spec, "no memory");
    read_rules(spec, set);
    atomic_store(&rules_in_force, NULL);
    for (size_t i = 0; i < FAULT_RULES; i++)
        atomic_store(&page->hits[i], 0);
    atomic_store(&rules_in_force, set->count > 0 ? set : NULL);
}

static void look_for_new_rules(struct fault_page *page)
{
    if (atomic_load(&page->generation) == atomic_load(&page->loaded))
        return;
    pthread_mutex_lock(&load_lock);
    uint32_t generation = atomic_load(&page->generation);
    if (generation != atomic_load(&page->loaded)) {
        page->spec[sizeof page->spec - 1] = '\0';
        put_in_force(page, page->spec);
        atomic_store(&page->loaded, generation);
    }
    pthread_mutex_unlock(&load_lock);
}

__attribute__((constructor)) static void start(void)
{
    const char *file = getenv("FAULTS_FILE");
    const char *spec = getenv("FAULTS");
    struct fault_page *page = &own_page;
    if (file) {
        int fd = __real_open64(file, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            refuse(file, "cannot open $FAULTS_FILE");
        page = __real_mmap64(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED)
            refuse(file, "cannot map $FAULTS_FILE");
        close(fd);
    }
    pthread_mutex_lock(&load_lock);
    if (spec)
        put_in_force(page, spec);
    pthread_mutex_unlock(&load_lock);
    atomic_store(&page_in_force, page);
}

/* ---- what a wrapper asks ---- */

/* A thread sanitizer sees what strncmp(3) reads, but not this file's atomics, and would call it a race. */
static bool begins_with(const char *text, const char *beginning)
{
    while (*beginning && *text == *beginning) {
        text++;
        beginning++;
    }
    return !*beginning;
}

static bool fits_thread(const struct fault_rule *rule)
{
    char name[16] = "";
    switch (rule->thread) {
    case THREAD_ANY:
        return true;
    case THREAD_MAIN:
        return gettid() == getpid();
    case THREAD_OTHER:
        return gettid() != getpid();
    case THREAD_NAMED:
        pthread_getname_np(pthread_self(), name, sizeof name);
        return begins_with(name, rule->thread_name);
    }
    return false;
}

static bool is_due(struct fault_rule *rule)
{
    unsigned long n = atomic_fetch_add(&rule->seen, 1) + 1;
    return n >= rule->first && n <= rule->last && (n - rule->first) % rule->step == 0;
}

static void sleep_until_new_rules(struct fault_page *page, struct fault_set *set, unsigned long msec)
{
    const struct timespec slice = {.tv_nsec = 1000000};
    uint32_t generation = atomic_load(&page->generation);
    while (msec-- > 0 && atomic_load(&page->generation) == generation && atomic_load(&rules_in_force) == set)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &slice, NULL); /* and not a call that has rules */
}

/* Returns the error to fail with, or 0 to go on, with *length made shorter when a rule says so. */
static int check_rules(struct fault_page *page, struct fault_set *set, enum fault_call call, size_t *length)
{
    int error = 0;
    bool decided = false;
    for (size_t i = 0; i < set->count; i++) {
        struct fault_rule *rule = &set->rules[i];
        if (rule->call != call || !fits_thread(rule) || !is_due(rule))
            continue;
        bool decides = rule->effect == EFFECT_ERROR || rule->effect == EFFECT_SHORT;
        if (decides && decided)
            continue;
        decided = decided || decides;
        if (atomic_load(&rules_in_force) == set)
            atomic_fetch_add(&page->hits[i], 1);
        if (rule->effect == EFFECT_ERROR)
            error = (int)rule->amount;
        else if (rule->effect == EFFECT_SHORT && length && *length > rule->amount)
            *length = rule->amount;
        else if (rule->effect == EFFECT_SLEEP)
            sleep_until_new_rules(page, set, rule->amount);
    }
    return error;
}

int fault(enum fault_call call, size_t *length)
{
    struct fault_page *page = atomic_load_explicit(&page_in_force, memory_order_acquire);
    int saved_errno = errno;
    look_for_new_rules(page);
    struct fault_set *set = atomic_load_explicit(&rules_in_force, memory_order_acquire);
    int error = set ? check_rules(page, set, call, length) : 0;
    errno = saved_errno;
    return error;
}

/* ---- for unit tests ---- */

void fault_rules(const char *spec)
{
    pthread_mutex_lock(&load_lock);
    put_in_force(atomic_load(&page_in_force), spec);
    pthread_mutex_unlock(&load_lock);
}

void fault_arm(const char *call, int error, unsigned long nth)
{
    char spec[128];
    const char *name = strerrorname_np(error);
    if (nth > 0)
        snprintf(spec, sizeof spec, "%s:%s:%lu", call, name ? name : "?", nth);
    else
        snprintf(spec, sizeof spec, "%s:%s:*", call, name ? name : "?");
    fault_rules(spec);
}

/* The program has ended. What runs behind it, like the writing of coverage data, calls the wrappers too, and
 * is not what a test looks at. */
static void __attribute__((destructor)) disarm_at_the_end(void)
{
    atomic_store(&rules_in_force, NULL);
}

unsigned long fault_disarm(void)
{
    struct fault_page *page = atomic_load(&page_in_force);
    atomic_store(&rules_in_force, NULL);
    unsigned long hits = 0;
    for (size_t i = 0; i < FAULT_RULES; i++)
        hits += atomic_load(&page->hits[i]);
    return hits;
}
