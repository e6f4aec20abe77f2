"""SIGHUP and SIGTERM at their edges: paths that others have changed, ports that somebody has, too few descriptors, and
listeners that close while clients wait in their backlog or keep coming."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys

import harness

ECHO = '{ address = "127.0.0.1"; port = PORT; service = "echo"; }'
UPPER = '{ address = "127.0.0.1"; port = PORT1; service = "upper"; }'
AT_PATH = '{ path = "DIR/socket"; service = "echo"; mode = "0666"; }'
QUIET = 'log = { level = "notice"; connections = false; };'


def file(listeners=ECHO, settings=QUIET):
    return f"listeners = ( {listeners} );\n{settings}\n"


class Paths(harness.TestCase):
    def exchange(self, daemon, data, name="socket"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(harness.patience())
            client.connect(daemon.path(name))
            return harness.exchange(client, data)

    def test_moved_and_replaced_by_a_link(self):
        """What the link points to is somebody else's, and stays as it is."""
        with harness.Daemon(config=file(AT_PATH)) as daemon:
            secret = daemon.path("secret")
            with open(secret, "w", encoding="ascii") as other:
                other.write("secret")
            os.chmod(secret, 0o600)
            os.rename(daemon.path("socket"), daemon.path("moved"))
            os.symlink(secret, daemon.path("socket"))
            self.reload(daemon, failing=True)
            daemon.wait_log("error: cannot listen: echo on .*/socket: ")
            self.assertEqual(stat.S_IMODE(os.stat(secret).st_mode), 0o600)
            self.assertTrue(os.path.islink(daemon.path("socket")))
            self.assertEqual(self.exchange(daemon, b"still there", "moved"), b"still there")

            os.unlink(daemon.path("socket"))
            self.reload(daemon)
            self.assertEqual(self.exchange(daemon, b"again"), b"again")
            self.assertEqual(stat.S_IMODE(os.stat(daemon.path("socket")).st_mode), 0o666)
            daemon.stop()
            self.assertFalse(os.path.lexists(daemon.path("socket")))
            with open(secret, encoding="ascii") as other:
                self.assertEqual(other.read(), "secret")

    def test_deleted(self):
        with harness.Daemon(config=file(AT_PATH)) as daemon:
            for _ in range(2):
                os.unlink(daemon.path("socket"))
                self.reload(daemon)
                self.assertEqual(self.exchange(daemon, b"x"), b"x")
            before = daemon.descriptors()
            os.unlink(daemon.path("socket"))
            self.reload(daemon)
            harness.wait_until(lambda: daemon.descriptors() == before, "the old socket to be closed")


class Ports(harness.TestCase):
    def test_own_port_twice(self):
        """A listener at the port that the kernel picked for another one, which stays."""
        any_port = '{ address = "127.0.0.1"; port = 0; service = "echo"; }'
        with harness.Daemon(config=file(any_port)) as daemon:
            (address, port), = daemon.listening()
            explicit = '{ address = "127.0.0.1"; port = %d; service = "upper"; }' % port
            for both in (f"{any_port}, {explicit}", f"{explicit}, {any_port}"):
                with self.subTest(listeners=both):
                    self.reload(daemon, file(both), failing=True)
                    daemon.wait_log(f"error: cannot listen: upper on {address}:{port}: ")
                    self.assertEqual(daemon.listening(), [(address, port)])
                    for _ in range(30):
                        with socket.create_connection((address, port), harness.patience()) as client:
                            self.assertEqual(harness.exchange(client, b"x"), b"x")
            self.reload(daemon, file(explicit))  # in its place it may
            self.assertEqual(daemon.listening(), [(address, port)])
            with socket.create_connection((address, port), harness.patience()) as client:
                self.assertEqual(harness.exchange(client, b"x"), b"X")

    def test_shared_port_of_another_process(self):
        """SO_REUSEPORT of theirs is no invitation: half of the clients would be theirs."""
        with harness.Daemon(config=file()) as daemon:
            port = harness.free_port()
            with contextlib.closing(port), socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                other.bind(("127.0.0.1", port))
                other.listen()
                listeners = f"{ECHO}, {UPPER.replace('PORT1', str(int(port)))}"
                self.reload(daemon, file(listeners), failing=True)
                daemon.wait_log(f"error: cannot listen: upper on 127.0.0.1:{int(port)}: Address already in use")
                self.assertEqual(daemon.listening(), [("127.0.0.1", daemon.port)])
                other.close()
                self.reload(daemon, file(listeners))
                self.assertEqual(len(daemon.listening()), 2)


class Descriptors(harness.TestCase):
    def test_more_listeners_than_descriptors(self):
        """Nobody could connect to any of them."""
        many = ", ".join([ECHO] + [UPPER.replace("PORT1", f"PORT{i}") for i in range(1, 31)])
        with harness.Daemon(config=file(settings=QUIET + "workers = 2;"), nofile=60) as daemon:
            before = daemon.listening(), daemon.descriptors()
            for _ in range(2):
                self.reload(daemon, file(many, QUIET + "workers = 2;"), failing=True)
            daemon.wait_log("error: .*descriptor limit")
            self.assertEqual((daemon.listening(), daemon.descriptors()), before)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.reload(daemon, file(settings=QUIET + "workers = 2;"))


class Backlog(harness.TestCase):
    """Who has connected to a listener has a right to an answer when it closes."""

    def fill(self, daemon, stack, index, count):
        """Clients in the backlog, with a byte each."""
        daemon.send_signal(signal.SIGSTOP)
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(daemon.connect(index)))
            clients[-1].sendall(b"x")
        return clients

    def closes(self, count, queue_depth, by_reload):
        harness.raise_nofile(8000)
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as limit:
            count = min(count, int(limit.read()) - 10)
        settings = QUIET + f"backlog = 4096; queue_depth = {queue_depth};"
        with harness.Daemon(config=file(f"{ECHO}, {UPPER}", settings)) as daemon, contextlib.ExitStack() as stack:
            clients = self.fill(daemon, stack, 1, count)
            if by_reload:
                daemon.write_config(file(ECHO, settings))
            daemon.send_signal(signal.SIGHUP if by_reload else signal.SIGTERM)
            daemon.send_signal(signal.SIGCONT)
            for number, client in enumerate(clients):
                try:
                    self.assertEqual(harness.receive_exactly(client, 1), b"X")
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(client.recv(1), b"")
                except (OSError, AssertionError) as error:
                    raise AssertionError(f"client {number} of {count}: {error}") from error
            if by_reload:
                daemon.wait_log("notice: reloaded .*: 1 listener$")
                self.assertEqual(daemon.exchange(b"x"), b"x")
            else:
                self.assertEqual(daemon.wait(), 0)
                self.assertEqual(daemon.count_log("stopped: every connection was finished"), 1)

    def test_long_one_of_a_listener_that_is_removed(self):
        self.closes(harness.scale(3000), 1024, by_reload=True)

    def test_long_one_at_the_stop(self):
        self.closes(harness.scale(3000), 1024, by_reload=False)

    def test_short_queue_of_a_listener_that_is_removed(self):
        self.closes(50, 1, by_reload=True)

    def test_short_queue_at_the_stop(self):
        self.closes(50, 1, by_reload=False)


# A client that comes again and again, until nobody answers.
COMER = """
import collections, socket, sys
ring = collections.deque(maxlen=100)
while True:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(sys.argv[1])
    except OSError:
        break
    if not ring:
        print("in", flush=True)
    ring.append(client)
"""


class Comers(harness.TestCase):
    def stop_among(self, settings):
        with harness.Daemon(config=file(AT_PATH, QUIET + "drain_timeout = 1.0;" + settings)) as daemon, \
                contextlib.ExitStack() as stack:
            for _ in range(8):
                comer = stack.enter_context(subprocess.Popen([sys.executable, "-c", COMER, daemon.path("socket")],
                                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
                stack.callback(comer.kill)
                self.assertEqual(comer.stdout.readline(), b"in\n")
            daemon.stop()

    def test_stop_while_they_come(self):
        self.stop_among("")

    def test_stop_while_they_are_refused(self):
        self.stop_among('max_connections = 1; overload = "refuse";')


if __name__ == "__main__":
    harness.main(jobs=4)
