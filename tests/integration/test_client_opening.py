#!/usr/bin/env python3
"""What a connection of tcpecho begins with: a greeting that is skipped, a header of the PROXY protocol that is sent."""

import ipaddress
import os
import re
import socket
import subprocess
import tempfile
import time

import client
import daemons
import harness

GREETING = "220 hello\\n and more"
SKIP = ("--skip-line", "--skip", len(" and more"))
# Each mode, with what it is to be sent.
MODES = (("--expect", "echo"), ("--ping", "-c", 3, "-i", "10ms"), ("--bench", "-n", 20), ("--bench", "-n", 20, "-t", 2),
         ("--bench", "--reconnect", "-n", 20), ("--watch", "-d", "0.3", "--gap", "30"))


class Greeting(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(f"""
            {{ address = "127.0.0.1"; port = PORT; service = "echo"; greeting = "{GREETING}"; }},
            {{ address = "127.0.0.1"; port = PORT1; service = "chargen"; greeting = "{GREETING}"; }},
            {{ address = "127.0.0.1"; port = PORT2; service = "discard"; greeting = "{GREETING}"; }}
        """)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)

    def test_every_mode(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                result = client.run(*mode, *SKIP, "127.0.0.1", self.daemon.port, stdin=b"hi\n")
                self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
                # And without it every byte is wrong.
                result = client.run(*mode, "127.0.0.1", self.daemon.port, stdin=b"hi\n")
                self.assertEqual(result.status, client.WRONG, result.stdout)

    def test_one_way(self):
        for option, port in (("--receive", self.daemon.ports[1]), ("--send", self.daemon.ports[2])):
            result = client.run("--bench", option, "-c", 3, "-n", 30, "-d", 10, *SKIP, "127.0.0.1", port)
            self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)

    def test_in_pieces(self):
        """What comes with the last piece is the answer's."""
        def serve(connection):
            for piece in (b"2", b"20 hel", b"lo\r", b"\nab"):
                connection.sendall(piece)
                time.sleep(0.05)
            connection.sendall(b"cd first")
            client.echo(connection)

        with client.Server(serve) as server:
            result = client.run("--skip-line", "--skip", 4, "127.0.0.1", server.port, stdin=b"x")
            self.assertEqual((result.status, result.stdout), (0, b" firstx"))
            result = client.run("--skip", 15, "127.0.0.1", server.port, stdin=b"x")
            self.assertEqual((result.status, result.stdout), (0, b" firstx"))

    def test_reconnected(self):
        """Each connection of a ping has one."""
        def serve(connection):
            connection.sendall(b"hello\n")
            connection.sendall(harness.receive_exactly(connection, 64))

        with client.Server(serve) as server:
            result = client.run("--ping", "-c", 3, "-i", "30ms", "--skip-line", "127.0.0.1", server.port)
        self.assertRegex(result.stdout.decode(), r"3 messages transmitted, 3 received, 0 lost ")

    def test_no_greeting(self):
        for mode in ((), ("--ping", "-c", 1), ("--bench", "-n", 1), ("--watch", "-d", "0.1")):
            with self.subTest(mode=mode), client.Server(client.discard) as server:
                result = client.run(*mode, "--skip-line", "--connect-timeout", "0.2", "127.0.0.1", server.port)
                client.assert_one_line(self, result, client.TIMED_OUT,
                                       r"no whole greeting from 127\.0\.0\.1 port \d+ \(127\.0\.0\.1:\d+: connected, "
                                       r"but no greeting came\); --connect-timeout allows more time")

    def test_greeting_in_part(self):
        """It was connected: what came, and how it ended, is told."""
        def hold(connection):
            connection.sendall(b"x" * 100000)
            client.discard(connection)

        for serve, skip, status, what in (
                (lambda connection: connection.sendall(b"hel"), ("--skip-line",), client.CLOSED_EARLY,
                 "closed by the server after 3 bytes without an LF"),
                (lambda connection: connection.sendall(b"hel"), ("--skip", 1000), client.CLOSED_EARLY,
                 "closed by the server after 3 bytes"),
                (lambda connection: None, ("--skip-line",), client.CLOSED_EARLY,
                 "closed by the server after 0 bytes without an LF"),
                (hold, ("--skip-line",), client.TIMED_OUT, "only 100000 bytes without an LF came"),
                (hold, ("--skip", 100001), client.TIMED_OUT, "only 100000 bytes came")):
            for mode in ((), ("--ping", "-c", 1), ("--bench", "-n", 1), ("--bench", "--receive"), ("--watch", "-d", "0.1")):
                with self.subTest(mode=mode, what=what), client.Server(serve) as server:
                    result = client.run(*mode, *skip, "--connect-timeout", "0.3", "127.0.0.1", server.port)
                    advice = "; --connect-timeout allows more time" if status == client.TIMED_OUT else ""
                    client.assert_one_line(self, result, status, rf"no whole greeting from 127\.0\.0\.1 port \d+ "
                                           rf"\(127\.0\.0\.1:\d+: connected, but {what}\){advice}")

    def test_reset_in_the_greeting(self):
        def fail(connection):
            connection.sendall(b"hel")
            time.sleep(0.1)  # a client that is later than that has read nothing
            client.reset(connection)

        with client.Server(fail) as server:
            def told():
                result = client.run("--skip", 1000, "127.0.0.1", server.port)
                self.assertEqual(result.status, client.CLOSED_EARLY)
                return re.fullmatch(r"tcpecho: no whole greeting from .*: connected, but after 3 bytes: "
                                    r"Connection reset by peer\)\n", result.stderr)
            harness.wait_until(told, "a client that reads before the reset")

    def test_later_connection_closed_in_its_greeting(self):
        served = []

        def serve(connection):
            served.append(connection)
            if len(served) > 1:
                connection.sendall(b"hel")
                return
            connection.sendall(b"hello\n")
            client.echo(connection)

        why = "closed by the server before its greeting was whole"
        for mode in (("--bench", "-c", 3, "-n", 30), ("--bench", "-c", 1, "--reconnect", "-d", "0.2"),
                     ("--bench", "-c", 3, "-d", "0.2", "--send")):
            with self.subTest(mode=mode), client.Server(serve) as server:
                served.clear()
                result = client.run(*mode, "--json", "--skip-line", "127.0.0.1", server.port)
                self.assertEqual((result.status, result.document["connect_error"]), (client.WRONG, why), result.stderr)
                self.assertRegex(result.stderr, rf"connections? could not be made \(the first: {why}\)")
        with client.Server(serve) as server:
            served.clear()
            result = client.run("--watch", "-d", "0.2", "--skip-line", "127.0.0.1", server.port)
            self.assertIn("new connections: broken: closed by the server", result.stdout.decode())

    def test_ping_whose_next_connection_is_closed_in_its_greeting(self):
        served = []

        def serve(connection):
            served.append(connection)
            connection.sendall(b"hello\n"[:9 // len(served)])
            if len(served) == 1:
                connection.sendall(harness.receive_exactly(connection, 64))

        with client.Server(serve) as server:
            result = client.run("--ping", "-c", 2, "-i", "100ms", "--skip-line", "127.0.0.1", server.port)
        self.assertEqual(result.status, client.WRONG)
        self.assertRegex(b" ".join(result.stdout.split()).decode(), r" cannot connect to 127\.0\.0\.1:\d+: "
                                                                    r"closed by the server before its greeting was whole ")

    def test_interrupted(self):
        with client.Server(client.discard) as server, client.Client("--skip-line", "127.0.0.1", server.port) as process:
            harness.wait_until(lambda: server.threads, "the connection")
            process.interrupt()
            self.assertEqual(process.finish().status, -2)

    def test_usage(self):
        client.assert_one_line(self, client.run("--ping", "--connect", "--skip-line", "a"), client.USAGE,
                               "--connect reads nothing: leave out --skip-line; .*")


def read_header(connection):
    """(version, source, destination, rest) of what came first."""
    data = harness.receive_exactly(connection, 12)
    if data == b"\r\n\r\n\0\r\nQUIT\n":
        _, kind, length = (head := harness.receive_exactly(connection, 4))[0], head[1], int.from_bytes(head[2:], "big")
        body = harness.receive_exactly(connection, length)
        if not length:
            return 2, None, None
        size = 4 if kind == 0x11 else 16
        ports = body[2 * size:]
        return (2, (str(ipaddress.ip_address(body[:size])), int.from_bytes(ports[:2], "big")),
                (str(ipaddress.ip_address(body[size:2 * size])), int.from_bytes(ports[2:4], "big")))
    while not data.endswith(b"\r\n"):
        data += harness.receive_exactly(connection, 1)
    words = data.decode().split()
    if words[1] == "UNKNOWN":
        return 1, None, None
    return 1, (words[2], int(words[4])), (words[3], int(words[5]))


class ProxyProtocol(harness.TestCase):
    def server(self, seen, **options):
        def serve(connection):
            seen.append((read_header(connection), connection.getpeername()))
            client.echo(connection)
        return client.Server(serve, **options)

    def test_every_mode(self):
        """Each connection begins with it, and says whose it is: our own."""
        for version in (1, 2):
            for mode in MODES:
                seen = []
                with self.subTest(version=version, mode=mode), self.server(seen) as server:
                    result = client.run(*mode, "--proxy-protocol", version, "127.0.0.1", server.port, stdin=b"hi\n")
                    self.assertEqual((result.status, result.stderr), (0, ""), result.stdout)
                    self.assertTrue(seen)
                    for (told, source, destination), peer in seen:
                        self.assertEqual((told, source, destination), (version, peer, ("127.0.0.1", server.port)))

    def test_source(self):
        for version in (1, 2):
            for given, wanted in (("192.0.2.1:1234", ("192.0.2.1", 1234)), ("[2001:db8::1]:65535", ("2001:db8::1", 65535))):
                seen = []
                with self.server(seen) as server:
                    client.run("--proxy-protocol", version, "--proxy-source", given, "127.0.0.1", server.port, stdin=b"hi")
                self.assertEqual(seen[0][0][1], wanted)

    def test_unix_socket(self):
        """It has no address that the header could say."""
        for version in (1, 2):
            seen = []
            with tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
                path = os.path.join(directory, "socket")
                with self.server(seen, family=socket.AF_UNIX, address=path):
                    self.assertEqual(client.run("--proxy-protocol", version, path, stdin=b"hi").stdout, b"hi")
            self.assertEqual(seen[0][0], (version, None, None))

    def test_haproxy(self):
        """Its accept-proxy takes both versions, and passes on whose connection it was told it is."""
        haproxy = harness.needs("haproxy")
        seen = []
        port = harness.free_port()
        port.close()
        with self.server(seen) as server, tempfile.NamedTemporaryFile("w", suffix=".cfg") as settings:
            settings.write(f"""
                defaults
                    mode tcp
                    timeout connect 5s
                    timeout client 30s
                    timeout server 30s
                listen relay
                    bind 127.0.0.1:{int(port)} accept-proxy
                    server one 127.0.0.1:{server.port} send-proxy
            """.rstrip() + "\n")
            settings.flush()
            with subprocess.Popen([haproxy, "-db", "-f", settings.name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as relay:
                try:
                    harness.wait_until(lambda: client.run("--ping", "--connect", "-c", 1, "127.0.0.1", int(port)).status == 0,
                                       "haproxy to listen")
                    for version in (1, 2):
                        seen.clear()
                        result = client.run("--proxy-protocol", version, "--proxy-source", "192.0.2.9:4711", "--no-half-close",
                                            "--expect", "echo", "127.0.0.1", int(port), stdin=b"hello\n")
                        self.assertEqual((result.status, result.stdout), (0, b"hello\n"), result.stderr)
                        self.assertEqual(seen[0][0][1], ("192.0.2.9", 4711))
                    result = client.run("--ping", "-c", 1, "127.0.0.1", int(port))
                    self.assertEqual(result.status, client.WRONG)  # it wants a header
                finally:
                    relay.terminate()

    def test_our_daemon(self):
        settings = 'listeners = ( { address = "127.0.0.1"; port = 0; service = "echo"; proxy_protocol = true; } );'
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(settings)
            file.flush()
            if "proxy_protocol" in daemons.run_daemon("--test", "-c", file.name).stderr:
                self.skipTest("this daemon has no proxy_protocol")
        listener = '{ address = "127.0.0.1"; port = PORT; service = "echo"; proxy_protocol = true; }'
        with daemons.Daemon(listener) as daemon:
            for version in (1, 2):
                result = client.run("--proxy-protocol", version, "--proxy-source", f"192.0.2.9:{4711 + version}", "--expect",
                                    "echo", "127.0.0.1", daemon.port, stdin=b"hello\n")
                self.assertEqual((result.status, result.stdout), (0, b"hello\n"), result.stderr)
                daemon.wait_log(rf"192\.0\.2\.9:{4711 + version}")

    def test_usage(self):
        for arguments, pattern in ((("--proxy-protocol", "3"), "--proxy-protocol 3: must be 1 or 2"),
                                   (("--proxy-source", "1.2.3.4:5"), "--proxy-source is for --proxy-protocol"),
                                   (("--ping", "--connect", "--proxy-protocol", 1), "--connect sends nothing: leave out --proxy-protocol")):
            client.assert_one_line(self, client.run(*arguments, "a"), client.USAGE, pattern + "; .*")
        for source in ("1.2.3.4", "name:5", "::1:5", "[::1]", "1.2.3.4:70000", "", ":5", "[]:5"):
            client.assert_one_line(self, client.run("--proxy-protocol", 1, "--proxy-source", source, "a"), client.USAGE,
                                   f"--proxy-source {re.escape(source)}: must be ADDRESS:PORT, .*")


if __name__ == "__main__":
    harness.main(jobs=4)
