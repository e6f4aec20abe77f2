"""SIGHUP under traffic: whatever the new file says, no open connection is cut, no byte lost, nobody who connects to a
listener that stays is refused; and a bad file changes nothing. Paths that others have changed, ports that somebody has, and
listeners that close while clients wait in their backlog or keep coming."""

import contextlib
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys

import daemons
import harness
from daemons import ECHO, LOG, QUIET, UPPER, listener
from harness import is_silent, ping
from traffic import Traffic


def file(listeners=ECHO, settings=QUIET):
    return daemons.config_text(listeners, settings)


class Listeners(daemons.TestCase):
    def test_added(self):
        with daemons.Daemon(config=file()) as daemon, Traffic(daemon.connect) as traffic:
            traffic.pass_by()
            self.reload(daemon, file(f"{ECHO}, {UPPER}"))
            self.assertEqual(daemon.exchange(b"new", 1), b"NEW")
            daemon.wait_log(r"reloaded .*: 2 listeners")
            traffic.pass_by()

    def test_removed(self):
        """Its connections live on; nobody new comes in."""
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, Traffic(daemon.connect) as stays:
            old = daemon.connect_many(10, 1)
            for client in old:
                ping(client, b"before", b"BEFORE")
            self.reload(daemon, file())
            self.assertEqual(daemon.listening(), [("127.0.0.1", daemon.port)])
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(1)
            stays.pass_by()
            for client in old:
                self.assertEqual(harness.exchange(client, b"after"), b"AFTER")

    def test_removed_under_its_own_traffic(self):
        with daemons.Daemon(config=file(f"{ECHO}, {listener(port='PORT1')}")) as daemon, \
                Traffic(lambda: daemon.connect(1), newcomers=0) as goes, Traffic(daemon.connect) as stays:
            goes.pass_by()
            self.reload(daemon, file())
            goes.pass_by()
            stays.pass_by()

    def test_clients_in_the_backlog_of_a_removed_one_are_served(self):
        """They have connected, so they have a right to an answer."""
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}"), faults="") as daemon:
            daemon.hold_main_loop()
            clients = daemon.connect_many(100, 1)
            for client in clients:
                client.sendall(b"x")
            daemon.write_config(file())
            daemon.send_signal(signal.SIGHUP)
            daemon.faults.disarm()
            for client in clients:
                self.assertEqual(harness.exchange(client, b""), b"X")
            daemon.wait_log("reloaded")

    def test_service_changes(self):
        """Old connections keep the old service, new ones have the new one; the socket stays."""
        with daemons.Daemon(config=file(settings=LOG)) as daemon, Traffic(daemon.connect, newcomers=0) as old, \
                daemon.connect() as client:
            ping(client)
            self.reload(daemon, file(ECHO.replace('"echo"', '"upper"; end_word = "end"'), LOG))
            self.assertEqual(daemon.exchange(b"end\nmore"), b"END\n")
            old.pass_by()
            self.assertEqual(harness.exchange(client, b"end\nmore"), b"end\nmore")
            self.assertRegex(daemon.wait_log(r"connection 4 .*closed: client_closed.*").group(), "echo on")
            self.assertEqual(daemon.count_log("listening: "), 1)

    def test_each_service_into_each_other(self):
        services = ['"echo"', '"upper"', '"discard"', '"chargen"', '"daytime"', '"time"', '"greet"; text = "hi"',
                    '"reply"; text = "hi"', '"whoami"', '"echo"; greeting = "hello"']
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, Traffic(lambda: daemon.connect(0)) as traffic:
            for service in services:
                self.reload(daemon, file(f"{ECHO}, {UPPER}".replace('"upper"', service)))
                with daemon.connect(1) as client:
                    client.sendall(b"x")
                    client.shutdown(socket.SHUT_WR)
                    first = client.recv(100)
                    self.assertEqual(first == b"", service == '"discard"', service)
            traffic.pass_by()

    def test_from_one_address_to_every(self):
        """127.0.0.1:P to *:P and back in one reload each: both exist for a moment, and nobody notices."""
        every = ECHO.replace("127.0.0.1", "*")
        with daemons.Daemon(config=file()) as daemon, Traffic(daemon.connect) as traffic:
            for _ in range(3):
                self.reload(daemon, file(every))
                self.assertEqual(len(daemon.listening()), 1)
                self.assertIn(daemon.listening()[0][0], ("::", "0.0.0.0"))
                self.assertEqual(daemon.exchange(b"x", address="127.0.0.2"), b"x")
                traffic.pass_by(5)
                self.reload(daemon, file())
                self.assertEqual(daemon.listening(), [("127.0.0.1", daemon.port)])
                traffic.pass_by(5)

    def bind(self, port, *options):
        with socket.socket() as other:
            for option in options:
                other.setsockopt(socket.SOL_SOCKET, option, 1)
            other.bind(("127.0.0.1", port))
            other.listen()

    def test_the_overlap_is_for_nobody_else(self):
        """No other process takes a part of a port that was shared for the moment of a reload."""
        every = ECHO.replace("127.0.0.1", "*")
        with daemons.Daemon(config=file()) as daemon:
            for text in (None, file(every), file()):
                if text:
                    self.reload(daemon, text)
                for options in ((), (socket.SO_REUSEADDR,)):
                    with self.assertRaises(OSError):
                        self.bind(daemon.port, *options)

    def test_a_port_that_a_reload_opened_is_for_nobody_else(self):
        """Not even for those who would share it, nor for another daemon that reloads."""
        with daemons.Daemon(config=file()) as daemon:
            self.reload(daemon, file(f"{ECHO}, {UPPER}"))
            with self.assertRaises(OSError):
                self.bind(int(daemon.ports[1]), socket.SO_REUSEADDR, socket.SO_REUSEPORT)
            with daemons.Daemon(config=file()) as other:
                self.reload(other, file(f"{ECHO}, " + UPPER.replace("PORT1", str(daemon.ports[1]))), failing=True)
                other.wait_log("cannot listen: upper on .*: Address already in use")

    def test_paths(self):
        first, second = (listener(path=f"DIR/{name}", mode="0600") for name in ("first", "second"))

        def exchange(name, data):
            return harness.exchange_path(daemon.path(name), data)

        with daemons.Daemon(config=file(first)) as daemon:
            inode = os.stat(daemon.path("first")).st_ino
            self.reload(daemon, file(f"{first}, {second}".replace("0600", "0666")))
            self.assertEqual(os.stat(daemon.path("first")).st_ino, inode)
            self.assertEqual(os.stat(daemon.path("first")).st_mode & 0o777, 0o666)
            self.assertEqual((exchange("first", b"1"), exchange("second", b"2")), (b"1", b"2"))
            self.reload(daemon, file(second))
            self.assertFalse(os.path.exists(daemon.path("first")))
            self.assertEqual(exchange("second", b"2"), b"2")

    def test_port_0_keeps_its_port(self):
        with daemons.Daemon(config=file(listener(port=0), LOG)) as daemon:
            before = daemon.listening()
            self.reload(daemon, file(listener("upper", 0), LOG))
            self.assertEqual(daemon.listening(), before)
            with socket.create_connection(before[0], harness.patience()) as client:
                self.assertEqual(harness.exchange(client, b"x"), b"X")

    def test_the_same_file_again_and_again(self):
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon:
            before = daemon.listening(), daemon.descriptors()
            with Traffic(daemon.connect) as traffic:
                for _ in range(30):
                    self.reload(daemon)
                traffic.pass_by()
            self.assertEqual(daemon.listening(), before[0])
            harness.wait_until(lambda: daemon.descriptors() == before[1],
                               lambda: f"{before[1]} descriptors, has {daemon.descriptors()}")

    def test_signals_in_a_burst(self):
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, Traffic(daemon.connect) as traffic:
            for number in range(100):
                daemon.write_config(file(ECHO if number % 2 else f"{ECHO}, {UPPER}"))
                daemon.send_signal(signal.SIGHUP)
                if number % 10 == 0:
                    traffic.pass_by(1)
            traffic.pass_by()
            self.reload(daemon, file(f"{ECHO}, {UPPER}"))
            self.assertEqual(daemon.exchange(b"x", 1), b"X")

    def test_listeners_of_the_command_line_stay(self):
        with daemons.Daemon(config=file(), arguments=["-l", "upper@127.0.0.1:PORT1", "-w", "1", "-L", "info"]) as daemon:
            self.reload(daemon, file(UPPER.replace("PORT1", "PORT2")))
            self.assertEqual(daemon.listening(), [("127.0.0.1", int(daemon.ports[1]))])
            self.assertEqual(daemon.count_log("warning"), 0)
            self.assertEqual(daemon.exchange(b"x", 1), b"X")
            daemon.wait_log("info: connection 1 .*closed")


class Settings(daemons.TestCase):
    def test_timeouts(self):
        """A connection lives under the timeouts that it was accepted with."""
        with daemons.Daemon(config=file(settings=LOG + "idle_timeout = 600.0;")) as daemon, daemon.connect() as old:
            ping(old)
            self.reload(daemon, file(settings=LOG + "idle_timeout = 0.3;"))
            with daemon.connect() as new:
                self.assertEqual(new.recv(1), b"", "closed as idle")
                daemon.wait_log("connection 2 .*closed: idle_timeout")
            self.assertTrue(is_silent(old))
            self.assertEqual(harness.exchange(old, b"still"), b"still")

    def test_timeouts_under_traffic(self):
        with daemons.Daemon(config=file(settings=LOG)) as daemon, Traffic(daemon.connect) as traffic:
            for timeout in ("0.5", "100.0", "0.0"):
                self.reload(daemon, file(settings=f"{LOG} idle_timeout = {timeout}; write_timeout = {timeout}; "
                                                  f"drain_timeout = 5.0; tcp_keepalive = 5;"))
                traffic.pass_by(5)

    def test_log_level(self):
        with daemons.Daemon(config=file(settings='log = { level = "notice"; };')) as daemon, \
                Traffic(daemon.connect, newcomers=0) as traffic:
            daemon.exchange(b"x")
            traffic.pass_by()  # each worker has turned since, and has not told of the end
            self.reload(daemon, file(settings='log = { level = "debug"; };'))
            daemon.exchange(b"x")
            daemon.wait_log("info: connection 5 .*closed: client_closed")
            self.assertEqual(daemon.count_log("connection 4 .*closed"), 0)
            self.assertEqual(daemon.count_log("debug: connection 5 "), 1)
            self.reload(daemon, file(settings='log = { level = "notice"; };'))
            daemon.exchange(b"x")
            traffic.pass_by()
            self.reload(daemon, file(settings='log = { level = "info"; };'))
            self.assertEqual(daemon.count_log("connection 6 "), 0)
            traffic.pass_by()

    def test_what_needs_a_restart_is_named(self):
        with daemons.Daemon(config=file(settings=QUIET + "workers = 2; queue_depth = 64;")) as daemon, \
                Traffic(daemon.connect) as traffic:
            threads = daemon.threads()
            self.reload(daemon, file(settings=QUIET + "workers = 3; queue_depth = 64;"))
            daemon.wait_log(r"warning: workers = 3 needs a restart; 2 stays in force")
            self.assertEqual(daemon.count_log("queue_depth"), 0)
            self.reload(daemon, file(settings=QUIET + "workers = 2; queue_depth = 65; max_connections = 17;"))
            daemon.wait_log(r"warning: queue_depth = 65 needs a restart; 64 stays in force")
            self.assertEqual(daemon.count_log("workers = "), 1)
            self.assertEqual(daemon.threads(), threads)
            # What does not need one is in force.
            clients = daemon.connect_many(20)
            for client in clients:
                client.sendall(b"x")
            self.assertTrue(is_silent(clients[-1]))
            for client in clients:
                client.close()
            self.reload(daemon, file(settings=QUIET + "workers = 2; queue_depth = 64;"))
            self.assertEqual(daemon.count_log("needs a restart"), 2)
            traffic.pass_by()

    def test_lists(self):
        """A new deny list keeps new clients out, and leaves those who are there alone."""
        with daemons.Daemon(config=file(settings=LOG)) as daemon, Traffic(daemon.connect, newcomers=0) as traffic:
            self.reload(daemon, file(settings=LOG + 'deny = [ "127.0.0.0/8" ];'))
            with daemon.connect() as client:
                self.assertEqual(client.recv(1), b"")
            daemon.wait_log("refused on .*: denied")
            traffic.pass_by()
            self.reload(daemon, file(settings=LOG))
            self.assertEqual(daemon.exchange(b"x"), b"x")

    def test_the_backlog(self):
        with daemons.Daemon(config=file(settings="backlog = 7;" + QUIET)) as daemon:
            self.reload(daemon, file(settings="backlog = 9;" + QUIET))
            self.assertEqual(daemon.exchange(b"x"), b"x")


class BadFiles(daemons.TestCase):
    """A bad file changes nothing, and the log says where it is bad."""

    # What is wrong, the file, and the line of the first message.
    BAD = (
        ("an unknown name", file(settings="wrokers = 2;\n" + QUIET), 2),
        ("a wrong type", file(settings='workers = "two";'), 2),
        ("out of range", file(settings="queue_depth = 0;"), 2),
        ("an empty list of listeners", "listeners = ( );", 1),
        ("a brace that is missing", 'listeners = ( { address = "127.0.0.1"; port = PORT; );\n', 1),
        ("a comment that is never closed", file() + "\n/* and so on", 4),
        ("two listeners on one address", file(f"{ECHO},\n{ECHO}"), 2),
        ("a leading zero", file(settings="workers = 01;"), 2),
        ("an include", file() + '@include "/etc/passwd"\n', 3),
        ("greet without text", file(ECHO + ",\n" + UPPER.replace("upper", "greet")), 2),
        ("an integer that wraps", file(settings="max_connections = 4294967297000000000000;"), 2),
        ("a NUL byte", file() + "\n\0", 4),
        ("half a file", file()[: len(file()) // 2], 1),
        ("an address that is none", file(ECHO + ',\n{ address = "127.0.0.256"; port = PORT1; }'), 2),
    )

    def check_unchanged(self, daemon, traffic, before):
        traffic.pass_by(3)
        self.assertEqual((daemon.listening(), daemon.threads()), before)
        self.assertEqual(daemon.exchange(b"same", 1), b"SAME")

    def test_broken_in_many_ways(self):
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, Traffic(daemon.connect) as traffic:
            before = daemon.listening(), daemon.threads()
            for what, text, line in self.BAD:
                with self.subTest(what):
                    seen = len(daemon.log())
                    self.reload(daemon, text, failing=True)
                    log = daemon.log()[seen:]
                    self.assertRegex(log, rf"error: {re.escape(daemon.config)}:{line}: ")
                    self.assertRegex(log, rf"error: not reloaded: .*{re.escape(daemon.config)}")
                    self.check_unchanged(daemon, traffic, before)
            # And then a good one is good.
            self.reload(daemon, file())
            self.assertEqual(daemon.listening(), [("127.0.0.1", daemon.port)])

    def test_no_file_at_all(self):
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, Traffic(daemon.connect) as traffic:
            before = daemon.listening(), daemon.threads()
            os.unlink(daemon.config)
            self.reload(daemon, failing=True)
            daemon.wait_log(rf"error: {re.escape(daemon.config)}: .*No such file")
            self.check_unchanged(daemon, traffic, before)
            os.mkdir(daemon.config)
            self.reload(daemon, failing=True)
            daemon.wait_log(rf"error: {re.escape(daemon.config)}: .*directory")
            self.check_unchanged(daemon, traffic, before)
            os.rmdir(daemon.config)
            with open(daemon.config, "wb") as out:
                out.write(b"#" * (1 << 20) + b"##\n")
            self.reload(daemon, failing=True)
            daemon.wait_log(rf"error: {re.escape(daemon.config)}: .*1 MiB|error: {re.escape(daemon.config)}: .*1048576")
            self.check_unchanged(daemon, traffic, before)

    def test_all_problems_are_told(self):
        with daemons.Daemon(config=file()) as daemon:
            self.reload(daemon, file(settings='workers = -1;\nbacklog = "x";\nnonsense = 1;'), failing=True)
            for line in (2, 3, 4):
                self.assertEqual(daemon.count_log(rf"error: {re.escape(daemon.config)}:{line}: "), 1)

    def test_an_address_that_is_taken(self):
        """Good as text, and still not to be had: nothing changes, not even what could be had."""
        with socket.socket() as other, daemons.Daemon(config=file(f"{ECHO}, {UPPER}")) as daemon, \
                Traffic(daemon.connect) as traffic:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            before = daemon.listening(), daemon.threads()
            listeners = (ECHO.replace("echo", "upper") + ', { address = "127.0.0.1"; port = PORT2; }, '
                         '{ address = "127.0.0.1"; port = %d; service = "discard"; }' % taken)
            self.reload(daemon, file(listeners, "max_connections = 1;"), failing=True)
            daemon.wait_log(rf"error: cannot listen: discard on 127\.0\.0\.1:{taken}: Address already in use: .*")
            self.check_unchanged(daemon, traffic, before)
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(2)

    def test_too_few_descriptors_for_a_new_listener(self):
        with daemons.Daemon(config=file()) as daemon, Traffic(daemon.connect, newcomers=0) as traffic:
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            full = min(daemon.descriptors() for _ in range(20))  # a busy thread opens its statistics for a moment
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (full, limits[1]))
            self.reload(daemon, file(f"{ECHO}, {UPPER}"), failing=True)
            daemon.wait_log("(?i)error: .*too many open files")
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
            traffic.pass_by()
            self.reload(daemon)
            self.assertEqual(daemon.exchange(b"x", 1), b"X")


class Stopping(daemons.TestCase):
    def test_no_reload_while_it_stops(self):
        with daemons.Daemon(config=file(settings="drain_timeout = 5.0;" + QUIET)) as daemon, daemon.connect() as client:
            ping(client)
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(client.recv(1), b"")
            daemon.send_signal(signal.SIGHUP)
            client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.count_log("notice: reloaded"), 0)


AT_PATH = listener(path="DIR/socket", mode="0666")


class Paths(daemons.TestCase):
    def exchange(self, daemon, data, name="socket"):
        return harness.exchange_path(daemon.path(name), data)

    def test_moved_and_replaced_by_a_link(self):
        """What the link points to is somebody else's, and stays as it is."""
        with daemons.Daemon(config=file(AT_PATH)) as daemon:
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
        with daemons.Daemon(config=file(AT_PATH)) as daemon:
            for _ in range(2):
                os.unlink(daemon.path("socket"))
                self.reload(daemon)
                self.assertEqual(self.exchange(daemon, b"x"), b"x")
            before = daemon.descriptors()
            os.unlink(daemon.path("socket"))
            self.reload(daemon)
            harness.wait_until(lambda: daemon.descriptors() == before, "the old socket to be closed")


class Ports(daemons.TestCase):
    def test_own_port_twice(self):
        """A listener at the port that the kernel picked for another one, which stays."""
        any_port = listener(port=0)
        with daemons.Daemon(config=file(any_port)) as daemon:
            (address, port), = daemon.listening()
            explicit = listener("upper", port)
            for both in (f"{any_port}, {explicit}", f"{explicit}, {any_port}"):
                with self.subTest(listeners=both):
                    self.reload(daemon, file(both), failing=True)
                    daemon.wait_log(f"error: cannot listen: upper on {address}:{port}: ")
                    self.assertEqual(daemon.listening(), [(address, port)])
                    for _ in range(10):
                        with socket.create_connection((address, port), harness.patience()) as client:
                            self.assertEqual(harness.exchange(client, b"x"), b"x")
            self.reload(daemon, file(explicit))  # in its place it may
            self.assertEqual(daemon.listening(), [(address, port)])
            with socket.create_connection((address, port), harness.patience()) as client:
                self.assertEqual(harness.exchange(client, b"x"), b"X")

    def test_shared_port_of_another_process(self):
        """SO_REUSEPORT of theirs is no invitation: half of the clients would be theirs."""
        with daemons.Daemon(config=file()) as daemon:
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


class ManyListeners(daemons.TestCase):
    def test_more_listeners_than_descriptors(self):
        """Nobody could connect to any of them."""
        many = ", ".join([ECHO] + [UPPER.replace("PORT1", f"PORT{i}") for i in range(1, 31)])
        with daemons.Daemon(config=file(settings=QUIET + "workers = 2;"), nofile=60) as daemon:
            before = daemon.listening(), daemon.descriptors()
            for _ in range(2):
                self.reload(daemon, file(many, QUIET + "workers = 2;"), failing=True)
            daemon.wait_log("error: .*descriptor limit")
            self.assertEqual((daemon.listening(), daemon.descriptors()), before)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.reload(daemon, file(settings=QUIET + "workers = 2;"))


class Backlog(daemons.TestCase):
    """Who has connected to a listener has a right to an answer when it closes."""

    def closes(self, count, queue_depth, by_reload):
        harness.raise_nofile(8000)
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as limit:
            count = min(count, int(limit.read()) - 10)
        settings = QUIET + f"backlog = 4096; queue_depth = {queue_depth};"
        with daemons.Daemon(config=file(f"{ECHO}, {UPPER}", settings)) as daemon:
            with harness.Frozen(daemon.pid):
                clients = daemon.connect_many(count, 1)
                for client in clients:
                    client.sendall(b"x")
                if by_reload:
                    daemon.write_config(file(ECHO, settings))
                daemon.send_signal(signal.SIGHUP if by_reload else signal.SIGTERM)
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
        self.closes(harness.scale(2000, 300), 1024, by_reload=True)

    def test_long_one_at_the_stop(self):
        self.closes(harness.scale(2000, 300), 1024, by_reload=False)

    def test_short_queue_of_a_listener_that_is_removed(self):
        self.closes(50, 1, by_reload=True)

    def test_short_queue_at_the_stop(self):
        self.closes(50, 1, by_reload=False)


# A client that comes again and again, until nobody answers.
NEWCOMER = """
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


class Newcomers(daemons.TestCase):
    def test_stop_while_they_come(self):
        """They are served, or refused."""
        for settings in ("", 'max_connections = 1; overload = "refuse";'):
            with self.subTest(settings), \
                    daemons.Daemon(config=file(AT_PATH, QUIET + "drain_timeout = 1.0;" + settings)) as daemon:
                newcomers = [subprocess.Popen([sys.executable, "-c", NEWCOMER, daemon.path("socket")],
                                              stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE) for _ in range(8)]
                try:
                    for newcomer in newcomers:
                        self.assertEqual(newcomer.stdout.readline(), b"in\n")
                    daemon.stop()
                finally:
                    for newcomer in newcomers:
                        newcomer.kill()
                        newcomer.communicate()


if __name__ == "__main__":
    harness.main(jobs=4)
