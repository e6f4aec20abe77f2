"""Clients that take their time: as long as they read at all nothing is cut, nothing lost, nothing reset, whatever the
kernel's buffers hold meanwhile; those that do not read are closed."""

import contextlib
import errno
import fcntl
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import harness

LOG = 'log = { level = "info"; rate = 0; };'
LISTENER = '{ address = "127.0.0.1"; port = PORT; service = "%s"; }'
PATH_LISTENER = '{ path = "DIR/socket"; service = "%s"; }'

# About 600 kB/s, for several times a write_timeout of 1: a kernel with a large receive buffer asks for more only when a
# sixteenth of it is free, and that must not take so long.
PIECE = 30000
PAUSE = 0.05
SLOW_SECONDS = 4.0

# More than the default buffers of both sides take in together at that pace.
LARGE = 16 << 20

CHARGEN_PERIOD = 95 * 74  # RFC 864: a line for each character, 72 of them and CR LF


def read_slowly(client, seconds=SLOW_SECONDS, piece_size=PIECE):
    data = bytearray()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        piece = client.recv(piece_size)
        if not piece:
            break
        data += piece
        time.sleep(PAUSE)
    return bytes(data)


class Sender:
    """Sends in a thread of its own; how that ended is in `failure`."""

    def __init__(self, send):
        self.send = send
        self.failure = None
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            self.send(self)
        except OSError as error:
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join(harness.patience())
        if self.thread.is_alive():
            raise AssertionError("a client was left sending")


class WriteTimeout(harness.TestCase):
    SETTINGS = LOG + "write_timeout = 1.0;"

    def echo(self, listener, connect):
        request = harness.pattern(LARGE)
        with harness.Daemon(listener, self.SETTINGS) as daemon, connect(daemon) as client:

            def send(_):
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)

            with Sender(send) as sender:
                answer = read_slowly(client)
                self.assertEqual(daemon.count_log("closed: "), 0, daemon.log())
                self.assertLess(len(answer), LARGE)
                answer += harness.receive_all(client)
            self.assertIsNone(sender.failure)
            harness.assert_same(answer, request)
            daemon.wait_log("closed: client_closed")

    def test_echo_to_a_slow_reader(self):
        self.echo(LISTENER % "echo", harness.Daemon.connect)

    def test_echo_to_a_slow_reader_at_a_path(self):
        self.echo(PATH_LISTENER % "echo", harness.Daemon.connect_path)

    def test_chargen_to_a_slow_reader(self):
        for listener, connect in ((LISTENER, harness.Daemon.connect), (PATH_LISTENER, harness.Daemon.connect_path)):
            with self.subTest(listener=listener), harness.Daemon(listener % "chargen", self.SETTINGS) as daemon, \
                    connect(daemon) as client:
                data = read_slowly(client)
                self.assertEqual(daemon.count_log("closed: "), 0, daemon.log())
                data += harness.receive_exactly(client, LARGE)
                self.assertRegex(data, rb"\A[ -~]{72}\r\n")
                harness.assert_same(data[CHARGEN_PERIOD:], data[:-CHARGEN_PERIOD])

    def test_who_stops_reading_is_closed(self):
        for service, listener, connect in (("echo", LISTENER, harness.Daemon.connect),
                                           ("chargen", LISTENER, harness.Daemon.connect),
                                           ("echo", PATH_LISTENER, harness.Daemon.connect_path),
                                           ("chargen", PATH_LISTENER, harness.Daemon.connect_path)):
            with self.subTest(service=service, listener=listener), \
                    harness.Daemon(listener % service, self.SETTINGS) as daemon, connect(daemon) as client:

                def send(_):
                    while service == "echo":  # buffers may take many MiB
                        client.sendall(bytes(LARGE))

                with Sender(send) as sender:
                    read_slowly(client, 0.5)
                    daemon.wait_log(f"closed: write_timeout, {service} on")
                if service == "echo":
                    self.assertIsInstance(sender.failure, (BrokenPipeError, ConnectionResetError))


class KernelMemory(harness.TestCase):
    """What clients that never read cost the kernel: tcpechod(8), MEMORY."""

    COUNT = 20
    SEGMENT = 65536

    def stuffed(self, clients, held):
        """Sends to `clients` until nobody takes anything any more, and held(), a list, stays the same."""
        before, same = None, 0
        for client in clients:
            client.setblocking(False)

        def nothing_moves():
            nonlocal before, same
            moved = False
            for client in clients:
                try:
                    moved = client.send(bytes(65536)) > 0 or moved
                except BlockingIOError:
                    pass
            now = held()
            same = same + 1 if not moved and now == before else 0
            before = now
            return same >= 10

        harness.wait_until(nothing_moves, "the clients to be stuffed")
        return before

    @staticmethod
    def held_by_tcp(daemon):
        """[(unacknowledged bytes, memory)] of each of the daemon's connections."""
        text = subprocess.run([harness.needs("ss"), "-Htmn", "state", "established", f"sport = :{daemon.port}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
        return [tuple(map(int, match)) for match in
                re.findall(r"^\d+ +(\d+) .*?\n?.*?skmem:\([^)]*,w(\d+)", text, re.MULTILINE)]

    def check_tcp(self, service, unsent_limit, sends):
        with harness.Daemon(LISTENER % service, f"{LOG} unsent_limit = {unsent_limit};") as daemon, \
                contextlib.ExitStack() as stack:
            clients = [stack.enter_context(daemon.connect()) for _ in range(self.COUNT)]
            held = self.stuffed(clients if sends else [], lambda: self.held_by_tcp(daemon))
            self.assertEqual(len(held), self.COUNT)
            for unsent, memory in held:
                self.assertGreater(unsent, 0)
                self.assertLessEqual(unsent, unsent_limit + self.SEGMENT)
                self.assertLessEqual(memory, (unsent_limit + self.SEGMENT) * 1.25)

    def test_chargen(self):
        for unsent_limit in (262144, 16384):
            with self.subTest(unsent_limit=unsent_limit):
                self.check_tcp("chargen", unsent_limit, False)

    def test_echo(self):
        for unsent_limit in (262144, 16384):
            with self.subTest(unsent_limit=unsent_limit):
                self.check_tcp("echo", unsent_limit, True)

    def test_paths(self):
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            bound = int(file.read()) + self.SEGMENT
        for service in ("chargen", "echo"):
            with self.subTest(service=service), harness.Daemon(PATH_LISTENER % service, LOG) as daemon, \
                    contextlib.ExitStack() as stack:
                clients = [stack.enter_context(daemon.connect_path()) for _ in range(self.COUNT)]

                def held():
                    return [struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0] for client in clients]

                for bytes_held in self.stuffed(clients if service == "echo" else [], held):
                    self.assertGreater(bytes_held, 0)
                    self.assertLessEqual(bytes_held, bound)


class Stop(harness.TestCase):
    def stop(self, listener, connect):
        with harness.Daemon(listener, LOG + "drain_timeout = 10.0;") as daemon, connect(daemon) as client:
            received = 0
            eof = threading.Event()

            def send(sender):
                block = bytes(65536)
                while not sender.ends.is_set():
                    try:
                        client.sendall(block)
                        time.sleep(0.02)
                    except OSError:
                        # After the daemon's FIN was read the client knows that nobody listens.
                        if not eof.wait(harness.patience()):
                            raise
                        return

            with Sender(send) as sender:
                received += len(read_slowly(client, 3.0, 2 * PIECE))
                daemon.send_signal(signal.SIGTERM)
                received += len(read_slowly(client, 5.0, 2 * PIECE))
                received += len(harness.receive_all(client))  # a reset would raise here
                eof.set()
            self.assertIsNone(sender.failure)
            client.close()
            self.assertEqual(daemon.wait(), 0)
            closed = re.search(r"closed: (\w+), echo on .* \d+ bytes in, (\d+) out,", daemon.log())
            self.assertIsNotNone(closed, daemon.log())
            self.assertEqual(received, int(closed.group(2)), closed.group())

    def test_who_sends_and_reads_slowly_gets_all(self):
        self.stop(LISTENER % "echo", harness.Daemon.connect)

    def test_who_sends_and_reads_slowly_at_a_path_gets_all(self):
        self.stop(PATH_LISTENER % "echo", harness.Daemon.connect_path)


class Linger(harness.TestCase):
    REPLY = '{ address = "127.0.0.1"; port = PORT; service = "reply"; text = "answer\\n"; trace = true; }'

    def test_upload_behind_the_answer(self):
        """Who is answered before the request has ended may send it to its end: no reset, which could cost the answer."""
        with harness.Daemon(self.REPLY, LOG) as daemon, daemon.connect() as client:
            client.sendall(b"x")
            end = time.monotonic() + SLOW_SECONDS
            sent = 1
            while time.monotonic() < end:
                client.sendall(bytes(10000))
                sent += 10000
                time.sleep(0.1)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(harness.receive_all(client), b"answer\n")
            self.assertEqual(int(daemon.wait_log(r"closed: served, .* (\d+) bytes in, 7 out").group(1)), sent)

    def test_trace_goes_on(self):
        with harness.Daemon(self.REPLY, 'log = { level = "debug"; rate = 0; };') as daemon, daemon.connect() as client:
            client.sendall(b"first message")
            self.assertEqual(harness.receive_all(client), b"answer\n")
            daemon.wait_log('sent 13 bytes: "first message"')
            client.sendall(b"second message")
            daemon.wait_log('sent 14 bytes: "second message"')
            client.close()
            daemon.wait_log("closed: served, .* 27 bytes in, 7 out")


class Urgent(harness.TestCase):
    def test_byte_in_its_place(self):
        """RFC 6093: it is a byte of the stream like every other."""
        for listener, connect in ((LISTENER, harness.Daemon.connect), (PATH_LISTENER, harness.Daemon.connect_path)):
            with self.subTest(listener=listener), harness.Daemon(listener % "echo", LOG) as daemon:
                with connect(daemon) as client:
                    client.sendall(b"abc")
                    try:
                        client.send(b"U", socket.MSG_OOB)
                    except OSError as error:  # Linux before 5.15, or built without CONFIG_AF_UNIX_OOB
                        if error.errno != errno.EOPNOTSUPP or connect is harness.Daemon.connect:
                            raise
                        self.skipTest("no urgent data on Unix sockets here")
                    client.sendall(b"def")
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(harness.receive_all(client), b"abcUdef")
                with connect(daemon) as client:
                    client.send(b"abcU", socket.MSG_OOB)
                    self.assertEqual(harness.receive_exactly(client, 4), b"abcU")

    def test_in_bulk(self):
        """splice(2) stops before it for good."""
        block = harness.pattern(65536)
        with harness.Daemon(LISTENER % "echo", LOG) as daemon, daemon.connect() as client:
            for _ in range(3):
                client.sendall(block)
                harness.assert_same(harness.receive_exactly(client, len(block)), block)
                client.send(b"U", socket.MSG_OOB)
                client.sendall(block)
                harness.assert_same(harness.receive_exactly(client, len(block) + 1), b"U" + block)
            client.sendall(block)
            client.send(b"U", socket.MSG_OOB)
            client.shutdown(socket.SHUT_WR)
            harness.assert_same(harness.receive_all(client), block + b"U")


if __name__ == "__main__":
    harness.main()
