"""SIGUSR2 hands everything over to a new process, in place or by the service manager's descriptor store: clients see a
pause and nothing else; and whatever fails is told, and costs no more than it has to."""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
import time

import daemons
import harness
import traffic
from daemons import ECHO, LOG, UPPER, config_text, listener
from harness import ping, receive_all, receive_exactly
from traffic import STREAM

HANDED_OVER = 75
GO_ON = "of the process before go on"
END = b"goodbye\r\n"

SERVICES = ", ".join((ECHO, UPPER, listener("discard", "PORT2"), listener("chargen", "PORT3")))


class InPlace:
    """The program is executed anew by the same process."""

    def daemon(self, listeners=ECHO, settings=LOG, **how):
        return daemons.Daemon(listeners, settings, **how)

    def send(self, daemon):
        """A signal of the parent would be the service manager's."""
        subprocess.run(["kill", "-USR2", str(daemon.pid)], check=True)

    def restart(self, daemon):
        ready, taken = len(daemon.notify.values("READY")), daemon.count_log(GO_ON)
        self.send(daemon)
        daemon.wait_log(GO_ON, taken + 1)
        daemon.wait_ready(ready + 1)


class ByStore:
    """The process ends, and the next one gets what it has left."""

    def daemon(self, listeners=ECHO, settings=LOG, store=100, **how):
        return daemons.Daemon(listeners, settings, store=store, **how)

    def send(self, daemon):
        daemon.send_signal(signal.SIGUSR2)

    def restart(self, daemon):
        taken = daemon.count_log(GO_ON)
        self.send(daemon)
        self.assertEqual(daemon.wait(), HANDED_OVER, daemon.log()[-3000:])
        daemon.successor()
        daemon.wait_log(GO_ON, taken + 1)


def connect_small(daemon, index=0):
    """A client whose kernel takes little, so that the rest of a long answer stays with the daemon."""
    client = socket.socket()
    daemon.clients.append(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(harness.patience())
    client.connect(("127.0.0.1", int(daemon.ports[index])))
    return client


def wait_arrived(client):
    """Waits until the daemon's kernel has all that the client has sent."""
    harness.wait_until(lambda: struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0] == 0,
                       "what was sent to arrive")


class Carried:
    """Connections."""

    def test_traffic(self):
        with self.daemon(SERVICES) as daemon:
            more = [kind(lambda index=index: daemon.connect(index), 0.001)
                    for index, kind in ((1, traffic.Upper), (2, traffic.Discard), (3, traffic.Chargen))]
            with traffic.Traffic(daemon.connect, more=more) as clients:
                for _ in range(harness.scale(8, 3)):
                    clients.pass_by(10)
                    self.restart(daemon)
                clients.pass_by()
            self.assertEqual(daemon.count_log("(warning|error): "), 0, daemon.log()[-3000:])
            self.assertEqual(daemon.count_log(r"closed: (drained|error|not_resumed|\w+_timeout)"), 0)

    def unread(self, connect, half_close):
        with self.daemon(f"{ECHO}, {listener(path='DIR/socket')}") as daemon, connect(daemon) as client:
            sent = harness.fill(client)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            for _ in range(2):
                self.restart(daemon)
            harness.assert_same(receive_exactly(client, sent), traffic.expected_part(0, sent))
            if half_close:
                self.assertEqual(client.recv(1), b"")
            else:
                ping(client, b"and on")
                client.close()
            closed = daemon.wait_closed()[0]
            self.assertEqual((closed["reason"], int(closed["bytes_out"])),
                             ("client_closed", sent + (0 if half_close else 6)))

    def test_unread_answer(self):
        self.unread(daemons.Daemon.connect, False)

    def test_unread_answer_at_a_path(self):
        self.unread(daemons.Daemon.connect_path, False)

    def test_unread_answer_to_a_half_closed_client(self):
        self.unread(daemons.Daemon.connect, True)

    def test_unread_answer_to_a_half_closed_client_at_a_path(self):
        self.unread(daemons.Daemon.connect_path, True)

    def test_end_word_in_two_pieces(self):
        with self.daemon(listener(end_word="goodbye")) as daemon:
            clients = daemon.connect_many(len(END) + 1)
            for split, client in enumerate(clients):
                ping(client, b"hello\n" + END[:split])
            other = daemon.connect()
            ping(other, b"x")
            self.restart(daemon)
            for split, client in enumerate(clients[:-1]):
                self.assertEqual(harness.exchange(client, END[split:] + b"not this"), END[split:])
            self.assertEqual(clients[-1].recv(1), b"", "the word came whole")
            self.assertEqual(harness.exchange(other, END), END, "the line began with another letter")
            for client in clients:
                client.close()
            daemon.wait_log("closed: end_word", len(clients))

    def test_greeting_to_a_slow_reader(self):
        greeting = bytes(33 + index % 90 for index in range(65536))
        with self.daemon(listener(greeting=greeting), LOG + "unsent_limit = 4096;") as daemon:
            client = connect_small(daemon)
            got = receive_exactly(client, 1000)
            client.sendall(b"hello")
            for _ in range(3):
                self.restart(daemon)
                got += receive_exactly(client, 5000)
            harness.assert_same(got + receive_exactly(client, len(greeting) - len(got)), greeting)
            self.assertEqual(receive_exactly(client, 5), b"hello")

    def test_reply(self):
        """Who has asked, who has got a part of the answer, and who has yet to ask."""
        text = bytes(33 + index % 90 for index in range(65536))
        with self.daemon(listener("reply", text=text), LOG + "unsent_limit = 4096;") as daemon:
            asked, later = connect_small(daemon), daemon.connect()
            asked.sendall(b"?")
            got = receive_exactly(asked, 1000)
            self.restart(daemon)
            self.assertTrue(harness.is_silent(later))
            later.sendall(b"?")
            for client, answer in ((asked, got), (later, b"")):
                harness.assert_same(answer + receive_all(client), text)
                client.close()
            for closed in daemon.wait_closed(2):
                self.assertEqual((closed["reason"], closed["bytes_in"], int(closed["bytes_out"])),
                                 ("served", "1", len(text)))

    def test_lingering(self):
        """The daemon has sent its FIN; what the client still sends is thrown away."""
        with self.daemon(listener("greet", text="hello")) as daemon:
            client = daemon.connect()
            self.assertEqual(receive_all(client), b"hello")
            self.restart(daemon)
            with contextlib.suppress(OSError):  # on a machine that takes 2 seconds for this
                client.sendall(b"too late")
            client.close()
            closed = daemon.wait_closed()[0]
            self.assertEqual((closed["reason"], closed["bytes_out"]), ("served", "5"))
            self.assertEqual(daemon.exchange(b""), b"hello")

    def test_draining_twice(self):
        """Its listener is gone: it gets the answer to what had come by then."""
        settings = LOG + "unsent_limit = 4096;"
        with self.daemon(f"{ECHO}, {listener(port='PORT1')}", settings) as daemon:
            client = connect_small(daemon, 1)
            client.sendall(STREAM[:60000])
            wait_arrived(client)
            daemon.write_config(config_text(settings=settings))
            self.restart(daemon)
            client.sendall(b"later")
            wait_arrived(client)
            for _ in range(2):
                self.restart(daemon)
            harness.assert_same(receive_all(client), STREAM[:60000])
            client.close()
            self.assertEqual([closed["reason"] for closed in daemon.wait_closed()], ["drained"])

    def test_path(self):
        with self.daemon(listener(path="DIR/socket", mode="0640")) as daemon:
            path = daemon.path("socket")
            before = os.stat(path)
            client = daemon.connect_path()
            for _ in range(3):
                ping(client)
                self.restart(daemon)
                after = os.stat(path)
                self.assertEqual((after.st_ino, after.st_mode), (before.st_ino, before.st_mode))
                self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
            self.assertEqual(harness.exchange(client, b"old"), b"old")
            daemon.stop()
            self.assertFalse(os.path.exists(path), "the last one removes it")

    def test_counters_and_numbers(self):
        with self.daemon(f"{ECHO}, {UPPER}") as daemon:
            for _ in range(3):
                daemon.exchange(b"hello")
            client, idle = daemon.connect(), daemon.connect(1)
            ping(client, b"12345")
            ping(idle, b"x", b"X")
            before, _ = daemon.counters()
            for _ in range(2):
                self.restart(daemon)
                self.assertEqual(daemon.counters()[0], before)
            ping(client, b"67")
            client.close()
            self.assertEqual(daemon.exchange(b"new"), b"new")
            closed = {int(closed["id"]): closed for closed in daemon.wait_closed(5)}
            self.assertEqual(sorted(closed), [1, 2, 3, 4, 6])
            self.assertEqual((closed[4]["bytes_in"], closed[4]["bytes_out"]), ("7", "7"))

    def end_under_restarts(self, daemon, reason):
        """A time that began anew with each of them would never be over."""
        end = time.monotonic() + harness.patience()
        while not daemon.closed() and time.monotonic() < end:
            self.restart(daemon)
        self.assertEqual([closed["reason"] for closed in daemon.closed()], [reason])

    def test_idle_timeout(self):
        with self.daemon(ECHO, LOG + "idle_timeout = 1.5;") as daemon:
            client = daemon.connect()
            ping(client)
            self.end_under_restarts(daemon, "idle_timeout")
            self.assertEqual(client.recv(1), b"")

    def unread_under_restarts(self, service, connect, error):
        """TCP's kernel knows the timeout, too; a path's does not."""
        entries = f"{listener(service)}, {listener(service, path='DIR/socket')}"
        with self.daemon(entries, LOG + "write_timeout = 1.5;") as daemon:
            client = connect(daemon)
            harness.fill(client, 1 << 24)
            self.end_under_restarts(daemon, "write_timeout")
            with error:
                receive_all(client)

    def test_write_timeout(self):
        self.unread_under_restarts("echo", daemons.Daemon.connect, self.assertRaises(ConnectionResetError))

    def test_write_timeout_at_a_path(self):
        self.unread_under_restarts("echo", daemons.Daemon.connect_path, contextlib.suppress(ConnectionResetError))

    def test_write_timeout_of_a_service_that_speaks(self):
        self.unread_under_restarts("chargen", daemons.Daemon.connect, self.assertRaises(ConnectionResetError))

    def test_write_timeout_of_a_service_that_speaks_at_a_path(self):
        self.unread_under_restarts("chargen", daemons.Daemon.connect_path, contextlib.suppress(ConnectionResetError))

    def test_connections_of_a_source(self):
        with self.daemon(f"{ECHO}, {UPPER}", LOG + "max_connections_per_source = 3;") as daemon:
            old = daemon.connect_many(2)
            for client in old:
                ping(client)
            for _ in range(2):
                self.restart(daemon)
                third = daemon.connect(1)
                ping(third, b"x", b"X")
                self.assertTrue(harness.is_refused(daemon.connect()))
                third.close()
                daemon.wait_log("closed: .*upper on ", daemon.count_log("handing over"))

    def test_connections_of_a_source_at_one_listener(self):
        with self.daemon(f"{listener(max_connections_per_source=2)}, {UPPER}") as daemon:
            old = daemon.connect_many(2)
            for client in old:
                ping(client)
            for _ in range(2):
                self.restart(daemon)
                self.assertTrue(harness.is_refused(daemon.connect()))
                ping(daemon.connect(1), b"x", b"X")
            old[0].close()
            daemon.wait_log("closed: client_closed")
            self.restart(daemon)
            ping(daemon.connect())
            self.assertTrue(harness.is_refused(daemon.connect()))


class CarriedInPlace(InPlace, Carried, daemons.TestCase):
    pass


class CarriedByStore(ByStore, Carried, daemons.TestCase):
    pass


if __name__ == "__main__":
    harness.main(jobs=4)
