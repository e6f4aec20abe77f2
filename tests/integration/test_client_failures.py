#!/usr/bin/env python3
"""Which server tcpecho finds by what it is told, and how it fails: one line, and an exit status that tells."""

import contextlib
import errno
import os
import signal
import socket
import tempfile
import threading
import time

import client
import daemons
import harness


class Stopped(harness.TestCase):
    def test_connected_while_it_could_not_look(self):
        """The time for connecting passes in the call that connects."""
        with client.Server(client.echo) as server:
            result = client.run("--connect-timeout", "200ms", "127.0.0.1", server.port, stdin=b"hello",
                                faults="connect:sleep=300:1")
        self.assertEqual((result.status, result.stdout, result.stderr), (0, b"hello", ""))


class Names(harness.TestCase):
    """What HOST and PORT may be."""

    def test_addresses(self):
        listeners = """{ address = "127.0.0.1"; port = PORT; service = "echo"; },
                       { address = "::1"; port = PORT; service = "echo"; }"""
        harness.needs_ipv6()
        with daemons.Daemon(listeners) as daemon:
            for host, peer in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("localhost", "")):
                with self.subTest(host=host):
                    result = client.run("-v", host, daemon.port, stdin=b"hello")
                    self.assertEqual((result.status, result.stdout), (0, b"hello"))
                    self.assertIn(f"connected to {peer}", result.stderr)

    def test_port_with_the_address(self):
        """As both programs print it, and as others write it."""
        with client.Server(client.echo) as server:
            for host in ("127.0.0.1:%d", "localhost:%d", "tcp://127.0.0.1:%d", "tcp://localhost:%d/"):
                for mode in ((), ("--ping", "-c", "1"), ("--bench", "-c", "1", "-n", "1")):
                    with self.subTest(host=host, mode=mode):
                        result = client.run(*mode, host % server.port, stdin=b"hello")
                        self.assertEqual((result.status, result.stderr), (0, ""))

    def test_service_names_and_the_default_port(self):
        with harness.network_namespace():
            with daemons.Daemon('{ address = "127.0.0.1"; port = 7; service = "echo"; },'
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


class Itself(harness.TestCase):
    """Where no server listens, and the client's own port is the one that it connects to: a simultaneous open."""

    PORT = 40002

    @contextlib.contextmanager
    def ports_of_clients(self, first, last):
        """A network whose clients have these ports and no others."""
        with harness.network_namespace():
            with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
                file.write(f"{first} {last}")
            yield

    def test_is_refused(self):
        for mode in ((), ("--expect", "echo"), ("--ping", "-c", "1"), ("--bench", "-c", "1", "-n", "1"),
                     ("--watch", "-d", "1")):
            for address in ("127.0.0.1", "::1"):
                with self.subTest(mode=mode, address=address), self.ports_of_clients(self.PORT, self.PORT):
                    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as proof:
                        try:
                            proof.connect((address, self.PORT))  # to itself
                        except OSError as error:
                            self.assertIn(error.errno, (errno.EADDRNOTAVAIL, errno.ENETUNREACH))
                            continue  # a host without IPv6
                        client.reset(proof)
                    result = client.run(*mode, address, self.PORT, stdin=b"hi\n")
                    client.assert_one_line(self, result, client.REFUSED, r"cannot connect to \S+ port 40002 "
                                           r"\(\S+: Connection refused\); no server listens there")
                    self.assertEqual(result.stdout, b"")
                    # Nothing is left of it that a server would have to wait for.
                    with socket.socket(proof.family) as server:
                        server.bind((address, self.PORT))

    def test_one_of_a_few_ports(self):
        with self.ports_of_clients(40000, 40007):
            for _ in range(40):
                result = client.run("-v", "--expect", "echo", "127.0.0.1", self.PORT, stdin=b"hi\n")
                self.assertEqual((result.status, result.stdout), (client.REFUSED, b""), result.stderr)

    def test_watch_does_not_work_again(self):
        """The server has gone for good; now and then a client's port is the server's."""
        gone = threading.Event()

        def serve(connection):
            for data in client.chunks(connection):
                if gone.is_set():
                    client.reset(connection)
                    return
                connection.sendall(data)

        with self.ports_of_clients(40000, 40015), client.Server(serve, port=self.PORT) as server:
            with client.Client("--watch", "-i", "5ms", "--gap", "1h", "127.0.0.1", self.PORT) as probe:
                harness.wait_until(lambda: server.threads, "the first connection")
                gone.set()
                server.stop()
                self.assertRegex(probe.process.stdout.readline(), b": (broken|cannot connect): ")
                time.sleep(0.7)  # two hundred tries
                probe.interrupt()
                result = probe.finish()
        self.assertEqual(result.status, client.WRONG)
        self.assertNotIn(b"works again", result.stdout)


class Failures(harness.TestCase):
    """One line each, and an exit status that tells them apart."""

    check = client.assert_one_line

    def test_usage(self):
        for arguments, pattern in (
                ((), "no HOST to connect to; see tcpecho --help"),
                (("a", "b", "c"), "c: no more than one HOST and one PORT; .*"),
                (("--no-such", "a"), "--no-such: unknown option; .*"),
                (("localhost", "0"), "0: a port is 1 to 65535 or the name of a service"),
                (("localhost", "65536"), "65536: a port is .*"),
                (("", "7"), '"": not the name of a host'),
                (("/tmp/x", "7"), "/tmp/x: a path has no port"),
                (("-4", "/tmp/x"), "/tmp/x: a path is neither IPv4 nor IPv6; leave out -4"),
                (("--watch", "--ipv6", "/tmp/x"), "/tmp/x: a path is neither IPv4 nor IPv6; leave out -6"),
                (("--ping", "-I", "127.0.0.1", "/tmp/x"), "/tmp/x: .*; leave out -I"),
                (("--bench", "-I", "lo", "/tmp/x"), "/tmp/x: .*; leave out -I"),
                (("-Q", "ef", "/tmp/x"), "/tmp/x: .*; leave out -Q"),
                (("/" + "x" * 120,), "/x+...: the path of a socket has at most 107 bytes"),
                (("--expect", "lower", "a"), "--expect lower: must be echo or upper; .*"),
        ):
            with self.subTest(arguments=arguments):
                self.check(client.run(*arguments), client.USAGE, pattern)

    def test_unknown_names(self):
        for arguments, pattern in (
                (("no-such-host.invalid",), r"cannot find no-such-host\.invalid: .*"),
                (("no-such-host.invalid:7",), r"cannot find no-such-host\.invalid: .*"),
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
            self.check(client.run("--connect-timeout", "300ms", "127.0.0.1", port), client.TIMED_OUT,
                       r"cannot connect to .*: Connection timed out\); --connect-timeout allows more time")

    def test_full_unix_socket(self):
        """Its connect(2) does not wait: it is tried again until there is room, or the time is over."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socket")
            with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
                listening.bind(path)
                listening.listen(0)
                waiting.connect(path)
                self.check(client.run("--connect-timeout", "100ms", path), client.TIMED_OUT,
                           "cannot connect to .*: Connection timed out.*")
                with client.Client(path) as talk:
                    first, _ = listening.accept()
                    second, _ = listening.accept()
                    second.close()
                    first.close()
                    self.assertEqual(talk.finish().status, 0)

    def test_no_permission(self):
        harness.needs_root()
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening, \
                harness.executable_for_all(client.TCPECHO) as executable:
            path = os.path.join(directory, "socket")
            listening.bind(path)
            os.chmod(path, 0)
            # The superuser without its privileges.
            wrapper = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", "--")
            self.check(client.run(path, wrapper=wrapper, executable=executable), client.NO_PERMISSION,
                       "cannot connect to .*: Permission denied")

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
                    ("connect:EADDRNOTAVAIL", client.SYSTEM_ERROR, "cannot connect to .*: Cannot assign requested address.*"),
                    ("getsockopt:ENOBUFS:1", client.SYSTEM_ERROR, "cannot connect to .*: No buffer space available.*"),
                    ("poll:ENOMEM:1", client.SYSTEM_ERROR, "cannot connect to .*: Cannot allocate memory.*"),
                    ("poll:ENOMEM:2", client.SYSTEM_ERROR, "cannot wait for input: Cannot allocate memory"),
                    ("malloc:ENOMEM", client.SYSTEM_ERROR, ".*Cannot allocate memory"),
                    ("malloc:ENOMEM:2", client.SYSTEM_ERROR, "Cannot allocate memory"),
                    ("calloc:ENOMEM", client.SYSTEM_ERROR, ".*Cannot allocate memory"),
                    ("eventfd:EMFILE", client.SYSTEM_ERROR, "cannot wait for signals: Too many open files"),
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
                    result = client.run("--expect", "echo", "127.0.0.1", server.port, stdin=data, faults=rule)
                    self.assertEqual((result.status, result.stderr), (0, ""))
                    harness.assert_same(result.stdout, data)


class Text(harness.TestCase):
    """What is typed does not become a command of the terminal, or two lines."""

    def test_controls(self):
        for arguments in (("no\x1b[31m\nhost.invalid",), ("/no/such\n\x1b[31m",), ("localhost", "1\n2"),
                          ("--ping", "--count=\x1b", "localhost"), ("--no\nsuch",), ("a", "b", "\x1b[31m")):
            with self.subTest(arguments=arguments):
                result = client.run(*arguments)
                self.assertNotEqual(result.status, 0)
                self.assertEqual(result.stderr.count("\n"), 1)
                self.assertNotIn("\x1b", result.stderr)

    def test_controls_in_a_report(self):
        with tempfile.TemporaryDirectory(prefix="tcpecho-\x1b[31m-") as directory:
            path = os.path.join(directory, "echo.sock")
            with client.Server(client.echo, socket.AF_UNIX, path):
                for mode in (("--ping", "-c", "1"), ("--bench", "-c", "1"), ("--watch", "-d", "20ms"), ("-v",)):
                    result = client.run(*mode, path)
                    self.assertEqual(result.status, 0, result.stderr)
                    self.assertIn(r"tcpecho-\x1b[31m-", result.stdout.decode() + result.stderr)
                    self.assertNotIn("\x1b", result.stdout.decode() + result.stderr)

    def test_what_is_no_address(self):
        with tempfile.NamedTemporaryFile() as file:
            result = client.run(f"{file.name}/socket")
            self.assertEqual(result.status, client.UNKNOWN)
            self.assertIn("Not a directory", result.stderr)
        harness.needs_ipv6()
        result = client.run("fe80::1")
        self.assertEqual(result.status, client.UNKNOWN)
        self.assertIn("a link-local address needs its interface", result.stderr)


class Reader(harness.TestCase):
    """Where stdout leads to."""

    MODES = (("--ping", "-c", 1), ("--bench", "-c", 100), ("--bench", "-c", 100, "--json"), ("--watch", "-d", "50ms"),
             ("--watch", "-d", "50ms", "--json"))

    def test_full_disk(self):
        with client.Server(client.echo) as server, open("/dev/full", "wb") as full:
            for arguments in self.MODES:
                with self.subTest(arguments=arguments):
                    result = client.run(*arguments, "127.0.0.1", server.port, stdout=full)
                    self.assertEqual(result.status, client.FILE_ERROR)
                    self.assertEqual(result.stderr, "tcpecho: cannot write to stdout: No space left on device\n")

    def test_that_has_gone(self):
        """Before there is anything to tell, or soon after: that is no failure, and the end also of what has none."""
        with client.Server(client.echo) as server:
            for arguments in (*self.MODES, ("--ping", "-i", "10ms"), ("--watch", "-W", "1h", "--gap", "1h")):
                with self.subTest(arguments=arguments), client.Client(*arguments, "127.0.0.1", server.port) as process:
                    process.process.stdout.close()
                    result = process.wait()
                    self.assertEqual((result.status, result.stderr), (0, ""))


class Signals(harness.TestCase):
    """Ctrl-C ends it, whatever it waits for."""

    MODES = (("--ping",), ("--bench", "-c", "100"), ("--bench", "-c", "100", "--json"), ("--bench", "-d", "1h"),
             ("--watch", "-d", "200ms"), ("--watch",))

    def test_reader_that_does_not_read(self):
        """There is nobody to tell a summary: the first signal is the end."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(client.Server(client.echo))
            pipe = stack.enter_context(client.full_pipe())
            running = [stack.enter_context(client.Client(*arguments, "127.0.0.1", server.port, stdout=pipe))
                       for arguments in self.MODES]
            for process in running:
                harness.wait_until(lambda process=process: client.awaits_signals(process.process), "it to be connected")
            time.sleep(0.3)
            for number, process in zip((signal.SIGINT, signal.SIGTERM) * 3, running):
                process.interrupt(number)
            for number, process in zip((signal.SIGINT, signal.SIGTERM) * 3, running):
                self.assertEqual(process.wait().status, -number, process.process.args)

    def test_second_signal(self):
        """It does not wait even for who may read again in a moment, also when stderr is the same pipe."""
        with client.Server(client.echo) as server:
            for arguments in self.MODES:
                with self.subTest(arguments=arguments), client.full_pipe() as pipe:
                    with client.Client(*arguments, "127.0.0.1", server.port, stdout=pipe, stderr=pipe) as process:
                        harness.wait_until(lambda: client.awaits_signals(process.process), "it to be connected")
                        process.interrupt()
                        time.sleep(0.1)
                        process.interrupt()
                        self.assertEqual(process.wait().status, -signal.SIGINT)

    def test_connection_that_is_not_made(self):
        """Nothing has been measured: there is no summary, and the shell sees the signal."""
        with client.full_queue() as port:
            for mode in ((), ("--ping",), ("--bench",), ("--watch",)):
                with self.subTest(mode=mode), client.Client(*mode, "127.0.0.1", port) as process:
                    harness.wait_until(lambda: client.awaits_signals(process.process), "it to connect")
                    process.interrupt()
                    result = process.finish()
                    self.assertEqual((result.status, result.stdout, result.stderr), (-signal.SIGINT, b"", ""))

    def test_name_that_is_looked_up(self):
        for mode in ((), ("--ping",), ("--bench",), ("--watch",)):
            with self.subTest(mode=mode), client.Client(*mode, "localhost", faults="getaddrinfo:sleep=3600000") as process:
                time.sleep(0.3)
                process.interrupt()
                self.assertEqual(process.wait().status, -signal.SIGINT)


if __name__ == "__main__":
    harness.main(jobs=4)
