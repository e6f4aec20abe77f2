"""What is measured. Each case is a function that yields rows: a figure of the daemon beside one of another server."""

import contextlib
import dataclasses
import statistics
import time

import figures
import loads
from servers import Failed, daemon, hand_over

SMALL = 64
BULK = 65536
LATENCY_LOADS = (30, 60, 80)
CLIENT_THREADS = {"one client thread": 1, "two client threads": 2}


@dataclasses.dataclass
class Sizes:
    """How much of everything."""

    ping_pong: tuple = (50, 500)
    idle: tuple = (2000, 6000, 10000, 14500, 19000)
    crowd: int = 15000
    small: int = 500
    curve: tuple = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
    pace: tuple = (100, 1000, 10000)
    traced: int = 20000


QUICK = Sizes((5, 20), (50, 100), 200, 20, (1, 20), (100,), 200)


class Suite:
    """The servers, and how often each pair of them is measured."""

    def __init__(self, command, workers, load, peers, rounds, directory, log, sizes):
        self.command, self.load, self.peers, self.rounds = command, load, peers, rounds
        self.directory, self.log, self.sizes = directory, log, sizes
        self.ours = daemon(command, "tcpechod", workers)
        self.again = daemon(command, "tcpechod again", workers)
        self.polling = daemon(command, "tcpechod, polling", workers, busy_poll_usec=100)
        self.polling_again = daemon(command, "tcpechod, polling, again", workers, busy_poll_usec=100)
        self.rivals = peers + ([daemon(command, "tcpechod, 1 worker", 1)] if workers > 1 else [])
        # What the manual shows to an administrator; the unit does not set it.
        self.batch = daemon(["chrt", "--batch", "0", *command], "tcpechod, batch policy", workers)

    def main_peers(self):
        """Without those who make a process of each client, where that would only repeat what others show."""
        return [peer for peer in self.peers if peer.kind == "loop" or peer.name in ("go", "threads")]

    def loops_and_go(self):
        """Without those who make a thread of each client either."""
        return [peer for peer in self.main_peers() if peer.name != "threads"]

    def alternate(self, measure, rival, ours):
        """Pairs of (ours, theirs)."""
        with ours.running(self.directory) as a, rival.running(self.directory) as b:
            return self.in_turns(lambda: measure(a), lambda: measure(b))

    def in_turns(self, one, other):
        """Pairs of what both measure, the order within a pair changing from one to the next."""
        found = []
        for number in range(self.rounds):
            if number % 2 == 0:
                first = one()
                found.append((first, other()))
            else:
                second = other()
                found.append((one(), second))
        return found

    def compare(self, case, measure, fields, rivals=None, ours=None, again=None):
        """The first rival is always the daemon itself, which shows what is noise. One that fails is reported so."""
        for rival in [again or self.again] + (self.rivals if rivals is None else rivals):
            self.log(f"  {rival.name}")
            with or_failed(case, rival) as rows:
                pairs = self.alternate(measure, rival, ours or self.ours)
                rows.append({"case": case, "rival": rival.name, **compared_by(fields, pairs)})
            yield from rows


def compared_by(fields, pairs):
    return {field: compared([(a[field], b[field]) for a, b in pairs]) for field in fields}


def compared(pairs):
    return {"ratio": figures.ratio(pairs), "ours": statistics.median(ours for ours, _ in pairs),
            "theirs": statistics.median(theirs for _, theirs in pairs)}


def ping_pong(suite):
    """One worker leaves a CPU to the client, so that no three threads share two."""
    for connections in suite.sizes.ping_pong:
        yield from suite.compare(f"ping-pong {SMALL} B, {connections} connections",
                                 lambda server, n=connections: suite.load.bench(server, n, SMALL), ("rate", "cpu"),
                                 suite.rivals + [suite.batch])


def floor(suite):
    """The daemon's CPU time a message, by what the kernel itself takes."""
    for connections in suite.sizes.ping_pong:
        with suite.ours.running(suite.directory) as server:
            pairs = [(suite.load.bench(server, connections, SMALL)["cpu"], suite.load.floor(SMALL))
                     for _ in range(suite.rounds)]
        yield {"case": f"ping-pong {SMALL} B, {connections} connections", "rival": "floor", "cpu": compared(pairs)}


def bulk(suite):
    """A client of one thread is busier than any server here; with two, they and the server share the CPUs."""
    for threads in CLIENT_THREADS:
        yield from suite.compare(f"bulk, 4 connections of 64 KiB, {threads}",
                                 lambda server, n=CLIENT_THREADS[threads]: suite.load.bench(server, 4, BULK, "--threads", n),
                                 ("bytes", "cpu"))
    for rival, other in {"echo": lambda server: suite.load.bench(server, 4, BULK),
                         "itself": lambda server: upper(suite, server)}.items():
        with suite.ours.running(suite.directory) as server:
            pairs = suite.in_turns(lambda: upper(suite, server), lambda: other(server))
        yield {"case": "bulk, upper beside echo", "rival": rival, **compared_by(("bytes", "cpu"), pairs)}


def upper(suite, server):
    return suite.load.bench(server, 4, BULK, "--expect", "upper", port=server.upper_port)


def churn(suite):
    """And what the hand-over from the thread that accepts to one that serves costs, with nothing else around it."""
    for threads in CLIENT_THREADS:
        yield from suite.compare(f"connect, echo, close, 32 in flight, {threads}",
                                 lambda server, n=CLIENT_THREADS[threads]: suite.load.churn(server, clients=n), ("rate", "cpu"))
    apart, together = (hand_over(suite.load.tools, how) for how in ("apart", "together"))
    pairs = suite.alternate(suite.load.churn, together, apart)
    yield {"case": "connect, echo, close: a thread that only accepts", "rival": "beside none",
           **compared_by(("rate", "cpu"), pairs)}


def idle(suite):
    """Bytes an idle connection, as a slope; and whether idle ones slow the others."""
    for kind in [suite.ours] + suite.loops_and_go():
        suite.log(f"  {kind.name}")
        with or_failed("an idle connection", kind) as rows:
            points = []
            with kind.running(suite.directory) as server, loads.idle_connections(server.port) as open_until:
                for count in suite.sizes.idle:
                    open_until(count)
                    points.append((count, loads.private_dirty(server.pid), loads.kernel_memory()))
            rows.append({"case": "an idle connection", "rival": kind.name, "process bytes": slope(points, 1),
                         "kernel bytes, both ends": slope(points, 2)})
        yield from rows
    with suite.ours.running(suite.directory) as full, suite.again.running(suite.directory) as empty:
        with loads.idle_connections(full.port) as open_until:
            open_until(suite.sizes.crowd)
            pairs = suite.in_turns(lambda: suite.load.bench(full, 50, SMALL), lambda: suite.load.bench(empty, 50, SMALL))
    yield {"case": f"50 active beside {suite.sizes.crowd:,} idle ones", "rival": "without the idle",
           **compared_by(("rate",), pairs)}


def slope(points, column):
    return round(statistics.linear_regression([point[0] for point in points],
                                              [point[column] for point in points]).slope)


def lone(suite):
    """One client at a time: what a round trip takes, for one that sleeps and for one that spins."""
    measures = {"that sleeps": lambda server: {"p50": suite.load.bench(server, 1, SMALL)["latency"]["p50"]},
                "that spins": lambda server: suite.load.lone(server, SMALL)}
    for kind, measure in measures.items():
        yield from suite.compare(f"a lone client {kind}, busy_poll_usec = 0", measure, ("p50",), suite.main_peers())
        yield from suite.compare(f"a lone client {kind}, busy_poll_usec = 100", measure, ("p50",), suite.main_peers(),
                                 suite.polling, suite.polling_again)
    for rate in suite.sizes.pace:
        pairs = suite.alternate(lambda server, rate=rate: paced(suite, server, rate), suite.again, suite.polling)
        yield {"case": f"a lone client with {rate:,} messages a second, busy_poll_usec = 100", "rival": "busy_poll_usec = 0",
               **compared_by(("p50", "cpu"), pairs)}
    with suite.polling.running(suite.directory) as server:
        suite.load.bench(server, 1, SMALL)  # it has learnt that polling pays
        before = server.cpu_nsec()
        time.sleep(suite.load.seconds * suite.rounds)
        spent = server.cpu_nsec() - before
    yield {"case": "nobody talks, busy_poll_usec = 100", "rival": "tcpechod",
           "% of a CPU": spent / (suite.load.seconds * suite.rounds * 1e7)}


def paced(suite, server, rate):
    found = suite.load.bench(server, 1, SMALL, "--rate", rate)
    return {"p50": found["latency"]["p50"], "cpu": found["cpu"]}


def fairness(suite):
    """The p99 of 500 small clients, each of which waits for its answer, beside one at full speed and without it."""

    def alone(server):
        return suite.load.bench(server, suite.sizes.small, SMALL)["latency"]

    def beside(server):
        with suite.load.beside(server, 1, 1 << 20):
            return alone(server)

    case = f"{suite.sizes.small} small ones beside one at full speed"
    for rival in [suite.ours] + suite.main_peers():
        suite.log(f"  {rival.name}")
        with or_failed(case, rival) as rows:
            with rival.running(suite.directory) as server:
                pairs = suite.in_turns(lambda: beside(server), lambda: alone(server))
            rows.append({"case": case, "rival": rival.name, **compared_by(("p99",), pairs)})
        yield from rows
    with suite.ours.running(suite.directory) as server:
        pairs = suite.in_turns(lambda: alone(server), lambda: alone(server))
    yield {"case": case, "rival": "none beside none", **compared_by(("p99",), pairs)}


def latency(suite):
    """From intended sending times, at parts of what the best peer can do."""
    peers = suite.main_peers()
    saturation = []
    for peer in peers:
        with or_failed("saturation", peer) as rows:
            with peer.running(suite.directory) as server:
                saturation.append(statistics.median(suite.load.bench(server, 50, SMALL)["rate"] for _ in range(3)))
        yield from rows
    for part in LATENCY_LOADS:
        rate = int(max(saturation, default=50000) * part / 100)
        yield from suite.compare(f"latency at {part} % of the best peer's rate, {rate:,}/s",
                                 lambda server, rate=rate: scheduled(suite, server, rate), loads.PERCENTILES + ("kept",), peers)


def scheduled(suite, server, rate):
    """Who does not keep the rate shows it: what was not sent is in no percentile."""
    found = suite.load.bench(server, 50, SMALL, "--rate", rate)
    return {"kept": found["kept"], **{name: found["latency"][name] for name in loads.PERCENTILES}}


def syscalls(suite):
    """What noise cannot touch."""
    case = "system calls a message, 50 connections"
    for kind in [suite.ours] + suite.peers:
        with or_failed(case, kind) as rows:
            with kind.running(suite.directory) as server:
                calls = suite.load.syscalls(server, 50, SMALL, suite.sizes.traced)
            rows.append({"case": case, "rival": kind.name, "calls": sum(calls.values()), "by name": calls})
        yield from rows
    case = "system calls a connection that is made, answered and closed"
    for kind in [suite.ours] + [peer for peer in suite.peers if peer.kind == "loop"]:
        with or_failed(case, kind) as rows:
            with kind.running(suite.directory) as server:
                calls = suite.load.syscalls_of_churn(server)
            # An eventfd is written to wake a worker, and read by it.
            rows.append({"case": case, "rival": kind.name, "calls": sum(calls.values()),
                         "of the hand-over": calls.get("write", 0) + calls.get("read", 0) if kind is suite.ours else 0,
                         "by name": calls})
        yield from rows


def scale(suite):
    """Messages a second as connections and workers grow. Half of the CPUs are the clients'."""
    for connections in suite.sizes.curve:
        for kind in [suite.ours] + suite.loops_and_go():
            yield from one_of_curve(suite, kind, connections, "connections")
    for workers in range(1, 2 * loads.cpus() + 1):
        yield from one_of_curve(suite, daemon(suite.command, f"{workers} workers", workers), 100 * client_threads(),
                                "workers")


def client_threads():
    return max(1, loads.cpus() // 2)


def one_of_curve(suite, kind, connections, curve):
    case = "curve by " + curve
    with or_failed(case, kind) as rows:
        with kind.running(suite.directory) as server:
            threads = min(connections, client_threads())
            found = [suite.load.bench(server, connections, SMALL, "--threads", threads)
                     for _ in range(max(1, suite.rounds // 5))]
        rows.append({"case": case, "rival": kind.name, "connections": connections,
                     "rate": statistics.median(one["rate"] for one in found),
                     "cpu": statistics.median(one["cpu"] for one in found)})
    return rows


@contextlib.contextmanager
def or_failed(case, kind):
    """A list for the rows of a case; what a peer cannot do is one of them, what the daemon cannot ends the case."""
    rows = []
    try:
        yield rows
    except (Failed, OSError) as problem:
        if kind.kind == "ours" or getattr(problem, "server", kind.name) not in (kind.name, None):
            raise
        rows.append({"case": case, "rival": kind.name, "failed": str(problem)})


CASES = {function.__name__.replace("_", "-"): function
         for function in (ping_pong, floor, bulk, churn, idle, lone, fairness, latency, syscalls, scale)}
