/* A peer that is bad on purpose: what may happen to the answers of a connection between its service and its
 * socket. Pure functions over bytes, time and numbers; no sockets, no logging, no clock.
 *
 *   service -> misbehaviour_put() -> held back, cut, spoiled -> misbehaviour_next() -> socket
 *
 * Whatever is left to chance is a function of the listener's seed, the connection's number on it and the
 * place in the answer, and of nothing else: not of when bytes come, nor of how they are cut into reads. So
 * the same seed and the same order of connections give the same bytes again.
 *
 * Times are usec of CLOCK_MONOTONIC. A connection's state belongs to its worker's thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a connection ends that a fault ends. */
enum misbehaviour_end {
    MISBEHAVIOUR_CLOSE,      /* FIN, and whoever goes on sending is reset */
    MISBEHAVIOUR_RESET,      /* RST */
    MISBEHAVIOUR_HALF_CLOSE, /* FIN, and it goes on reading */
    MISBEHAVIOUR_HANG,       /* says nothing more */
    MISBEHAVIOUR_ENDS,
};

/* The piece of which lose and repeat take their share, where `slice` does not say another, in bytes. */
#define MISBEHAVIOUR_PIECE 64

/* What a listener sets; constant while a connection refers to it. Zero is no such fault, unless said
 * otherwise. */
struct misbehaviour_params {
    uint64_t delay, jitter; /* usec that each answer is held; `jitter` at most more or less */
    uint64_t rate;          /* bytes a second */
    uint64_t slice;         /* bytes of a piece */
    uint64_t slice_delay;   /* usec between pieces */
    uint64_t accept_delay;  /* usec until anything is read or said */
    uint64_t close_delay;   /* usec that the end is held, after all has been said */
    uint64_t limit;         /* bytes to the client, then the end */
    uint64_t after;         /* usec since the accept, then the end; USEC_NEVER: never */
    enum misbehaviour_end end;
    bool silent;                  /* says nothing */
    bool deaf;                    /* reads nothing */
    double corrupt, lose, repeat; /* shares, 0 to 1: of bytes, of pieces, of pieces */
    double toxicity;              /* the share of connections that any of this happens to */
    unsigned seed;
    bool is_drawn; /* the seed: nobody has set it */
};

/* Bytes that wait, in one piece of memory. */
struct misbehaviour_buffer {
    size_t start, end, size;
    uint8_t bytes[];
};

/* A connection's place among its faults. But for the buffers plain numbers, so that another process can take
 * it up. */
struct misbehaviour {
    const struct misbehaviour_params *params;
    uint64_t room;      /* bytes that may be held */
    uint64_t key;       /* of all that is left to chance */
    uint64_t accepted;  /* usec */
    uint64_t made;      /* bytes that the service has made */
    uint64_t said;      /* bytes that went to the client */
    uint64_t last_due;  /* usec: what is made from now on does not overtake what was made before */
    uint64_t slice_due; /* usec: no piece before */
    uint64_t rate_due;  /* nsec: the same */
    uint64_t first_due,
        first_length; /* of the answer whose rest is first in `held`; no length: there is none */
    uint64_t wake;    /* usec: when to call misbehaviour_next() again; USEC_NEVER: when something happens */
    bool is_started;  /* accept_delay is over */
    bool is_hurried;  /* the daemon stops: nothing waits any more */
    bool is_finished; /* the service has said all: after what is held comes the end */
    bool is_done;     /* all was said, or a fault has ended it */
    bool is_ready;    /* there is more to send at once */
    uint8_t ended_by; /* enum misbehaviour_fault */
    /* The rest of the first answer; then for each when it is due, its length, and its bytes. NULL: nothing */
    struct misbehaviour_buffer *held;
    struct misbehaviour_buffer *again; /* what was said of a piece that is to be repeated; NULL: nothing */
};

/* What may end a connection. */
enum misbehaviour_fault {
    MISBEHAVIOUR_NONE,
    MISBEHAVIOUR_LIMIT,
    MISBEHAVIOUR_AFTER,
    MISBEHAVIOUR_FAULTS,
};

struct misbehaviour_step {
    enum {
        MISBEHAVIOUR_WAIT, /* until misbehaviour.wake, or something happens */
        MISBEHAVIOUR_SEND, /* `bytes` go to the client now; they are valid until the next call */
        MISBEHAVIOUR_DONE, /* all is said */
        MISBEHAVIOUR_END,  /* a fault ends it, as params->end says */
    } kind;
    const uint8_t *bytes;
    size_t length;
};

/* Whether there is any fault in it. */
bool misbehaviour_is_any(const struct misbehaviour_params *params);

/* Whether any of it is left to chance, so that the seed matters. */
bool misbehaviour_is_random(const struct misbehaviour_params *params);

bool misbehaviour_is_equal(const struct misbehaviour_params *a, const struct misbehaviour_params *b);

/* Whether the connection with this number, counted from 1 in the order of acceptance, is one of the share. */
bool misbehaviour_befalls(const struct misbehaviour_params *params, uint64_t number);

/* `room`: how many bytes may be held, a few for each answer included. */
void misbehaviour_init(struct misbehaviour *m, const struct misbehaviour_params *params, uint64_t number,
                       uint64_t accepted, size_t room);

/* Frees what is held. */
void misbehaviour_clear(struct misbehaviour *m);

/* Whether a connection under these parameters can have come so far; for a state that another process has
 * written down, with the bytes of its buffers. */
bool misbehaviour_is_possible(const struct misbehaviour_params *params, const struct misbehaviour *m,
                              const uint8_t *held, size_t held_length, size_t again_length);

/* Goes on from the plain numbers in *m. Returns false with nothing held when memory is short. */
bool misbehaviour_restore(struct misbehaviour *m, const struct misbehaviour_params *params, size_t room,
                          const uint8_t *held, size_t held_length, const uint8_t *again, size_t again_length);

/* How many bytes of the client may be read now; 0: none. */
size_t misbehaviour_may_read(const struct misbehaviour *m);

/* How many bytes the service may make up now; 0: none. */
size_t misbehaviour_may_speak(const struct misbehaviour *m);

/* Takes what the service has made of at most so many bytes, or in one piece that cannot be smaller: what is
 * held is then more than the room by as much. Returns false when memory is short. */
bool misbehaviour_put(struct misbehaviour *m, uint64_t now, const uint8_t *bytes, size_t length);

/* Nothing follows. May be called again. Returns false when memory is short. */
bool misbehaviour_finish(struct misbehaviour *m, uint64_t now);

/* The daemon stops: what is held is due at once. */
void misbehaviour_hurry(struct misbehaviour *m);

/* What to do now, and m->wake. Not before the kernel has taken all that was sent (`may_send`) is there more
 * to send. What is to be sent counts as said. */
struct misbehaviour_step misbehaviour_next(struct misbehaviour *m, uint64_t now, bool may_send);

/* Something is still to be said, or the end to come, when its time has come. */
bool misbehaviour_holds(const struct misbehaviour *m);

/* A fault has ended it with a RST. */
bool misbehaviour_resets(const struct misbehaviour *m);

/* A fault has ended it, and it stays until its client leaves or is idle for too long: with our FIN sent, or
 * hanging without. */
bool misbehaviour_stays(const struct misbehaviour *m);
bool misbehaviour_hangs(const struct misbehaviour *m);

/* It never says anything. */
bool misbehaviour_is_mute(const struct misbehaviour *m);
bool misbehaviour_is_deaf(const struct misbehaviour *m);

/* "limit", "after"; NULL: no fault has ended it. */
const char *misbehaviour_fault_name(const struct misbehaviour *m);
