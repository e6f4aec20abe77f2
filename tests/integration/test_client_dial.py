#!/usr/bin/env python3
"""How tcpecho connects: the addresses of a name in a race (RFC 8305), IPv4 and IPv6, its own address, interface and type of
service."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time

import client
import daemons
import harness

# Documentation addresses, which RFC 6724 puts before those of IPv4; nobody answers there.
HOLE = "2001:db8::2"


@contextlib.contextmanager
def black_hole():
    """A network with the loopback interface, and one on which everything is lost."""
    with harness.network_namespace():
        # Not every kernel has both kinds; to each, all that is sent there is lost.
        if ip("link add hole0 type dummy"):
            error = ip("link add hole0 type ifb")
            if error:
                raise harness.unittest.SkipTest(error)
        error = ip("link set hole0 up") or add_address("2001:db8::1/64", "hole0", HOLE)
        if error:
            raise harness.unittest.SkipTest(error)
        yield


def ip(command):
    """Returns what went wrong; "" for nothing."""
    made = subprocess.run(["ip", *command.split()], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return "" if made.returncode == 0 else f"ip {command}: {made.stderr.strip()}"


def add_address(address, device, reachable):
    """The same. The kernel makes the route afterwards, in a thread of its own."""
    error = ip(f"-6 address add {address} dev {device} nodad")
    if not error:
        harness.wait_until(lambda: has_route(reachable), f"a route to {reachable}")
    return error


def has_route(address):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        return any_socket.connect_ex((address, 7)) == 0


@contextlib.contextmanager
def hosts(text):
    """A wrapper for a client for which /etc/hosts says this."""
    harness.needs_root()
    with tempfile.NamedTemporaryFile("w", prefix="tcpecho-test-") as file:
        file.write(text)
        file.flush()
        os.chmod(file.name, 0o644)
        yield (harness.needs("unshare"), "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', file.name)


def peers(seen):
    """An echo that remembers who calls."""
    def serve(connection):
        seen.append(connection.getpeername()[0])
        client.echo(connection)
    return serve


class Race(harness.TestCase):
    MODES = (((), rb"hello"), (("--ping", "-c", "1"), b""), (("--bench", "-n", "1", "-c", "1"), b""),
             (("--watch", "-d", "50ms"), b""))

    def test_black_hole(self):
        """Every mode is with IPv4 a quarter of a second later, and says so. Of several tries the fastest counts: a busy
        machine is late."""
        with black_hole(), hosts(f"{HOLE} both\n127.0.0.1 both\n") as wrapper, client.Server(client.echo) as server:
            for mode, stdin in self.MODES:
                with self.subTest(mode=mode):
                    waited = []
                    while len(waited) < 10 and min(waited, default=1000) >= 300:
                        result = client.run(*mode, *([] if mode else ["-v"]), "both", server.port, stdin=stdin,
                                            wrapper=wrapper)
                        said = result.stdout.decode() + result.stderr
                        self.assertEqual(result.status, 0, said)
                        self.assertIn(f"127.0.0.1:{server.port}", said)
                        match = re.search(rf"also tried: \[{HOLE}\]:{server.port}: no answer in (\d+) ms", said)
                        waited.append(int(match.group(1)))
                        self.assertGreaterEqual(waited[-1], 250)
                    self.assertLess(min(waited), harness.scale(300, 3000))

    def test_what_was_tried_in_json(self):
        with black_hole(), hosts(f"{HOLE} both\n127.0.0.1 both\n") as wrapper, client.Server(client.echo) as server:
            for mode in (("--bench", "-n", "1"), ("--ping", "-q", "-c", "1"), ("--watch", "-d", "50ms")):
                document = client.run(*mode, "--json", "both", server.port, wrapper=wrapper).document
                self.assertEqual(document["server"], f"127.0.0.1:{server.port}")
                self.assertRegex(document["tried"], rf"\[{HOLE}\]:\d+: no answer in \d+ ms")

    def test_what_was_tried_in_a_check(self):
        with black_hole(), hosts(f"{HOLE} both\n127.0.0.1 both\n") as wrapper, client.Server(client.echo) as server:
            for mode in (("--ping", "-c", "1"), ("--watch", "-d", "50ms")):
                line, = client.run(*mode, "--nagios", "1h,1h", "both", server.port, wrapper=wrapper).lines
                self.assertRegex(line, rf"\ATCPECHO OK - .*, also tried: \[{HOLE}\]:\d+: no answer in \d+ ms \| ")

    def test_families_take_turns(self):
        """Three dead addresses of IPv6 cost no more than one."""
        names = f"{HOLE} both\n2001:db8::3 both\n2001:db8::4 both\n127.0.0.1 both\n"
        with black_hole(), hosts(names) as wrapper, client.Server(client.echo) as server:
            result = client.run("-v", "both", server.port, stdin=b"hi", wrapper=wrapper)
            self.assertEqual((result.status, result.stdout), (0, b"hi"))
            self.assertEqual(result.stderr.count("no answer in"), 1, result.stderr)

    def test_refused_is_not_waited_for(self):
        with black_hole(), hosts("::1 both\n127.0.0.1 both\n") as wrapper, client.Server(client.echo) as server:
            result = client.run("--ping", "-c", "1", "both", server.port, wrapper=wrapper)
            self.assertEqual(result.status, 0, result.stderr)
            self.assertIn(f"also tried: [::1]:{server.port}: Connection refused\n", result.stdout.decode())

    def test_nobody_answers(self):
        """Each address has its time."""
        with black_hole(), hosts(f"{HOLE} dead\n2001:db8::3 dead\n") as wrapper:
            began = time.monotonic()
            result = client.run("--connect-timeout", "0.5", "dead", "7", wrapper=wrapper)
            self.assertGreaterEqual(time.monotonic() - began, 0.75)  # the second one began a quarter of a second later
        self.assertEqual(result.status, client.TIMED_OUT)
        self.assertEqual(result.stderr.count("Connection timed out"), 2, result.stderr)

    def test_interrupted(self):
        with black_hole(), client.Client("-6", HOLE, "7") as process:
            harness.wait_until(lambda: client.awaits_signals(process.process), "the client to dial")
            process.interrupt()
            self.assertEqual(process.finish().status, -2)


class Families(harness.TestCase):
    def test_one_of_them(self):
        with black_hole(), hosts("::1 both\n127.0.0.1 both\n") as wrapper, client.Server(client.echo) as four, \
                client.Server(client.echo, socket.AF_INET6, "::1", four.port):
            for option, address in (("-4", "127.0.0.1"), ("-6", "[::1]"), ("--ipv4", "127.0.0.1"), ("--ipv6", "[::1]")):
                result = client.run(option, "-v", "both", four.port, stdin=b"hi", wrapper=wrapper)
                self.assertEqual(result.stdout, b"hi", result.stderr)
                self.assertIn(f"connected to {address}:{four.port}\n", result.stderr)

    def test_none_of_that_kind(self):
        client.assert_one_line(self, client.run("-4", "::1", "7"), client.UNKNOWN,
                               "cannot find ::1: it has no IPv4 address; leave out -4")
        client.assert_one_line(self, client.run("-4", "no-such-host.invalid", "7"), client.UNKNOWN,
                               "cannot find no-such-host.invalid: (?!it has).*")
        with hosts("192.0.2.1 four\n2001:db8::1 six\n") as wrapper:
            for option, host, kind in (("-6", "four", "IPv6"), ("-4", "six", "IPv4")):
                client.assert_one_line(self, client.run(option, host, "7", wrapper=wrapper), client.UNKNOWN,
                                       f"cannot find {host}: it has no {kind} address; leave out {option}")
        client.assert_one_line(self, client.run("-4", "-6", "a"), client.USAGE, "--ipv4 and --ipv6 cannot be used together; .*")

    def test_chat(self):
        with client.Client("-v", "-4", "--listen", "0") as host:
            host.wait_stderr(r"listening at 0\.0\.0\.0:\d+\n")
            self.assertNotIn("[::]", host.stderr())


class Width(harness.TestCase):
    ADDRESS = "2001:db8:1111:2222:3333:4444:5555:6666"
    NAME = "x" * 31 + "." + "y" * 32

    def test_long_names(self):
        """Reports fit 80 columns with the longest address, and with a name of 64 characters."""
        with harness.network_namespace(), hosts(f"{self.ADDRESS} {self.NAME}\n") as wrapper:
            self.assertEqual(add_address(f"{self.ADDRESS}/128", "lo", self.ADDRESS), "")
            with client.Server(client.echo, socket.AF_INET6, "::", 65535) as server:
                for arguments in (("--ping", "-c", "2", "-i", "10ms"), ("--ping", "-D", "-c", "2", "-i", "10ms", "-s", "1M"),
                                  ("--ping", "--connect", "-c", "2", "-i", "10ms"), ("--watch", "-d", "0.2")):
                    for host in (self.ADDRESS, self.NAME):
                        with self.subTest(arguments=arguments, host=host):
                            result = client.run(*arguments, host, server.port, wrapper=wrapper)
                            self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
                            self.assertIn(self.ADDRESS, result.stdout.decode())
                            self.assertLessEqual(max(map(len, result.lines)), 80, result.stdout)


class Source(harness.TestCase):
    def test_address(self):
        seen = []
        with client.Server(peers(seen)) as server:
            for mode in (("--ping", "-c", "1"), ("--bench", "-n", "1", "-c", "1"), ("--watch", "-d", "50ms"), ()):
                result = client.run(*mode, "-I", "127.0.0.9", "127.0.0.1", server.port)
                self.assertEqual(result.status, 0, result.stderr)
        self.assertEqual(set(seen), {"127.0.0.9"})
        self.assertGreaterEqual(len(seen), 4)

    def test_interface(self):
        with black_hole(), client.Server(client.echo) as server:
            self.assertEqual(client.run("-I", "lo", "127.0.0.1", server.port, stdin=b"hi").stdout, b"hi")
            result = client.run("-I", "hole0", "--connect-timeout", "0.2", "127.0.0.1", server.port, stdin=b"hi")
            self.assertIn(result.status, (client.TIMED_OUT, client.UNREACHABLE), result.stderr)

    def test_refusals(self):
        for arguments, status, pattern in (
                (("-I", "nope0", "a"), client.USAGE, "-I nope0: neither an interface nor an address; .*"),
                (("-I", "", "a"), client.USAGE, "-I : neither .*"),
                (("-I", "192.0.2.77", "a"), client.SYSTEM_ERROR, "-I 192.0.2.77: .*; this host has no such address"),
                (("-I", "127.0.0.2,127.0.0.3", "a"), client.USAGE, "--source .*: several addresses are for --bench; .*"),
                (("-I", ",", "a"), client.USAGE, "-I ,: there is a comma without an address"),
                (("-I", "127.0.0.2,", "a"), client.USAGE, "-I 127.0.0.2,: there is a comma without an address"),
                (("--bench", "-I", "127.0.0.2,,127.0.0.3", "a"), client.USAGE, "-I .*: there is a comma without an address"),
                (("--bench", "-I", "127.0.0.2,lo", "a"), client.USAGE,
                 "-I 127.0.0.2,lo: lo is an interface, and only addresses can be listed"),
                (("-I", "127.0.0.2", "::1"), client.SYSTEM_ERROR, "::1 port 7007 has no address of the same family .*")):
            with self.subTest(arguments=arguments):
                client.assert_one_line(self, client.run(*arguments), status, pattern)

    def test_more_connections_than_one_address_has_ports(self):
        with harness.network_namespace():
            with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
                file.write("40000 40499")
            with daemons.Daemon() as daemon:
                load = ("--bench", "-c", "1400", "-n", "1400", "--json")
                alone = client.run(*load, "127.0.0.1", daemon.port).document
                self.assertLessEqual(alone["connected"], 500)
                self.assertEqual(alone["connect_error"], "Cannot assign requested address")
                result = client.run(*load, "-t", "2", "-I", "127.0.0.2,127.0.0.3,127.0.0.4", "127.0.0.1", daemon.port)
                self.assertEqual((result.status, result.document["connected"]), (0, 1400), result.stderr)

    def test_address_without_a_free_port_is_passed_over(self):
        with harness.network_namespace():
            with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
                file.write("40000 40099")
            with daemons.Daemon() as daemon, contextlib.ExitStack() as stack:
                for _ in range(100):
                    taken = stack.enter_context(socket.socket())
                    taken.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: connect(2) takes one
                    taken.bind(("127.0.0.2", 0))
                    taken.connect(("127.0.0.1", daemon.port))
                for load in (("-c", 150, "-n", 150), ("-c", 20, "-n", 200, "--reconnect"), ("-c", 20, "-d", "0.2", "--send")):
                    result = client.run("--bench", *load, "--json", "-I", "127.0.0.2,127.0.0.3,127.0.0.4", "127.0.0.1",
                                        daemon.port)
                    self.assertEqual(result.document.get("not_connected"), 0, result.stderr)
                client.assert_one_line(self, client.run("--bench", "-c", 1, "-I", "127.0.0.2", "127.0.0.1", daemon.port),
                                       client.SYSTEM_ERROR,
                                       r"cannot connect to .*: Cannot assign requested address\); every local port is taken: "
                                       r"-I ADDRESS,\.\.\. or net\.ipv4\.ip_local_port_range gives more")

    def test_sixty_thousand_connections(self):
        harness.needs_unsanitized("it has so much memory")
        harness.raise_nofile(62000)
        with harness.network_namespace(), daemons.Daemon() as daemon:
            result = client.run("--bench", "-c", "60000", "-n", "60000", "-t", "2", "--json", "-I",
                                "127.0.0.2,127.0.0.3,127.0.0.4", "127.0.0.1", daemon.port, timeout=harness.patience(120))
            self.assertEqual((result.status, result.document["connected"]), (0, 60000), result.stderr)


class Tos(harness.TestCase):
    def seen(self, capture, port):
        """The type of service of the first segment to the port that carries a SYN."""
        deadline = time.monotonic() + harness.patience()
        while time.monotonic() < deadline:
            packet = capture.recv(65536)[14:]
            version = packet[0] >> 4
            header = 40 if version == 6 else (packet[0] & 15) * 4
            tcp = packet[header:]
            if int.from_bytes(tcp[2:4], "big") == port and tcp[13] == 2:
                return (int.from_bytes(packet[:2], "big") >> 4) & 255 if version == 6 else packet[1]
        raise AssertionError("no segment")

    def test_marks(self):
        with black_hole(), client.Server(client.echo) as four, client.Server(client.echo, socket.AF_INET6, "::1") as six:
            for host, server in (("127.0.0.1", four), ("::1", six)):
                for given, wanted in (("16", 16), ("0x10", 16), ("ef", 184), ("af11", 40), ("cs1", 32)):
                    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as capture:
                        capture.bind(("lo", 0))
                        capture.settimeout(harness.patience())
                        result = client.run("-Q", given, host, server.port, stdin=b"hi")
                        self.assertEqual(result.status, 0, result.stderr)
                        self.assertEqual(self.seen(capture, server.port), wanted)

    def test_refusals(self):
        for text in ("256", "-1", "0x100", "0x", "0x1g", "af14", "af51", "cs8", "", "ex"):
            client.assert_one_line(self, client.run("--tos", text, "a"), client.USAGE, "--tos .*: must be 0 to 255, .*")


if __name__ == "__main__":
    harness.main(jobs=4)
