#!/usr/bin/env python3
"""Servers, and a peer of a chat, that do all they can to keep tcpecho busy: none makes it miss the end of its time or
the first Ctrl-C, or takes its summary from it."""

import contextlib
import itertools
import signal
import socket
import threading
import time

import client
import harness

FORGED = b"ping000000000001" * 4096  # headers of the first message of a ping, and nothing of it


def take(connection, size):
    """So many bytes, or what comes before the end."""
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def send_for_ever(connection, data):
    while True:
        connection.sendall(data)


# ---- what a server may do; each takes the connection when something has come ----


def bytes_without_end(connection, _first):
    send_for_ever(connection, b"\xff" * 65536)


def forged_headers(connection, _first):
    send_for_ever(connection, FORGED)


def forged_after_an_answer(connection, first):
    send_for_ever(connection, first + FORGED)


def marks_without_numbers(connection, _first):
    send_for_ever(connection, b"PINGping" * 8192)


def one_byte_at_a_time(connection, first):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in itertools.chain(first[:8], itertools.repeat(0xFF)):
        connection.sendall(bytes([byte]))


def the_same_answer_again(connection, first):
    send_for_ever(connection, first * (65536 // len(first) + 1))


def more_after_our_end(connection, first):
    connection.sendall(first)
    for data in client.chunks(connection):
        connection.sendall(data)
    send_for_ever(connection, b"\n" * 65536)


def more_than_is_due(connection, first):
    """As much as beyond the end of what there is to compare it with."""
    connection.sendall(first[:60] + b"\xff" * 100 + first[16:56])
    client.discard(connection)


HOSTILE = (bytes_without_end, forged_headers, forged_after_an_answer, marks_without_numbers, one_byte_at_a_time,
           the_same_answer_again, more_after_our_end)


def server(behaviour, busy=None, size=64):
    def serve(connection):
        first = take(connection, size)
        if not first:
            return
        if busy:
            busy.set()
        behaviour(connection, first)
    return client.Server(serve)


def early(connection):
    """Answers before anything was asked."""
    send_for_ever(connection, FORGED)


SUMMARY = {"--ping": r"ping statistics ---\n\d+ messages? transmitted",
           "--bench": r"wrong|broken|without an answer|messages",
           "--watch": r"longest gap"}


class Ends(harness.TestCase):
    """By itself, when it is time."""

    def check(self, mode, behaviour, *arguments, size=64, statuses=(1,)):
        with self.subTest(mode=mode, server=behaviour.__name__), server(behaviour, size=size) as hostile:
            result = client.run(mode, *arguments, "127.0.0.1", hostile.port)
            self.assertIn(result.status, statuses, (result.stdout[-2000:], result.stderr))
            self.assertRegex(result.stdout.decode(), SUMMARY[mode])

    def test_ping(self):
        for behaviour in HOSTILE:
            self.check("--ping", behaviour, "-q", "-c", 3, "-i", "10ms", "-W", "100ms")

    def test_ping_with_large_messages(self):
        for behaviour in HOSTILE:
            self.check("--ping", behaviour, "-q", "-s", "1M", "-c", 3, "-i", "10ms", "-W", "100ms")

    def test_ping_tells_each_event(self):
        for behaviour in HOSTILE:
            self.check("--ping", behaviour, "-s", 16, "-c", 3, "-i", "10ms", "-W", "100ms", size=16)

    def test_bench(self):
        for behaviour in HOSTILE:
            self.check("--bench", behaviour, "-d", "100ms", "-W", "100ms", "-n", 3, statuses=(0, 1))

    def test_bench_with_large_messages(self):
        for behaviour in HOSTILE:
            self.check("--bench", behaviour, "-d", "100ms", "-W", "100ms", "-n", 3, "-s", "4M")

    def test_watch(self):
        for behaviour in HOSTILE:
            self.check("--watch", behaviour, "-d", "100ms", "-W", "100ms", "-i", "10ms")

    def test_watch_with_large_messages(self):
        for behaviour in HOSTILE:
            self.check("--watch", behaviour, "-d", "100ms", "-W", "100ms", "-i", "10ms", "-s", "1M")

    def test_answers_before_anything_was_asked(self):
        for mode, arguments in (("--ping", ("-q", "-c", 3, "-i", "10ms", "-W", "100ms")),
                                ("--bench", ("-d", "100ms", "-W", "100ms")),
                                ("--watch", ("-d", "100ms", "-W", "100ms"))):
            with self.subTest(mode=mode), client.Server(early) as hostile:
                result = client.run(mode, *arguments, "127.0.0.1", hostile.port)
                self.assertEqual(result.status, client.WRONG, (result.stdout[-2000:], result.stderr))
                self.assertRegex(result.stdout.decode(), SUMMARY[mode])

    def test_more_than_is_due(self):
        """It is told as what it is, and what lies after the answer in memory is not looked at."""
        for mode, arguments in (("--ping", ("-c", 1, "-W", "100ms")),
                                ("--bench", ("-n", 1, "-c", 1, "-W", "100ms")),
                                ("--watch", ("-d", "200ms", "-i", "1h", "-W", "100ms"))):
            with self.subTest(mode=mode), server(more_than_is_due) as hostile:
                result = client.run(mode, *arguments, "127.0.0.1", hostile.port)
                self.assertEqual(result.status, client.WRONG, (result.stdout[-2000:], result.stderr))
                said = result.stdout.decode() + result.stderr
                self.assertRegex(said, r"byte 60: no\s+part\s+of\s+what\s+was\s+sent")

    def test_talk_that_checks(self):
        """The first wrong byte ends it, however slowly those come that might explain it."""
        for behaviour in (bytes_without_end, forged_headers, one_byte_at_a_time, more_than_is_due):
            with self.subTest(server=behaviour.__name__), server(behaviour) as hostile:
                result = client.run("--expect", "echo", "127.0.0.1", hostile.port, stdin=bytes(range(64)))
                self.assertEqual(result.status, client.WRONG, result.stderr)
                self.assertRegex(result.stderr, r"wrong answer from \S+: byte \d+: ")

    def test_talk_whose_answer_never_ends(self):
        """With wrong bytes that come more often than the pauses that would end it."""
        def serve(connection):
            with contextlib.suppress(ConnectionError):
                take(connection, 64)
                while True:
                    connection.sendall(b"\xff")
                    time.sleep(0.1)
        with client.Server(serve) as hostile:
            result = client.run("--expect", "echo", "-W", "5m", "127.0.0.1", hostile.port, stdin=bytes(64))
        self.assertEqual(result.status, client.WRONG, result.stderr)


class IsInterrupted(harness.TestCase):
    """By the first signal, however busy it is kept."""

    def interrupt(self, running, busy, number=signal.SIGINT):
        self.assertTrue(busy.wait(harness.patience()))
        harness.wait_until(lambda: client.awaits_signals(running.process), "a handler for signals")
        time.sleep(0.2)  # busy with what comes; sooner would be no failure either
        running.interrupt(number)
        return running.finish()

    def check(self, mode, behaviour, *arguments, size=64):
        busy = threading.Event()
        with self.subTest(mode=mode, server=behaviour.__name__), \
                server(behaviour, busy, size) as hostile, \
                client.Client(mode, *arguments, "127.0.0.1", hostile.port) as running:
            result = self.interrupt(running, busy)
            self.assertIn(result.status, (0, 1), (result.stdout[-2000:], result.stderr))
            self.assertRegex(result.stdout.decode(), SUMMARY[mode])

    def test_ping(self):
        for behaviour in HOSTILE:
            self.check("--ping", behaviour, "-q", "-i", "10ms")

    def test_ping_with_large_messages(self):
        for behaviour in HOSTILE:
            self.check("--ping", behaviour, "-q", "-i", "10ms", "-s", "1M")

    def test_ping_with_a_slow_reader(self):
        """Many answers that have come at once are lines that nobody takes."""
        busy = threading.Event()
        with client.full_pipe() as pipe, server(the_same_answer_again, busy) as hostile, \
                client.Client("--ping", "127.0.0.1", hostile.port, stdout=pipe) as running:
            harness.wait_until(lambda: client.awaits_signals(running.process), "a handler for signals")
            running.interrupt()
            self.assertEqual(running.wait().status, -signal.SIGINT)

    def test_bench(self):
        for behaviour in HOSTILE:
            self.check("--bench", behaviour, "-d", "1h", "-W", "100ms")

    def test_watch(self):
        for behaviour in HOSTILE:
            self.check("--watch", behaviour, "-i", "10ms", "-W", "100ms")

    def test_talk(self):
        for behaviour in HOSTILE:
            busy = threading.Event()
            with self.subTest(server=behaviour.__name__), server(behaviour, busy) as hostile, \
                    open("/dev/null", "wb") as nowhere, \
                    client.Client("127.0.0.1", hostile.port, stdout=nowhere) as running:
                running.send(bytes(64))
                running.end_input()
                result = self.interrupt(running, busy)
                self.assertEqual(result.status, -signal.SIGINT, result.stderr)
                self.assertRegex(result.stderr, r"64 bytes sent, \d+ received")

    def test_chat(self):
        for data in (b"\xff" * 65536, FORGED, b"\xff"):
            busy = threading.Event()
            with self.subTest(data=data[:16]), open("/dev/null", "wb") as nowhere, \
                    client.Client("-v", "--listen", "127.0.0.1:0", stdout=nowhere) as running:
                port = int(running.wait_stderr(r"listening at 127\.0\.0\.1:(\d+)").group(1))
                with socket.create_connection(("127.0.0.1", port)) as peer:
                    def talk():
                        with contextlib.suppress(ConnectionError):
                            peer.sendall(data)
                            busy.set()
                            send_for_ever(peer, data)
                    thread = threading.Thread(target=talk, daemon=True)
                    thread.start()
                    result = self.interrupt(running, busy, signal.SIGTERM)
                    self.assertEqual(result.status, -signal.SIGTERM, result.stderr)
                    self.assertRegex(result.stderr, r"0 bytes sent, \d+ received")
                    thread.join(harness.patience())


if __name__ == "__main__":
    harness.main(jobs=4)
