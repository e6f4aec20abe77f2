"""The stop: answers under way are finished, clients see a FIN and never a reset, the process ends within drain_timeout
and leaks nothing."""

import contextlib
import select
import signal
import socket
import tempfile
import threading

import daemons
import harness
import traffic
from daemons import ECHO, LOG, QUIET, listener
from traffic import STREAM

HANDED_OVER = 75

# Longer than any test may take: what ends before it ends for another reason.
LONG = "drain_timeout = 600.0; write_timeout = 600.0;"

SERVICES = ", ".join((ECHO, listener("upper", "PORT1", end_word="end"), listener("chargen", "PORT2"),
                      listener(port="PORT3", greeting="welcome\n"), listener("discard", "PORT4"),
                      listener("reply", "PORT5", text="answer\n")))


class UnderLoad(traffic.Client):
    """A client that is busy when the stop comes. It ends well when it has got what it had a right to, and then a FIN."""

    def __init__(self, connect):
        super().__init__(connect)
        self.warm = threading.Event()
        self.start()

    def wait_warm(self):
        harness.wait_until(lambda: self.warm.is_set() or self.failure, f"{type(self).__name__} to be under way")


class Bulk(UnderLoad):
    """Sends without pause until it sees the FIN. What came back is what it sent, from the beginning, without a gap."""

    def works(self):
        return [self.receive, self.send]

    def send(self):
        sent = 0
        with contextlib.suppress(OSError):  # from the client's own end on
            while not self.stopping.is_set():
                sent += self.socket.send(traffic.expected_part(sent, traffic.CHUNK))

    def receive(self):
        got = 0
        while data := self.socket.recv(1 << 18):
            harness.assert_same(data, traffic.expected_part(got, len(data)), f"the stream at {got}")
            got += len(data)
            if got > 1 << 20:
                self.warm.set()
        self.stopping.set()
        self.socket.shutdown(socket.SHUT_RDWR)


class PingPong(UnderLoad):
    """Every message is answered whole, or not at all."""

    def work(self):
        number = 0
        while True:
            message = b"message %12d\n" % number
            self.socket.sendall(message)
            answer = b""
            while len(answer) < len(message):
                data = self.socket.recv(len(message))
                if not data:
                    harness.assert_same(answer, b"", "the answer to the last message")
                    return
                answer += data
            harness.assert_same(answer, message)
            number += 1
            if number == 10:
                self.warm.set()


class Chargen(UnderLoad):
    """Ends with a whole line."""

    def work(self):
        text = b""
        while True:
            data = self.socket.recv(1 << 16)
            if not data:
                break
            text = text[-200:] + data
            self.warm.set()
        if not text.endswith(b"\r\n"):
            raise AssertionError(f"the last line is cut: {text[-80:]!r}")


class Discard(UnderLoad):
    def work(self):
        while not select.select([self.socket], [], [], 0)[0]:
            self.socket.sendall(STREAM[:10000])
            self.warm.set()
        if self.socket.recv(1):
            raise AssertionError("discard answered")


class TestCase(daemons.TestCase):
    def warm_up(self, clients):
        for client in clients:
            client.wait_warm()

    def finish(self, clients):
        failures = []
        for client in clients:
            try:
                client.wait_end()
            except AssertionError as error:
                failures.append(str(error))
        self.assertEqual(failures, [])


class Load(TestCase):
    def stop_under_load(self, number):
        with daemons.Daemon(SERVICES, f"workers = 2; drain_timeout = {harness.patience()}; {LOG}") as daemon:
            clients = [Bulk(daemon.connect) for _ in range(3)] + [PingPong(daemon.connect) for _ in range(10)]
            clients += [Chargen(lambda: daemon.connect(2)) for _ in range(2)] + [Discard(lambda: daemon.connect(4))]
            # What they have got and are to get, in all.
            idle = {client: b"" for client in daemon.connect_many(20)}
            for index, say, answer in ((1, b"one\ntw", b"ONE\nTW"), (1, b"en", b"EN"), (1, b"", b""),
                                       (3, b"", b"welcome\n"),
                                       (3, b"x", b"welcome\nx"), (5, b"", b"")):
                client = daemon.connect(index)
                client.sendall(say)
                idle[client] = answer
            self.warm_up(clients)
            # Some connect, and speak, in the last moment.
            last = daemon.connect_many(50)
            for at, client in enumerate(last):
                client.sendall(b"last %d" % at)
            daemon.send_signal(number)
            for at, client in enumerate(last):
                self.assertEqual(harness.receive_all(client), b"last %d" % at)
            for client, answer in idle.items():
                self.assertEqual(harness.receive_all(client), answer)
            for client in (*last, *idle):
                client.close()
            self.finish(clients)
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.notify.values("STOPPING"), ["1"])
            daemon.wait_log("notice: stopped: every connection was finished")
            self.assertEqual(daemon.count_log("closed: (reset|error|write_timeout|idle_timeout)"), 0)
            self.assertGreater(daemon.count_log("closed: drained"), 30)

    def test_sigterm(self):
        self.stop_under_load(signal.SIGTERM)

    def test_sigint(self):
        self.stop_under_load(signal.SIGINT)

    def test_again_and_again(self):
        """The race between the last bytes and the stop has many outcomes; all of them are good ones."""
        for _ in range(harness.scale(10, 5)):
            with daemons.Daemon(SERVICES, f"workers = 2; drain_timeout = {harness.patience()}; {QUIET}") as daemon:
                clients = [Bulk(daemon.connect), Chargen(lambda: daemon.connect(2))]
                clients += [PingPong(daemon.connect) for _ in range(10)]
                self.warm_up(clients)
                daemon.send_signal(signal.SIGTERM)
                self.finish(clients)
                self.assertEqual(daemon.wait(), 0)

    def test_clients_in_the_backlog(self):
        """Whoever has connected by the signal is answered, however full the backlog is."""
        count = 300
        with daemons.Daemon(settings=f"workers = 1; {LONG} {LOG}", faults="") as daemon:
            daemon.hold_main_loop()
            clients = daemon.connect_many(count)
            for number, client in enumerate(clients):
                client.sendall(b"client %d" % number)
            daemon.send_signal(signal.SIGTERM)
            daemon.faults.disarm()
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_all(client), b"client %d" % number)
                client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.count_log("closed: drained"), count)

    def test_clients_who_wait_for_room(self):
        """There is no room for them any more: they get a FIN, and are counted as refused for this reason; who connects from
        then on is refused."""
        with daemons.Daemon(settings=f"max_connections = 1; {LONG} {LOG}") as daemon:
            clients = daemon.connect_many(4)
            daemon.wait_log("no room for new clients: max_connections")
            daemon.send_signal(signal.SIGTERM)
            for client in clients:
                self.assertEqual(client.recv(1), b"")
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect()
            for client in clients:
                client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.count_log(r"notice: client .* refused on .*: draining$"), 3)

    def test_those_who_connect_amid_the_stop_are_refused_or_served(self):
        """A reset amid a connection is what nobody may see."""
        for _ in range(harness.scale(5, 3)):
            with daemons.Daemon(settings=f"drain_timeout = {harness.patience()}; {QUIET}") as daemon:
                outcomes = []

                def come():
                    with contextlib.suppress(ConnectionRefusedError):
                        while True:
                            with daemon.connect() as client:
                                try:
                                    client.sendall(b"hello")
                                    client.shutdown(socket.SHUT_WR)
                                    outcomes.append(harness.receive_all(client))
                                except OSError as error:
                                    outcomes.append(error)

                newcomers = [threading.Thread(target=come, daemon=True) for _ in range(4)]
                for newcomer in newcomers:
                    newcomer.start()
                harness.wait_until(lambda: outcomes, "clients")
                daemon.send_signal(signal.SIGTERM)
                self.assertEqual(daemon.wait(), 0)
                for newcomer in newcomers:
                    newcomer.join(harness.patience())
                self.assertLessEqual(set(outcomes), {b"hello", b""})

    def test_a_slow_reader_gets_all_that_it_is_owed(self):
        """Megabytes are under way when the stop comes."""
        with daemons.Daemon(settings=f"{LONG} {LOG} unsent_limit = 8388608;") as daemon, daemon.connect() as client:
            harness.fill(client)
            begun = harness.receive_exactly(client, 100000)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("stopping")
            got = begun + traffic.read_slowly(client, 0.3) + harness.receive_all(client)
            harness.assert_same(bytes(got), traffic.expected_part(0, len(got)))
            self.assertGreater(len(got), 1 << 20)
            client.close()
            self.assertEqual(daemon.wait(), 0)


class InTime(TestCase):
    """How long a stop may take, and what shortens it."""

    def unread(self, daemon):
        """A client that does not read its answers."""
        client = daemon.connect()
        harness.fill(client)
        return client

    def test_nobody_there(self):
        with daemons.Daemon(settings=LONG) as daemon:
            daemon.stop()
            daemon.wait_log(r"stopping \(SIGTERM\): 0 connections to finish")

    def test_a_client_that_does_not_close(self):
        """It has its FIN; its own is waited for only a moment."""
        with daemons.Daemon(settings=LONG + LOG) as daemon, daemon.connect() as client:
            harness.ping(client)
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(client.recv(1), b"")
            self.assertEqual(daemon.wait(), 0)
            daemon.wait_log("closed: drained")

    def test_a_client_that_does_not_read(self):
        with daemons.Daemon(settings=f"drain_timeout = 0.5; write_timeout = 600.0; {LOG}") as daemon, \
                self.unread(daemon):
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)
            daemon.wait_log("notice: stopped: 1 connections? did not finish in time")
            self.assertEqual(daemon.count_log("closed: drained"), 1)

    def test_the_second_signal(self):
        for second in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(second=second), daemons.Daemon(settings=LONG + LOG) as daemon, self.unread(daemon):
                daemon.send_signal(signal.SIGTERM)
                daemon.notify.wait("EXTEND_TIMEOUT_USEC")  # it waits
                self.assertIsNone(daemon.process.poll(), "drain_timeout is not over")
                daemon.stop(second)

    def test_drain_timeout_0(self):
        with daemons.Daemon(settings="drain_timeout = 0.0; write_timeout = 600.0;" + LOG) as daemon, self.unread(daemon):
            daemon.stop()

    def test_the_reloaded_timeout_counts(self):
        with daemons.Daemon(settings=LONG + LOG) as daemon, self.unread(daemon):
            self.reload(daemon, daemons.config_text(settings=f"drain_timeout = 0.3; {LOG}"))
            daemon.stop()

    def test_a_stop_before_it_is_ready(self):
        """A signal that comes during the start is not lost, and ends it well."""
        for call in (None, "epoll_create1", "listen", "pthread_create"):
            with self.subTest(call), daemons.Daemon(ready=False, faults=f"{call}:sleep=600000" if call else "") as daemon:
                if call:
                    daemon.faults.wait_hits()
                daemon.send_signal(signal.SIGTERM)
                daemon.faults.disarm()
                # Before main() has blocked it, the signal does what it does to any process.
                self.assertIn(daemon.wait(), (0, -signal.SIGTERM))

    def test_other_signals_do_not_end_it(self):
        with daemons.Daemon(settings=LOG) as daemon, traffic.Traffic(daemon.connect) as clients:
            for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGHUP):
                daemon.send_signal(number)
            daemon.wait_log("counters: ")
            daemon.wait_log("reloaded")
            clients.pass_by()


class Delay(TestCase):
    """stop_delay: a stop by SIGTERM that goes on serving for a while, for load balancers that learn late."""

    NEVER = "stop_delay = 600.0; " + LOG  # over before the test is

    def begin(self, daemon):
        daemon.send_signal(signal.SIGTERM)
        daemon.wait_log(r"stopping \(SIGTERM\): new clients are accepted for \S+ s more")

    def test_serves_on_and_then_stops(self):
        with daemons.Daemon(settings="stop_delay = 2.5; " + LOG) as daemon, daemon.connect() as early:
            harness.ping(early)
            self.begin(daemon)
            daemon.notify.wait("STOPPING", "1")
            with daemon.connect() as late:
                harness.ping(late)
                daemon.notify.wait("STATUS", r"; stopping: new clients are accepted for [12] s more$")
                self.assertEqual(daemon.exchange(b"x"), b"x")
                daemon.wait_log(r"stopping \(SIGTERM\): 2 connections to finish")
                for client in (early, late):
                    self.assertEqual(client.recv(1), b"")
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.notify.values("STOPPING"), ["1"])
            self.assertEqual(daemon.count_log("new clients are accepted for 2.5 s more"), 1)
            (begun, _), = daemon.notify.sent("STOPPING")
            self.assertGreaterEqual(daemon.notify.messages[-1][0] - begun, 1.5)

    def test_who_waits_for_room_gets_it(self):
        with daemons.Daemon(settings="max_connections = 1; " + self.NEVER) as daemon:
            with daemon.connect() as first, daemon.connect() as second:
                harness.ping(first)
                self.begin(daemon)
                first.close()
                harness.ping(second)
            daemon.stop()

    def test_the_second_signal(self):
        for second in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(second=second), daemons.Daemon(settings=self.NEVER) as daemon, daemon.connect() as client:
                harness.ping(client)
                self.begin(daemon)
                daemon.stop(second)
                daemon.wait_log("stopped: 1 connection did not finish in time")

    def test_nothing_else_waits(self):
        """Neither Ctrl-C, nor a restart, nor the end of a command."""
        with daemons.Daemon(settings=self.NEVER) as daemon:
            daemon.stop(signal.SIGINT)
        with daemons.Daemon(settings=self.NEVER) as daemon:
            daemon.stop(signal.SIGRTMIN + 1, status=HANDED_OVER)
            self.assertEqual(daemon.count_log("new clients are accepted"), 0)
        with daemons.Daemon(settings=self.NEVER) as daemon, daemon.connect() as client:
            daemon.send_signal(signal.SIGUSR2)
            daemon.wait_ready(2)
            harness.ping(client)
            daemon.stop(signal.SIGINT)
        settings = daemons.config_text(settings=self.NEVER)
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(settings.replace("PORT", "0"))
            file.flush()
            result = daemons.run_daemon("-c", file.name, "--", "sh", "-c", 'kill -TERM $PPID; exec sleep 60')
            self.assertEqual(result.returncode, 128 + signal.SIGTERM, result.stderr)

    def test_a_reload_changes_it_and_comes_too_late_during_it(self):
        with daemons.Daemon(settings=self.NEVER) as daemon:
            self.reload(daemon, daemons.config_text(settings="stop_delay = 0.3; " + LOG))
            daemon.stop()
            self.assertEqual(daemon.count_log("new clients are accepted for 0.3 s more"), 1)
        with daemons.Daemon(settings=self.NEVER) as daemon:
            self.begin(daemon)
            self.assert_too_late(daemon)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.stop()

    def assert_too_late(self, daemon):
        """What a stop has no more use for is told, and changes nothing."""
        for number, said in ((signal.SIGHUP, "not reloaded: the daemon is stopping"),
                             (signal.SIGUSR2, "not handed over: SIGUSR2: the daemon is stopping; the stop goes on"),
                             (signal.SIGRTMIN + 1, r"not handed over: SIGRTMIN\+1: the daemon is stopping; the stop goes on")):
            daemon.send_signal(number)
            daemon.wait_log(f"error: {said}$")
        daemon.counters()
        self.assertEqual(daemon.count_log("notice: reloaded|handing over"), 0)

    def test_a_drain_too(self):
        with daemons.Daemon(listener("chargen"), "drain_timeout = 600.0; " + LOG) as daemon, daemon.connect() as client:
            client.recv(1)  # and no more, so that the stop waits for it
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log(r"stopping \(SIGTERM\): 1 connection to finish")
            self.assert_too_late(daemon)
            daemon.stop()

    def test_the_manager_gives_it_the_time(self):
        with daemons.Daemon(settings="stop_delay = 3.2; drain_timeout = 0; " + LOG) as daemon:
            self.begin(daemon)
            self.assertEqual(daemon.wait(), 0)
            self.assertGreaterEqual(len(daemon.notify.values("EXTEND_TIMEOUT_USEC")), 3)


class Leaks(TestCase):
    def test_descriptors(self):
        """Thousands of connections of every kind of end, and none leaves a descriptor, a thread or much memory."""
        count = harness.scale(3000, 500)
        with daemons.Daemon(SERVICES, f"workers = 2; {QUIET}") as daemon:
            def run(number):
                for _ in range(number):
                    for index, say, shut in ((0, b"x", True), (0, b"", False), (1, b"end\n", False), (2, b"", False),
                                             (3, b"y", False), (5, b"q", False)):
                        with daemon.connect(index) as client:
                            if say:
                                client.sendall(say)
                            if shut:
                                client.shutdown(socket.SHUT_WR)
                                harness.receive_all(client)
                            elif number % 2:
                                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

            before = daemon.descriptors(), daemon.threads()
            run(20)
            daemon.notify.wait("STATUS", "^0 connections, 0 queued, 120 accepted")
            memory = daemon.rss()
            run(count // 6)
            daemon.notify.wait("STATUS", f"^0 connections, 0 queued, {120 + 6 * (count // 6)} accepted")
            harness.wait_until(lambda: (daemon.descriptors(), daemon.threads()) == before,
                               lambda: f"{before} descriptors and threads, has {daemon.descriptors(), daemon.threads()}")
            if not harness.sanitized():
                self.assertLess(daemon.rss() - memory, 2 << 20)

    def test_a_stop_leaves_nothing(self):
        """The process ends by returning from main(): a leak checker sees it, and no socket file is left."""
        listeners = ECHO + ", " + listener("upper", path="DIR/echo")
        with daemons.Daemon(listeners, 'allow = [ "127.0.0.0/8" ]; max_connections_per_source = 5;' + QUIET) as daemon:
            for number in range(20):
                with daemon.connect(source=f"127.0.0.{1 + number}") as client:
                    self.assertEqual(harness.exchange(client, b"x"), b"x")
            daemon.stop()


class Restart(TestCase):
    def time_wait(self, port):
        with open("/proc/self/net/tcp", encoding="ascii") as table:
            return sum(1 for line in table if (fields := line.split())[3] == "06" and fields[1].endswith(f":{port:04X}"))

    def test_at_once_after_a_thousand_in_time_wait(self):
        """The daemon closes first in these services, so its port holds their TIME_WAIT; and binds again without error."""
        listeners = listener("greet", text="hello\n")
        with daemons.Daemon(listeners, QUIET) as first:
            for _ in range(1000):
                with first.connect() as client:
                    self.assertEqual(harness.receive_all(client), b"hello\n")
            self.assertGreaterEqual(self.time_wait(first.port), 500)
            first.stop()
            self.assertGreaterEqual(self.time_wait(first.port), 500)
            with daemons.Daemon(listeners.replace("PORT", str(first.port)), QUIET) as second:
                with socket.create_connection(("127.0.0.1", first.port), harness.patience()) as client:
                    self.assertEqual(harness.receive_all(client), b"hello\n")
                self.assertEqual(second.count_log("error|warning"), 0)

    def test_stop_and_start_with_clients_there(self):
        with daemons.Daemon(settings=QUIET) as first:
            clients = first.connect_many(100)
            for client in clients:
                harness.ping(client)
            first.send_signal(signal.SIGTERM)
            for client in clients[:50]:
                self.assertEqual(client.recv(1), b"")
                client.close()
            self.assertEqual(first.wait(), 0)
            with daemons.Daemon(listener(port=first.port), QUIET), \
                    socket.create_connection(("127.0.0.1", first.port), harness.patience()) as client:
                self.assertEqual(harness.exchange(client, b"again"), b"again")


if __name__ == "__main__":
    harness.main(jobs=4)
