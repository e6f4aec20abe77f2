#include "base/timer_wheel.h"

#include "base/clock.h"

#define SLOT_BITS 6
#define SLOT_MASK (TIMER_SLOTS - 1)
/* The slot of the last level that comes round last: one before the current one. */
#define FARTHEST_TICKS (UINT64_C(63) << (SLOT_BITS * (TIMER_LEVELS - 1)))

static uint64_t tick_at_or_after(uint64_t usec)
{
    return usec / TIMER_TICK_USEC + (usec % TIMER_TICK_USEC != 0);
}

static unsigned slot_of(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (SLOT_BITS * level)) & SLOT_MASK;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_usec)
{
    wheel->tick = now_usec / TIMER_TICK_USEC;
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < TIMER_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
    list_init(&timer->link);
    timer->tick = 0;
    timer->fire = fire;
}

/* The level whose slot the tick falls into: the highest group of six bits in which it differs from now. A
 * tick that shares all higher groups with now lies in a slot of that level which is still to come. */
static unsigned level_of(const struct timer_wheel *wheel, uint64_t tick)
{
    uint64_t differing = tick ^ wheel->tick;
    if (differing < TIMER_SLOTS)
        return 0;
    unsigned level = (63 - (unsigned)__builtin_clzll(differing)) / SLOT_BITS;
    return level < TIMER_LEVELS ? level : TIMER_LEVELS - 1;
}

static void place(struct timer_wheel *wheel, struct timer *timer)
{
    /* What lies beyond the last level waits in its farthest slot, and is placed again from there. */
    uint64_t tick = timer->tick;
    if (tick - wheel->tick > FARTHEST_TICKS)
        tick = wheel->tick + FARTHEST_TICKS;
    unsigned level = level_of(wheel, tick);
    unsigned slot = slot_of(tick, level);
    list_append(&wheel->slots[level][slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void timer_wheel_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_usec)
{
    list_remove(&timer->link);
    if (deadline_usec == USEC_NEVER)
        return;
    timer->tick = tick_at_or_after(deadline_usec);
    if (timer->tick < wheel->tick)
        timer->tick = wheel->tick;
    place(wheel, timer);
}

void timer_disarm(struct timer *timer)
{
    /* The slot's bit stays: an empty slot costs one early look, and finding out here would need the wheel. */
    list_remove(&timer->link);
}

/* The first tick, at or after the wheel's own, at which a slot of `level` that may hold timers begins. */
static uint64_t next_tick_of_level(const struct timer_wheel *wheel, unsigned level)
{
    if (!wheel->occupied[level])
        return UINT64_MAX;
    unsigned shift = SLOT_BITS * level;
    uint64_t span = wheel->tick >> shift;
    unsigned current = (unsigned)span & SLOT_MASK;
    /* Rotated so that bit 0 is the current slot, the lowest bit is the next to come. */
    uint64_t bits = wheel->occupied[level];
    uint64_t ahead = current ? bits >> current | bits << (TIMER_SLOTS - current) : bits;
    uint64_t tick = (span + (unsigned)__builtin_ctzll(ahead)) << shift;
    return tick < wheel->tick ? wheel->tick : tick;
}

static uint64_t next_tick(const struct timer_wheel *wheel)
{
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        uint64_t tick = next_tick_of_level(wheel, level);
        if (tick < next)
            next = tick;
    }
    return next;
}

/* Empties the slots that begin at the wheel's tick: what is due goes to `due`, the rest a level down. */
static void turn_slots(struct timer_wheel *wheel, struct list *due)
{
    for (unsigned level = TIMER_LEVELS; level-- > 0;) {
        unsigned slot = slot_of(wheel->tick, level);
        uint64_t bit = UINT64_C(1) << slot;
        if (!(wheel->occupied[level] & bit))
            continue;
        wheel->occupied[level] &= ~bit;
        struct list timers;
        list_init(&timers);
        list_splice(&timers, &wheel->slots[level][slot]);
        LIST_FOR_EACH(item, &timers)
        {
            struct timer *timer = CONTAINER_OF(item, struct timer, link);
            list_remove(item);
            if (timer->tick <= wheel->tick)
                list_append(due, item);
            else
                place(wheel, timer);
        }
    }
}

void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_usec, struct list *due)
{
    uint64_t now = now_usec / TIMER_TICK_USEC;
    for (uint64_t tick = next_tick(wheel); tick <= now; tick = next_tick(wheel)) {
        wheel->tick = tick;
        turn_slots(wheel, due);
    }
    if (wheel->tick < now)
        wheel->tick = now;
}

uint64_t timer_wheel_next_usec(const struct timer_wheel *wheel)
{
    uint64_t tick = next_tick(wheel);
    return tick == UINT64_MAX ? USEC_NEVER : tick * TIMER_TICK_USEC;
}
