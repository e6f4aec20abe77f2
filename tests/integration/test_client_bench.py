#!/usr/bin/env python3
"""tcpecho --bench: what it counts, what it finds, and how it ends, against servers of every kind."""

import os
import re
import signal
import subprocess
import threading
import time

import client
import daemons
import harness

MIB = 1 << 20
WATCHED_SIZE = harness.scale(100 * MIB, 8 * MIB)  # of the answer in which something goes wrong
MANY = harness.scale(2000, 200)

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "upper"; },
    { path = "DIR/echo.sock"; service = "echo"; }
"""


def bench(*arguments, **options):
    return client.run("--bench", *arguments, **options)


def quantile(rows, per_million):
    """The bucket that a list of all times would have at this rank."""
    rank = -(-sum(count for _, _, count in rows) * per_million // 1000000)
    for low, below, count in rows:
        rank -= count
        if rank <= 0:
            return low, below
    raise AssertionError("not that many")


class Load(harness.TestCase):
    """Against the daemon, which does everything right."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(LISTENERS, nofile=(1024, MANY + 1024))
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def check(self, messages, size, *arguments, **options):
        result = bench("--json", "-n", messages, "-s", size, *arguments, **options)
        self.assertEqual((result.status, result.stderr), (0, ""))
        figures = result.document
        self.assertTrue(figures["clean"])
        self.assertEqual((figures["messages"], figures["bytes"]), (messages, messages * size))
        self.assertEqual(figures["latency_count"], messages)
        self.assertEqual(sum(row[2] for row in figures["latency_histogram_ns"]), messages)
        return figures

    def test_sizes(self):
        for size in (1, 7, 8, 64, 1000, 65536, 100001, 3 * MIB):
            with self.subTest(size=size):
                self.check(20, size, "127.0.0.1", self.daemon.port)

    def test_capitals(self):
        figures = self.check(500, 1000, "--expect", "upper", "127.0.0.1", self.daemon.ports[1])
        self.assertEqual(figures["plan"]["expect"], "upper")

    def test_unix_socket(self):
        figures = self.check(500, 64, "-c", 50, self.daemon.path("echo.sock"))
        self.assertEqual((figures["server"], figures["connected"]), (self.daemon.path("echo.sock"), 50))

    def test_threads(self):
        for connections, threads in ((1, 1), (10, 3), (2, 8)):
            with self.subTest(connections=connections, threads=threads):
                figures = self.check(1000, 64, "-c", connections, "-t", threads, "127.0.0.1", self.daemon.port)
                self.assertEqual(figures["plan"]["threads"], min(connections, threads))
                self.assertEqual(figures["connected"], connections)

    def test_figures_agree(self):
        """The percentiles are those of the histogram, to the width of a bucket, which is under 1 %."""
        figures = self.check(5000, 64, "127.0.0.1", self.daemon.port)
        rows = figures["latency_histogram_ns"]
        for low, below, _ in rows:
            self.assertLessEqual(below - low, max(1, low / 100))
        for name, per_million in (("p50", 500000), ("p90", 900000), ("p99", 990000), ("p99_9", 999000)):
            low, below = quantile(rows, per_million)
            self.assertTrue(low <= figures[f"latency_{name}_ns"] < below, (name, low, below))
        times = [figures[f"latency_{name}_ns"] for name in ("min", "p50", "p90", "p99", "p99_9", "max")]
        self.assertEqual(sorted(times), times)
        self.assertAlmostEqual(figures["messages_per_second"] * figures["elapsed_s"], 5000, delta=1)
        self.assertAlmostEqual(figures["client_cpu_per_message_ns"] * 5000, figures["client_cpu_s"] * 1e9, delta=10000)

    def test_keys_are_documented(self):
        """Also those of --watch."""
        def keys(node):
            nodes = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
            return {*(node if isinstance(node, dict) else ())}.union(*map(keys, nodes))

        with open(os.path.join(harness.ROOT, "man", "tcpecho.1"), encoding="utf-8") as file:
            words = set(file.read().split())
        for arguments in (("--bench", "-n", 9, "--rate", 1000, "-d", 1),
                          ("--bench", "--send", "-n", 9, "-d", "100ms", "-W", "10ms"),
                          ("--watch", "-d", "50ms")):
            document = client.run(*arguments, "--json", "127.0.0.1", self.daemon.port).document
            # The page has those of one kind of times for all.
            found = {re.sub("^(connect|late)_(?=count|.*_ns)", "latency_", key) for key in keys(document)}
            self.assertGreater(len(found), 12)
            self.assertEqual(found - words, set())

    def test_duration(self):
        result = bench("-d", "0.2", "--json", "127.0.0.1", self.daemon.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        figures = result.document
        self.assertGreater(figures["messages"], 0)
        self.assertGreaterEqual(figures["elapsed_s"], 0.2)
        self.assertEqual(figures["plan"]["duration_s"], 0.2)

    def test_rate(self):
        """Every message of the schedule is sent, none twice, and none after the end."""
        for threads in (1, 2):
            with self.subTest(threads=threads):
                result = bench("-c", 7, "-t", threads, "--rate", 1000, "-d", "0.5", "--json", "127.0.0.1", self.daemon.port)
                self.assertEqual((result.status, result.stderr), (0, ""))
                figures = result.document
                self.assertEqual((figures["messages"], figures["late_count"]), (500, 500))

    def test_one_after_another(self):
        """What is due at equal distances also leaves so: a burst would come to the server in one piece."""
        pieces = []

        def serve(connection):
            for data in client.chunks(connection):
                pieces.append(len(data))
                connection.sendall(data)
                time.sleep(0.002)  # a fifth of the distance

        with client.Server(serve) as server:
            result = bench("-c", 1, "--rate", 100, "-d", 1, "--json", "127.0.0.1", server.port)
        self.assertEqual((result.status, sum(pieces)), (0, 100 * 64))
        self.assertGreater(len(pieces), 20)

    def test_client_that_is_stopped(self):
        """What it sends late for its own fault is late, and it says so."""
        answered = threading.Event()
        with client.Server(client.echo_and_tell(answered)) as server:
            with client.Client("--bench", "-c", 1, "--rate", 100, "-d", "1.5", "--json", "127.0.0.1", server.port) as load:
                self.assertTrue(answered.wait(harness.patience()))
                load.interrupt(signal.SIGSTOP)
                time.sleep(0.5)
                load.interrupt(signal.SIGCONT)
                figures = load.finish().document
        self.assertGreaterEqual(figures["late_max_ns"], 0.45e9)
        self.assertGreaterEqual(figures["latency_max_ns"], figures["late_max_ns"])
        self.assertTrue(figures["client_limited"])

    def test_more_than_is_possible(self):
        """What the client cannot send by the end is counted and not sent; the run ends, and says whose limit it was."""
        for arguments in (("-d", "0.2"), ("-n", 20000000), ("-d", "0.2", "-t", 2)):
            with self.subTest(arguments=arguments):
                result = bench("--rate", 100000000, "-c", 7, *arguments, "-W", "1h", "--json", "127.0.0.1", self.daemon.port)
                figures = result.document
                self.assertEqual((result.status, result.stderr), (0, ""))
                self.assertGreater(figures["not_sent"], 0)
                self.assertEqual(figures["messages"] + figures["not_sent"], 20000000)
                self.assertEqual(figures["late_count"], figures["messages"])
                self.assertTrue(figures["client_limited"])
                # The last message that was sent was one of those that were due in the first moments.
                self.assertGreaterEqual(figures["late_max_ns"], 1e8)

    def test_server_that_takes_nothing(self):
        """The schedule and --wait end, whether or not there is room for the messages."""
        release = threading.Event()
        with client.Server(lambda connection: release.wait(harness.patience())) as server:
            for arguments in (("-d", "0.3"), ("-n", 300)):
                result = bench("--rate", 1000, "-s", "1M", "-c", 1, *arguments, "-W", "0.2", "--json", "127.0.0.1", server.port)
                figures = result.document
                self.assertEqual((result.status, figures["messages"]), (client.WRONG, 0))
                self.assertEqual({figures[f"latency_{name}_ns"] for name in ("min", "mean", "p50", "p99_9", "max")}, {None})
                self.assertEqual(figures["unanswered"] + figures["not_sent"], 300)
            release.set()

    def test_many_connections(self):
        """Up to the hard limit of descriptors, whatever the soft one is."""
        wrapper = ("prlimit", f"--nofile=64:{MANY + 64}", "--")
        figures = self.check(2 * MANY, 64, "-c", MANY, "127.0.0.1", self.daemon.port, wrapper=wrapper)
        self.assertEqual((figures["connected"], figures["connect_count"]), (MANY, MANY))

    def test_every_connection_is_timed(self):
        for count in (1, 3):
            figures = self.check(9, 64, "-c", count, "-n", 9, "127.0.0.1", self.daemon.port)
            self.assertEqual((figures["connected"], figures["connect_count"]), (count, count))
            self.assertGreater(figures["connect_min_ns"], 0)

    def test_too_many_connections(self):
        result = bench("-c", 1000, "127.0.0.1", self.daemon.port, wrapper=("prlimit", "--nofile=64:100", "--"))
        self.assertEqual((result.status, result.stdout), (client.USAGE, b""))
        self.assertRegex(result.stderr, r"^tcpecho: --connections 1000: the limit of 100 descriptors \(ulimit -Hn\) "
                                        r"is room for \d\d\n$")

    def test_more_threads_than_connections(self):
        """Only those that start need descriptors."""
        figures = self.check(10, 64, "-c", 10, "-t", 1024, "127.0.0.1", self.daemon.port,
                             wrapper=("prlimit", "--nofile=1024:1024", "--"))
        self.assertEqual(figures["plan"]["threads"], 10)

    def test_report(self):
        result = bench("-n", 2000, "127.0.0.1", self.daemon.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        text = result.stdout.decode()
        self.assertRegex(text, rf"^127\.0\.0\.1:{self.daemon.port}: \d+\.\d\d s\n"
                               r"plan         10 connections, messages of 64 bytes\n"
                               r"messages     2000 answered, \d+/s\n"
                               r"bytes        128000 came back right, [\d.]+ [KMG]?i?B?(bytes)?/s\n"
                               r"latency +min +mean +p50 +p90 +p99 +p99\.9 +max\n"
                               r"( +[\d.]+ [num]?s){7}\n"
                               r"connections  10\n             connect time p50 .*\n"
                               r"client CPU   .* a message; busiest of 1 thread: busy \d+ % of the time\n")
        self.assertRegex(text, r"\n +[\d.]+ [num]?s - +[\d.]+ [num]?s +[<>]?[\d.]+ % \|#+\n")
        self.assertNotIn("\x1b", text)
        for line in result.lines:
            self.assertLessEqual(len(line), 80)

    def test_who_is_the_slower_one(self):
        """With a rate that nobody reaches the client never waits; with a server that sleeps it does nothing else."""
        def slow(connection):
            for data in client.chunks(connection):
                time.sleep(0.02)
                connection.sendall(data)

        def busy_client():
            figures = bench("-d", "0.3", "--rate", 100000000, "127.0.0.1", self.daemon.port, "--json").document
            return figures if figures["client_busiest_thread_percent"] >= 90 else None

        # Others may take the CPU from it for a while.
        busy = harness.wait_until(busy_client, "a run in which the client had a CPU for itself")
        with client.Server(slow) as server:
            idle = bench("-d", "0.3", "-c", 1, "127.0.0.1", server.port, "--json").document
        self.assertTrue(busy["client_limited"])
        self.assertLess(idle["client_busiest_thread_percent"], 50)
        self.assertFalse(idle["client_limited"])
        self.assertGreater(busy["client_cpu_s"], idle["client_cpu_s"])
        self.assertGreater(idle["client_cpu_per_message_ns"], 0)


class Terminal(harness.TestCase):
    """What only a person sees."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon()
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def test_progress(self):
        with client.Terminal("--bench", "-d", "30", "127.0.0.1", self.daemon.port, size=(24, 60)) as terminal:
            terminal.expect(r"\d+\.\d s  \d+ messages/s")
            terminal.type(terminal.INTERRUPT)
            terminal.expect(r"\d+\.\d\d s, interrupted\nplan         10 connections, messages of 64 bytes\n")
            self.assertEqual(terminal.wait(), 0)
            for line in re.findall(r"^.*\|#+$", terminal.screen, re.MULTILINE):
                self.assertLessEqual(len(line), 60)

    def test_progress_while_it_ends(self):
        """No word of it is cut off."""
        with client.Server(client.discard) as server, \
                client.Terminal("--bench", "-c", 100, "-d", "0.3", "-W", "1", "127.0.0.1", server.port) as terminal:
            terminal.expect("waiting for the last answers on 100 connections\\b")
            self.assertEqual(terminal.wait(), client.WRONG)

    def test_no_colour(self):
        for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            with client.Terminal("--bench", "-d", "0.3", "127.0.0.1", self.daemon.port, variables=variables) as terminal:
                self.assertEqual(terminal.wait(), 0)
                self.assertIn("messages     ", terminal.screen)
                self.assertNotIn("\x1b", terminal.screen)
                self.assertNotIn("\r", terminal.screen)

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            answered = threading.Event()
            with client.Server(client.echo_and_tell(answered)) as server:
                with client.Client("--bench", "-c", 2, "-d", "1h", "--json", "127.0.0.1", server.port) as load:
                    self.assertTrue(answered.wait(harness.patience()))
                    load.interrupt(number)
                    result = load.finish()
            self.assertEqual((result.status, result.stderr), (0, ""))
            self.assertTrue(result.document["interrupted"])

    def test_interrupted_twice(self):
        """Who does not want to wait for the last answers ends it at once."""
        answered = threading.Event()

        def never(connection):
            connection.recv(1)
            answered.set()
            client.discard(connection)

        with client.Server(never) as server:
            with client.Client("--bench", "-c", 1, "-d", "1h", "-W", "1h", "127.0.0.1", server.port) as load:
                self.assertTrue(answered.wait(harness.patience()))
                load.interrupt()
                with self.assertRaises(subprocess.TimeoutExpired):
                    load.process.wait(0.3)
                load.interrupt()
                self.assertEqual(load.finish().status, -signal.SIGINT)

def first_difference(before, after):
    return next(i for i, (a, b) in enumerate(zip(before, after)) if a != b)


class Mistakes(harness.TestCase):
    """A server that drops, repeats, reorders or changes bytes is caught, with the place."""

    CHANGES = {
        "changed": lambda data: data[:20] + bytes([data[20] ^ 0x80]) + data[21:],
        "missing": lambda data: data[:20] + data[21:],
        "repeated": lambda data: data[:28] + data[20:],
        "reordered": lambda data: data[:16] + data[24:32] + data[16:24] + data[32:],
        "inserted": lambda data: data[:20] + b"\n\n\n\n\n\n\n\n\n\n" + data[20:],
    }

    def tamper(self, name, *arguments, size=WATCHED_SIZE, service=None):
        """Something in the middle of the answer goes wrong. Returns the result and the first wrong offset."""
        offset, places = size // 2 + 12345, []

        def change(data):
            data = service(data) if service else data
            changed = self.CHANGES[name](data)
            places.append(offset + first_difference(data, changed))
            return changed

        serve = client.Tamper(offset, 64, change)
        if service:
            serve = self._capitals(serve)
        with client.Server(serve) as server:
            result = bench("-c", 1, "-s", MIB // 2, "-n", size // (MIB // 2), *arguments, "127.0.0.1", server.port)
        return result, places[0]

    @staticmethod
    def _capitals(serve):
        class Capitals:
            """A connection whose other end hears everything in capitals."""

            def __init__(self, connection):
                self.recv = connection.recv
                self.connection = connection

            def sendall(self, data):
                self.connection.sendall(data.upper())

        return lambda connection: serve(Capitals(connection))

    def test_each_kind(self):
        for name in self.CHANGES:
            with self.subTest(name):
                result, place = self.tamper(name, "--json")
                self.assertEqual(result.status, client.WRONG)
                figures = result.document
                self.assertFalse(figures["clean"])
                self.assertEqual(figures["wrong"], 1)
                fault = figures["faults"][0]
                self.assertEqual((fault["kind"], fault["offset_bytes"], fault["connection"]), (name, place, 0))
                self.assertIn(f"tcpecho: connection 0, byte {place}: ", result.stderr)

    def test_capitals(self):
        result, place = self.tamper("changed", "--expect", "upper", size=8 * MIB, service=bytes.upper)
        self.assertEqual(result.status, client.WRONG)
        self.assertIn(f"connection 0, byte {place}: 1 byte changed (0x", result.stderr)
        self.assertIn(", 1 with wrong bytes", result.stdout.decode())

    def test_the_other_service(self):
        with daemons.Daemon(LISTENERS) as daemon:
            for port, expect in ((daemon.ports[0], "upper"), (daemon.ports[1], "echo")):
                result = bench("-c", 3, "-n", 3, "-s", 1000, "--expect", expect, "127.0.0.1", port)
                self.assertEqual(result.status, client.WRONG)
                self.assertEqual(len(re.findall("right for the other --expect", result.stderr)), 3)

    def test_surplus(self):
        def more(connection):
            client.echo(connection)
            connection.sendall(b"and one more thing")

        with client.Server(more) as server:
            result = bench("-c", 1, "-n", 10, "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertIn("connection 0, byte 640: 18 bytes came after the whole answer\n", result.stderr)

    def test_server_that_leaves_later(self):
        """The load lasted until the end of the last connection, though nothing was answered any more."""
        def serve(connection):
            connection.sendall(harness.receive_exactly(connection, 64))
            harness.receive_exactly(connection, 64)
            time.sleep(0.2)

        with client.Server(serve) as server:
            result = bench("-c", 2, "--json", "127.0.0.1", server.port)
        figures = result.document
        self.assertEqual((result.status, figures["messages"], figures["broken"]), (client.WRONG, 2, 2))
        self.assertGreaterEqual(figures["elapsed_s"], 0.2)
        self.assertLess(figures["messages_per_second"], 11)

    def test_server_that_talks_first(self):
        with daemons.Daemon('{ address = "127.0.0.1"; port = PORT; greeting = "hello\\n"; }') as daemon:
            result = bench("-c", 1, "127.0.0.1", daemon.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stderr, r"connection 0, byte [01]: 6 bytes (came before anything was sent|nobody sent)")

    def test_only_the_first_are_told(self):
        """A server that does everything wrong does not fill a screen."""
        with client.Server(lambda connection: connection.sendall(connection.recv(64)[::-1])) as server:
            result = bench("-c", 40, "-n", 40, "--json", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        figures = result.document
        self.assertEqual((figures["wrong"], len(figures["faults"])), (40, 8))
        self.assertEqual(len(re.findall(r"tcpecho: connection \d+, byte ", result.stderr)), 8)


class Endings(harness.TestCase):
    """Connections that are refused, broken, or never answered."""

    def test_closed_early(self):
        def serve(connection):
            connection.sendall(connection.recv(64))
            connection.sendall(connection.recv(64)[:10])

        with client.Server(serve) as server:
            result = bench("-c", 3, "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertIn("tcpecho: 3 connections broke (the first: closed by the server)\n", result.stderr)
        self.assertIn("byte 74: the last 54 bytes did not come\n", result.stderr)
        self.assertIn("tcpecho: 3 messages had no answer", result.stderr)
        self.assertIn("messages     3 answered, ", result.stdout.decode())

    def test_reset(self):
        def serve(connection):
            connection.recv(64)
            client.reset(connection)

        with client.Server(serve) as server:
            result = bench("-c", 2, "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertIn("tcpecho: 2 connections broke (the first: Connection reset by peer)\n", result.stderr)

    def test_never_answered(self):
        with client.Server(client.discard) as server:
            result = bench("-c", 2, "-d", "0.1", "-W", "0.1", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stderr, r"^tcpecho: 2 messages had no answer: .*, or 100 ms had passed since the end \(--wait\)\n$")

    def test_never_closed(self):
        """No mistake of the server's, but told."""
        release = threading.Event()

        def serve(connection):
            client.echo(connection)
            release.wait(harness.patience())

        with client.Server(serve) as server:
            result = bench("-c", 2, "-n", 10, "127.0.0.1", server.port)
            release.set()
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertIn("2 not closed by the server", result.stdout.decode())

    def test_some_are_refused(self):
        with daemons.Daemon() as daemon:
            result = bench("-c", 9, "-n", 9, "127.0.0.1", daemon.port, faults="connect:ECONNREFUSED:/3")
        self.assertEqual(result.status, client.WRONG)
        self.assertIn("tcpecho: 3 of 9 connections could not be made (the first: Connection refused)\n", result.stderr)

    def test_nobody_there(self):
        result = bench("127.0.0.1", int(harness.free_port()))
        self.assertEqual((result.status, result.stdout), (client.REFUSED, b""))
        self.assertRegex(result.stderr, r"^tcpecho: cannot connect to 127\.0\.0\.1 port \d+ .*Connection refused.*\n$")
        self.assertEqual(bench("/nonexistent/socket").status, client.UNKNOWN)

    def test_daemon_that_stops_under_load(self):
        """It answers what it has read, and nothing of it is wrong."""
        with daemons.Daemon(arguments=("--log-level", "debug")) as daemon:
            with client.Client("--bench", "-c", 20, "-d", "1h", "--json", "127.0.0.1", daemon.port) as load:
                harness.wait_until(lambda: "connection 20 " in daemon.log(), daemon.log)
                daemon.process.terminate()
                result = load.finish()
            self.assertEqual(daemon.process.wait(harness.patience()), 0)
        figures = result.document
        self.assertEqual((result.status, figures["broken"], figures["wrong"]), (client.WRONG, 20, 0))

    def test_no_resources(self):
        with daemons.Daemon() as daemon:
            for faults in ("epoll_create1:EMFILE", "eventfd:EMFILE", "timerfd_create:EMFILE", "pthread_create:EAGAIN",
                           "sigaction:EINVAL", "calloc:ENOMEM", "malloc:ENOMEM", "epoll_wait:EBADF",
                           "epoll_ctl_add@main:ENOSPC:2", "epoll_ctl_add@main:ENOSPC:3"):
                with self.subTest(faults):
                    result = bench("-n", 10, "127.0.0.1", daemon.port, faults=faults)
                    self.assertEqual((result.status, result.stdout), (client.SYSTEM_ERROR, b""))
                    self.assertRegex(result.stderr, r"^tcpecho: [Cc]annot .*\n$")


class Broken(harness.TestCase):
    """On a schedule, messages go on to be due when the connections are gone that they were for."""

    def check(self, serve, *arguments):
        with client.Server(serve) as server:
            result = bench("--rate", 1000, "-d", "0.5", *arguments, "--json", "127.0.0.1", server.port)
        figures = result.document
        self.assertEqual(result.status, client.WRONG)
        self.assertFalse(figures["clean"])
        self.assertEqual(figures["messages"] + figures["unanswered"] + figures["not_sent"], 500)
        self.assertIn(f"tcpecho: {figures['unanswered']} messages had no answer", result.stderr)
        return figures

    def test_all(self):
        figures = self.check(lambda connection: connection.sendall(connection.recv(64)), "-c", 4, "-t", 2)
        self.assertEqual(figures["broken"], 4)
        self.assertLessEqual(figures["messages"], 4)
        self.assertGreaterEqual(figures["unanswered"], 400)
        self.assertLess(figures["late_count"], figures["unanswered"], "only what was sent")

    def test_one_of_two(self):
        first = threading.Event()

        def serve(connection):
            if first.is_set():
                client.echo(connection)
            first.set()

        figures = self.check(serve, "-c", 2)
        self.assertEqual((figures["broken"], figures["connected"]), (1, 2))
        self.assertEqual(figures["messages"] + figures["not_sent"], 250)
        self.assertEqual(figures["unanswered"], 250)

    def test_never_connected(self):
        with daemons.Daemon() as daemon:
            result = bench("--rate", 1000, "-d", "0.5", "-c", 5, "--json", "127.0.0.1", daemon.port,
                           faults="connect:ECONNREFUSED:2")
        figures = result.document
        self.assertEqual((figures["not_connected"], figures["unanswered"]), (1, 100))


class Stall(harness.TestCase):
    """Coordinated omission: a server that stands still for half a second, and what the percentiles say of it."""

    def stall(self, *arguments):
        def serve(connection):
            seen = 0
            for data in client.chunks(connection):
                if seen < 200 * 64 <= seen + len(data):
                    time.sleep(0.5)
                seen += len(data)
                connection.sendall(data)

        with client.Server(serve) as server:
            result = bench("-c", 1, *arguments, "--json", "127.0.0.1", server.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        return result.document

    def test_on_a_schedule(self):
        """All that was due in that time was late, and p99.9 shows it: on a slow machine all the more."""
        latency = self.stall("--rate", 1000, "-d", 1)
        self.assertEqual(latency["latency_count"], 1000)
        self.assertGreaterEqual(latency["latency_p99_9_ns"], 4.5e8)
        self.assertGreaterEqual(latency["latency_p90_ns"], 2.5e8)

    def test_one_after_another(self):
        """Without a schedule only the message that was under way is late: hence --rate."""
        latency = self.stall("-n", 3000)
        self.assertGreaterEqual(latency["latency_max_ns"], 5e8)
        self.assertLess(latency["latency_p99_9_ns"], latency["latency_max_ns"])


class Reconnect(harness.TestCase):
    """--reconnect: a connection for each message."""

    def test_each_message_has_its_own(self):
        seen = []

        def serve(connection):
            data = harness.receive_exactly(connection, 100)
            seen.append(data)
            connection.sendall(data)
            connection.recv(1)

        with client.Server(serve) as server:
            result = bench("--reconnect", "-c", 3, "-n", 40, "-s", 100, "--json", "127.0.0.1", server.port)
        figures = result.document
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertEqual((figures["messages"], figures["connected"], figures["connect_count"]), (40, 40, 40))
        self.assertEqual((figures["bytes"], figures["clean"], figures["plan"]["reconnect"]), (4000, True, True))
        self.assertEqual(len(seen), 40)

    def test_no_more_connections_than_messages(self):
        with client.Server(client.echo) as server:
            for connections, threads in ((10, 1), (10, 8), (1000000, 1)):
                figures = bench("--reconnect", "-c", connections, "-t", threads, "-n", 5, "--json", "127.0.0.1",
                                server.port).document
                self.assertEqual((figures["messages"], figures["connected"], figures["plan"]["connections"]), (5, 5, 5))

    def test_against_the_daemon(self):
        """For a while, with threads, and the time to connect apart from that of the answer."""
        with daemons.Daemon(LISTENERS) as daemon:
            result = bench("--reconnect", "-c", 20, "-t", 2, "-d", "0.5", "127.0.0.1", daemon.port)
            self.assertEqual((result.status, result.stderr), (0, ""))
            self.assertRegex(result.stdout.decode(), r"(?s)plan         20 connections, messages of 64 bytes\n"
                                                     r" +each on a new connection\n.*"
                                                     r"latency  .*\nto connect  ")
            figures = bench("--reconnect", "-n", 200, "--json", daemon.path("echo.sock")).document
            self.assertEqual((figures["messages"], figures["connected"]), (200, 200))

    def test_what_fails_is_counted_and_the_rest_goes_on(self):
        """Every other connection is closed without an answer."""
        number = iter(range(1000))

        def serve(connection):
            if next(number) % 2 == 0:
                client.echo(connection)
            else:
                connection.recv(64)

        with client.Server(serve) as server:
            result = bench("--reconnect", "-c", 1, "-n", 20, "--json", "127.0.0.1", server.port)
        figures = result.document
        self.assertEqual(result.status, client.WRONG)
        self.assertEqual((figures["messages"], figures["broken"], figures["unanswered"]), (10, 10, 10))

    def test_wrong_from_the_beginning(self):
        """What comes before anything was sent is wrong, also on the connections that are made before the load."""
        def serve(connection):
            connection.sendall(b"hello\n")
            client.echo(connection)

        with client.Server(serve) as server:
            for _ in range(5):
                result = bench("--reconnect", "-c", 3, "-n", 9, "--json", "127.0.0.1", server.port)
                self.assertEqual((result.status, result.document["messages"]), (client.WRONG, 0))

    def test_refused_for_a_while(self):
        with daemons.Daemon() as daemon:
            result = bench("--reconnect", "-c", 2, "-n", 30, "--json", "127.0.0.1", daemon.port,
                           faults="connect:ECONNREFUSED:5-8")
        figures = result.document
        self.assertEqual((figures["not_connected"], figures["messages"]), (4, 26))
        self.assertRegex(result.stderr, r"\Atcpecho: 4 of 30 connections could not be made \(the first: Connection refused\)\n")

    def test_interrupted(self):
        for serve in (client.echo, client.discard):
            with self.subTest(serve=serve), client.Server(serve) as server, \
                    client.Client("--bench", "--reconnect", "-c", 4, "-d", "1h", "-W", "100ms", "127.0.0.1",
                                  server.port) as load:
                harness.wait_until(lambda: len(server.threads) > 3, "connections")
                load.interrupt()
                self.assertIn(load.finish().status, (0, client.WRONG))

    def test_no_schedule(self):
        client.assert_one_line(self, bench("--reconnect", "--rate", 5, "a"), client.USAGE,
                               "--reconnect and --rate cannot be used together; .*")


class OneWay(harness.TestCase):
    """--send and --receive."""

    SERVICES = """
        { address = "127.0.0.1"; port = PORT; service = "discard"; },
        { address = "127.0.0.1"; port = PORT1; service = "chargen"; },
        { address = "127.0.0.1"; port = PORT2; service = "echo"; }
    """

    def test_send(self):
        received = []

        def serve(connection):
            received.append(sum(map(len, client.chunks(connection))))

        with client.Server(serve) as server:
            result = bench("--send", "-c", 3, "-t", 2, "-s", "100k", "-n", 30, "--json", "127.0.0.1", server.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        figures = result.document
        self.assertEqual((figures["bytes"], figures["connected"], figures["clean"]), (30 * 102400, 3, True))
        self.assertEqual(sorted(received), [10 * 102400] * 3)

    def test_each_second(self):
        with daemons.Daemon(self.SERVICES) as daemon:
            for option, port, verb in (("--send", daemon.port, "sent"), ("--receive", daemon.ports[1], "came right")):
                result = bench(option, "-c", 2, "-d", "2.2", "127.0.0.1", port)
                self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
                lines = result.lines
                for number, line in enumerate(lines[:2], 1):
                    self.assertRegex(line, rf"\A +{number}\.\d s +\d+\.\d MiB/s\Z")
                self.assertRegex(lines[2], r"\A127\.0\.0\.1:\d+: \d\.\d\d s\Z")
                self.assertRegex(lines[3], rf"\Abytes +\d+ {verb}, [\d.]+ [MG]iB; \d+\.\d MiB/s\Z")

    def test_receive_so_much(self):
        with daemons.Daemon(self.SERVICES) as daemon:
            figures = bench("--receive", "-c", 1, "-n", 4, "-s", "1M", "--json", "127.0.0.1", daemon.ports[1]).document
        self.assertGreaterEqual(figures["bytes"], 4 * MIB)
        self.assertEqual((figures["plan"]["direction"], figures["wrong"]), ("receive", 0))

    def test_pattern_is_checked(self):
        """With a byte that is wrong in the middle."""
        text = bytes(range(32, 127)) * 2
        lines = b"".join(text[i:i + 72] + b"\r\n" for i in range(95)) * 40

        def serve(connection):
            connection.sendall(lines[:200000] + b"?" + lines[200001:])
            connection.recv(1)

        with client.Server(serve) as server:
            result = bench("--receive", "-c", 1, "-d", "5", "--json", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        figures = result.document
        self.assertEqual((figures["bytes"], figures["wrong"]), (200000, 1))
        self.assertEqual((figures["faults"][0]["kind"], figures["faults"][0]["offset_bytes"]), ("changed", 200000))
        self.assertRegex(result.stderr, r"connection 0, byte 200000: 1 byte changed \(0x3f, not 0x\w\w\)")

    def test_broken(self):
        def serve(connection):
            connection.recv(1000)
            client.reset(connection)

        with client.Server(serve) as server:
            result = bench("--send", "-c", 2, "-d", "5", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stderr, r"\Atcpecho: 2 connections broke \(the first: .*\)\n\Z")

    def check_silent_server(self, pattern, *arguments):
        """It neither reads nor sends. Returns the report."""
        release = threading.Event()
        with client.Server(lambda connection: release.wait(harness.patience())) as server:
            result = bench(*arguments, "127.0.0.1", server.port)
            release.set()
        client.assert_one_line(self, result, client.WRONG, pattern)
        return result

    def test_server_that_stops_reading(self):
        """It ends after --wait and says why, also when all was sent before the end."""
        for end in (("-d", "0.3"), ("-n", 1)):
            result = self.check_silent_server(r"2 connections were not closed by the server 300 ms after the end \(--wait\): .*",
                                              "--send", "-c", 2, "-W", "0.3", *end)
            self.assertIn("\n             2 not closed by the server\n", result.stdout.decode())

    def test_server_that_sends_nothing(self):
        result = self.check_silent_server("not one byte came; --receive is for .*", "--receive", "-d", "0.3")
        self.assertIn("bytes        0 came right, 0 bytes; ", result.stdout.decode())

    def test_plan(self):
        with daemons.Daemon(self.SERVICES) as daemon:
            for option, port in (("--send", daemon.port), ("--receive", daemon.ports[1])):
                for end, plan in ((("-d", "0.1"), {"duration_s": 0.1}), (("-n", 9), {"messages": 9})):
                    figures = bench(option, *end, "--json", "127.0.0.1", port).document
                    self.assertIsInstance(figures["client_limited"], bool)
                    self.assertEqual(figures["plan"], {"direction": option[2:], "connections": 10, "threads": 1,
                                                       "message_bytes": 262144, **plan})

    def test_interrupted(self):
        with daemons.Daemon(self.SERVICES) as daemon:
            for option, port in (("--send", daemon.port), ("--receive", daemon.ports[1])):
                with client.Client("--bench", option, "-d", "1h", "127.0.0.1", port) as load:
                    self.assertTrue(load.process.stdout.readline())
                    load.interrupt()
                    result = load.finish()
                    self.assertEqual((result.status, result.stderr), (0, ""))
                    self.assertIn(", interrupted\n", result.stdout.decode())

    def test_interrupted_twice(self):
        """A server that does not read is not waited for any longer."""
        release = threading.Event()
        with client.Server(lambda connection: release.wait(harness.patience())) as server:
            with client.Client("--bench", "--send", "-d", "1h", "-W", "1h", "127.0.0.1", server.port) as load:
                self.assertTrue(load.process.stdout.readline())
                load.interrupt()
                harness.wait_until(lambda: not client.awaits_signals(load.process), "the first signal")
                load.interrupt()
                self.assertEqual(load.finish().status, -signal.SIGINT)
            with client.Terminal("--bench", "--send", "-d", "1h", "-W", "1h", "127.0.0.1", server.port) as terminal:
                terminal.expect(r"\d MiB/s\n")
                terminal.type(terminal.INTERRUPT)
                terminal.expect("waiting for the server to read the rest; Ctrl-C again ends at once")
                terminal.type(terminal.INTERRUPT)
                self.assertEqual(terminal.wait(), -signal.SIGINT)
            release.set()

    def test_figures_so_far(self):
        """SIGQUIT ends nothing."""
        with daemons.Daemon(self.SERVICES) as daemon:
            for option, port, figures in (("--send", daemon.port, r"[\d.]+ [KMG]iB sent"),
                                          ("--receive", daemon.ports[1], r"[\d.]+ [KMG]iB came right"),
                                          ("--expect=echo", daemon.ports[2], r"[1-9]\d* messages?, \d+/s")):
                with client.Client("--bench", option, "-d", "1h", "127.0.0.1", port) as load:
                    harness.wait_until(lambda: client.awaits_signals(load.process), "a client that awaits signals")
                    pattern = rf"(?m)^tcpecho: \d+\.\d s, {figures}, \d+\.\d MiB/s, 10 of 10 connections$"

                    def told():
                        load.interrupt(signal.SIGQUIT)
                        return re.search(pattern, load.stderr())

                    harness.wait_until(told, lambda: f"{pattern}: {load.stderr()}")
                    load.interrupt()
                    self.assertEqual(load.finish().status, 0)

    def test_beside_iperf_and_socat(self):
        """In the same run; what is told is the ratio to the faster of them."""
        iperf, socat = harness.needs("iperf"), harness.needs("socat")
        harness.needs_unsanitized("speed")
        with daemons.Daemon(self.SERVICES) as daemon:
            mine, others = [], []
            for _ in range(3):
                mine.append(bench("--send", "-c", 1, "-d", 1, "--json", "127.0.0.1", daemon.port).document["bytes_per_second"])
                text = subprocess.run([iperf, "-c", "127.0.0.1", "-p", str(daemon.port), "-t", "1", "-f", "M"], check=True,
                                      capture_output=True, text=True).stdout
                theirs = float(re.findall(r"([\d.]+) MBytes/sec", text)[-1]) * MIB
                script = f"timeout 1 {socat} -u -b 262144 -d -d /dev/zero TCP:127.0.0.1:{int(daemon.port)} 2>&1 >/dev/null"
                before = len(re.findall(r"\d+ bytes in", daemon.log()))
                subprocess.run(["sh", "-c", script], check=False, capture_output=True)
                taken = harness.wait_until(lambda: re.findall(r"(\d+) bytes in", daemon.log())[before:], "the end of socat")
                others.append(max(theirs, int(taken[-1])))
        print(f"# tcpecho {max(mine) / MIB:.0f} MiB/s, the faster of iperf and socat {max(others) / MIB:.0f} MiB/s", flush=True)
        self.assertGreater(min(mine + others), 0)

    def test_usage(self):
        for arguments, pattern in ((("--send", "--receive"), "--send and --receive cannot be used together"),
                                   (("--send", "--rate", "5"), "--send and --receive go one way: .*"),
                                   (("--receive", "--expect", "echo"), "--send and --receive go one way: .*")):
            client.assert_one_line(self, bench(*arguments, "a"), client.USAGE, pattern + "; .*")


if __name__ == "__main__":
    harness.main(jobs=4)
