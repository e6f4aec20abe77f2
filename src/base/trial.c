#include "base/trial.h"

/* Below so many a second there is no hurry, and chance tells more than a stretch does. */
#define LEAST_RATE 20000

#define FIRST_INTERVAL 1
#define LONGEST_INTERVAL 256

/* What the second way has to gain, in percent, each time that they are compared. */
#define LEAST_GAIN 5

static bool is_gain(uint64_t second, uint64_t first)
{
    return second * 100 >= first * (100 + LEAST_GAIN);
}

static void schedule_try(struct trial *trial, unsigned interval)
{
    trial->interval = interval;
    trial->until_try = interval;
}

static void judge_try(struct trial *trial, uint64_t rate)
{
    bool second = trial->takes_second ? is_gain(trial->rate, rate) : is_gain(rate, trial->rate);
    trial->tries = false;
    if (second == trial->takes_second) {
        schedule_try(trial, trial->interval < LONGEST_INTERVAL ? 4 * trial->interval : LONGEST_INTERVAL);
        return;
    }
    trial->takes_second = second;
    trial->rate = rate;
    schedule_try(trial, FIRST_INTERVAL);
}

static void judge(struct trial *trial, uint64_t rate)
{
    if (trial->tries) {
        judge_try(trial, rate);
    } else if (rate < LEAST_RATE) {
        trial->takes_second = false;
        trial->rate = 0;
    } else if (trial->rate == 0) {
        trial->rate = rate;
        schedule_try(trial, FIRST_INTERVAL);
    } else {
        trial->rate = (3 * trial->rate + rate) / 4;
        trial->tries = --trial->until_try == 0;
    }
}

bool trial_takes_second(struct trial *trial, uint64_t now_usec)
{
    uint64_t took = now_usec - trial->began_usec;
    if (now_usec >= trial->began_usec + TRIAL_STRETCH_USEC) {
        judge(trial, trial->done * USEC_PER_SEC / took);
        trial->began_usec = now_usec;
        trial->done = 0;
    }
    return trial->takes_second != trial->tries;
}
