#!/usr/bin/env python3
"""tcpecho as people use it: in a pipe and at a terminal, against servers of every kind, and how it fails."""

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
import harness

MIB = 1 << 20
FILE_SIZE = harness.scale(64 * MIB, 8 * MIB)
WATCHED_SIZE = harness.scale(100 * MIB, 8 * MIB)  # of the file in which one byte goes wrong

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

    @classmethod
    def setUpClass(cls):
        cls.daemon = harness.Daemon(LISTENERS)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def test_bytes_come_back(self):
        for data in (b"", b"x", b"hello\n", bytes(range(256)), harness.pattern(100000)):
            with self.subTest(length=len(data)):
                result = client.run("127.0.0.1", self.daemon.port, stdin=data)
                self.assertEqual((result.status, result.stderr), (0, ""))
                harness.assert_same(result.stdout, data)

    def test_file(self):
        """Identical, in bounded memory, whatever the size."""
        with client.random_file(FILE_SIZE) as file, tempfile.TemporaryFile() as copy:
            process = subprocess.Popen(client.command("127.0.0.1", self.daemon.port), stdin=file, stdout=copy)
            memory = client.watch_memory(process)
            self.assertEqual(process.wait(), 0)
            copy.seek(0)
            file.seek(0)
            self.assertEqual(hashlib.file_digest(copy, "sha256").digest(), hashlib.file_digest(file, "sha256").digest())
        diagnose(f"{FILE_SIZE >> 20} MiB: {memory} KiB of memory at most")
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

    def test_verbose(self):
        result = client.run("-v", "127.0.0.1", self.daemon.port, stdin=b"hello")
        self.assertRegex(result.stderr, rf"^tcpecho: connected to 127\.0\.0\.1:{self.daemon.port}\n"
                                        r"tcpecho: 5 bytes sent, 5 received in [\d.]+ \w+ \([\d.]+ \w+/s\)\n$")

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


class Names(harness.TestCase):
    """What HOST and PORT may be."""

    def test_addresses(self):
        listeners = """{ address = "127.0.0.1"; port = PORT; service = "echo"; },
                       { address = "::1"; port = PORT; service = "echo"; }"""
        harness.needs_ipv6()
        with harness.Daemon(listeners) as daemon:
            for host, peer in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("localhost", "")):
                with self.subTest(host=host):
                    result = client.run("-v", host, daemon.port, stdin=b"hello")
                    self.assertEqual((result.status, result.stdout), (0, b"hello"))
                    self.assertIn(f"connected to {peer}", result.stderr)

    def test_service_names_and_the_default_port(self):
        with harness.network_namespace():
            with harness.Daemon('{ address = "127.0.0.1"; port = 7; service = "echo"; },'
                                '{ address = "127.0.0.1"; port = 7007; service = "upper"; }'):
                self.assertEqual(client.run("127.0.0.1", "echo", stdin=b"hello").stdout, b"hello")
                self.assertEqual(client.run("127.0.0.1", stdin=b"hello").stdout, b"HELLO")

    def _with_hosts(self, text, *arguments, **options):
        """Runs the client where /etc/hosts says this."""
        harness.needs_root()
        with tempfile.NamedTemporaryFile("w", prefix="tcpecho-test-") as hosts:
            hosts.write(text)
            hosts.flush()
            os.chmod(hosts.name, 0o644)
            script = 'mount --bind "$0" /etc/hosts && exec "$@"'
            wrapper = (harness.needs("unshare"), "--mount", "sh", "-c", script, hosts.name)
            return client.run(*arguments, wrapper=wrapper, **options)

    def test_every_address_in_turn(self):
        with client.Server(client.echo) as server:
            hosts = "127.0.0.2 many\n127.0.0.3 many\n127.0.0.1 many\n"
            result = self._with_hosts(hosts, "-v", "many", server.port, stdin=b"hello")
            self.assertEqual((result.status, result.stdout), (0, b"hello"), result.stderr)
            self.assertIn("connected to 127.0.0.1:", result.stderr)

            result = self._with_hosts("127.0.0.2 many\n127.0.0.3 many\n", "many", server.port)
            refused = "127\\.0\\.0\\.%d:\\d+: Connection refused"
            self.assertEqual(result.status, client.REFUSED)
            self.assertRegex(result.stderr, rf"^tcpecho: cannot connect to many port \d+ \({refused % 2}, {refused % 3}\)"
                                            r"; no server listens there\n$")

    def test_addresses_of_both_families(self):
        harness.needs_ipv6()
        with client.Server(client.echo) as server:
            result = self._with_hosts("::1 both\n127.0.0.1 both\n", "-v", "both", server.port, stdin=b"hello")
            self.assertEqual((result.status, result.stdout), (0, b"hello"), result.stderr)


class Failures(harness.TestCase):
    """One line each, and an exit status that tells them apart."""

    def check(self, result, status, pattern):
        self.assertEqual(result.status, status, result.stderr)
        self.assertRegex(result.stderr, rf"\Atcpecho: {pattern}\n\Z")

    def test_usage(self):
        for arguments, pattern in (
                ((), "no HOST to connect to; see tcpecho --help"),
                (("a", "b", "c"), "c: one HOST and one PORT are all; .*"),
                (("--no-such", "a"), "--no-such: unknown or ambiguous option; .*"),
                (("localhost", "0"), "0: a port is 1 to 65535 or the name of a service"),
                (("localhost", "65536"), "65536: a port is .*"),
                (("", "7"), '"": not the name of a host'),
                (("/tmp/x", "7"), "/tmp/x: a path has no port"),
                (("/" + "x" * 120,), "/x+...: the path of a socket has at most 107 bytes"),
                (("-e", "lower", "a"), "--expect lower: must be echo or upper; .*"),
        ):
            with self.subTest(arguments=arguments):
                self.check(client.run(*arguments), client.USAGE, pattern)

    def test_unknown_names(self):
        for arguments, pattern in (
                (("no-such-host.invalid",), r"cannot find no-such-host\.invalid: .*"),
                (("no-such-host.invalid:7",), r"no-such-host\.invalid:7: no such host; the port is an argument of its "
                                              r"own: no-such-host\.invalid 7"),
                (("127.0.0.1", "no-such-service"), "no-such-service: no such service in /etc/services; .*"),
                (("/no/such/socket",), "cannot connect to /no/such/socket: No such file or directory"),
        ):
            with self.subTest(arguments=arguments):
                self.check(client.run(*arguments), client.UNKNOWN, pattern)

    def test_refused(self):
        self.check(client.run("127.0.0.1", harness.free_port()), client.REFUSED,
                   r"cannot connect to 127\.0\.0\.1 port \d+ \(127\.0\.0\.1:\d+: Connection refused\); no server "
                   r"listens there")

    def test_unreachable(self):
        with harness.network_namespace():
            self.check(client.run("192.0.2.1", "7"), client.UNREACHABLE,
                       r"cannot connect to 192\.0\.2\.1 port 7 \(192\.0\.2\.1:7: Network is unreachable\)")

    def test_timed_out(self):
        with client.full_queue() as port:
            self.check(client.run("-t", "300ms", "127.0.0.1", port), client.TIMED_OUT,
                       r"cannot connect to .*: Connection timed out\); --connect-timeout allows more time")

    def test_full_unix_socket(self):
        """Its connect(2) does not wait: it is tried again until there is room, or the time is over."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socket")
            with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
                listening.bind(path)
                listening.listen(0)
                waiting.connect(path)
                self.check(client.run("-t", "100ms", path), client.TIMED_OUT, "cannot connect to .*: Connection timed out.*")
                with client.Client(path) as talk:
                    first, _ = listening.accept()
                    second, _ = listening.accept()
                    second.close()
                    first.close()
                    self.assertEqual(talk.finish().status, 0)

    def test_no_permission(self):
        harness.needs_root()
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
            os.chmod(directory, 0o755)
            path = os.path.join(directory, "socket")
            listening.bind(path)
            os.chmod(path, 0o600)
            wrapper = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
            if not os.access(client.TCPECHO, os.X_OK) or subprocess.run(
                    [*wrapper, client.TCPECHO, "-V"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
                self.skipTest("other users cannot run the build")
            self.check(client.run(path, wrapper=wrapper), client.NO_PERMISSION, "cannot connect to .*: Permission denied")

    def test_closed_early(self):
        def close_unread(connection):
            harness.receive_exactly(connection, 1)

        def close_at_once(connection):
            pass

        def reset_later(connection):
            connection.sendall(harness.receive_exactly(connection, 2))
            client.reset(connection)

        for serve in (close_unread, close_at_once, reset_later):
            with self.subTest(serve=serve.__name__), client.Server(serve) as server:
                self.check(client.run("127.0.0.1", server.port, stdin=b"hello"), client.CLOSED_EARLY,
                           r"127\.0\.0\.1:\d+ closed the connection before the end: (Connection reset by peer|Broken pipe)"
                           r" \(5 bytes sent, [02] received\)")

    def test_silent(self):
        with client.Server(client.discard) as server:

            def keep(connection):
                client.discard(connection)
                self.assertTrue(done.wait(harness.patience()))

            done = threading.Event()
            server.serve = keep
            self.check(client.run("-W", "200ms", "127.0.0.1", server.port, stdin=b"hello"), client.TIMED_OUT,
                       r"127\.0\.0\.1:\d+ has been silent for 200 ms \(5 bytes sent, 0 received\)")
            done.set()

    def test_files(self):
        with client.Server(client.echo) as server, open("/dev/full", "wb") as full:
            self.check(client.run("127.0.0.1", server.port, stdin=b"x", stdout=full), client.FILE_ERROR,
                       "cannot write to stdout: No space left on device")
            directory = os.open("/", os.O_RDONLY)
            self.check(client.run("127.0.0.1", server.port, stdin=directory), client.FILE_ERROR,
                       "cannot read stdin: Is a directory")
            os.close(directory)
        for option in ("--help", "--version"):
            with open("/dev/full", "wb") as full:
                self.check(client.run(option, stdout=full), client.FILE_ERROR,
                           "cannot write to stdout: No space left on device")

    def test_closed_descriptors(self):
        """A socket never gets the number of stdin, stdout or stderr."""
        with client.Server(client.echo) as server:
            for closed, pattern in (("<&-", "cannot read stdin: .*"), (">&-", "cannot write to stdout: .*")):
                result = client.run("127.0.0.1", server.port, stdin=b"x",
                                    wrapper=("sh", "-c", f'exec "$@" {closed}', "sh"))
                self.check(result, client.FILE_ERROR, pattern)
            result = client.run("127.0.0.1", server.port, stdin=b"x", wrapper=("sh", "-c", 'exec "$@" 2>&-', "sh"))
            self.assertEqual((result.status, result.stdout), (0, b"x"))

    def test_the_system_fails(self):
        with client.Server(client.echo) as server:
            for rule, status, pattern in (
                    ("socket:EMFILE", client.SYSTEM_ERROR, "cannot connect to .*: Too many open files.*"),
                    ("setsockopt:ENOMEM", client.SYSTEM_ERROR, "cannot connect to .*: Cannot allocate memory.*"),
                    ("connect:EADDRNOTAVAIL", client.UNREACHABLE, "cannot connect to .*: Cannot assign requested address.*"),
                    ("getsockopt:ENOBUFS:1", client.SYSTEM_ERROR, "cannot connect to .*: No buffer space available.*"),
                    ("poll:ENOMEM:1", client.SYSTEM_ERROR, "cannot connect to .*: Cannot allocate memory.*"),
                    ("poll:ENOMEM:2", client.SYSTEM_ERROR, "cannot wait for input: Cannot allocate memory"),
                    ("malloc:ENOMEM", client.SYSTEM_ERROR, "Cannot allocate memory"),
                    ("calloc:ENOMEM", client.SYSTEM_ERROR, "Cannot allocate memory"),
                    ("signalfd:EMFILE", client.SYSTEM_ERROR, "cannot wait for signals: Too many open files"),
                    ("shutdown:ENOTCONN", client.CLOSED_EARLY, ".* closed the connection before the end: .* reset.*"),
                    ("recv:EHOSTUNREACH", client.UNREACHABLE, ".* before the end: No route to host .*"),
                    ("send:EPIPE", client.CLOSED_EARLY, ".* before the end: Broken pipe .*"),
                    ("read:EIO", client.FILE_ERROR, "cannot read stdin: Input/output error"),
            ):
                with self.subTest(rule=rule):
                    self.check(client.run("127.0.0.1", server.port, stdin=b"hello", faults=rule), status, pattern)

    def test_what_passes(self):
        """Short reads and writes, interrupted calls, and descriptors that others have made non-blocking."""
        data = harness.pattern(200000)
        with client.Server(client.echo) as server:
            for rule in ("recv:short=7:1-50", "send:short=3:1-50", "write:short=1:1-50", "read:short:1-50",
                         "recv:EAGAIN:2", "send:EINTR:1", "write:EAGAIN:1-3", "read:EAGAIN:1", "poll:EINTR:2-9",
                         "ioctl:ENOTTY", "open:EMFILE", "fstat:EIO"):
                with self.subTest(rule=rule):
                    result = client.run("-e", "echo", "127.0.0.1", server.port, stdin=data, faults=rule)
                    self.assertEqual((result.status, result.stderr), (0, ""))
                    harness.assert_same(result.stdout, data)


class Expect(harness.TestCase):
    """--expect: the first wrong, missing or repeated byte of the answer, and where."""

    @classmethod
    def setUpClass(cls):
        cls.file = cls.enterClassContext(client.random_file(WATCHED_SIZE))

    def talk(self, serve, expect="echo", stdin=None):
        if stdin is None:
            stdin = self.file
            stdin.seek(0)
        with client.Server(serve) as server:
            return client.run("--expect", expect, "127.0.0.1", server.port, stdin=stdin, stdout=subprocess.DEVNULL)

    def check(self, serve, pattern, **options):
        result = self.talk(serve, **options)
        self.assertEqual(result.status, client.WRONG, result.stderr)
        self.assertRegex(result.stderr, rf"\Atcpecho: wrong answer from 127\.0\.0\.1:\d+: {pattern}\n\Z")

    def test_right(self):
        with harness.Daemon(LISTENERS) as daemon:
            for index, expect in enumerate(("echo", "upper")):
                self.file.seek(0)
                result = client.run("-v", "--expect", expect, "127.0.0.1", daemon.ports[index], stdin=self.file,
                                    stdout=subprocess.DEVNULL)
                self.assertEqual(result.status, 0, result.stderr)
                self.assertIn(f"{WATCHED_SIZE} bytes sent, {WATCHED_SIZE} received, every one right", result.stderr)

    def test_one_byte_in_a_large_file(self):
        offset = WATCHED_SIZE * 2 // 3 + 12345
        self.file.seek(offset)
        two = self.file.read(2)
        self.assertNotEqual(two[0], two[1])
        for change, length, what in (
                (lambda data: b"", 1, "1 byte missing, .*"),
                (lambda data: data + data, 1, "1 byte repeated .*"),
                (lambda data: data[::-1], 2, "2 bytes in another order than sent .*"),
                (lambda data: bytes([data[0] ^ 1]), 1, "1 byte changed .*"),
        ):
            with self.subTest(what=what):
                # A repeated byte shows where its successor should be.
                at = offset + 1 if "repeated" in what else offset
                self.check(client.Tamper(offset, length, change), f"byte {at}: {what}")

    def test_larger_pieces(self):
        offset = WATCHED_SIZE // 2
        for change, length, what in (
                (lambda data: b"", 4096, "4096 bytes missing, .*"),
                (lambda data: data + data, 4096, "4096 bytes repeated .*"),
                (lambda data: data[4096:] + data[:4096], 8192, "4096 bytes in another order than sent .*"),
                (lambda data: bytes(16) + data, 1, "16 bytes that nobody sent .*"),
        ):
            with self.subTest(what=what):
                at = offset + 4096 if "repeated" in what else offset
                self.check(client.Tamper(offset, length, change), f"byte {at}: {what}")

    def test_ends(self):
        def cut(connection):
            connection.sendall(harness.receive_exactly(connection, 10)[:7])
            client.discard(connection)

        def surplus(connection):
            client.echo(connection)
            connection.sendall(b"and more")

        self.check(cut, r"byte 7: the connection ended, and the last 3 bytes of the answer had not come",
                   stdin=b"0123456789")
        self.check(surplus, r"byte 10: 8 bytes came behind the whole answer", stdin=b"0123456789")

    def test_the_other_service(self):
        with harness.Daemon(LISTENERS) as daemon:
            for index, expect in enumerate(("upper", "echo")):
                result = client.run("--expect", expect, "127.0.0.1", daemon.ports[index], stdin=b"hello\n")
                self.assertEqual(result.status, client.WRONG)
                self.assertIn("byte 0: right for the other kind of --expect", result.stderr)

    def test_a_server_that_swallows(self):
        """No more is sent than may go unanswered, and --wait says how long that may take."""
        done = threading.Event()

        def swallow(connection):
            connection.settimeout(0.5)
            try:
                client.discard(connection)
            except TimeoutError:
                pass
            done.wait(harness.patience())

        with client.Server(swallow) as server:
            self.file.seek(0)
            result = client.run("-e", "echo", "-W", "1s", "127.0.0.1", server.port, stdin=self.file)
            done.set()
        self.assertEqual(result.status, client.TIMED_OUT)
        sent = int(re.search(r"has been silent for 1 s \((\d+) bytes sent, 0 received\)", result.stderr).group(1))
        self.assertLess(sent, 4 * MIB)

    def test_a_reset_behind_the_wrong_byte(self):
        """The wrong byte is the news."""
        def serve(connection):
            harness.receive_exactly(connection, 5)
            connection.sendall(b"hallo")
            time.sleep(0.1)
            client.reset(connection)

        self.check(serve, r"byte 1: 1 byte changed \(0x61 instead of 0x65\)", stdin=b"hello")


class Person(harness.TestCase):
    """At a terminal."""

    def test_talk(self):
        with harness.Daemon() as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            for line in ("hello", "how are you?"):
                person.type(line + "\n")
                # Once as it is typed, and once as it comes back.
                person.expect(rf"^{re.escape(line)}\n{re.escape(line)}\n")
            person.type(person.END)
            self.assertEqual(person.wait(), 0)
            self.assertEqual(person.screen, "")

    def test_a_line_without_its_end(self):
        with harness.Daemon() as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            person.type("half" + person.END)  # the first one only sends the line
            person.expect("halfhalf")
            person.type(person.END)
            self.assertEqual(person.wait(), 0)

    def test_the_server_leaves(self):
        """Nobody has to press Ctrl-D for a server that has nothing more to say."""
        listeners = '{ address = "127.0.0.1"; port = PORT; service = "upper"; end_word = "end"; }'
        with harness.Daemon(listeners) as daemon, client.Terminal("127.0.0.1", daemon.port) as person:
            person.type("end\n")
            person.expect(r"end\nEND\n")
            self.assertEqual(person.wait(), 0)

    def test_interrupt(self):
        with harness.Daemon() as daemon, client.Terminal("-v", "127.0.0.1", daemon.port) as person:
            person.expect(r"connected to .*\n")  # or it would come between what is typed and what comes back
            person.type("hello\n")
            person.expect(r"hello\nhello\n")
            person.type(person.INTERRUPT)
            self.assertEqual(person.wait(), -signal.SIGINT)
            self.assertIn("6 bytes sent, 6 received", person.screen)

    def test_interrupt_while_connecting(self):
        with client.full_queue() as port, client.Client("127.0.0.1", port) as talk:
            harness.wait_until(lambda: client.awaits_signals(talk.process), "the client to connect")
            talk.interrupt()
            result = talk.wait()
            self.assertEqual((result.status, result.stderr), (-signal.SIGINT, ""))

    def test_hang_up(self):
        """The terminal goes away."""
        with harness.Daemon() as daemon:
            person = client.Terminal("127.0.0.1", daemon.port)
            person.type("hello\n")
            person.expect(r"hello\nhello\n")
            os.close(person.fd)
            self.assertEqual(person.process.wait(harness.patience()), -signal.SIGHUP)


class Help(harness.TestCase):
    def test_help(self):
        result = client.run("--help")
        self.assertEqual((result.status, result.stderr), (0, ""))
        self.assertIn("tcpecho [OPTIONS] HOST [PORT]", result.stdout.decode())
        self.assertEqual(client.run("-h").stdout, result.stdout)
        self.assertEqual(client.run("-h", "--count").status, client.USAGE)
        # Of one mode: its options and no others.
        ping = client.run("--ping", "--help").stdout.decode()
        self.assertIn("--interval", ping)
        self.assertNotIn("--listen", ping)
        self.assertNotIn("\x1b", result.stdout.decode())

    def test_version(self):
        for option in ("-V", "--version"):
            self.assertRegex(client.run(option).stdout.decode(), r"^tcpecho \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    harness.main()
