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
WITH_UNSENT = r"(?m)^(\d+) messages transmitted, (\d+) not sent, (\d+) received, (\d+) lost "
TIMES = r"rtt min/avg/max/mdev = [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms"


def without_late(output):
    """On a busy machine any ping may say that it did not keep its schedule."""
    output = re.sub(rb",\s\d+ not sent in time", b"", output)
    return re.sub(rb"(?m)^\d+ not sent in time(,\s|\n)", b"", output)


def ping(*arguments, is_late=False, **options):
    result = client.run("--ping", *arguments, **options)
    if not is_late:
        result.stdout = without_late(result.stdout)
    return result


def unwrapped(result):
    """Its lines, as they are where there is room for each."""
    return result.stdout.decode().replace("\n  ", " ")


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
        told = unwrapped(result).splitlines()
        self.assertEqual(len(told), len(lines), result.stdout)
        for line, pattern in zip(told, lines):
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
                result.stdout = without_late(result.stdout)
                self.assertEqual((result.status, result.stderr), (0, ""))
                self.assertRegex(result.lines[-3 if "under way" in result.lines[-2] else -2],
                                 r"\d+ messages transmitted, \d+ received, 0 lost \(0%\), .*")
                self.assertRegex(result.lines[-1], TIMES)

    def test_quiet(self):
        result = ping("-q", "-c", 3, "-i", "10ms", "127.0.0.1", self.daemon.port)
        self.assertEqual(result.status, 0)
        self.assertRegex(result.stdout.decode(), rf"\APING .*\n\n--- .* ---\n3 messages .*\n{TIMES}\n\Z")

    def test_the_other_service(self):
        for index, expect in ((1, "echo"), (0, "upper")):
            result = ping("-c", 1, "-s", 16, "--expect", expect, "127.0.0.1", self.daemon.ports[index])
            self.assertEqual(result.status, client.WRONG)
            self.assertRegex(unwrapped(result).splitlines()[1], r"from \S+: seq=1 CORRUPT: byte 0: right for the other --expect \(.*\)")


class Wrong(harness.TestCase):
    """Lost, repeated, changed: counted apart, and exit status 1."""

    def check(self, serve, summary, *, count=3, lines=(), wait="10s", arguments=()):
        with client.Server(serve) as server:
            result = ping("-c", count, "-i", "10ms", "-W", wait, *arguments, "127.0.0.1", server.port)
        output = unwrapped(result)
        self.assertEqual((result.status, result.stderr), (client.WRONG, ""), output)
        summary, _, rest = summary.partition("; ")
        rest = rf"\n{rest}" if rest else ""
        self.assertRegex(output, rf"(?m)^{count} messages transmitted, {summary}, time \d+ ms{rest}(\nrtt .*)?\n\Z")
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
        """The ping ends with its schedule and --wait; what could not be sent is lost, and told apart, too."""
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
        sent, unsent, received, lost = map(int, re.search(WITH_UNSENT, output).groups())
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
            result = ping("-c", 15, "-i", "10ms", "-s", "1M", "-W", "1h", "127.0.0.1", server.port, is_late=True)
        self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
        self.assertIn(b"\n15 messages transmitted, 15 received, 0 lost (0%)", result.stdout)
        self.assertRegex(result.stdout, rb"\n\d+ not sent in time\n")

    def test_client_that_stands_still(self):
        """What was due meanwhile is neither sent nor lost, and told."""
        with client.Server(client.echo) as server, \
                client.Client("--ping", "-i", "1ms", "-c", 500, "127.0.0.1", server.port) as process:
            for _ in range(2):
                process.process.stdout.readline()
            with harness.Frozen(process.process.pid, 0.3):
                pass
            output = process.finish().stdout.decode()
        self.assertRegex(output, r"500 messages transmitted, 500 received, 0 lost \(0%\)")
        self.assertGreaterEqual(int(re.search(r"(?m)(\d+) not sent in time", output).group(1)), 200)

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
                   r"3 received, 0 lost \(0%\); 1 duplicate", lines=[rf"64 bytes from \S+: seq=2 time={TIME} \(DUP!\)"])

    def test_the_last_one_repeated(self):
        self.check(each(lambda number, message: message * (3 if number == 3 else 1)),
                   r"3 received, 0 lost \(0%\); 2 duplicates")

    def test_changed(self):
        self.check(each(lambda number, message: message[:40] + b"\0" + message[41:] if number == 2 else message),
                   r"2 received, 1 lost \(33.33%\); 1 corrupted",
                   lines=[r"from \S+: seq=2 CORRUPT: byte 104: 1 byte changed \(0x00, not 0x\w\w\)"])

    def test_a_byte_dropped(self):
        self.check(each(lambda number, message: message[:40] + message[41:] if number == 2 else message),
                   r"2 received, 1 lost \(33.33%\); 1 corrupted", lines=[r"from \S+: seq=2 CORRUPT: byte 10[4-9]: .*"])

    def test_bytes_between(self):
        self.check(each(lambda number, message: b"\0" * 20 + message if number == 2 else message),
                   r"3 received, 0 lost \(0%\); 1 corrupted", lines=[r"from \S+: seq=2 CORRUPT: byte 64: .*"])

    def test_never_the_right_protocol(self):
        self.check(each(lambda number, message: b"500 unknown command\r\n"), r"0 received, 3 lost \(100%\); \d+ corrupted",
                   wait="100ms")

    def test_quiet(self):
        result = self.check(each(lambda number, message: b"" if number == 2 else message), r"2 received, 1 lost \(33.33%\)",
                            wait="300ms", arguments=["-q"])
        self.assertNotIn("no answer", result.stdout.decode())


class Ends(harness.TestCase):
    """How the connection ends, or does not begin: one line on stderr, and what was measured until then."""

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
        self.assertRegex(result.stdout.decode(), r"\d messages? transmitted, 0 received, [1-9]\d* lost \(100%\)")

    def test_the_system_fails(self):
        with client.Server(client.echo) as server:
            for rules, status, pattern in (
                    ("malloc:ENOMEM:1", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("malloc:ENOMEM:2", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("calloc:ENOMEM:5", client.SYSTEM_ERROR, "cannot start: Cannot allocate memory"),
                    ("eventfd:EMFILE", client.SYSTEM_ERROR, "cannot wait for signals: Too many open files"),
                    ("ppoll:ENOMEM", client.SYSTEM_ERROR, "cannot wait for an answer: Cannot allocate memory"),
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


class Broken(harness.TestCase):
    """A connection that breaks is made again for the next message, and counted."""

    def check(self, serve, summary, count=4, arguments=()):
        with client.Server(serve) as server:
            # Apart enough that a busy machine sends none before it has seen the end of the connection.
            result = ping("-c", count, "-i", "200ms", "-W", "1s", *arguments, "127.0.0.1", server.port)
        output = unwrapped(result)
        self.assertEqual((result.status, result.stderr), (client.WRONG, ""), output)
        self.assertRegex(output, rf"(?m){summary}")
        return output

    def test_closed(self):
        """After each second answer."""
        def serve(connection):
            for _, message in zip(range(2), messages(connection)):
                connection.sendall(message)

        output = self.check(serve, r"^3 messages transmitted, 3 received, 0 lost \(0%\), time \d+ ms\n"
                                   r"connection broken 1 time, reconnected 1 time, 0 attempts failed$", count=3)
        self.assertEqual(re.findall(REPLY, output), ["1", "2", "3"])
        self.assertRegex(output, r"(?m)^connection to 127\.0\.0\.1:\d+ broken: closed by the server$")
        self.assertRegex(output, rf"(?m)^connected again to 127\.0\.0\.1:\d+ in {TIME}$")

    def test_reset_under_way(self):
        """The message that was under way is lost, and the numbers go on."""
        def serve(connection):
            connection.sendall(harness.receive_exactly(connection, 64))
            harness.receive_exactly(connection, 64)
            client.reset(connection)

        output = self.check(serve, r"^4 messages transmitted, 2 received, 2 lost \(50%\), time \d+ ms\n"
                                   r"connection broken 2 times, reconnected 1 time, 0 attempts failed$")
        self.assertEqual(re.findall(REPLY, output), ["1", "3"])
        self.assertEqual(output.count(" broken: Connection reset by peer\n"), 2)

    def test_half_an_answer(self):
        """What came is right: nothing is corrupted."""
        for size in (40, 8):  # with its number, and without
            output = self.check(lambda connection: connection.sendall(harness.receive_exactly(connection, 64)[:size]),
                                r"^1 message transmitted, 0 received, 1 lost \(100%\), time \d+ ms\nconnection broken", count=1)
            self.assertNotIn("CORRUPT", output)

    def test_server_that_is_gone_for_a_while(self):
        """What is due meanwhile is not sent, and so it is lost."""
        port = harness.free_port()
        port.close()
        server = client.Server(client.echo, port=int(port))
        with client.Client("--ping", "-c", 12, "-i", "50ms", "127.0.0.1", int(port)) as process:
            for _ in range(3):
                process.process.stdout.readline()
            server.stop()
            self.end_connections(int(port))
            for words in (b" broken: ", b"cannot connect to 127.0.0.1"):
                while words not in (line := process.process.stdout.readline()):
                    self.assertIn(b"64 bytes from ", line)
            with client.Server(client.echo, port=int(port)):
                result = process.finish()
        output = result.stdout.decode()
        self.assertEqual((result.status, result.stderr), (client.WRONG, ""))
        self.assertRegex(output, r"connected again to ")
        sent, unsent, received, lost = map(int, re.search(WITH_UNSENT, output).groups())
        self.assertEqual((sent + unsent, received + lost), (12, 12))
        self.assertGreaterEqual(lost, unsent)
        self.assertRegex(output, rf"(?m)^connection broken 1 time, reconnected 1 time, {unsent} attempts? failed$")

    @staticmethod
    def end_connections(port):
        """As a server does that ends: ss(8) closes what has this port."""
        ss = harness.needs("ss")
        harness.needs_root()
        killed = harness.subprocess.run([ss, "-K", "sport", "=", f":{port}"], capture_output=True, text=True, check=False)
        if "ESTAB" not in killed.stdout:
            raise harness.unittest.SkipTest("this kernel lets nobody end a connection (ss -K)")

    def test_in_the_calls(self):
        with client.Server(client.echo) as server:
            for rules in ("send:EPIPE:1", "recv:EHOSTUNREACH:1", "shutdown:ENOTCONN:1"):
                with self.subTest(rules=rules):
                    result = ping("-c", 2, "-i", "10ms", "127.0.0.1", server.port, faults=rules)
                    self.assertEqual((result.status, result.stderr), (client.WRONG, ""))
                    self.assertRegex(result.stdout.decode(), r"\nconnection broken 1 time, ")
            result = ping("-c", 2, "-i", "10ms", "127.0.0.1", server.port, faults="send:EPIPE:1,socket:EMFILE:2-")
            self.assertRegex(result.stdout.decode(), r"\ncannot connect to \S+: Too many open files\n")


class Letters(harness.TestCase):
    """What else ping(8) has."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(LISTENERS)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def test_deadline(self):
        began = time.monotonic()
        result = ping("-w", "0.3", "-i", "20ms", "127.0.0.1", self.daemon.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertGreaterEqual(time.monotonic() - began, 0.3)

    def test_deadline_and_count(self):
        """So many answers are waited for, however many messages that takes."""
        result = ping("-w", "60", "-c", 3, "-i", "10ms", "127.0.0.1", self.daemon.port)
        self.assertGreaterEqual(len(re.findall(REPLY, result.stdout.decode())), 3)
        with client.Server(each(lambda number, message: b"" if number < 3 else message)) as server:
            result = ping("-w", "60", "-c", 3, "-i", "10ms", "127.0.0.1", server.port)
        self.assertRegex(result.stdout.decode(), r"\d messages transmitted, [3-9] received, ")
        self.assertEqual(re.findall(REPLY, result.stdout.decode())[:3], ["3", "4", "5"])

    def test_timestamps(self):
        before = time.time()
        lines = ping("-D", "-c", 2, "-i", "10ms", "127.0.0.1", self.daemon.port).lines[1:3]
        for line in lines:
            self.assertRegex(line, rf"\A\[\d+\.\d{{6}}\] {REPLY}\Z")
            self.assertAlmostEqual(float(line[1:line.index("]")]), before, delta=harness.patience(10))

    def test_flood(self):
        result = ping("-f", "-c", 5000, "127.0.0.1", self.daemon.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertRegex(result.stdout.decode(), r"\APING .*\n\n--- .*\n5000 messages transmitted, 5000 received, 0 lost \(0%\)")

    def test_flood_of_a_silent_server(self):
        """A hundred a second, and a dot for each."""
        with client.Server(client.discard) as server:
            result = ping("-f", "-c", 20, "-W", "100ms", "127.0.0.1", server.port)
        self.assertRegex(result.stdout.decode(), r"\A.*\n\.{20}\n--- ")
        self.assertGreater(int(re.search(r"time (\d+) ms", result.stdout.decode()).group(1)), 180)

    def test_interim_figures(self):
        with client.Client("--ping", "-i", "10ms", "127.0.0.1", self.daemon.port) as process:
            for _ in range(3):
                process.process.stdout.readline()
            for _ in range(2):
                before = len(process.stderr())
                process.interrupt(signal.SIGQUIT)
                harness.wait_until(lambda: len(process.stderr()) > before, "figures")
            process.interrupt()
            result = process.finish()
        self.assertEqual(result.status, 0)
        figures = r"[\d.]+/[\d.]+/[\d.]+/[\d.]+"
        self.assertRegex(result.stderr,
                         rf"\A(127\.0\.0\.1: \d+/\d+ answered, 0% lost,\s+min/avg/ewma/max\s+=\s+{figures} ms\n){{2}}\Z")

    def test_several_hosts(self):
        """Side by side, each with a summary; one that is not there does not keep the others waiting."""
        hosts = [f"127.0.0.1:{self.daemon.port}", f"127.0.0.2:{int(harness.free_port())}", self.daemon.path("echo.sock")]
        result = ping("-c", 4, "-i", "100ms", *hosts)
        output = result.stdout.decode()
        self.assertEqual(result.status, client.REFUSED)
        self.assertRegex(result.stderr, r"\Atcpecho: cannot connect to 127\.0\.0\.2 port \d+ \(.*\n\Z")
        self.assertEqual(re.findall(r"(?m)^--- (.*) ping statistics ---$", output), [hosts[0], hosts[2]])
        self.assertEqual(output.count("4 messages transmitted, 4 received, 0 lost (0%)"), 2)
        order = re.findall(r"from (\S+): seq=(\d)", output)
        self.assertEqual([number for _, number in order], list("11223344"))

    def test_status_of_several_hosts(self):
        """That of those that failed, where they failed alike, in each kind of ping."""
        good = f"127.0.0.1:{self.daemon.port}"
        refused = [f"127.0.0.{number}:{int(harness.free_port())}" for number in (2, 3)]
        missing = "/no/such/socket"
        with client.full_queue() as port:
            silent = f"127.0.0.1:{port}"
            for hosts, status in (((good, good), 0), ((good, refused[0]), client.REFUSED), (refused, client.REFUSED),
                                  ((refused[0], silent), client.WRONG), ((silent, good), client.TIMED_OUT),
                                  ((missing, good), client.UNKNOWN), ((missing,), client.UNKNOWN),
                                  ((missing, silent), client.WRONG)):
                for arguments in (("--connect", "-W", "300ms"), ("--connect-timeout", "300ms")):
                    with self.subTest(hosts=hosts, arguments=arguments):
                        self.assertEqual(ping("-c", 1, *arguments, *hosts).status, status)

    def test_several_hosts_with_one_port(self):
        result = ping("-c", 1, "-p", self.daemon.port, "127.0.0.1", "localhost")
        self.assertEqual(result.status, 0, result.stderr)
        self.assertEqual(len(re.findall(REPLY, result.stdout.decode())), 2)
        for arguments, pattern in ((("a", "b", "7"), "7: the port of several HOSTs is given by -p; .*"),
                                   (("-p", "7", "a", "8"), "8: --port has set the port to 7; .*")):
            client.assert_one_line(self, ping(*arguments), client.USAGE, pattern)

    def test_misspelt_service(self):
        """What is no port is a host, and not found as one: the message says both."""
        result = ping("-c", 1, f"127.0.0.1:{self.daemon.port}", "htpp")
        client.assert_one_line(self, result, client.UNKNOWN,
                               "cannot find htpp: .*; it is no service either, and -p PORT gives the port")


class Handshakes(harness.TestCase):
    """--connect: the time of the handshake alone, to any port; open, closed and silent are told apart."""

    SUMMARY = r"(?m)^%d connections? tried, %d made, %d failed \(%s%%\), time \d+ ms$"

    def test_open(self):
        """Nothing is sent, and the end is in order, but for one that a busy machine ends in the moment of another."""
        seen = []
        with client.Server(lambda connection: seen.append(connection.recv(1))) as server:
            result = ping("--connect", "-c", 3, "-i", "100ms", "127.0.0.1", server.port)
        self.assertEqual((result.status, result.stderr), (0, ""))
        output = result.stdout.decode()
        made = re.findall(rf"(?m)^connected to 127\.0\.0\.1:{server.port}: seq=(\d) time={TIME}$", output)
        self.assertEqual(made, list("123"))
        self.assertRegex(output, self.SUMMARY % (3, 3, 0, 0))
        self.assertRegex(output, rf"(?m)^{TIMES}$")
        harness.wait_until(lambda: seen, "the server's threads")
        self.assertEqual(set(seen), {b""})

    def test_closed(self):
        port = harness.free_port()
        self.addCleanup(port.close)
        result = ping("--connect", "-c", 2, "-i", "20ms", "127.0.0.1", port)
        self.assertEqual((result.status, result.stderr), (client.REFUSED, ""))
        output = result.stdout.decode()
        self.assertEqual(re.findall(rf"(?m)^refused by 127\.0\.0\.1:\d+: seq=(\d) time={TIME}$", output), list("12"))
        self.assertRegex(output, self.SUMMARY % (2, 0, 2, 100))
        self.assertRegex(output, r"(?m)^2 refused\nrefused min/avg/max/mdev = ")

    def test_silent(self):
        with client.full_queue() as port:
            result = ping("--connect", "-c", 3, "-i", "20ms", "-W", "200ms", "127.0.0.1", port)
        self.assertEqual((result.status, result.stderr), (client.TIMED_OUT, ""))
        self.assertEqual(re.findall(r"(?m)^no answer from 127\.0\.0\.1:\d+: seq=(\d)$", result.stdout.decode()), list("123"))
        self.assertRegex(result.stdout.decode(), self.SUMMARY % (3, 0, 3, 100))

    def test_unreachable(self):
        with harness.network_namespace():
            result = ping("--connect", "-c", 1, "192.0.2.1", 7)
        self.assertEqual(result.status, client.UNREACHABLE)
        self.assertRegex(result.stdout.decode(), r"(?m)^cannot reach 192\.0\.2\.1:7: seq=1 Network is unreachable$")

    def test_interrupted(self):
        with client.full_queue() as port, client.Client("--ping", "--connect", "-W", "1h", "127.0.0.1", port) as process:
            process.process.stdout.readline()
            harness.wait_until(lambda: client.awaits_signals(process.process), "a handler for signals")
            process.interrupt()
            result = process.finish()
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(result.stdout.decode(), r"1 connection tried, 0 made, 1 failed \(100%\), time \d+ ms\n\Z")

    def test_unix_socket_and_flood(self):
        with daemons.Daemon(LISTENERS) as daemon:
            for place in ((daemon.path("echo.sock"),), ("127.0.0.1", daemon.port)):
                result = ping("--connect", "-f", "-c", 500, *place)
                self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
                self.assertRegex(result.stdout.decode(), self.SUMMARY % (500, 500, 0, 0))

    def test_no_descriptors(self):
        """Nothing was tried, and that is our own fault."""
        result = ping("--connect", "-c", 2, "-i", "10ms", "127.0.0.1", 7, faults="socket:EMFILE")
        self.assertEqual(result.status, client.SYSTEM_ERROR)
        self.assertEqual(result.stdout.decode().count("cannot connect to 127.0.0.1:7: Too many open files\n"), 2)
        self.assertRegex(result.stdout, rb"(?m)^0 connections tried, 2 not sent, 0 made, 2 failed \(100%\), time ")

    def test_beside_nping(self):
        """The same port is open, closed or silent for both."""
        nping = harness.needs("nping")
        closed = harness.free_port()
        self.addCleanup(closed.close)
        with client.Server(lambda connection: connection.recv(1)) as server:
            for port, made in ((server.port, 2), (closed, 0)):
                other = harness.subprocess.run([nping, "--tcp-connect", "-c", "2", "--delay", "50ms", "-p", str(int(port)),
                                                "127.0.0.1"], capture_output=True, text=True, check=False).stdout
                theirs = int(re.search(r"Successful connections: (\d+)", other).group(1))
                mine = ping("--connect", "-c", 2, "-i", "50ms", "127.0.0.1", port).stdout.decode()
                self.assertEqual((theirs, int(re.search(r"(\d+) made", mine).group(1))), (made, made), other)

    def test_beside_hping3(self):
        """What answers to a SYN is a connection, a RST is a refusal, and nothing is silence."""
        hping3 = harness.needs("hping3")
        harness.needs_root()
        closed = harness.free_port()
        self.addCleanup(closed.close)
        with client.Server(lambda connection: connection.recv(1)) as server, client.full_queue() as silent:
            for port, flags, line in ((server.port, ["SA"], "connected to"), (closed, ["RA"], "refused by"),
                                      (silent, [], "no answer from")):
                other = harness.subprocess.run([hping3, "-I", "lo", "-S", "-c", "1", "-p", str(int(port)), "127.0.0.1"],
                                               capture_output=True, text=True, check=False).stdout
                mine = ping("--connect", "-c", 1, "-W", "1s", "127.0.0.1", port).stdout.decode()
                self.assertEqual(re.findall(r" flags=(\w+) ", other), flags, other)
                self.assertRegex(mine, rf"(?m)^{line} 127\.0\.0\.1:{int(port)}: seq=1")


class Person(harness.TestCase):
    """At a terminal: colour for what is wrong, Ctrl-C for the summary."""

    RED = "\x1b[31m"

    def test_interrupt(self):
        with daemons.Daemon() as daemon, client.Terminal("--ping", "-i", "10ms", "127.0.0.1", daemon.port) as person:
            person.expect(rf"^{REPLY}\n{REPLY}\n")
            person.type(person.INTERRUPT)
            self.assertEqual(person.wait(), 0)
            self.assertRegex(person.screen, rf"\n--- .* ---\n\d+ messages transmitted, .*\n(.* under way\n|\d+ not sent in time\n)?{TIMES}\n\Z")
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
