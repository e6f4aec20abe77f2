"""Clients that take their time: as long as they read at all nothing is cut, nothing lost, nothing reset, whatever the
kernel's buffers hold meanwhile; those that do not read are closed."""

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

import daemons
import harness
from daemons import LOG, listener
from traffic import PIECE, read_slowly

# TCP, and a path.
BOTH = (({}, daemons.Daemon.connect), ({"path": "DIR/socket"}, daemons.Daemon.connect_path))

# Several times a write_timeout of 1.
SLOW_SECONDS = 3.0

# More than the default buffers of both sides take in together at that pace.
LARGE = 16 << 20

CHARGEN_PERIOD = 95 * 74  # RFC 864: a line for each character, 72 of them and CR LF


class WriteTimeout(harness.TestCase):
    SETTINGS = LOG + "write_timeout = 1.0;"

    def echo(self, place, connect):
        request = harness.pattern(LARGE)
        with daemons.Daemon(listener(**place), self.SETTINGS) as daemon, connect(daemon) as client:

            def slowly(_):
                answer = read_slowly(client, SLOW_SECONDS)
                self.assertEqual(daemon.count_log("closed: "), 0, daemon.log())
                self.assertLess(len(answer), LARGE)
                return bytes(answer) + harness.receive_all(client)

            harness.assert_same(harness.exchange(client, request, slowly), request)
            daemon.wait_log("closed: client_closed")

    def test_echo_to_a_slow_reader(self):
        self.echo(*BOTH[0])

    def test_echo_to_a_slow_reader_at_a_path(self):
        self.echo(*BOTH[1])

    def chargen(self, place, connect):
        with daemons.Daemon(listener("chargen", **place), self.SETTINGS) as daemon, connect(daemon) as client:
            data = bytes(read_slowly(client, SLOW_SECONDS))
            self.assertEqual(daemon.count_log("closed: "), 0, daemon.log())
            data += harness.receive_exactly(client, LARGE)
            self.assertRegex(data, rb"\A[ -~]{72}\r\n")
            harness.assert_same(data[CHARGEN_PERIOD:], data[:-CHARGEN_PERIOD])

    def test_chargen_to_a_slow_reader(self):
        self.chargen(*BOTH[0])

    def test_chargen_to_a_slow_reader_at_a_path(self):
        self.chargen(*BOTH[1])

    def test_who_stops_reading_is_closed(self):
        for service in ("echo", "chargen"):
            for place, connect in BOTH:
                with self.subTest(service=service, place=place), \
                        daemons.Daemon(listener(service, **place), self.SETTINGS) as daemon, connect(daemon) as client:
                    with harness.Sender(client, bytes(4 * LARGE if service == "echo" else 0), half_close=False) as sender:
                        read_slowly(client, 0.3)
                        daemon.wait_log(f"closed: write_timeout, {service} on")
                    if service == "echo":  # buffers may take many MiB
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
        with daemons.Daemon(listener(service), f"{LOG} unsent_limit = {unsent_limit};") as daemon:
            clients = daemon.connect_many(self.COUNT)
            held = self.stuffed(clients if sends else [], lambda: self.held_by_tcp(daemon))
            self.assertEqual(len(held), self.COUNT)
            for unsent, memory in held:
                self.assertGreater(unsent, 0)
                self.assertLessEqual(unsent, unsent_limit + self.SEGMENT)
                self.assertLessEqual(memory, (unsent_limit + self.SEGMENT) * 1.25)

    def test_tcp(self):
        for service in ("chargen", "echo"):
            for unsent_limit in (262144, 16384):
                with self.subTest(service=service, unsent_limit=unsent_limit):
                    self.check_tcp(service, unsent_limit, service == "echo")

    def test_paths(self):
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            bound = int(file.read()) + self.SEGMENT
        for service in ("chargen", "echo"):
            with self.subTest(service=service), daemons.Daemon(listener(service, path="DIR/socket"), LOG) as daemon:
                clients = [daemon.connect_path() for _ in range(self.COUNT)]

                def held():
                    return [struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0] for client in clients]

                for bytes_held in self.stuffed(clients if service == "echo" else [], held):
                    self.assertGreater(bytes_held, 0)
                    self.assertLessEqual(bytes_held, bound)


class Stop(harness.TestCase):
    def stop(self, place, connect):
        with daemons.Daemon(listener(**place), LOG + "drain_timeout = 10.0;") as daemon, connect(daemon) as client:
            eof, failures = threading.Event(), []

            def send():
                block = bytes(65536)
                while not eof.is_set():
                    try:
                        client.sendall(block)
                        time.sleep(0.02)
                    except OSError as error:
                        # After the daemon's FIN was read the client knows that nobody listens.
                        if not eof.wait(harness.patience()):
                            failures.append(error)
                        return

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            received = len(read_slowly(client, 1.5, 2 * PIECE))
            daemon.send_signal(signal.SIGTERM)
            received += len(read_slowly(client, 3.0, 2 * PIECE))
            received += len(harness.receive_all(client))  # a reset would raise here
            eof.set()
            sender.join(harness.patience())
            self.assertEqual((failures, sender.is_alive()), ([], False))
            client.close()
            self.assertEqual(daemon.wait(), 0)
            closed, = daemon.closed()
            self.assertEqual(received, int(closed["bytes_out"]), closed.group())

    def test_who_sends_and_reads_slowly_gets_all(self):
        self.stop(*BOTH[0])

    def test_who_sends_and_reads_slowly_at_a_path_gets_all(self):
        self.stop(*BOTH[1])


class Linger(harness.TestCase):
    REPLY = listener("reply", text="answer\n", trace=True)

    def test_upload_after_the_answer(self):
        """Who is answered before the request has ended may send it to its end: no reset, which could cost the answer. It
        takes longer than a client that says nothing more is waited for."""
        with daemons.Daemon(self.REPLY, LOG) as daemon, daemon.connect() as client:
            client.sendall(b"x")
            sent = 1
            for _ in range(40):
                client.sendall(bytes(10000))
                sent += 10000
                time.sleep(0.1)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(harness.receive_all(client), b"answer\n")
            self.assertEqual(int(daemon.wait_log(r"closed: served, .* (\d+) bytes in, 7 out").group(1)), sent)

    def test_trace_goes_on(self):
        with daemons.Daemon(self.REPLY, LOG) as daemon, daemon.connect() as client:
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
        for place, connect in BOTH:
            with self.subTest(place=place), daemons.Daemon(listener(**place), LOG) as daemon:
                with connect(daemon) as client:
                    client.sendall(b"abc")
                    try:
                        client.send(b"U", socket.MSG_OOB)
                    except OSError as error:  # Linux before 5.15, or built without CONFIG_AF_UNIX_OOB
                        if error.errno != errno.EOPNOTSUPP or connect is daemons.Daemon.connect:
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
        with daemons.Daemon(settings=LOG) as daemon, daemon.connect() as client:
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
    harness.main(jobs=4)
