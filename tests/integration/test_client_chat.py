#!/usr/bin/env python3
"""tcpecho --listen: two people at two terminals, other programs at the other end, and what cannot be listened at."""

import re
import signal
import socket
import subprocess
import tempfile

import client
import harness

MIB = 1 << 20
FILE_SIZE = harness.scale(16 * MIB, 2 * MIB)


def own_port(test):
    port = harness.free_port()
    test.addCleanup(port.close)
    return int(port)


def wait_listening(person):
    """The port, from what a client with -v or at a terminal says."""
    if isinstance(person, client.Client):
        return int(person.wait_stderr(r"listening at \S+:(\d+)\n").group(1))
    return int(person.expect(r"listening at \S+:(\d+)\n").group(1))


class People(harness.TestCase):
    """At two terminals."""

    def test_either_ends_it(self):
        for host_ends in (True, False):
            with self.subTest(host_ends=host_ends), client.Terminal("--listen", "127.0.0.1:0") as host:
                port = wait_listening(host)
                with client.Terminal("localhost", port) as guest:
                    for writer, reader, line in ((guest, host, "hello?"), (guest, host, "anybody there?"),
                                                 (host, guest, "yes"), (guest, host, "good")):
                        writer.type(line + "\n")
                        reader.expect(rf"^{re.escape(line)}\n")
                    first, second = (host, guest) if host_ends else (guest, host)
                    first.type(first.END)
                    self.assertEqual(first.wait(), 0)
                    self.assertEqual(second.wait(), 0)
                    # The one who did not end it is told.
                ended, told = (host, guest) if host_ends else (guest, host)
                self.assertNotIn("tcpecho:", ended.screen)
                self.assertRegex(told.screen, r"tcpecho: 127\.0\.0\.1:\d+ closed the connection\n\Z")

    def test_both_at_once(self):
        with client.Terminal("--listen", "127.0.0.1:0") as host:
            with client.Terminal("localhost", wait_listening(host)) as guest:
                for number in range(50):
                    host.type(f"host {number}\n")
                    guest.type(f"guest {number}\n")
                for number in range(50):
                    host.expect(rf"guest {number}\n")
                    guest.expect(rf"host {number}\n")
                guest.type(guest.END)
                self.assertEqual((guest.wait(), host.wait()), (0, 0))

    def test_interrupt(self):
        with client.Terminal("--listen", "127.0.0.1:0") as host:
            with client.Terminal("localhost", wait_listening(host)) as guest:
                guest.type("hello\n")
                host.expect("hello\n")
                guest.type(guest.INTERRUPT)
                self.assertEqual(guest.wait(), -signal.SIGINT)
                self.assertRegex(guest.screen, r"\^C\ntcpecho: 6 bytes sent, 0 received\n")
                self.assertEqual(host.wait(), 0)

    def test_interrupt_while_nobody_comes(self):
        with client.Terminal("--listen", "127.0.0.1:0") as host:
            wait_listening(host)
            host.type(host.INTERRUPT)
            self.assertEqual(host.wait(), -signal.SIGINT)
            self.assertNotIn("sent", host.screen)


class Programs(harness.TestCase):
    """Other programs at the other end, in pipes."""

    def connects(self, command):
        with client.Client("-v", "--listen", "127.0.0.1:0") as host:
            port = wait_listening(host)
            peer = subprocess.Popen(command(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            with peer:
                peer.stdin.write(b"from there\n")
                peer.stdin.flush()
                self.assertEqual(host.receive(11), b"from there\n")
                host.send(b"from here\n")
                self.assertEqual(peer.stdout.readline(), b"from here\n")
                host.end_input()
                peer.stdin.close()
                self.assertEqual(peer.stdout.read(), b"")
                self.assertEqual(peer.wait(harness.patience()), 0)
            self.assertEqual(host.finish().status, 0)

    def test_nc_connects(self):
        nc = harness.needs("nc.openbsd")
        self.connects(lambda port: [nc, "-N", "127.0.0.1", str(port)])

    def test_socat_connects(self):
        socat = harness.needs("socat")
        self.connects(lambda port: [socat, "-t10", "STDIO", f"TCP4:127.0.0.1:{port}"])

    def test_ncat_connects(self):
        ncat = harness.needs("ncat")
        self.connects(lambda port: [ncat, "127.0.0.1", str(port)])

    def listens(self, command):
        port = own_port(self)
        with subprocess.Popen(command(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
            def connect():
                talk = client.Client("-v", "127.0.0.1", port)
                harness.wait_until(lambda: "connected" in talk.stderr() or talk.process.poll() is not None, "an outcome")
                return talk if "connected" in talk.stderr() else talk.__exit__()

            with harness.wait_until(connect, "a listener") as talk:
                talk.send(b"from here\n")
                self.assertEqual(peer.stdout.readline(), b"from here\n")
                peer.stdin.write(b"from there\n")
                peer.stdin.flush()
                self.assertEqual(talk.receive(11), b"from there\n")
                talk.end_input()
                peer.stdin.close()
                self.assertEqual(peer.stdout.read(), b"")
                self.assertEqual(talk.finish().status, 0)
                self.assertEqual(peer.wait(harness.patience()), 0)

    def test_nc_listens(self):
        nc = harness.needs("nc.openbsd")
        self.listens(lambda port: [nc, "-N", "-l", "127.0.0.1", str(port)])

    def test_socat_listens(self):
        socat = harness.needs("socat")
        self.listens(lambda port: [socat, "-t10", "STDIO", f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr"])

    def test_files_both_ways(self):
        """At once, identical."""
        with client.random_file(FILE_SIZE) as first, client.random_file(FILE_SIZE + 12345) as second, \
                tempfile.TemporaryFile() as first_copy, tempfile.TemporaryFile() as second_copy:
            with client.Client("-v", "--listen", "127.0.0.1:0", stdin=first, stdout=second_copy) as host:
                result = client.run("-v", "127.0.0.1", wait_listening(host), stdin=second, stdout=first_copy)
                self.assertEqual((result.status, host.finish().status), (0, 0))
            for file, copy in ((first, first_copy), (second, second_copy)):
                file.seek(0)
                copy.seek(0)
                harness.assert_same(copy.read(), file.read())

    def test_a_peer_that_resets(self):
        with client.Client("-v", "--listen", "127.0.0.1:0") as host:
            with socket.create_connection(("127.0.0.1", wait_listening(host))) as peer:
                peer.sendall(b"x")
                self.assertEqual(host.receive(1), b"x")
                client.reset(peer)
            result = host.wait()
            self.assertEqual(result.status, client.CLOSED_EARLY)
            self.assertRegex(result.stderr, r"127\.0\.0\.1:\d+ closed the connection before the end: .* reset")

    def test_a_peer_that_is_silent(self):
        with client.Client("-v", "-W", "100ms", "--listen", "127.0.0.1:0", stdin=subprocess.DEVNULL) as host:
            with socket.create_connection(("127.0.0.1", wait_listening(host))):
                self.assertEqual(host.wait().status, client.TIMED_OUT)


class Places(harness.TestCase):
    """[ADDRESS:]PORT"""

    def exchange(self, address, port):
        with socket.create_connection((address, port), timeout=harness.patience()) as peer:
            peer.sendall(b"hello")

    def test_every_address(self):
        harness.needs_ipv6()
        for place in ("0", ":0", "*:0"):
            for address in ("127.0.0.1", "::1"):
                with self.subTest(place=place, address=address), client.Client("-v", "--listen", place) as host:
                    host.wait_stderr(r"listening at .*\n.*listening at .*\n")
                    ports = re.findall(r"listening at \S+:(\d+)\n", host.stderr())
                    self.assertEqual(ports[0], ports[1])
                    self.exchange(address, int(ports[0]))
                    self.assertEqual(host.finish().stdout, b"hello")

    def test_one_address(self):
        for place, address in (("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("localhost:0", "localhost")):
            if address == "::1":
                harness.needs_ipv6()
            with self.subTest(place=place), client.Client("-v", "--listen", place) as host:
                port = wait_listening(host)
                self.exchange(address, port)
                result = host.finish()
                self.assertEqual((result.status, result.stdout), (0, b"hello"))

    def test_a_host_without_ipv6(self):
        for rules in ("socket_inet6:EAFNOSUPPORT", "bind:EADDRNOTAVAIL:1"):
            with self.subTest(rules=rules), client.Client("-v", "--listen", "*:0", faults=rules) as host:
                port = wait_listening(host)
                self.assertEqual(host.stderr().count("listening at"), 1)
                self.exchange("127.0.0.1" if "0.0.0.0" in host.stderr() else "::1", port)
                self.assertEqual(host.finish().status, 0)

    def test_the_same_port_again(self):
        port = own_port(self)
        for _ in range(3):
            with client.Client("-v", "--listen", f"127.0.0.1:{port}", stdin=subprocess.DEVNULL) as host:
                wait_listening(host)
                self.exchange("127.0.0.1", port)
                self.assertEqual(host.wait().status, 0)

    def test_one_peer_only(self):
        with client.Client("-v", "--listen", "127.0.0.1:0") as host:
            port = wait_listening(host)
            with socket.create_connection(("127.0.0.1", port)):
                host.wait_stderr("connected to")
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))
                host.end_input()
            self.assertEqual(host.finish().status, 0)

    def test_not_a_word_in_a_pipe(self):
        port = own_port(self)
        with client.Client("--listen", f"127.0.0.1:{port}") as host:
            def connect():
                try:
                    return socket.create_connection(("127.0.0.1", port))
                except ConnectionRefusedError:
                    return None

            with harness.wait_until(connect, "a listener"):
                pass
            result = host.finish()
            self.assertEqual((result.status, result.stderr), (0, ""))


class Failures(harness.TestCase):
    check = client.assert_one_line

    def test_usage(self):
        for arguments, pattern in (
                (("--listen",), "--listen needs an argument; see tcpecho --help"),
                (("-l", "7777"), "-l: unknown option; type --listen; see tcpecho --help"),
                (("--listen", "7777", "host"), "host: --listen takes no HOST; .*"),
                (("--listen", "::1:7777"), r"--listen ::1:7777: an IPv6 address is in brackets and followed "
                                           r"by its port, as \[::1\]:7777"),
                (("--listen", "65536"), r"65536: a port is 0 \(a free one\) to 65535 or the name of a service"),
                (("--listen", "127.0.0.1:"), '"": a port is .*'),
                (("--listen", "7777", "--expect", "echo"),
                 "--listen takes no --expect; it goes with a talk, --ping, --bench, --watch; .*"),
                (("--listen", "7777", "--ping"), "--listen and --ping cannot be used together; .*"),
        ):
            with self.subTest(arguments=arguments):
                self.check(client.run(*arguments), client.USAGE, pattern)

    def test_unknown_names(self):
        for place, pattern in (("no-such-host.invalid:7777", r"cannot find no-such-host\.invalid: .*"),
                               ("no-such-service", "no-such-service: no such service in /etc/services; .*")):
            with self.subTest(place=place):
                self.check(client.run("--listen", place), client.UNKNOWN, pattern)

    def test_what_cannot_be_listened_at(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.check(client.run("--listen", f"127.0.0.1:{port}"), client.REFUSED,
                       rf"cannot listen at 127\.0\.0\.1:{port}: Address already in use; another socket has that port: "
                       r"ss -tanp shows it, also when it does not listen")
        self.check(client.run("--listen", "192.0.2.1:0"), client.SYSTEM_ERROR,
                   r"cannot listen at 192\.0\.2\.1:0: Cannot assign requested address; this host has no such address, or "
                   r"may not use it yet \(ip address says tentative\)")
        harness.needs_ipv6()
        self.check(client.run("--listen", "[fe80::1]:0"), client.UNKNOWN,
                   r"cannot listen at \[fe80::1\]:0: a link-local address needs its interface, as in fe80::1%eth0")
        self.check(client.run("--listen", "127.0.0.1:7", faults="bind:EACCES"), client.NO_PERMISSION,
                   r"cannot listen at 127\.0\.0\.1:7: Permission denied; ports below 1024 are for root, .*")

    def test_the_system_fails(self):
        for rules, pattern in (
                ("strdup:ENOMEM", "Cannot allocate memory"),
                ("calloc:ENOMEM", "Cannot allocate memory"),
                ("eventfd:EMFILE", "cannot wait for signals: Too many open files"),
                ("sigaction:EINVAL", "cannot wait for signals: Invalid argument"),
                ("socket:EMFILE:1", "cannot listen at .*: Too many open files"),
                ("setsockopt:ENOBUFS", "cannot listen at .*: No buffer space available"),
                ("listen:ENOBUFS", "cannot listen at .*: No buffer space available"),
                ("getsockname:ENOBUFS", "cannot listen at .*: No buffer space available"),
                ("poll:ENOMEM", "cannot wait for a peer: Cannot allocate memory"),
        ):
            with self.subTest(rules=rules):
                self.check(client.run("--listen", "127.0.0.1:0", faults=rules), client.SYSTEM_ERROR, pattern)

    def test_accept_fails(self):
        for rules, status in (("accept4:EMFILE:1", client.SYSTEM_ERROR), ("accept4:ECONNABORTED:1", 0),
                              ("accept4:EPROTO:1-3", 0), ("poll:EINTR:1", 0)):
            with self.subTest(rules=rules), client.Client("-v", "--listen", "127.0.0.1:0", faults=rules) as host:
                with socket.create_connection(("127.0.0.1", wait_listening(host))):
                    host.end_input()
                result = host.finish()
                self.assertEqual(result.status, status, result.stderr)
                if status != 0:
                    self.assertIn("tcpecho: cannot accept a peer: Too many open files\n", result.stderr)


if __name__ == "__main__":
    harness.main(jobs=4)
