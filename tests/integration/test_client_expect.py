#!/usr/bin/env python3
"""tcpecho --expect: servers that lose, repeat, reorder and change bytes."""

import re
import subprocess
import threading
import time

import client
import daemons
import harness

MIB = 1 << 20
WATCHED_SIZE = harness.scale(32 * MIB, 8 * MIB)  # of the file in which one byte goes wrong

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "upper"; }
"""


class Expect(harness.TestCase):
    """--expect: the first wrong, missing or repeated byte of the answer, and where."""

    def setUp(self):
        self.file = self.enterContext(client.random_file(WATCHED_SIZE))

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
        with daemons.Daemon(LISTENERS) as daemon:
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
                (lambda data: b"", 1, "1 byte missing .*"),
                (lambda data: data + data, 1, "1 byte repeated .*"),
                (lambda data: data[::-1], 2, "2 bytes out of order .*"),
                (lambda data: bytes([data[0] ^ 1]), 1, "1 byte changed .*"),
        ):
            with self.subTest(what=what):
                # A repeated byte shows where its successor should be.
                at = offset + 1 if "repeated" in what else offset
                self.check(client.Tamper(offset, length, change), f"byte {at}: {what}")

    def test_larger_pieces(self):
        offset = WATCHED_SIZE // 2
        for change, length, what in (
                (lambda data: b"", 4096, "4096 bytes missing .*"),
                (lambda data: data + data, 4096, "4096 bytes repeated .*"),
                (lambda data: data[4096:] + data[:4096], 8192, "4096 bytes out of order .*"),
                (lambda data: bytes(16) + data, 1, "16 bytes nobody sent .*"),
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

        self.check(cut, r"byte 7: the last 3 bytes did not come; that was after our "
                   r"half-close: --no-half-close keeps our side open until the answer is whole",
                   stdin=b"0123456789")
        self.check(surplus, r"byte 10: 8 bytes came after the whole answer", stdin=b"0123456789")

    def test_the_other_service(self):
        with daemons.Daemon(LISTENERS) as daemon:
            for index, expect in enumerate(("upper", "echo")):
                result = client.run("--expect", expect, "127.0.0.1", daemon.ports[index], stdin=b"hello\n")
                self.assertEqual(result.status, client.WRONG)
                self.assertIn("byte 0: right for the other --expect", result.stderr)

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
            result = client.run("--expect", "echo", "-W", "500ms", "127.0.0.1", server.port, stdin=self.file)
            done.set()
        self.assertEqual(result.status, client.TIMED_OUT)
        sent = int(re.search(r"has been silent for 500 ms \((\d+) bytes sent, 0 received\)", result.stderr).group(1))
        self.assertLess(sent, 4 * MIB)

    def test_a_reset_after_the_wrong_byte(self):
        """The wrong byte is the news."""
        def serve(connection):
            harness.receive_exactly(connection, 5)
            connection.sendall(b"hallo")
            time.sleep(0.1)
            client.reset(connection)

        self.check(serve, r"byte 1: 1 byte changed \(0x61, not 0x65\)", stdin=b"hello")


if __name__ == "__main__":
    harness.main(jobs=4)
