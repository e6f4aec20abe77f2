#!/usr/bin/env python3
"""tcpecho --watch: what it makes of servers that are stopped, restarted, reset connections, or change bytes.

A time is only ever asserted from below, and of an outage that the test itself has made: a slow machine makes it longer.
"""

import re
import signal
import threading
import time

import client
import daemons
import harness

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "upper"; },
    { path = "DIR/echo.sock"; service = "echo"; }
"""

# With these a slow machine alone is no outage.
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
PATIENT = ("--gap", "1h", "-W", "1h", "--connect-timeout", "1h")
FAILURES = ("broken", "refused", "timed_out", "wrong")


def watch(*arguments, **options):
    return client.run("--watch", *arguments, **options)


class Healthy(harness.TestCase):
    """A server that does everything right."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(LISTENERS)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def check(self, *arguments):
        result = watch(*PATIENT, "-d", "0.3", "--json", *arguments)
        self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
        document = result.document
        self.assertTrue(document["clean"])
        for name in FAILURES:
            self.assertEqual(document[name], 0)
        for side in ("steady_client", "new_connections"):
            self.assertGreater(document[side]["begun"], 0)
            self.assertEqual(document[side]["answered"], document[side]["begun"])
        return document

    def test_echo(self):
        document = self.check("127.0.0.1", self.daemon.port)
        self.assertEqual(document["server"], f"127.0.0.1:{self.daemon.port}")
        self.assertGreaterEqual(document["elapsed_s"], 0.3)

    def test_capitals(self):
        self.check("--expect", "upper", "127.0.0.1", self.daemon.ports[1])

    def test_unix_socket(self):
        self.check(self.daemon.path("echo.sock"))

    def test_sizes_and_intervals(self):
        for size, interval in ((1, "1ms"), (8, "100ms"), ("1M", "50ms")):
            with self.subTest(size=size, interval=interval):
                self.check("-s", size, "-i", interval, "127.0.0.1", self.daemon.port)

    def test_report(self):
        result = watch(*PATIENT, "-d", "0.2", "127.0.0.1", self.daemon.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertRegex(result.stdout.decode(),
                         rf"^127\.0\.0\.1:{self.daemon.port}: watched for [\d.]+ s\n"
                         r"a message and a new connection every 20 ms\n"
                         rf"longest gap +[\d.]+ [num]?s \(.*\)\n +at {TIME}, [\d.]+ s into the watch\n"
                         rf"slowest single client +[\d.]+ [num]?s \(.*\)\n +at {TIME}, [\d.]+ s into the watch\n"
                         r"gaps over .* 0\n"
                         r"connections broken +0\n"
                         r"connections refused +0\n"
                         r"connections timed out +0\n"
                         r"connections with wrong bytes +0\n"
                         r"bytes wrong +0\n"
                         r"tcpecho itself late by +[\d.]+ [num]?s at most\n"
                         r"(.*\n)*"
                         r"\nno outage\n$")

    def test_chart(self):
        """A cell for each second: served, an outage, and served again."""
        stands = threading.Event()

        def serve(connection):
            for data in client.chunks(connection):
                if stands.is_set():
                    connection.close()
                    return
                connection.sendall(data)

        with client.Server(serve) as server, \
                client.Terminal("--watch", *PATIENT, "127.0.0.1", server.port, size=(24, 120)) as terminal:
            terminal.expect(r"\s+1\.\d s  longest gap .*  broken 0  refused 0  wrong 0  [.-]+")
            stands.set()
            terminal.expect(r"refused 0  wrong 0  [.-]+x")
            terminal.type(terminal.INTERRUPT)
            self.assertEqual(terminal.wait(), client.WRONG)
            self.assertRegex(terminal.screen, r"\nthe whole of the watch, a cell a second: \. served, - slow, # gap, x failure\n"
                                              r"\|[.-]+x+\|\n")

    def test_chart_of_an_outage(self):
        """It has room on a terminal of 80 columns, too, while somebody waits."""
        stands = threading.Event()

        def serve(connection):
            for data in client.chunks(connection):
                if stands.is_set():
                    stands.wait(harness.patience())
                    over.wait(harness.patience())
                    return
                connection.sendall(data)

        over = threading.Event()
        with client.Server(serve) as server, client.Terminal("--watch", "127.0.0.1", server.port) as terminal:
            terminal.expect(r"\s+1\.\d s  longest gap ")
            stands.set()
            terminal.expect(r"  waiting for [\d.]+ s  longest gap [\d.]+ s  failed \d+  [.x-]+#")
            terminal.type(terminal.INTERRUPT)
            over.set()
            self.assertEqual(terminal.wait(), client.WRONG)
            for line in terminal.screen.splitlines():
                self.assertLessEqual(len(re.sub(r".*\r|\x1b\[[\d;]*[mK]", "", line)), 80, line)

    def test_answered_but_not_closed(self):
        """It is told what was missing."""
        def serve(connection):
            client.echo(connection)
            over.wait(harness.patience())

        over = threading.Event()
        with client.Server(serve) as server:
            result = watch("-d", "0.3", "--gap", "50ms", "-W", "100ms", "127.0.0.1", server.port)
            over.set()
        self.assertRegex(result.stdout.decode(), r"  new connections: timed out \(answered, not closed\)\n")
        self.assertRegex(result.stdout.decode(), r"  new connections: none served since ")
        self.assertNotIn("new connections: no answer", result.stdout.decode())

    def test_slowest_client_that_nobody_answers(self):
        """It has waited until the end."""
        with client.Server(client.discard) as server:
            result = watch("-d", "0.5", *PATIENT, "--json", "127.0.0.1", server.port)
        document = result.document
        for side in ("steady_client", "new_connections"):
            self.assertGreaterEqual(document[side]["slowest_client_s"], 0.5)
            self.assertLessEqual(document[side]["slowest_client_s"], document["elapsed_s"] + 1e-6)

    def test_slowest_client_where_all_fail_at_once(self):
        """None of them has waited for as long as they were refused together. Of several outages the best counts: a busy
        machine makes them wait."""
        def serve(connection):
            for data in client.chunks(connection):
                if over.is_set():
                    return
                connection.sendall(data)

        shares = []
        for _ in range(5):
            over = threading.Event()
            with client.Server(serve) as server, Watched(*PATIENT, "127.0.0.1", server.port) as watched:
                harness.wait_until(lambda server=server: len(server.threads) > 5, "new connections")
                over.set()
                server.stop()
                time.sleep(1)
                _, document = watched.end()
            sides = [document[name] for name in ("steady_client", "new_connections")]
            shares.append(max(side["slowest_client_s"] / side["longest_gap_s"] for side in sides))
            if shares[-1] < 0.5:
                return
        self.fail(f"they waited for these parts of the outage: {shares}")

    def test_slowest_single_client(self):
        """One of many is not served for a while: no gap, and told all the same."""
        number = iter(range(10000))

        def serve(connection):
            if next(number) == 5:
                time.sleep(0.7)
            client.echo(connection)

        with client.Server(serve) as server:
            document = watch(*PATIENT, "-d", "1.5", "--json", "127.0.0.1", server.port).document
        self.assertGreaterEqual(document["slowest_client_s"], 0.7)
        self.assertGreaterEqual(document["new_connections"]["slowest_client_s"], 0.7)
        self.assertLessEqual(document["slowest_client_s"], document["elapsed_s"])

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            answered = threading.Event()
            with client.Server(client.echo_and_tell(answered)) as server:
                with client.Client("--watch", *PATIENT, "127.0.0.1", server.port) as probe:
                    self.assertTrue(answered.wait(harness.patience()))
                    probe.interrupt(number)
                    result = probe.finish()
                self.assertEqual((result.status, result.stderr), (0, ""))
                self.assertTrue(result.stdout.endswith(b"\nno outage\n"))

    def test_interim_figures(self):
        answered = threading.Event()
        with client.Server(client.echo_and_tell(answered)) as server, \
                client.Client("--watch", *PATIENT, "127.0.0.1", server.port) as probe:
            self.assertTrue(answered.wait(harness.patience()))
            probe.interrupt(signal.SIGQUIT)
            probe.wait_stderr(r"\Atcpecho: \d+\.\d s, \d+ answered, 0 failed, gap [\d.]+ [num]?s, waiting for [\d.]+ [num]?s\n\Z")
            probe.interrupt()
            self.assertEqual(probe.finish().status, 0)

    def test_terminal(self):
        arguments = ("--watch", *PATIENT, "127.0.0.1", self.daemon.port)
        with client.Terminal(*arguments) as terminal:
            terminal.expect(r"\d+\.\d s  longest gap [1-9][\d.]* [num]?s  broken 0  refused 0  wrong 0")
            terminal.type(terminal.INTERRUPT)
            terminal.expect(r"\n.*no outage")
            self.assertEqual(terminal.wait(), 0)
        for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            with client.Terminal(*arguments, "-d", "0.3", variables=variables) as terminal:
                self.assertEqual(terminal.wait(), 0)
                self.assertIn("\nno outage\n", terminal.screen)
                self.assertNotIn("\x1b", terminal.screen)
                self.assertNotIn("\r", terminal.screen)


class Watched:
    """A watch with --json that goes on while the test does something to the server."""

    def __init__(self, *arguments, faults=None):
        self.client = client.Client("--watch", "--json", *arguments, faults=faults)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.__exit__()

    def end(self):
        self.client.interrupt()
        result = self.client.finish()
        return result.status, result.document


class Outages(harness.TestCase):
    """What a load-balancer engineer wants to know."""

    def connections(self, daemon, count):
        """Waits until the daemon has had so many."""
        harness.wait_until(lambda: f"connection {count} " in daemon.log(), daemon.log)

    def test_stopped(self):
        with daemons.Daemon(arguments=("--log-level", "debug")) as daemon, \
                Watched("--gap", "300ms", "127.0.0.1", daemon.port) as watched:
            self.connections(daemon, 5)
            before = time.time()
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            daemon.process.send_signal(signal.SIGCONT)
            after = time.time()
            self.connections(daemon, 60)
            status, document = watched.end()
        self.assertEqual(status, client.WRONG)
        self.assertGreaterEqual(document["gaps_over_allowed"], 2)  # of the steady client and of the new ones
        began = document["longest_gap_at_unix_ms"] / 1000
        self.assertTrue(before - 1 < began < after, f"{began} in [{before}, {after}]")
        for side in (document, document["steady_client"], document["new_connections"]):
            self.assertGreaterEqual(side["longest_gap_s"], 0.7)
        # A server that is slow has broken nothing.
        self.assertEqual((document["refused"], document["wrong"], document["broken"]), (0, 0, 0))

    def read_until(self, probe, *patterns):
        """Reads lines until each pattern has had one. On a busy machine others come in between."""
        lines = []
        while not all(any(re.fullmatch(TIME + "  " + pattern, line) for line in lines)
                      for pattern in patterns):
            lines.append(probe.process.stdout.readline().decode())
            self.assertTrue(lines[-1], f"the client ended before {patterns}: {lines}")

    def test_restarted(self):
        """Gone for a while: broken, refused, and that it works again."""
        port = int(harness.free_port())
        listeners = f'{{ address = "127.0.0.1"; port = {port}; service = "echo"; }}'
        with client.Client("--watch", *PATIENT, "127.0.0.1", port) as probe:
            self.assertEqual(probe.wait().status, client.REFUSED)  # the first connection has to be made
        with daemons.Daemon(listeners):
            probe = client.Client("--watch", *PATIENT, "127.0.0.1", port)
            time.sleep(0.3)
        with probe:
            self.read_until(probe, r"steady client: broken: (closed by the server|Connection reset by peer)\n",
                            r"new connections: (cannot connect: Connection refused|broken: .*)\n")
            with daemons.Daemon(listeners):
                self.read_until(probe, r"steady client: works again after [\d.]+ m?s; \d+ failed\n",
                                r"new connections: works again after [\d.]+ m?s; \d+ failed\n")
                probe.interrupt()
                result = probe.finish()
        text = result.stdout.decode()
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(text, r"\nconnections broken +[1-9]")
        self.assertRegex(text, r"\nconnections refused +[1-9]")
        steady, new = text[text.index("\nsteady client: "):].split("\nnew connections: ")
        self.assertRegex(steady, r"  last break: ")
        self.assertIn("  last refusal: Connection refused\n", new)
        self.assertTrue(text.endswith("\noutage\n"))

    def test_resets(self):
        """Only the steady client's connection lives long enough to be reset."""
        done = []

        def serve(connection):
            for number, data in enumerate(client.chunks(connection)):
                if number == 5:
                    client.reset(connection)
                    done.append(connection)
                    return
                connection.sendall(data)

        with client.Server(serve) as server, \
                Watched(*PATIENT, "-i", "5ms", "127.0.0.1", server.port) as watched:
            harness.wait_until(lambda: len(done) > 2, "the third reset")
            status, document = watched.end()
        self.assertEqual(status, client.WRONG)
        self.assertGreater(document["steady_client"]["broken"], 1)  # it comes back each time
        self.assertEqual(document["new_connections"]["broken"], 0)
        self.assertEqual(document["steady_client"]["broken"], document["broken"])
        self.assertEqual(document["wrong"], 0)

    def test_wrong_bytes(self):
        """Two bytes of one answer of the steady client, and no other."""
        done = threading.Event()

        def serve(connection):
            for number, data in enumerate(client.chunks(connection)):
                if number == 3 and not done.is_set():
                    done.set()
                    data = data[:10] + bytes([data[10] ^ 0x80, data[11] ^ 0x80]) + data[12:]
                connection.sendall(data)

        with client.Server(serve) as server, client.Client("--watch", *PATIENT, "127.0.0.1", server.port) as probe:
            line = " ".join(probe.process.stdout.readline().decode().strip() for _ in range(2))
            self.assertTrue(done.is_set())
            again = probe.process.stdout.readline().decode()
            probe.interrupt()
            result = probe.finish()
        self.assertRegex(line, rf"^{TIME}  steady client: wrong answer, byte \d+: 2 bytes changed \(0x.., not 0x..\)$")
        self.assertRegex(again, rf"^{TIME}  steady client: works again after .*; 1 failed\n$")
        text = result.stdout.decode()
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(text, r"\nconnections with wrong bytes +1\nbytes wrong +2\n")
        self.assertRegex(text, r"\nconnections broken +0\n")

    def test_the_other_service(self):
        with daemons.Daemon(LISTENERS) as daemon:
            # A message of 64 bytes may have no letter.
            result = watch("-d", "0.3", "-s", 1000, "--json", "--expect", "upper", "127.0.0.1", daemon.port)
        self.assertEqual(result.status, client.WRONG)
        document = result.document
        self.assertGreater(document["wrong_bytes"], 0)
        self.assertEqual(document["steady_client"]["answered"], 0)

    def test_new_connections_alone_fail(self):
        """A server that has no room for them, while those who are in are served."""
        first = threading.Event()

        def serve(connection):
            if first.is_set():
                return
            first.set()
            client.echo(connection)

        with client.Server(serve) as server, Watched(*PATIENT, "127.0.0.1", server.port) as watched:
            harness.wait_until(lambda: len(server.threads) > 5, "new connections")
            status, document = watched.end()
        self.assertEqual(status, client.WRONG)
        self.assertEqual(document["steady_client"]["broken"], 0)
        self.assertGreater(document["new_connections"]["broken"], 0)
        self.assertEqual(document["new_connections"]["answered"], 0)

    def test_never_answered(self):
        """Every new connection has its time; the gap is open to the end."""
        with client.Server(client.discard) as server:
            result = watch("-d", "0.5", "--gap", "100ms", "-W", "100ms", "--json", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        document = result.document
        self.assertGreater(document["new_connections"]["timed_out"], 0)
        self.assertGreaterEqual(document["steady_client"]["longest_gap_s"], 0.5)
        self.assertEqual(document["steady_client"]["answered"], 0)

    def hold(self, held, go_on):
        """An echo that stands still from its third message until `go_on`."""
        def serve(connection):
            for number, data in enumerate(client.chunks(connection)):
                if number == 2:
                    held.set()
                    go_on.wait(harness.patience())
                connection.sendall(data)
        return serve

    def test_gap_that_is_open(self):
        """It is told once when it is longer than allowed, and again when it is over."""
        held, go_on = threading.Event(), threading.Event()
        with client.Server(self.hold(held, go_on)) as server:
            with client.Client("--watch", "--gap", "200ms", "-W", "1h", "127.0.0.1", server.port) as probe:
                # A machine that is busy itself may make a gap of the new connections.
                told = (line.decode() for line in probe.process.stdout if b"  steady client: " in line)
                first = next(told)
                time.sleep(0.3)
                go_on.set()
                second = next(told)
                probe.interrupt()
                probe.finish()
        self.assertTrue(held.is_set())
        self.assertRegex(first, rf"^{TIME}  steady client: no answer since (\S+ )?\d\d:\d\d:\d\d\.\d{{3}}\n$")
        self.assertRegex(second, rf"^{TIME}  steady client: no answer for [\d.]+ m?s, until now\n$")

    def test_gap_that_is_open_at_the_end(self):
        with client.Server(client.discard) as server:
            result = watch("-d", "0.5", "--gap", "100ms", "-W", "1h", "127.0.0.1", server.port)
        for words in ("steady client: no answer", "new connections: none served"):
            self.assertEqual(len(re.findall(rf"  {words} since ", result.stdout.decode())), 1)
            self.assertEqual(len(re.findall(rf"  {words} for [\d.]+ m?s, until the end\n", result.stdout.decode())), 1)

    def test_no_figure_exceeds_the_time_watched(self):
        """The last answers are waited for, too, and that is part of the watch."""
        with client.Server(client.discard) as server:
            result = watch("-d", "0.3", *PATIENT, "--json", "127.0.0.1", server.port)
        document = result.document
        for side in (document, document["steady_client"], document["new_connections"]):
            end = side["longest_gap_into_watch_s"] + side["longest_gap_s"]
            self.assertLessEqual(end, document["elapsed_s"] + 1e-6)
            self.assertGreaterEqual(side["longest_gap_s"], 0.3)

    def test_nothing_told_exceeds_the_time_watched(self):
        """In the line of progress, the figures so far, and a check: without an answer, all of it is a gap."""

        def check(match):
            unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}[match["unit"]]
            self.assertLessEqual(float(match["gap"]) * unit, float(match["time"]), match[0])

        figures = r"(?P<time>\d+\.\d) s,? [^\r]* gap (?P<gap>[\d.]+) (?P<unit>[num]?s)[ ,]"
        with client.Server(client.discard) as server:
            with client.Terminal("--watch", *PATIENT, "127.0.0.1", server.port) as terminal:
                for _ in range(6):
                    check(terminal.expect(figures))
            with client.Client("--watch", "--nagios", "1,2", "-d", "1h", "127.0.0.1", server.port) as probe:
                harness.wait_until(lambda: client.awaits_signals(probe.process), "a client that awaits signals")
                for number in range(1, 9):
                    probe.interrupt(signal.SIGQUIT)
                    harness.wait_until(lambda: probe.stderr().count("\n") == number, probe.stderr)
                probe.interrupt()
                result = probe.finish()
        for line in result.stderr.splitlines():
            check(re.search(figures, line))
        check(re.search(r"longest gap (?P<gap>[\d.]+) (?P<unit>s)[ ,].* watched for (?P<time>[\d.]+) s", result.lines[0]))

    def test_check_agrees_with_its_data(self):
        """Both have as many digits as a limit can have."""
        with client.Server(client.discard) as server:
            result = watch("--nagios", "100us,1h", "-d", "0.1", "-W", "1h", "127.0.0.1", server.port)
        self.assertRegex(result.lines[0], r"gap=\d+\.\d{6}s;0\.000100;3600\.000000;0 ")

    def test_failures_that_began_long_ago(self):
        """A server that stands still for a while, and then resets all who wait: that while has failed."""
        held, over = threading.Event(), threading.Event()

        def serve(connection):
            for data in client.chunks(connection):
                if held.is_set() and not over.is_set():
                    over.wait(harness.patience())
                    client.reset(connection)
                    return
                connection.sendall(data)

        with client.Server(serve) as server:
            with client.Client("--watch", *PATIENT, "127.0.0.1", server.port) as probe:
                harness.wait_until(lambda: len(server.threads) > 2, "the first connections")
                began = time.monotonic()
                held.set()
                time.sleep(0.5)
                held_for = time.monotonic() - began
                over.set()
                lines = [probe.process.stdout.readline().decode() for _ in range(4)]
                probe.interrupt()
                probe.finish()
        for name in ("steady client", "new connections"):
            matches = [re.search(rf"{name}: works again after ([\d.]+) (m?s); \d+ failed\n", line) for line in lines]
            times = [float(match[1]) * (1 if match[2] == "s" else 0.001) for match in matches if match]
            self.assertEqual(len(times), 1, lines)
            self.assertGreater(times[0], held_for / 2, lines)

    def test_gap_on_a_terminal(self):
        held, go_on = threading.Event(), threading.Event()
        with client.Server(self.hold(held, go_on)) as server:
            with client.Terminal("--watch", *PATIENT, "127.0.0.1", server.port) as terminal:
                terminal.expect(r"\d+\.\d s  waiting for [\d.]+ m?s  longest gap [\d.]+ m?s")
                go_on.set()
                terminal.expect(r"\d+\.\d s  longest gap [\d.]+ m?s  broken 0")
                terminal.type(terminal.INTERRUPT)
                self.assertEqual(terminal.wait(), 0)

    def test_gap_that_is_allowed(self):
        stalled = threading.Event()

        def serve(connection):
            for number, data in enumerate(client.chunks(connection)):
                if number == 1 and not stalled.is_set():
                    stalled.set()
                    time.sleep(0.3)
                connection.sendall(data)

        for allowed, status in (("1h", 0), ("100ms", client.WRONG)):
            stalled.clear()
            with client.Server(serve) as server:
                result = watch("-d", "0.4", "-W", "1h", "--gap", allowed, "127.0.0.1", server.port)
            self.assertEqual(result.status, status)
            self.assertEqual(b"no answer for" in result.stdout or b"none served for" in result.stdout, status != 0)

    def test_watch_that_is_stopped_itself(self):
        """It says how late it was, so that nobody blames the server."""
        with daemons.Daemon(arguments=("--log-level", "debug")) as daemon, Watched("127.0.0.1", daemon.port) as watched:
            self.connections(daemon, 5)
            with harness.Frozen(watched.client.process.pid, 0.5):
                pass
            self.connections(daemon, 10)
            _, document = watched.end()
        self.assertGreaterEqual(document["late_s"], 0.45)
        for side in ("steady_client", "new_connections"):
            self.assertGreaterEqual(document[side]["not_begun_late"], 20)  # one each 20 ms


class Resources(harness.TestCase):
    """What it does when the system does not give it what it needs."""

    def test_cannot_start(self):
        with daemons.Daemon() as daemon:
            for faults in ("epoll_create1:EMFILE", "eventfd:EMFILE", "timerfd_create:EMFILE", "sigaction:EINVAL",
                           "calloc:ENOMEM", "calloc:ENOMEM:3", "epoll_wait:EBADF", "epoll_ctl_add:ENOSPC:1",
                           "epoll_ctl_add:ENOSPC:2", "epoll_ctl_add:ENOSPC:3"):
                with self.subTest(faults):
                    result = watch("-d", "0.2", "127.0.0.1", daemon.port, faults=faults)
                    self.assertEqual((result.status, result.stdout), (client.SYSTEM_ERROR, b""))
                    self.assertRegex(result.stderr, r"^tcpecho: [Cc]annot .*\n$")

    def test_no_descriptors(self):
        """New connections need some; that we have none is told as what it is."""
        with daemons.Daemon() as daemon:
            result = watch("-d", "0.3", "127.0.0.1", daemon.port, faults="socket:EMFILE:2-")
        self.assertEqual(result.status, client.SYSTEM_ERROR)
        self.assertIn(b"new connections: cannot begin: Too many open files\n", result.stdout)
        self.assertRegex(result.stdout, rb"\n  \d+ not begun: Too many open files\n")

    def test_no_ports(self):
        """A shortage of the client's own, and no refusal of the server's."""
        with daemons.Daemon() as daemon:
            arguments = (*PATIENT, "-d", "0.3", "127.0.0.1", daemon.port)
            document = watch("--json", *arguments, faults="connect:EADDRNOTAVAIL:3-").document
            result = watch(*arguments, faults="connect:EADDRNOTAVAIL:3-")
        self.assertEqual(result.status, client.SYSTEM_ERROR)
        self.assertRegex(result.stdout, rb"\nconnections refused +0\n")
        self.assertTrue(result.stdout.endswith(b"\nno outage seen, but tcpecho could not begin all that was due\n"))
        self.assertFalse(document["clean"])
        self.assertEqual(document["new_connections"]["begun"], 1)
        self.assertGreater(document["new_connections"]["not_begun_short"], 0)

    @staticmethod
    def time_wait(port):
        """The local addresses, each once: a socket is told again when others come or go while the kernel tells them."""
        shown = daemons.sockets("-Htn", "state", "time-wait", f"dport = :{port}")
        return {line.split()[2] for line in shown.splitlines()}

    def test_ports_are_given_back(self):
        """Few of them stay in TIME_WAIT, however short the interval: 200 for each second."""
        with daemons.Daemon() as daemon:
            before = self.time_wait(daemon.port)  # the port may have been another daemon's
            document = watch(*PATIENT, "-i", "1ms", "-d", "0.5", "--json", "127.0.0.1", daemon.port).document
            waiting = self.time_wait(daemon.port) - before
        self.assertTrue(document["clean"])
        self.assertEqual(document["new_connections"]["answered"], document["new_connections"]["begun"])
        self.assertLessEqual(len(waiting), 200 * document["elapsed_s"] + 2)  # and the steady client

    def test_more_under_way_than_there_is_room_for(self):
        """None is begun then, and the report says so."""
        with client.Server(client.discard) as server:
            result = watch("-d", "0.2", "-i", "1ms", *PATIENT, "127.0.0.1", server.port,
                           wrapper=("prlimit", "--nofile=30:30", "--"))
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stdout, rb"\n  \d+ not begun: too many were under way\n")
        self.assertNotIn(b"Too many open files", result.stdout)


if __name__ == "__main__":
    harness.main(jobs=4)
