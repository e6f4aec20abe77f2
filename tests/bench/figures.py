"""What many noisy measurements say together: medians, and how far they can be trusted."""

import random
import statistics

RESAMPLES = 2000


def interval(values, resamples=RESAMPLES):
    """The 95 % bootstrap interval of the median. The same values give the same interval."""
    source = random.Random(len(values))
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(resamples))
    return medians[int(resamples * 0.025)], medians[int(resamples * 0.975)]


def summary(values):
    low, high = interval(values)
    return {"median": statistics.median(values), "low": low, "high": high, "rounds": len(values)}


def ratio(pairs):
    """Of the first by the second of each pair: what drifts with the machine drifts in both."""
    return summary([ours / theirs for ours, theirs in pairs])


def text(figure):
    return f"{figure['median']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
