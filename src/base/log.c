/* The ring, its writer thread, and the rate.
 *
 * Producers format on their own stack and hold the mutex for one memcpy. The writer writes out of the ring
 * without the mutex: a slot is free only once `tail` has passed it, and `tail` is the writer's. It is woken
 * only when it sleeps, so a burst costs one system call. */
#include "base/log.h"

#include "base/clock.h"
#include "base/log_sink.h"
#include "base/plural.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#define RING_SIZE 1024 /* a power of two, so that the counters may wrap */
#define DIRECT_WAIT_MSEC 1000
#define INTERRUPT_EVERY (5 * USEC_PER_MSEC)
#define INTERRUPT_FOR USEC_PER_SEC /* then the writer is left behind */

_Atomic int log_max_level_ = LOG_LEVEL_INFO;

static struct {
    pthread_mutex_t mutex; /* guards all but the slots between tail and head, which are the writer's */
    pthread_cond_t wake;   /* the writer's */
    pthread_cond_t ended;  /* log_stop's */
    size_t head, tail;     /* running counters: head of the producers, tail of the writer */
    uint64_t dropped;      /* since the last record that found room */
    atomic_bool running;   /* messages go into the ring; set with the mutex */
    bool sleeping;         /* the writer waits for `wake` */
    bool stopping;
    bool finished; /* the writer is on its way out */
} ring = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};

static struct log_record slots[RING_SIZE];
static pthread_t writer;
static struct sigaction former_action; /* of LOG_INTERRUPT_SIGNAL */
static atomic_bool give_up;            /* the writer writes no more */
static bool abandoned;                 /* log_stop left a writer behind */

static _Atomic uint64_t lost; /* in all */
static uint64_t unreported;   /* lost, no message says so yet: the writer's, or log_event's without */
static int direct_wait_msec = DIRECT_WAIT_MSEC; /* how long a message without a writer waits for its sink */

/* The rate: the second of CLOCK_MONOTONIC in the upper half, how many messages asked in it in the lower. The
 * first `rate` of them pass. Whoever comes first in a new second adds what the old one held back to
 * `held_back`. */
static _Atomic unsigned rate;
static _Atomic uint64_t window;
static _Atomic uint64_t suppressed;
static _Atomic unsigned held_back_by; /* the rate that did */

static uint64_t window_of(uint64_t now_usec)
{
    return now_usec / USEC_PER_SEC << 32;
}

/* ---- What the writer does ---- */

static void count_lost(uint64_t count)
{
    atomic_fetch_add(&lost, count);
    unreported += count;
}

/* Returns 0 when nothing is left to report, or a negative errno. */
static int report_lost(void)
{
    struct log_record notice;
    if (unreported == 0)
        return 0;
    log_notice_set(&notice, LOG_LOST_MESSAGE_ID, LOG_LEVEL_WARNING, LOG_NUMBER("TCPECHOD_LOST", unreported),
                   "%" PRIu64 " message%s lost because the log did not take %s in time", unreported,
                   unreported == 1 ? " was" : "s were", unreported == 1 ? "it" : "them");
    int r = log_sink_write(&notice, &give_up);
    if (r == 0)
        unreported = 0;
    return r;
}

static void write_record(const struct log_record *record)
{
    unreported += record->lost_before;
    if (report_lost() < 0 || log_sink_write(record, &give_up) < 0)
        count_lost(1);
}

/* Ends the window's second once it is over, or now. */
static void close_window(bool now)
{
    uint64_t old = atomic_load(&window), current = window_of(clock_monotonic_usec());
    unsigned limit = atomic_load(&rate);
    while (now || old < current) {
        if (!atomic_compare_exchange_weak(&window, &old, current))
            continue;
        if (limit != 0 && (uint32_t)old > limit) {
            atomic_store(&held_back_by, limit);
            atomic_fetch_add(&suppressed, (uint32_t)old - limit);
        }
        return;
    }
}

static void report_held_back(bool now)
{
    struct log_record notice;
    close_window(now);
    uint64_t count = atomic_exchange(&suppressed, 0);
    if (count == 0)
        return;
    log_notice_set(&notice, LOG_HELD_BACK_MESSAGE_ID, LOG_LEVEL_NOTICE,
                   LOG_NUMBER("TCPECHOD_HELD_BACK", count),
                   "%" PRIu64 " message%s held back by log.rate = %u a second", count, plural(count),
                   atomic_load(&held_back_by));
    if (report_lost() < 0 || log_sink_write(&notice, &give_up) < 0)
        count_lost(1);
}

/* With the mutex. Until a producer or log_stop wakes it, or until a second ends in which messages were held
 * back. */
static void sleep_until_woken(void)
{
    uint64_t current = atomic_load(&window);
    unsigned limit = atomic_load(&rate);
    if (atomic_load(&suppressed) > 0)
        return;
    ring.sleeping = true;
    if (limit != 0 && (uint32_t)current > limit) {
        struct timespec end = {.tv_sec = (time_t)(current >> 32) + 1};
        /* Woken, over or spurious: the caller looks. */
        pthread_cond_clockwait(&ring.wake, &ring.mutex, CLOCK_MONOTONIC, &end);
    } else {
        pthread_cond_wait(&ring.wake, &ring.mutex);
    }
    ring.sleeping = false;
}

static void *writer_main(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&ring.mutex);
    while (!atomic_load(&give_up)) {
        bool stopping = ring.stopping;
        const struct log_record *record = ring.head == ring.tail ? NULL : &slots[ring.tail % RING_SIZE];
        if (!record) {
            /* Nothing will come to say it ahead of, so it is said now. */
            unreported += ring.dropped;
            ring.dropped = 0;
        }
        pthread_mutex_unlock(&ring.mutex);

        if (record)
            write_record(record);
        else
            report_lost();
        report_held_back(stopping && !record);

        pthread_mutex_lock(&ring.mutex);
        if (record)
            ring.tail++;
        else if (stopping)
            break;
        else if (ring.head == ring.tail && ring.dropped == 0 && !ring.stopping)
            sleep_until_woken();
    }
    ring.finished = true;
    pthread_cond_signal(&ring.ended);
    pthread_mutex_unlock(&ring.mutex);
    return NULL;
}

/* ---- What everyone else does ---- */

/* With the mutex held; lets go of it. */
static void unlock_and_wake(void)
{
    bool wake = ring.sleeping;
    ring.sleeping = false; /* the next producer need not wake it again */
    pthread_mutex_unlock(&ring.mutex);
    if (wake)
        pthread_cond_signal(&ring.wake);
}

/* False: the rate holds this message back. */
static bool rate_admits(void)
{
    unsigned limit = atomic_load_explicit(&rate, memory_order_relaxed);
    if (limit == 0)
        return true;
    close_window(false);
    uint32_t place = (uint32_t)atomic_fetch_add(&window, 1) + 1;
    if (place <= limit)
        return true;
    if (place == limit + 1) { /* the writer has a deadline from now on */
        pthread_mutex_lock(&ring.mutex);
        unlock_and_wake();
    }
    return false;
}

/* With the mutex. Without a writer: before log_start, after log_stop; and where it could not start again,
 * while other threads write, too. */
static void write_direct(const struct log_record *record)
{
    if (abandoned) {
        atomic_fetch_add(&lost, 1);
    } else if (!log_sink_ready(direct_wait_msec)) {
        direct_wait_msec = 0; /* one such wait is enough */
        count_lost(1);
    } else {
        direct_wait_msec = DIRECT_WAIT_MSEC;
        write_record(record);
    }
}

static void queue_or_write(struct log_record *record)
{
    pthread_mutex_lock(&ring.mutex);
    if (!ring.running) {
        write_direct(record);
        pthread_mutex_unlock(&ring.mutex);
    } else if (ring.head - ring.tail == RING_SIZE) {
        ring.dropped++;
        atomic_fetch_add(&lost, 1);
        pthread_mutex_unlock(&ring.mutex);
    } else {
        record->lost_before = ring.dropped;
        ring.dropped = 0;
        memcpy(&slots[ring.head++ % RING_SIZE], record, log_record_size(record));
        unlock_and_wake();
    }
}

void log_event(const struct log_kind *kind, enum log_level level, const struct log_field *fields,
               size_t field_count, const char *format, ...)
{
    int saved_errno = errno;
    struct log_record record;
    va_list arguments;
    if ((!log_enabled(level) && !(kind && kind->always)) ||
        (kind && kind->by_clients && ring.running && !rate_admits()))
        return;
    va_start(arguments, format);
    log_record_set(&record, kind, level, fields, field_count, format, arguments);
    va_end(arguments);
    queue_or_write(&record);
    errno = saved_errno;
}

void log_restore_lost(uint64_t count)
{
    atomic_fetch_add(&lost, count);
}

uint64_t log_lost(void)
{
    return atomic_load(&lost);
}

/* ---- Start, stop, settings ---- */

void log_configure(const struct log_settings *settings)
{
    log_sink_choose(settings->target, settings->format);
    close_window(true); /* what the old rate held back is the old rate's */
    atomic_store(&rate, settings->rate);
    atomic_store(&log_max_level_, settings->level);
    pthread_mutex_lock(&ring.mutex);
    unlock_and_wake();
}

/* Waits until the writer has ended, at most so long. True: it has. */
static bool wait_for_end(uint64_t timeout_usec)
{
    uint64_t now = clock_monotonic_usec();
    uint64_t end = timeout_usec < USEC_NEVER / 2 ? now + timeout_usec : USEC_NEVER / 2;
    const struct timespec until = clock_timespec(end);
    int r = 0;
    pthread_mutex_lock(&ring.mutex);
    while (!ring.finished && r == 0)
        r = pthread_cond_clockwait(&ring.ended, &ring.mutex, CLOCK_MONOTONIC, &until);
    bool finished = ring.finished;
    pthread_mutex_unlock(&ring.mutex);
    return finished;
}

/* Does nothing: that it runs at all, without SA_RESTART, is what ends a system call with EINTR. */
static void on_interrupt(int signal)
{
    (void)signal;
}

static int create_writer(void)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    sigset_t blocked, former;
    /* The thread inherits the mask: it takes no signal of the program's, not even before its first line. */
    sigfillset(&blocked);
    sigdelset(&blocked, LOG_INTERRUPT_SIGNAL);
    if (sigaction(LOG_INTERRUPT_SIGNAL, &action, &former_action) < 0)
        return -errno;
    int r = pthread_sigmask(SIG_SETMASK, &blocked, &former);
    if (r == 0) {
        r = pthread_create(&writer, NULL, writer_main, NULL);
        pthread_sigmask(SIG_SETMASK, &former, NULL);
    }
    if (r != 0)
        sigaction(LOG_INTERRUPT_SIGNAL, &former_action, NULL);
    else
        pthread_setname_np(writer, "log");
    return -r;
}

int log_start(void)
{
    if (ring.running || abandoned)
        return -EBUSY;

    ring.head = ring.tail = 0;
    ring.stopping = ring.finished = false;
    direct_wait_msec = DIRECT_WAIT_MSEC;
    atomic_store(&window, window_of(clock_monotonic_usec()));
    ring.running = true;
    int r = create_writer();
    if (r < 0)
        ring.running = false;
    return r;
}

/* Interrupts the writer until it has ended: a signal that comes just before the system call does not end it,
 * so one is not enough. pthread_kill(3) may fail (too many signals pending), which the next round makes good.
 */
static bool interrupt_writer(void)
{
    uint64_t end = clock_monotonic_usec() + INTERRUPT_FOR;
    bool ended;
    atomic_store(&give_up, true);
    do {
        pthread_kill(writer, LOG_INTERRUPT_SIGNAL);
        ended = wait_for_end(INTERRUPT_EVERY);
    } while (!ended && clock_monotonic_usec() < end);
    return ended;
}

void log_stop(uint64_t timeout_usec)
{
    if (!ring.running)
        return;
    pthread_mutex_lock(&ring.mutex);
    ring.stopping = true;
    unlock_and_wake();

    bool in_time = wait_for_end(timeout_usec);
    abandoned = !in_time && !interrupt_writer();

    pthread_mutex_lock(&ring.mutex);
    ring.running = false;
    size_t left = ring.head - ring.tail;
    pthread_mutex_unlock(&ring.mutex);
    atomic_fetch_add(&lost, left);
    if (abandoned) {
        /* It still refers to the ring and the handler: they stay. */
        pthread_detach(writer);
        return;
    }

    pthread_join(writer, NULL);
    sigaction(LOG_INTERRUPT_SIGNAL, &former_action, NULL);
    for (; ring.tail != ring.head; ring.tail++)
        unreported += 1 + slots[ring.tail % RING_SIZE].lost_before;
    unreported += ring.dropped;
    ring.dropped = 0;
    atomic_store(&give_up, false);
    if (!in_time)
        direct_wait_msec = 0;
}
