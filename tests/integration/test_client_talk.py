#!/usr/bin/env python3
"""tcpecho as people use it: in a pipe and at a terminal."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import client
import daemons
import harness

MIB = 1 << 20
FILE_SIZE = harness.scale(32 * MIB, 8 * MIB)
LARGE_SIZE = harness.scale(64 * MIB, 8 * MIB)

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "upper"; },
    { address = "127.0.0.1"; port = PORT2; service = "daytime"; },
    { address = "127.0.0.1"; port = PORT3; service = "chargen"; },
    { path = "DIR/echo.sock"; service = "echo"; }
"""


def diagnose(text):
    print(f"# {text}", flush=True)


class Pipe(harness.TestCase):
    """stdin and stdout are pipes or files."""

    def setUp(self):
        self.daemon = daemons.Daemon(LISTENERS)
        self.addCleanup(self.daemon.__exit__, None, None, None)

    def test_bytes_come_back(self):
        for data in (b"", b"x", b"hello\n", bytes(range(256)), harness.pattern(100000)):
            with self.subTest(length=len(data)):
                result = client.run("127.0.0.1", self.daemon.port, stdin=data)
                self.assertEqual((result.status, result.stderr), (0, ""))
                harness.assert_same(result.stdout, data)

    def test_file(self):
        """Identical, in bounded memory, whatever the size."""
        with client.random_file(LARGE_SIZE) as file, tempfile.TemporaryFile() as copy:
            process = subprocess.Popen(client.command("127.0.0.1", self.daemon.port), stdin=file, stdout=copy)
            memory = client.watch_memory(process)
            self.assertEqual(process.wait(), 0)
            copy.seek(0)
            file.seek(0)
            self.assertEqual(hashlib.file_digest(copy, "sha256").digest(), hashlib.file_digest(file, "sha256").digest())
        diagnose(f"{LARGE_SIZE >> 20} MiB: {memory} KiB of memory at most")
        self.assertGreater(memory, 0)
        if not harness.sanitized():
            self.assertLess(memory, 8 << 10)

    def test_speed_beside_socat(self):
        """Measured and told, not judged: the machine may be busy."""
        harness.needs("socat")
        with client.random_file(FILE_SIZE) as file:
            for name, command in (("tcpecho", client.command("127.0.0.1", self.daemon.port)),
                                  ("socat", harness.CLIENTS["socat"]("127.0.0.1", self.daemon.port))):
                file.seek(0)
                start = time.monotonic()
                subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, check=True)
                diagnose(f"{name}: {FILE_SIZE / MIB / (time.monotonic() - start):.0f} MiB/s")

    def test_unix_socket(self):
        result = client.run(self.daemon.path("echo.sock"), stdin=b"hello")
        self.assertEqual((result.status, result.stdout, result.stderr), (0, b"hello", ""))

    def test_server_that_only_talks(self):
        result = client.run("127.0.0.1", self.daemon.ports[2])
        self.assertEqual(result.status, 0)
        self.assertRegex(result.stdout.decode(), r"^\w{3} \w{3} [\d ]\d \d\d:\d\d:\d\d \d{4}\r\n$")

    def test_reader_that_has_seen_enough(self):
        """... | head -1 ends without a word, also with SIGPIPE ignored, and when nothing more comes."""
        for arguments, wrapper in ((["127.0.0.1", self.daemon.ports[3]], ()),
                                   (["127.0.0.1", self.daemon.ports[3]], ("env", "--ignore-signal=PIPE"))):
            with client.Client(*arguments, wrapper=wrapper) as talk:
                self.assertEqual(len(talk.process.stdout.readline()), 74)
                talk.process.stdout.close()
                result = talk.wait()
                self.assertEqual((result.status, result.stderr), (0, ""))
        with client.Client("127.0.0.1", self.daemon.port) as talk:
            talk.send(b"one\n")
            self.assertEqual(talk.process.stdout.readline(), b"one\n")
            talk.process.stdout.close()
            self.assertEqual(talk.wait().status, 0)

    def test_urgent_byte(self):
        """RFC 6093: it is a byte of the answer like every other, on both sides of a talk."""

        def send(connection):
            connection.sendall(b"ab")
            connection.send(b"X", socket.MSG_OOB)
            connection.sendall(b"cd")
            connection.shutdown(socket.SHUT_WR)

        with tempfile.TemporaryDirectory() as directory:
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_UNIX, os.path.join(directory, "socket"))):
                with self.subTest(family=family), client.Server(send, family, address) as server:
                    where = (address,) if server.port is None else (address, server.port)
                    self.assertEqual(client.run(*where, stdin=b"").stdout, b"abXcd")
        with client.Client("-v", "--listen", "127.0.0.1:0") as host:
            port = host.wait_stderr(r"listening at \S+:(\d+)\n").group(1)
            with socket.create_connection(("127.0.0.1", int(port)), harness.patience()) as guest:
                send(guest)
                self.assertEqual(host.finish().stdout, b"abXcd")

    def test_both_ways_at_once(self):
        """A reader that is slow does not stop what is typed: stdout may be full, and stdin still goes out."""
        seen = threading.Event()

        def serve(connection):
            connection.settimeout(harness.patience())
            connection.sendall(bytes(512 << 10))  # more than a pipe holds
            self.assertEqual(connection.recv(6), b"typed\n")
            seen.set()

        with client.Server(serve) as server, client.Client("127.0.0.1", server.port) as talk:
            time.sleep(0.2)  # not needed, but the pipe is most likely full then
            talk.send(b"typed\n")
            self.assertTrue(seen.wait(harness.patience()))
            self.assertEqual(len(talk.finish().stdout), 512 << 10)

    def test_server_that_closes_its_side_first(self):
        """All of stdin still arrives: the other side may have closed only half, and be a tcpecho like us."""
        data, got = harness.pattern(3 * MIB), []

        def serve(connection):
            connection.sendall(b"that is all\n")
            connection.shutdown(socket.SHUT_WR)
            got.append(harness.receive_all(connection))

        with client.Server(serve) as server:
            result = client.run("127.0.0.1", server.port, stdin=data)
        self.assertEqual((result.status, result.stdout, result.stderr), (0, b"that is all\n", ""))
        harness.assert_same(got[0], data)

    def test_server_that_is_gone(self):
        """What is sent to it comes back as a reset, also while no answer is waited for any more."""
        with client.Server(lambda connection: connection.sendall(b"bye\n")) as server:
            with client.Client("127.0.0.1", server.port) as talk:
                self.assertEqual(talk.receive(4), b"bye\n")
                talk.send(b"x")
                result = talk.wait()
                self.assertEqual(result.status, client.CLOSED_EARLY)
                self.assertIn("closed the connection before the end: ", result.stderr)

    def test_verbose(self):
        result = client.run("-v", "127.0.0.1", self.daemon.port, stdin=b"hello")
        self.assertRegex(result.stderr, rf"^tcpecho: connected to 127\.0\.0\.1:{self.daemon.port}\n"
                                        r"tcpecho: 5 bytes sent, 5 received\ntcpecho: [\d.]+ \w+, [\d.]+ \w+/s received\n$")

    def test_socket_as_stdout(self):
        """As inetd-like programs give it: one that is full does not stop stdin, either."""
        def serve(connection):
            connection.settimeout(harness.patience())
            connection.sendall(bytes(SIZE))
            connection.sendall(harness.receive_exactly(connection, 6))

        SIZE = 8 * MIB
        ours, theirs = socket.socketpair()
        with client.Server(serve) as server, ours, theirs:
            with client.Client("127.0.0.1", server.port, stdin=theirs, stdout=theirs) as talk:
                theirs.close()
                ours.sendall(b"typed\n")
                ours.shutdown(socket.SHUT_WR)
                self.assertEqual(harness.receive_all(ours), bytes(SIZE) + b"typed\n")
                self.assertEqual(talk.wait().status, 0)

    def test_interrupted(self):
        """The summary comes, and then the signal has its way, so that a shell ends its loop, too."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with client.Client("127.0.0.1", self.daemon.port) as talk:
                talk.send(b"hello")
                talk.receive(5)
                talk.interrupt(number)
                result = talk.wait()
                self.assertEqual(result.status, -number)
                self.assertIn("5 bytes sent, 5 received", result.stderr)


class HalfClose(harness.TestCase):
    """What becomes of an answer when something ends all of it at our half-close, and what is known of it."""

    ADVICE = "--no-half-close keeps our side open until the answer is whole\n"

    def setUp(self):
        self.daemon = daemons.Daemon('''{ address = "127.0.0.1"; port = PORT; service = "echo"; },
                                        { address = "127.0.0.1"; port = PORT1; service = "discard"; }''')
        self.addCleanup(self.daemon.__exit__, None, None, None)

    def talk(self, serve, *arguments, stdin=b"hello\n"):
        with client.Server(serve) as server:
            return client.run(*arguments, "127.0.0.1", server.port, stdin=stdin)

    def test_answer_through_a_proxy(self):
        """As long as what was sent, it is waited for before our half-close; on request, however long that takes."""
        proxy = client.closing_proxy(self.daemon.port, 0.05)
        for arguments in ((), ("--expect", "echo")):
            # A machine that is busy for half a second makes the answer late.
            results = [self.talk(proxy, *arguments) for _ in range(5)]
            whole = [result for result in results if (result.status, result.stdout, result.stderr) == (0, b"hello\n", "")]
            self.assertGreaterEqual(len(whole), 3, results)
        data = harness.pattern(3 * MIB)
        result = self.talk(client.closing_proxy(self.daemon.port), "--expect", "echo", "--no-half-close", stdin=data)
        self.assertEqual((result.status, result.stderr), (0, ""))
        harness.assert_same(result.stdout, data)

    def test_answer_that_comes_late(self):
        """Later than a server is waited for without the option."""
        proxy = client.closing_proxy(self.daemon.port, 2)
        result = self.talk(proxy)
        self.assertEqual((result.status, result.stdout), (0, b""))
        self.assertRegex(result.stderr, r"^tcpecho: 127\.0\.0\.1:\d+ has answered nothing and closed at our half-close; if "
                                        rf"an answer is due, {self.ADVICE}$")
        result = self.talk(proxy, "--expect", "echo")
        self.assertEqual((result.status, result.stdout), (client.WRONG, b""))
        self.assertTrue(result.stderr.endswith(f"; that was after our half-close: {self.ADVICE}"), result.stderr)
        for arguments in (("-W", "1500ms"), ("--expect", "echo")):
            with self.subTest(arguments=arguments):
                result = self.talk(client.closing_proxy(self.daemon.port, 0.7), "--no-half-close", *arguments)
                self.assertEqual((result.status, result.stdout, result.stderr), (0, b"hello\n", ""))

    def test_reader_that_is_slow(self):
        """Then it is not the server who is silent."""
        data = harness.pattern(MIB)
        for arguments in ((), ("--no-half-close", "-W", "500ms"), ("--expect", "echo", "--no-half-close")):
            with self.subTest(arguments=arguments), client.Server(client.closing_proxy(self.daemon.port)) as server, \
                    tempfile.TemporaryFile() as request:
                request.write(data)
                request.seek(0)
                with client.Client(*arguments, "127.0.0.1", server.port, stdin=request) as talk:
                    answer = talk.receive(1)
                    time.sleep(1)
                    result = talk.finish()
                self.assertEqual((result.status, result.stderr), (0, ""))
                harness.assert_same(answer + result.stdout, data)

    def test_server_that_talks_on_until_it_sees_our_end(self):
        def serve(connection):
            connection.settimeout(0.1)
            while True:
                connection.sendall(b".")
                try:
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    pass
            connection.sendall(b"done")

        result = self.talk(serve, stdin=bytes(1 << 16))
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertTrue(result.stdout.endswith(b".done"), result.stdout[-100:])

    def test_answer_that_is_no_echo(self):
        """Longer than what was sent: it may go on."""
        def serve(connection):
            connection.recv(4096)
            connection.sendall(b"head" * 10)
            connection.settimeout(0.05)
            try:
                connection.recv(4096)  # the end of our side would be the end
            except TimeoutError:
                connection.sendall(b"body")

        result = self.talk(serve)
        self.assertEqual((result.status, result.stdout, result.stderr), (0, b"head" * 10 + b"body", ""))

    def test_server_with_nothing_to_say(self):
        """It is no failure; what happened is said where something was asked."""
        result = client.run("127.0.0.1", self.daemon.ports[1], stdin=b"x")
        self.assertEqual((result.status, result.stdout), (0, b""))
        self.assertIn("has answered nothing and closed at our half-close", result.stderr)
        result = client.run("127.0.0.1", self.daemon.ports[1], stdin=b"")
        self.assertEqual((result.status, result.stdout, result.stderr), (0, b"", ""))
        # Our side stays open for an answer that never comes.
        result = client.run("--no-half-close", "-W", "300ms", "127.0.0.1", self.daemon.ports[1], stdin=b"x")
        client.assert_one_line(self, result, client.TIMED_OUT, r"\S+ has been silent for 300 ms \(1 byte sent, 0 received\)")
        result = client.run("--no-half-close", "--expect", "echo", "-W", "300ms", "127.0.0.1", self.daemon.ports[1], stdin=b"x")
        client.assert_one_line(self, result, client.TIMED_OUT, r"\S+ has been silent for 300 ms \(1 byte sent, 0 received\)")

    def test_server_that_answers_at_the_end(self):
        """One that waits for our half-close gets it; -W counts from there."""
        def serve(connection):
            connection.sendall(harness.receive_all(connection)[::-1])

        for wait in ((), ("-W", "10s")):
            result = self.talk(serve, *wait, stdin=b"abc")
            self.assertEqual((result.status, result.stdout, result.stderr), (0, b"cba", ""))

    def test_longer_and_shorter_answers(self):
        for answer in (b"", b"a", b"a" * 100):
            def serve(connection, answer=answer):
                connection.sendall(answer)
                client.discard(connection)

            for arguments in ((), ("--no-half-close", "-W", "500ms")):
                if not answer and arguments:
                    continue
                with self.subTest(answer=answer, arguments=arguments):
                    result = self.talk(serve, *arguments)
                    self.assertEqual((result.status, result.stdout), (0, answer))

    def test_reset_after_our_half_close(self):
        def serve(connection):
            harness.receive_all(connection)
            client.reset(connection)

        result = self.talk(serve)
        self.assertEqual(result.status, client.CLOSED_EARLY)
        self.assertTrue(result.stderr.endswith(f"; that was after our half-close: {self.ADVICE}"), result.stderr)


class Person(harness.TestCase):
    """At a terminal."""

    def test_talk(self):
        with daemons.Daemon() as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            for line in ("hello", "how are you?"):
                person.type(line + "\n")
                # Once as it is typed, and once as it comes back.
                person.expect(rf"^{re.escape(line)}\n{re.escape(line)}\n")
            person.type(person.END)
            self.assertEqual(person.wait(), 0)
            self.assertEqual(person.screen, "")

    def test_a_line_without_its_end(self):
        with daemons.Daemon() as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            person.type("half" + person.END)  # the first one only sends the line
            person.expect("halfhalf")
            person.type(person.END)
            self.assertEqual(person.wait(), 0)

    def test_the_server_leaves(self):
        """Nobody has to press Ctrl-D for a server that has nothing more to say."""
        listeners = '{ address = "127.0.0.1"; port = PORT; service = "upper"; end_word = "end"; }'
        with daemons.Daemon(listeners) as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            person.type("end\n")
            person.expect(r"end\nEND\n")
            self.assertEqual(person.wait(), 0)

    def test_interrupt(self):
        with daemons.Daemon() as daemon, client.Terminal("-v", "127.0.0.1", daemon.port) as person:
            person.expect(r"connected to .*\n")  # or it would come between what is typed and what comes back
            person.type("hello\n")
            person.expect(r"hello\nhello\n")
            person.type(person.INTERRUPT)
            self.assertEqual(person.wait(), -signal.SIGINT)
            self.assertIn("6 bytes sent, 6 received", person.screen)

    def test_hang_up(self):
        """The terminal goes away."""
        with daemons.Daemon() as daemon:
            person = client.Terminal("127.0.0.1", daemon.port)
            person.type("hello\n")
            person.expect(r"hello\nhello\n")
            os.close(person.fd)
            # The kernel sends SIGHUP and ends the input; it is over with what comes first.
            self.assertIn(person.process.wait(harness.patience()), (-signal.SIGHUP, 0))


class Shown(harness.TestCase):
    """--crlf and --hex."""

    def test_crlf(self):
        """For each LF, also where a read ends between CR and LF; what is checked is what is sent."""
        with client.Server(client.echo) as server:
            result = client.run("--crlf", "--expect", "echo", "127.0.0.1", server.port, stdin=b"a\nb\r\n\n\rc")
            self.assertEqual((result.status, result.stdout, result.stderr), (0, b"a\r\nb\r\n\r\n\rc", ""))
            with client.Client("--crlf", "127.0.0.1", server.port) as process:
                process.send(b"x\r")
                self.assertEqual(process.receive(2), b"x\r")
                process.send(b"\ny")
                self.assertEqual(process.receive(2), b"\ny")
                self.assertEqual(process.finish().status, 0)

    def test_large_input(self):
        data = b"line\n" * 300000
        with client.Server(client.echo) as server:
            result = client.run("--crlf", "--expect", "echo", "127.0.0.1", server.port, stdin=data)
        self.assertEqual((result.status, result.stdout), (0, data.replace(b"\n", b"\r\n")))

    def test_hex(self):
        data = bytes(range(256)) * 300
        with client.Server(client.echo) as server:
            result = client.run("--hex", "--expect", "echo", "127.0.0.1", server.port, stdin=data)
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertRegex(result.lines[0], r"\A00000000  00 01 02 03 04 05 06 07  08 .* 0f  \|\.{16}\|\Z")
        shown = [re.match(r"([0-9a-f]{8})  ((?:[0-9a-f]{2} +)+)\|", line).groups() for line in result.lines]
        self.assertEqual(bytes.fromhex("".join(part for _, part in shown)), data)
        at = 0
        for offset, part in shown:
            self.assertEqual(int(offset, 16), at)
            at += len(part.split())

    def test_hexdump_agrees(self):
        """But for its "*" in the place of lines (-v) and the offset at the end."""
        hexdump = harness.needs("hexdump")
        for data in (b"Gr\xc3\xbc\xc3\x9fe\n\x00\x7f and more than one line", bytes(100), bytes(range(256)) * 2):
            wanted = harness.subprocess.run([hexdump, "-vC"], input=data, capture_output=True, check=True).stdout
            with client.Server(client.echo) as server:
                result = client.run("--hex", "127.0.0.1", server.port, stdin=data)
            self.assertEqual(result.stdout, b"\n".join(wanted.split(b"\n")[:-2]) + b"\n")

    def test_closed_connection_at_a_terminal(self):
        """As telnet says it; after our own end there is nothing to say."""
        with client.Server(lambda connection: connection.sendall(b"bye\n")) as server, \
                client.Terminal("127.0.0.1", server.port) as person:
            person.expect(rf"bye\ntcpecho: 127\.0\.0\.1:{server.port} closed the connection\n")
            self.assertEqual(person.wait(), 0)
        with client.Server(client.echo) as server, client.Terminal("127.0.0.1", server.port) as person:
            person.type("hi\n")
            person.expect(r"hi\nhi\n")
            person.type(person.END)
            self.assertEqual(person.wait(), 0)
            self.assertNotIn("closed the connection", person.screen)


class Help(harness.TestCase):
    def test_nothing_checked(self):
        """Of no bytes it is not said that every one was right."""
        with client.Server(client.echo) as server:
            self.assertNotIn("right", client.run("-v", "--expect", "echo", "127.0.0.1", server.port).stderr)
            with client.Client("-v", "--expect", "echo", "127.0.0.1", server.port) as process:
                process.wait_stderr("connected to")
                process.interrupt()
                self.assertRegex(process.finish().stderr, r"0 bytes sent, 0 received\n")

    def test_help(self):
        result = client.run("--help")
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertIn("tcpecho [OPTIONS] HOST [PORT]", result.stdout.decode())
        self.assertEqual(client.run("-h").stdout, result.stdout)
        self.assertEqual(client.run("-h", "--count").status, client.USAGE)
        # Of one mode: its options and no others.
        self.assertEqual(client.run("--listen", "--help").stdout, client.run("--listen", "7777", "--help").stdout)
        ping = client.run("--ping", "--help").stdout.decode()
        self.assertIn("--interval", ping)
        self.assertNotIn("--listen", ping)
        self.assertNotIn("\x1b", result.stdout.decode())

    def test_version(self):
        for option in ("-V", "--version"):
            for mode in ((), ("--ping",), ("--listen", "7777")):
                self.assertRegex(client.run(*mode, option).stdout.decode(), r"^tcpecho \d+\.\d+\.\d+\n$")

    def test_reader_that_has_seen_enough(self):
        for option in ("--help", "--version"):
            reading, writing = os.pipe()
            os.close(reading)
            with open(writing, "wb") as end:
                result = client.run(option, stdout=end)
            self.assertEqual((result.status, result.stderr), (0, ""))


if __name__ == "__main__":
    harness.main(jobs=4)
