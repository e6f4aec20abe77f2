#!/usr/bin/env python3
"""How exactly a listener misbehaves, and what that costs its neighbours. Run it by hand, on an idle machine, with the
executables of build/ or those that $TCPECHOD and $TCPECHO name:

    tests/bench/misbehaviour.py [delay] [jitter] [rate] [neighbours]
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import client  # noqa: E402
import daemons  # noqa: E402
import harness  # noqa: E402
from daemons import listener  # noqa: E402

QUIET = "log = { connections = false; }; workers = 2; "
MESSAGE = b"0123456789"


def serve(*rows, settings=""):
    return daemons.Daemon(", ".join(rows), QUIET + settings, nofile=harness_limit())


def harness_limit():
    harness.raise_nofile(15000)
    return 15000


def took(peer):
    start = time.monotonic()
    harness.ping(peer, MESSAGE)
    return time.monotonic() - start


def delay():
    """The time that an answer took beyond its delay, as a client sees it; so the trip itself is in it."""
    print("delay: milliseconds beyond what was asked for")
    print(f"{'seconds':>10} {'answers':>8} {'least':>8} {'median':>8} {'most':>8}")
    for seconds, count in ((0.0, 2000), (0.001, 1000), (0.0105, 300), (0.1, 100), (1.0, 20), (5.0, 5)):
        with serve(listener(delay=seconds)) as daemon:
            # Several at a time: each of them waits most of the time, and they are at different places of a tick.
            late = []

            def ask(peer, count=max(1, count // 5)):
                for _ in range(count):
                    late.append(1000 * (took(peer) - seconds))
                    time.sleep(0.0007)

            threads = [threading.Thread(target=ask, args=(peer,)) for peer in daemon.connect_many(5 if seconds > 0.05 else 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(f"{seconds:10g} {len(late):8} {min(late):8.3f} {statistics.median(late):8.3f} {max(late):8.3f}")


def jitter():
    delays = []
    with serve(listener(delay=0.02, jitter=0.015, seed=1)) as daemon:
        peer = daemon.connect()
        for _ in range(1000):
            delays.append(took(peer))
    delays.sort()
    # Kolmogorov and Smirnov's distance from the uniform distribution over the same range.
    distance = max(max(abs(i / len(delays) - place), abs((i + 1) / len(delays) - place))
                   for i, place in enumerate(min(1.0, max(0.0, (each - 0.005) / 0.03)) for each in delays))
    print(f"jitter: delay 20 ms, jitter 15 ms, {len(delays)} answers: {1000 * delays[0]:.2f} to {1000 * delays[-1]:.2f} ms, "
          f"mean {1000 * statistics.mean(delays):.2f}, deviation {1000 * statistics.stdev(delays):.2f} (of a uniform one "
          f"{30 / 12 ** 0.5:.2f}), greatest distance of the distributions {distance:.3f}")


def rate():
    """Of the bytes between the first and the last that came, so that neither end's buffers count."""
    print("rate: over 10 seconds")
    for wanted in (1 << 10, 1 << 20, 100 << 20):
        with serve(listener("chargen", rate=wanted)) as daemon:
            peer = daemon.connect()
            got = 0
            peer.recv(1 << 20)
            start = now = time.monotonic()
            while now - start < 10:
                got += len(peer.recv(1 << 20))
                now = time.monotonic()
            print(f"{wanted:12} bytes/s asked, {got / (now - start):14.1f} had, "
                  f"{100 * (got / (now - start) / wanted - 1):+.2f} %")


def neighbours(rounds=9, count=10000):
    """p99 of 100 clients, alone and beside thousands of delayed connections of the same workers."""
    ratios = {"itself": [], "delayed": []}
    with serve(listener(delay=3600.0), listener(port="PORT1")) as daemon:
        def p99():
            result = json.loads(subprocess.run(client.command("--bench", "--json", "-c", 100, "-s", 64, "-d", 2, "127.0.0.1",
                                                              daemon.ports[1]), check=True, stdout=subprocess.PIPE).stdout)
            return result["latency_p99_ns"]

        @contextlib.contextmanager
        def delayed():
            before = daemon.rss()
            peers = daemon.connect_many(count)
            for peer in peers:
                peer.sendall(MESSAGE)
            time.sleep(0.5)
            print(f"  {count} delayed: {(daemon.rss() - before) / count:.0f} bytes each", file=sys.stderr)
            yield
            for peer in peers:
                harness.reset(peer)
            time.sleep(1)

        p99()
        for _ in range(rounds):
            first, second = p99(), p99()
            with delayed():
                third = p99()
            ratios["itself"].append(second / first)
            ratios["delayed"].append(third / second)
    for name, values in ratios.items():
        values.sort()
        print(f"neighbours: p99 of 100 clients, compared with {name}: median {statistics.median(values):.3f}, "
              f"{values[0]:.3f} to {values[-1]:.3f}")


if __name__ == "__main__":
    for part in sys.argv[1:] or ("delay", "jitter", "rate", "neighbours"):
        {"delay": delay, "jitter": jitter, "rate": rate, "neighbours": neighbours}[part]()
