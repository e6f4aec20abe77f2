#include "client/bench/load.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>

/* With a rate the first message is due when every thread has come to its schedule. */
#define LEAD_NSEC (10 * 1000 * NSEC_PER_USEC)

static void enter(struct load *load, enum load_phase phase)
{
    atomic_store(&load->control.phase, phase);
    for (size_t i = 0; i < load->thread_count; i++)
        event_loop_wake(&load->threads[i]->loop);
}

int load_init(struct load *load, const struct load_plan *plan, struct event_loop *coordinator, int first_fd)
{
    CLEANUP(fd_close) int fd = first_fd;
    *load = (struct load){.control = {.plan = *plan, .coordinator = coordinator, .stop_nsec = UINT64_MAX}};
    load->threads = calloc(plan->threads, sizeof *load->threads);
    if (!load->threads)
        return -ENOMEM;
    while (load->thread_count < plan->threads) {
        size_t index = load->thread_count;
        int r = load_thread_new(&load->control, index, index == 0 ? fd : -1, &load->threads[index]);
        if (r < 0) {
            load_deinit(load);
            return r;
        }
        if (index == 0)
            TAKE_FD(fd);
        load->thread_count++;
    }
    return 0;
}

static bool all_are(const struct load *load, enum load_thread_state state)
{
    for (size_t i = 0; i < load->thread_count; i++)
        if (atomic_load(&load->threads[i]->state) < state)
            return false;
    return true;
}

bool load_is_settled(const struct load *load)
{
    return all_are(load, LOAD_THREAD_SETTLED);
}

bool load_is_finished(const struct load *load)
{
    return all_are(load, LOAD_THREAD_FINISHED);
}

uint64_t load_connected(const struct load *load)
{
    uint64_t connected = 0;
    for (size_t i = 0; i < load->thread_count; i++)
        connected += atomic_load(&load->threads[i]->connected);
    return connected;
}

void load_run(struct load *load)
{
    load->control.start_nsec = clock_monotonic_nsec() + (load->control.plan.rate > 0 ? LEAD_NSEC : 0);
    enter(load, LOAD_RUN);
}

void load_stop(struct load *load)
{
    load->control.stop_nsec = clock_monotonic_nsec();
    enter(load, LOAD_STOP);
}

struct load_progress load_progress(const struct load *load)
{
    struct load_progress progress = {0};
    for (size_t i = 0; i < load->thread_count; i++) {
        struct load_thread *thread = load->threads[i];
        progress.messages += atomic_load_explicit(&thread->messages, memory_order_relaxed);
        progress.bytes += atomic_load_explicit(&thread->bytes, memory_order_relaxed);
        progress.connections += atomic_load_explicit(&thread->open, memory_order_relaxed);
    }
    return progress;
}

/* What a thread never came to has no answer when none of its connections was left; else it was too slow. */
static void add_rest(struct load_result *into, const struct load_thread *thread, uint64_t due)
{
    uint64_t rest = load_thread_not_sent(thread, due);
    if (thread->stopping)
        into->unsent += rest;
    else
        into->unanswered += rest;
}

int load_collect(const struct load *load, struct load_result *out)
{
    uint64_t due = load_due_until(&load->control.plan, load->control.start_nsec, load->control.stop_nsec);
    int error = 0;
    *out = (struct load_result){0};
    for (size_t i = 0; i < load->thread_count; i++) {
        load_result_add(out, &load->threads[i]->result);
        add_rest(out, load->threads[i], due);
        if (error == 0)
            error = atomic_load(&load->threads[i]->error);
    }
    return error;
}

void load_deinit(struct load *load)
{
    load_stop(load);
    for (size_t i = 0; i < load->thread_count; i++)
        load_thread_free(load->threads[i]);
    free(load->threads);
    load->threads = NULL;
    load->thread_count = 0;
}
