"""Clients that go on in the background while a test does something to the daemon, and that check every byte.

    with traffic.Traffic(lambda: daemon.connect()) as clients:
        daemon.send_signal(signal.SIGHUP)
        clients.pass_by()

At the end of the block every client says its last, half-closes, and gets all that it is owed and a FIN; a byte that is
wrong, missing or surplus, a connection that breaks and one that is refused fail the test.
"""

import select
import socket
import sys
import threading
import time

import harness

STREAM = harness.pattern(1 << 20)
CHUNK = 32768

# About 600 kB/s: a kernel with a large receive buffer asks for more only when a sixteenth of it is free, and that must not
# take as long as a write_timeout.
PIECE = 30000
PAUSE = 0.05


def read_slowly(client, seconds, piece_size=PIECE):
    """What there is to read in so many seconds, if it is read at that pace."""
    data = bytearray()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([client], [], [], PAUSE)[0]:
            piece = client.recv(piece_size)
            if not piece:
                break
            data += piece
        time.sleep(PAUSE)
    return data


def expected_part(at, length):
    """So many bytes of STREAM, repeated without end, from `at` on."""
    at %= len(STREAM)
    part = STREAM[at : at + length]
    while len(part) < length:
        part += STREAM[: length - len(part)]
    return part


class Client:
    """One connection with the threads that use it, which rest for `pause` seconds between two rounds: enough for others on
    this machine, and too short for all that is under way to arrive."""

    def __init__(self, connect, pause=0.0):
        self.connect = connect
        self.pause = pause
        self.socket = None
        self.stopping = threading.Event()
        self.failure = None
        self.rounds = 0
        self.threads = [threading.Thread(target=self._guard, args=(work,), daemon=True) for work in self.works()]

    def works(self):
        return [self.work]

    def start(self):
        self.socket = self.connect()
        self.socket.settimeout(harness.patience())
        for thread in self.threads:
            thread.start()

    def _guard(self, work):
        try:
            work()
        except (OSError, AssertionError) as error:
            self.failure = self.failure or error
            self.stopping.set()

    def rest(self):
        if self.pause and not self.stopping.is_set():
            time.sleep(self.pause)

    def finish(self):
        self.stopping.set()
        self.wait_end()

    def wait_end(self):
        for thread in self.threads:
            thread.join(harness.patience() + 5)
            if thread.is_alive() and not self.failure:
                self.failure = AssertionError("hangs")
        if self.socket:
            self.socket.close()
        if self.failure:
            raise AssertionError(f"{type(self).__name__} after {self.rounds} rounds: {self.failure!r}")

    def expect_end(self):
        rest = self.socket.recv(1)
        if rest:
            raise AssertionError(f"surplus {rest!r}")


class Bulk(Client):
    """Sends as fast as it can, and receives at the same time."""

    def __init__(self, connect, pause=0.0):
        super().__init__(connect, pause)
        self.sent = 0

    def works(self):
        return [self.send, self.receive]

    def send(self):
        while not self.stopping.is_set():
            at = self.sent % len(STREAM)
            self.sent += self.socket.send(STREAM[at : at + CHUNK])
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        got = 0
        while True:
            data = self.socket.recv(CHUNK)
            if not data:
                break
            harness.assert_same(data, expected_part(got, len(data)), f"the stream at {got}")
            got += len(data)
            self.rounds += 1
            self.rest()
        self.threads[0].join(harness.patience())
        if got != self.sent:
            raise AssertionError(f"{got} of {self.sent} bytes came back")


class PingPong(Client):
    """A message, its answer, the next message."""

    def work(self):
        while not self.stopping.is_set():
            message = b"message %12d\n" % self.rounds
            harness.ping(self.socket, message)
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class Upper(Client):
    """Capitals, of a message that is sent in two pieces."""

    def work(self):
        while not self.stopping.is_set():
            message = b"message %12d\n" % self.rounds
            self.socket.sendall(message[:9])
            self.rest()
            self.socket.sendall(message[9:])
            harness.assert_same(harness.receive_exactly(self.socket, len(message)), message.upper())
            self.rounds += 1
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class Discard(Client):
    """Sends all the time."""

    def work(self):
        while not self.stopping.is_set():
            self.socket.sendall(STREAM[:CHUNK])
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class Chargen(Client):
    """Reads the endless answer, each byte of which it knows."""

    LINES = b"".join(bytes(32 + (start + column) % 95 for column in range(72)) + b"\r\n" for start in range(95))

    def work(self):
        got = 0
        while not self.stopping.is_set():
            data = self.socket.recv(CHUNK)
            if not data:
                raise AssertionError(f"ended after {got} bytes")
            at = got % len(self.LINES)
            harness.assert_same(data, (self.LINES * (2 + len(data) // len(self.LINES)))[at : at + len(data)],
                                f"chargen at {got}")
            got += len(data)
            self.rounds += 1
            self.rest()


class Newcomers(Client):
    """New connections all the time, one after the other."""

    def work(self):
        self.socket.close()
        while not self.stopping.is_set():
            with self.connect() as client:
                message = b"client %12d\n" % self.rounds
                client.sendall(message)
                client.shutdown(socket.SHUT_WR)
                harness.assert_same(harness.receive_all(client), message)
            self.rounds += 1
            self.rest()


class Traffic:
    """Some of each, and `more` clients."""

    def __init__(self, connect, bulk=1, ping_pong=2, newcomers=1, pause=0.001, more=()):
        self.clients = [*more, *(kind(connect, pause) for kind,
                        count in ((Bulk, bulk), (PingPong, ping_pong), (Newcomers, newcomers))
                        for _ in range(count))]

    def pass_by(self, rounds=20):
        """Waits until every client has got so many more answers."""
        targets = [(client, client.rounds + rounds) for client in self.clients]

        def passed():
            return all(client.rounds >= target or client.failure for client, target in targets)

        harness.wait_until(passed, "answers to every client")
        self.check()

    def check(self):
        for client in self.clients:
            if client.failure:
                raise AssertionError(f"{type(client).__name__} after {client.rounds} rounds: {client.failure!r}")

    def __enter__(self):
        """Each client has been accepted, and answered once, when the block begins."""
        for client in self.clients:
            client.start()
        try:
            self.pass_by(1)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        failures = []
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            try:
                client.finish()
            except AssertionError as error:
                failures.append(str(error))
        if failures and kind is None:
            raise AssertionError("\n".join(failures))
