#!/usr/bin/env python3
"""tcpecho --ping: its lines, its summary, and servers that lose, repeat, change and delay messages."""

import os
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

TIME = r"[\d.]+ ms"
REPLY = rf"64 bytes from \S+: seq=(\d+) time={TIME}"
TIMES = r"rtt min/avg/max/mdev = [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms"


def ping(*arguments, **options):
    return client.run("--ping", *arguments, **options)


def messages(connection, size=64):
    """What comes, message by message, up to its end."""
    rest = b""
    for data in client.chunks(connection):
        rest += data
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]


def each(change):
    """An echo that makes change(number, message) of each."""
    def serve(connection):
        for number, message in enumerate(messages(connection), 1):
            connection.sendall(change(number, message))
    return serve


class Answers(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(LISTENERS)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def check_replies(self, result, host, peer, size, count):
        self.assertEqual((result.status, result.stderr), (0, ""))
        peer = re.escape(peer)
        lines = [rf"PING {re.escape(host)} \({peer}\): {size} bytes a message, connected in {TIME}"]
        lines += [rf"{size} bytes from {peer}: seq={number} time={TIME}" for number in range(1, count + 1)]
        lines += ["", rf"--- {re.escape(host)} ping statistics ---",
                  rf"{count} messages transmitted, {count} received, 0 lost \(0%\), time \d+ ms", TIMES]
        self.assertEqual(len(result.lines), len(lines), result.stdout)
        for line, pattern in zip(result.lines, lines):
            self.assertRegex(line, rf"\A{pattern}\Z")

    def test_echo(self):
        port = self.daemon.port
        result = ping("-c", 3, "-i", "0.01", "127.0.0.1", port)
        self.check_replies(result, "127.0.0.1", f"127.0.0.1:{port}", 64, 3)

    def test_upper(self):
        port = self.daemon.ports[1]
        result = ping("--count=2", "--interval=10ms", "--expect", "upper", "--size", "100", "127.0.0.1", port)
        self.check_replies(result, "127.0.0.1", f"127.0.0.1:{port}", 100, 2)

    def test_unix_socket(self):
        path = self.daemon.path("echo.sock")
        self.check_replies(ping("-c", 2, "-i", "10ms", path), path, path, 64, 2)

    def test_sizes(self):
        for size in (16, 17, 1000, 1 << 20):
            with self.subTest(size=size):
                result = ping("-c", 2, "-i", "10ms", "-s", size, "127.0.0.1", self.daemon.port)
                self.check_replies(result, "127.0.0.1", f"127.0.0.1:{self.daemon.port}", size, 2)

    def test_without_a_count(self):
        """It goes on until somebody has had enough."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with client.Client("--ping", "-i", "10ms", "127.0.0.1", self.daemon.port) as process:
                for _ in range(4):
                    self.assertTrue(process.process.stdout.readline())
                process.interrupt(number)
                result = process.finish()
                self.assertEqual((result.status, result.stderr), (0, ""))
                self.assertRegex(result.lines[-2], r"\d+ messages transmitted, \d+ received,( 1 under way,)? 0 lost \(0%\), .*")
                self.assertRegex(result.lines[-1], TIMES)

    def test_quiet(self):
        result = ping("-q", "-c", 3, "-i", "10ms", "127.0.0.1", self.daemon.port)
        self.assertEqual(result.status, 0)
        self.assertRegex(result.stdout.decode(), rf"\APING .*\n\n--- .* ---\n3 messages .*\n{TIMES}\n\Z")

    def test_the_other_service(self):
        for index, expect in ((1, "echo"), (0, "upper")):
            result = ping("-c", 1, "-s", 16, "--expect", expect, "127.0.0.1", self.daemon.ports[index])
            self.assertEqual(result.status, client.WRONG)
            self.assertRegex(result.lines[1], r"from \S+: seq=1 CORRUPT: byte 0: right for the other kind of --expect \(.*\)")


class Wrong(harness.TestCase):
    """Lost, repeated, changed: counted apart, and exit status 1."""

    def check(self, serve, summary, *, count=3, lines=(), wait="10s", arguments=()):
        with client.Server(serve) as server:
            result = ping("-c", count, "-i", "10ms", "-W", wait, *arguments, "127.0.0.1", server.port)
        output = result.stdout.decode()
        self.assertEqual((result.status, result.stderr), (client.WRONG, ""), output)
        self.assertRegex(output, rf"(?m)^{count} messages transmitted, {summary}, time \d+ ms$")
        for line in lines:
            self.assertRegex(output, rf"(?m)^{line}$")
        return result

    def test_lost(self):
        result = self.check(each(lambda number, message: b"" if number == 2 else message), r"2 received, 1 lost \(33.33%\)",
                            wait="300ms", lines=[r"no answer from 127\.0\.0\.1:\d+: seq=2"])
        self.assertEqual(re.findall(REPLY, result.stdout.decode()), ["1", "3"])

    def test_all_lost(self):
        result = self.check(client.discard, r"0 received, 3 lost \(100%\)", wait="100ms")
        self.assertNotIn("rtt", result.stdout.decode())

    def test_server_that_stops_reading(self):
        """The ping ends with its schedule and --wait; what could not be sent is lost."""
        release = threading.Event()

        def serve(connection):
            connection.sendall(harness.receive_exactly(connection, 1 << 20))
            release.wait(harness.patience())

        with client.Server(serve) as server:
            result = ping("-c", 40, "-i", "10ms", "-s", "1M", "-W", "0.5s", "127.0.0.1", server.port,
                          timeout=harness.patience())
            release.set()
        output = result.stdout.decode()
        self.assertEqual((result.status, result.stderr), (client.WRONG, ""), output)
        sent, received, unsent, lost = map(int, re.search(
            r"(?m)^(\d+) messages transmitted, (\d+) received, \+(\d+) not sent, (\d+) lost ", output).groups())
        self.assertEqual((received, sent + unsent, lost), (1, 40, 39))

    def test_server_that_reads_again(self):
        """What waited for less than --wait leaves late, and is not lost."""
        def serve(connection):
            first = True
            for message in messages(connection, 1 << 20):
                if first:
                    time.sleep(0.3)
                first = False
                connection.sendall(message)

        with client.Server(serve) as server:
            result = ping("-c", 15, "-i", "10ms", "-s", "1M", "-W", "1h", "127.0.0.1", server.port)
        self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
        self.assertIn(b"\n15 messages transmitted, 15 received, 0 lost (0%)", result.stdout)

    def test_late(self):
        """What comes after it was said to be late has been received all the same."""
        heard = threading.Event()

        def serve(connection):
            first = harness.receive_exactly(connection, 64)
            heard.wait(harness.patience())
            connection.sendall(first)
            client.echo(connection)

        with client.Server(serve) as server:
            with client.Client("--ping", "-c", 2, "-i", "1s", "-W", "20ms", "127.0.0.1", server.port) as process:
                process.process.stdout.readline()
                self.assertRegex(process.process.stdout.readline(), rb"^no answer from .*: seq=1\n$")
                heard.set()
                self.assertRegex(process.process.stdout.readline().decode(), REPLY)
                self.assertIn(b"2 messages transmitted, ", process.finish().stdout)

    def test_what_came_while_it_was_stopped(self):
        """It was the client who was late."""
        heard, stopped = threading.Event(), threading.Event()

        def serve(connection):
            first = harness.receive_exactly(connection, 64)
            heard.set()
            stopped.wait(harness.patience())
            connection.sendall(first)
            client.echo(connection)

        with client.Server(serve) as server, \
                client.Client("--ping", "-c", 2, "-i", "1s", "-W", "500ms", "127.0.0.1", server.port) as process:
            self.assertTrue(heard.wait(harness.patience()))
            with harness.Frozen(process.process.pid, 0.8):
                stopped.set()
            result = process.finish()
        self.assertNotIn(b"no answer", result.stdout)
        self.assertIn(b"2 messages transmitted, 2 received, 0 lost", result.stdout)

    def test_repeated(self):
        self.check(each(lambda number, message: message * 2 if number == 2 else message),
                   r"3 received, \+1 duplicate, 0 lost \(0%\)", lines=[rf"64 bytes from \S+: seq=2 time={TIME} \(DUP!\)"])

    def test_the_last_one_repeated(self):
        self.check(each(lambda number, message: message * (3 if number == 3 else 1)),
                   r"3 received, \+2 duplicates, 0 lost \(0%\)")

    def test_changed(self):
        self.check(each(lambda number, message: message[:40] + b"\0" + message[41:] if number == 2 else message),
                   r"2 received, \+1 corrupted, 0 lost \(0%\)",
                   lines=[r"from \S+: seq=2 CORRUPT: byte 104: 1 byte changed \(0x00 instead of 0x\w\w\)"])

    def test_a_byte_dropped(self):
        self.check(each(lambda number, message: message[:40] + message[41:] if number == 2 else message),
                   r"2 received, \+1 corrupted, 0 lost \(0%\)", lines=[r"from \S+: seq=2 CORRUPT: byte 10[4-9]: .*"])

    def test_bytes_between(self):
        self.check(each(lambda number, message: b"\0" * 20 + message if number == 2 else message),
                   r"3 received, \+1 corrupted, 0 lost \(0%\)", lines=[r"from \S+: seq=2 CORRUPT: byte 64: .*"])

    def test_never_the_right_protocol(self):
        self.check(each(lambda number, message: b"500 unknown command\r\n"), r"0 received, \+\d+ corrupted, .*",
                   wait="100ms")

    def test_quiet(self):
        result = self.check(each(lambda number, message: b"" if number == 2 else message), r"2 received, 1 lost \(33.33%\)",
                            wait="300ms", arguments=["-q"])
        self.assertNotIn("no answer", result.stdout.decode())


class Ends(harness.TestCase):
    """How the connection ends, or does not begin: one line on stderr, and what was measured until then."""

    def test_closed(self):
        def close_after_two(connection):
            connection.sendall(harness.receive_exactly(connection, 128))

        def reset_after_two(connection):
            connection.sendall(harness.receive_exactly(connection, 128))
            harness.receive_exactly(connection, 1)
            client.reset(connection)

        for serve, pattern in ((close_after_two, r"closed the connection"),
                               (reset_after_two, r"closed the connection: Connection reset by peer")):
            with self.subTest(serve=serve.__name__), client.Server(serve) as server:
                result = ping("-i", "10ms", "127.0.0.1", server.port)
                self.assertEqual(result.status, client.CLOSED_EARLY)
                self.assertRegex(result.stderr, rf"\Atcpecho: 127\.0\.0\.1:\d+ {pattern}\n\Z")
                self.assertRegex(result.stdout.decode(), r"\d messages transmitted, 2 received, \d lost")

    def test_no_connection(self):
        port = harness.free_port()
        self.addCleanup(port.close)
        for arguments, status in ((("127.0.0.1", port), client.REFUSED), (("no-such-host.invalid",), client.UNKNOWN),
                                  (("/no/such/socket",), client.UNKNOWN)):
            with self.subTest(status=status):
                result = ping(*arguments)
                self.assertEqual((result.status, result.stdout), (status, b""))
                self.assertEqual(result.stderr.count("\n"), 1)

    def test_interrupted_without_an_answer(self):
        with client.Server(client.discard) as server:
            with client.Client("--ping", "-W", "10s", "127.0.0.1", server.port) as process:
                process.process.stdout.readline()
                process.interrupt()
                result = process.finish()
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stdout.decode(), r"\d messages? transmitted, 0 received,.* 0 lost \(0%\)")

    def test_the_system_fails(self):
        with client.Server(client.echo) as server:
            for rules, status, pattern in (
                    ("malloc:ENOMEM:1", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("malloc:ENOMEM:2", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("calloc:ENOMEM:4", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("eventfd:EMFILE", client.SYSTEM_ERROR, "cannot wait for signals: Too many open files"),
                    ("ppoll:ENOMEM", client.SYSTEM_ERROR, "cannot wait for an answer: Cannot allocate memory"),
                    ("send:EPIPE", client.CLOSED_EARLY, r"\S+ closed the connection: Broken pipe"),
                    ("recv:EHOSTUNREACH", client.UNREACHABLE, r"\S+ closed the connection: No route to host"),
                    ("shutdown:ENOTCONN", client.CLOSED_EARLY, r"\S+ closed the connection: .*"),
            ):
                with self.subTest(rules=rules):
                    result = ping("-c", 1, "127.0.0.1", server.port, faults=rules)
                    self.assertEqual(result.status, status, result.stderr)
                    self.assertRegex(result.stderr, rf"\Atcpecho: {pattern}\n\Z")

    def test_what_passes(self):
        with client.Server(client.echo) as server:
            for rules in ("getrandom:ENOSYS", "send:EAGAIN:1", "send:short=5:1-5", "recv:short=5:1-9", "recv:EINTR:1",
                          "ppoll:EINTR:1-2"):
                with self.subTest(rules=rules):
                    result = ping("-c", 2, "-i", "10ms", "127.0.0.1", server.port, faults=rules)
                    self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)


class Person(harness.TestCase):
    """At a terminal: colour for what is wrong, Ctrl-C for the summary."""

    RED = "\x1b[31m"

    def test_interrupt(self):
        with daemons.Daemon() as daemon, client.Terminal("--ping", "-i", "10ms", "127.0.0.1", daemon.port) as person:
            person.expect(rf"^{REPLY}\n{REPLY}\n")
            person.type(person.INTERRUPT)
            self.assertEqual(person.wait(), 0)
            self.assertRegex(person.screen, rf"\n--- .* ---\n\d+ messages transmitted, .*\n{TIMES}\n\Z")
            self.assertNotIn("\x1b", person.screen)

    def colour(self, variables=None, stdout=None):
        with client.Server(client.discard) as server:
            arguments = ("--ping", "-c", "1", "-W", "10ms", "127.0.0.1", server.port)
            with client.Terminal(*arguments, variables=variables, stdout=stdout) as person:
                self.assertEqual(person.wait(), client.WRONG)
                return person.screen

    def test_colour(self):
        self.assertIn(f"{self.RED}no answer from ", self.colour())
        for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            screen = self.colour(variables)
            self.assertIn("no answer from ", screen)
            self.assertNotIn("\x1b", screen)
        self.assertIn("\x1b", self.colour({"NO_COLOR": ""}))  # no-color.org: when it is not empty

    def test_no_colour_in_a_file(self):
        """stderr at a terminal does not matter."""
        reading, writing = os.pipe()
        with open(reading, "rb") as pipe:
            with open(writing, "wb") as end:
                self.colour(stdout=end)
            text = pipe.read()
        self.assertIn(b"no answer from ", text)
        self.assertNotIn(b"\x1b", text)


if __name__ == "__main__":
    harness.main(jobs=4)
