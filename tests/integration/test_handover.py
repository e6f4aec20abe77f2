"""SIGUSR2 hands everything over to a new process, in place or by the service manager's descriptor store: clients see a
pause and nothing else; and whatever fails is told, and costs no more than it has to."""

import contextlib
import fcntl
import os
import re
import selectors
import signal
import socket
import struct
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
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

SERVICES = ", ".join((ECHO, UPPER, listener("discard", "PORT2"), listener("chargen", "PORT3")))


class InPlace:
    """The program is executed anew by the same process."""

    def daemon(self, listeners=ECHO, settings=LOG, **how):
        return daemons.Daemon(listeners, settings, **how)

    def send(self, daemon):
        daemon.send_signal(signal.SIGUSR2)

    def restart(self, daemon):
        ready, taken = len(daemon.notify.values("READY")), daemon.count_log(GO_ON)
        self.send(daemon)
        self.wait_successor(daemon, taken)
        daemon.wait_ready(ready + 1)

    def wait_successor(self, daemon, taken):
        daemon.wait_log(GO_ON, taken + 1)


class ByStore:
    """The process ends, and the next one gets what it has left."""

    def daemon(self, listeners=ECHO, settings=LOG, store=100, **how):
        return daemons.Daemon(listeners, settings, store=store, **how)

    def send(self, daemon):
        """What the unit has as RestartKillSignal=."""
        daemon.send_signal(signal.SIGRTMIN + 1)

    def restart(self, daemon):
        taken = daemon.count_log(GO_ON)
        self.send(daemon)
        self.wait_successor(daemon, taken)

    def wait_successor(self, daemon, taken):
        self.assertEqual(daemon.wait(), HANDED_OVER, daemon.log()[-3000:])
        daemon.successor(FAULTS="")
        daemon.wait_log(GO_ON, taken + 1)


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
            client = daemon.connect_small()
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
            asked, later = daemon.connect_small(), daemon.connect()
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
            client = daemon.connect_small(1)
            client.sendall(STREAM[:60000])
            harness.wait_arrived(client)
            daemon.write_config(config_text(settings=settings))
            self.restart(daemon)
            client.sendall(b"later")
            harness.wait_arrived(client)
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
            # A byte and an end are counted a moment after the client has them, and who was carried is queued for a moment.
            harness.wait_until(lambda: re.search(r"2 connections, 0 queued, .*21 out", daemon.counters()[0]),
                               "the counters of 21 bytes")
            before = daemon.counters()[0]
            for _ in range(2):
                self.restart(daemon)
                harness.wait_until(lambda: daemon.counters()[0] == before, f"the counters: {before}")
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


class Listeners:
    """Listening sockets, and settings that were edited before the restart."""

    def test_port_that_the_kernel_has_picked(self):
        with self.daemon(listener(port=0)) as daemon:
            where = daemon.listening()
            client = socket.create_connection(where[0], harness.patience())
            daemon.clients.append(client)
            for _ in range(2):
                self.restart(daemon)
                ping(client)
                self.assertEqual(daemon.listening(), where)
            self.reload(daemon)
            self.assertEqual(daemon.listening(), where)

    def test_every_address(self):
        harness.needs_ipv6()
        with self.daemon(listener(address="*")) as daemon:
            old = [daemon.connect(address=address) for address in ("127.0.0.1", "::1")]
            for _ in range(2):
                self.restart(daemon)
                for client in old:
                    ping(client)
                for address in ("127.0.0.1", "::1"):
                    self.assertEqual(daemon.exchange(b"new", address=address), b"new")
            self.assertEqual(daemon.count_log("(warning|error): |listening: "), 1)

    def test_sockets_of_a_socket_unit_and_own_ones(self):
        with socket.create_server(("127.0.0.1", 0)) as server, \
                self.daemon(f"{listener(port=server.getsockname()[1])}, {UPPER}",
                            passed=[("tcpechod.socket", server)]) as daemon:
            client = socket.create_connection(server.getsockname(), harness.patience())
            daemon.clients.append(client)
            own = daemon.connect(1)
            for _ in range(3):
                ping(client)
                ping(own, b"x", b"X")
                self.restart(daemon)
                with socket.create_connection(server.getsockname(), harness.patience()) as new:
                    self.assertEqual(harness.exchange(new, b"new"), b"new")
                self.assertEqual(daemon.exchange(b"new", 1), b"NEW")
            self.assertEqual(daemon.count_log("(warning|error): "), 0)
            # Still another's: the settings cannot do without it.
            self.reload(daemon, config_text(UPPER, LOG), failing=True)
            daemon.wait_log("has no listener; take its ListenStream= out of the socket unit")

    def test_gone(self):
        """Its connections get the answer to what has arrived, and an end."""
        with self.daemon(f"{ECHO}, {UPPER}") as daemon, traffic.Traffic(daemon.connect) as clients:
            idle, busy = daemon.connect_many(2, 1)
            ping(idle, b"x", b"X")
            ping(busy, b"x", b"X")
            sent = harness.fill(busy)
            daemon.write_config(config_text(settings=LOG))
            self.restart(daemon)
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(1)
            self.assertEqual(receive_all(idle), b"")
            answer = receive_all(busy)
            harness.assert_same(answer, traffic.expected_part(0, sent)[: len(answer)].upper())
            for client in idle, busy:
                client.close()
            clients.pass_by()
            daemon.wait_log("closed: drained, upper on .*, 1 bytes in, 1 out")
            daemon.wait_log("closed: drained, upper on ", 2)

    def test_gone_path(self):
        with self.daemon(f"{ECHO}, {listener(path='DIR/socket')}") as daemon:
            client = daemon.connect_path()
            ping(client)
            daemon.write_config(config_text(settings=LOG))
            self.restart(daemon)
            self.assertEqual(client.recv(1), b"")
            self.assertFalse(os.path.exists(daemon.path("socket")))

    def test_new(self):
        with self.daemon() as daemon, traffic.Traffic(daemon.connect) as clients:
            clients.pass_by()
            daemon.write_config(config_text(f"{ECHO}, {UPPER}, {listener(path='DIR/socket')}", LOG))
            self.restart(daemon)
            self.assertEqual(daemon.exchange(b"new", 1), b"NEW")
            self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
            clients.pass_by()
            # And back, so that what it has opened goes on as well.
            old = daemon.connect(1)
            ping(old, b"x", b"X")
            self.restart(daemon)
            ping(old, b"y", b"Y")

    def test_other_service(self):
        """Old connections are served as before, new ones under the new settings."""
        before = listener(end_word="end", idle_timeout=600)
        with self.daemon(before) as daemon:
            old = daemon.connect()
            ping(old)
            daemon.write_config(config_text(listener("upper"), LOG))
            for _ in range(2):
                self.restart(daemon)
                ping(old, b"old\n")
                self.assertEqual(daemon.exchange(b"new"), b"NEW")
            self.assertEqual(harness.exchange(old, b"end\nmore"), b"end\n")
            daemon.wait_log("connection 1 .*closed: end_word, echo on ")

    def test_other_addresses(self):
        """From one address to all of them on the same port, and back."""
        with self.daemon() as daemon:
            old = daemon.connect()
            ping(old)
            daemon.write_config(config_text(ECHO.replace("127.0.0.1", "*"), LOG))
            self.restart(daemon)
            self.assertEqual(old.recv(1), b"")
            self.assertEqual(daemon.exchange(b"x", address="127.0.0.2"), b"x")
            daemon.write_config(config_text(settings=LOG))
            self.restart(daemon)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(address="127.0.0.2")

    def test_one_that_cannot_be_opened(self):
        """All stay as they were."""
        with self.daemon(f"{ECHO}, {UPPER}") as daemon, \
                traffic.Traffic(daemon.connect, newcomers=0) as clients, \
                socket.create_server(("127.0.0.1", 0)) as taken:
            old = daemon.connect(1)
            ping(old, b"x", b"X")
            other = f"{listener('upper')}, {listener(port=taken.getsockname()[1])}"
            daemon.write_config(config_text(other, LOG))
            for count in (1, 2):
                self.restart(daemon)
                daemon.wait_log("error: cannot listen: echo on .*: Address already in use", count)
                daemon.wait_log("error: the listeners of the process before stay as they were; mend the settings", count)
                daemon.notify.wait("STATUS", "not reloaded: cannot listen: echo on .*: Address already in use", count)
                ping(old, b"y", b"Y")
                self.assertEqual(daemon.exchange(b"new", 1), b"NEW")
                self.assertEqual(daemon.exchange(b"new"), b"new")
                clients.pass_by(5)
            taken.close()
            self.reload(daemon)
            self.assertEqual(daemon.exchange(b"new"), b"NEW")
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(1)
            ping(old, b"z", b"Z")

    def test_what_only_a_restart_changes(self):
        with self.daemon(ECHO, LOG + "workers = 1;") as daemon:
            old = daemon.connect_many(4)
            for client in old:
                ping(client)
            for workers, count in ((3, 1), (1, 2)):
                daemon.write_config(config_text(settings=LOG + f"workers = {workers};"))
                self.restart(daemon)
                daemon.wait_log(f"ready: 1 listener, {workers} workers?, ", count)
                for client in old:
                    ping(client)


    def test_backlog_of_a_listener_that_is_gone(self):
        """Longer than the queue: whoever had connected is served."""
        with self.daemon(f"{ECHO}, {listener(port='PORT1')}", LOG + "queue_depth = 2;", faults="") as daemon:
            daemon.hold_main_loop()
            waiting = daemon.connect_many(100, 1)
            daemon.write_config(config_text(ECHO, LOG + "queue_depth = 2;"))
            taken = daemon.count_log(GO_ON)
            self.send(daemon)
            daemon.faults.disarm()
            self.wait_successor(daemon, taken)
            for client in waiting:
                self.assertEqual(harness.exchange(client, b"is anybody there?"), b"is anybody there?")
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect(1)


class ListenersInPlace(InPlace, Listeners, daemons.TestCase):
    def test_bad_settings(self):
        """It goes on, and says why."""
        with self.daemon() as daemon, traffic.Traffic(daemon.connect) as clients:
            daemon.write_config("listeners = 7;")
            self.send(daemon)
            daemon.wait_log("error: not handed over: .*: .*tcpechod.conf:1: .*listeners.*; this process goes on")
            clients.pass_by()
            daemon.write_config(config_text(settings=LOG))
            self.restart(daemon)
            clients.pass_by()


class ListenersByStore(ByStore, Listeners, daemons.TestCase):
    def test_bad_settings(self):
        """The next process could not start, and its manager would give up its listeners: it finishes what there is."""
        with self.daemon() as daemon:
            client = daemon.connect()
            ping(client)
            sent = harness.fill(client, 100000)
            daemon.write_config("listeners = 7;")
            self.send(daemon)
            daemon.wait_log("error: .*tcpechod.conf:1: .*listeners")
            daemon.wait_log("error: not handed over: the next process could not start: its settings have errors; the "
                            "connections are finished$")
            harness.assert_same(receive_all(client), traffic.expected_part(0, sent))
            client.close()
            self.assertEqual(daemon.wait(), HANDED_OVER)
            self.assertEqual(daemon.notify.stored, [])
            daemon.successor(ready=False)
            self.assertEqual(daemon.wait(), daemons.BAD_SETTINGS)

    def test_ports_that_the_kernel_has_picked_stay_with_their_services(self):
        """In whatever order the manager passes them."""
        entries = ", ".join((listener(port=0), listener("upper", port=0), listener("discard", port=0)))
        with self.daemon(entries) as daemon:
            upper = daemon.wait_log(r"listening: upper on (\S+):(\d+)").groups()
            for _ in range(3):
                self.send(daemon)
                self.assertEqual(daemon.wait(), HANDED_OVER)
                daemon.notify.stored.reverse()
                daemon.successor()
                with socket.create_connection(upper, harness.patience()) as client:
                    self.assertEqual(harness.exchange(client, b"which one?"), b"WHICH ONE?")

    def test_settings_that_are_bad_for_the_next_process_alone(self):
        """A newer version, or a unit that was edited: nobody starts it again, and it says what becomes of the clients."""
        with self.daemon() as daemon:
            client = daemon.connect()
            ping(client)
            self.send(daemon)
            self.assertEqual(daemon.wait(), HANDED_OVER)
            daemon.write_config("listeners = 7;")
            daemon.successor(ready=False)
            self.assertEqual(daemon.wait(), daemons.BAD_SETTINGS)
            self.assertEqual(client.recv(1), b"")
            daemon.wait_log("error: 1 connection of the process before is closed, as this one cannot start$")


class Program(InPlace, daemons.TestCase):
    """The file that is executed anew, which others replace, remove and damage."""

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.program = stack.enter_context(harness.executable_for_all(harness.TCPECHOD))

    def put(self, content, mode=0o755):
        """In its place, whole, as mv(1) does."""
        with open(self.program + ".new", "wb") as file:
            file.write(content)
        os.chmod(self.program + ".new", mode)
        os.rename(self.program + ".new", self.program)

    def assert_goes_on(self, daemon, why):
        """With its clients and its log, under the same file."""
        failed = daemon.count_log("error: not handed over: ")
        self.send(daemon)
        daemon.wait_log("error: not handed over: ", failed + 1)
        daemon.wait_log(f"error: not handed over: {self.program}: {why}; this process goes on$")
        self.assertEqual(daemon.exchange(b"new"), b"new")
        self.assertEqual(self.children(daemon), [])

    def children(self, daemon):
        """Of its main thread, zombies, too."""
        with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children", encoding="ascii") as file:
            return file.read().split()

    def test_what_cannot_be_executed(self):
        with open(self.program, "rb") as file:
            program = file.read()
        with self.daemon(executable=self.program) as daemon, traffic.Traffic(daemon.connect) as clients:
            for content, mode, why in ((program, 0o644, "cannot be executed: Permission denied"),
                                       (b"hello\n", 0o755, "cannot be executed: Exec format error"),
                                       (b"", 0o755, "cannot be executed: Exec format error"),
                                       (program[:20000], 0o755, ".*"),
                                       (b"#!/bin/sh\nexit 3\n", 0o755, "it ends with status 3"),
                                       (b"#!/bin/sh\necho first >&2\necho second >&2\nexit 3\n", 0o755, "first"),
                                       (b"#!/bin/sh\nkill -KILL $$\n", 0o755, "it ends by signal 9")):
                self.put(content, mode)
                self.assert_goes_on(daemon, why)
                clients.pass_by(5)
            os.unlink(self.program)
            self.assert_goes_on(daemon, "cannot be executed: No such file or directory")
            self.put(program)
            self.restart(daemon)
            clients.pass_by()

    def test_what_hangs(self):
        """For as long as it takes; the clients are served meanwhile."""
        with self.daemon(executable=self.program) as daemon, traffic.Traffic(daemon.connect, newcomers=0) as clients:
            self.put(b"#!/bin/sh\nexec sleep 1000\n")
            self.send(daemon)
            clients.pass_by()
            late = "its check of the settings did not end in 5 seconds"
            daemon.wait_log(f"error: not handed over: .*: {late}; this process goes on")
            self.assertEqual(self.children(daemon), [])
            self.put(b"#!/bin/sh\nexec 2>&- >&-\nexec sleep 1000\n")
            self.assert_goes_on(daemon, late)

    def test_what_passes_the_check_alone(self):
        """It takes all over, and does not start. The clients are lost: nothing can be done; but nobody hangs."""
        with self.daemon(executable=self.program) as daemon:
            client = daemon.connect()
            ping(client)
            self.put(b'#!/bin/sh\n[ "$1" = --test ] && exit 0\nexit 3\n')
            self.send(daemon)
            self.assertEqual(daemon.wait(), 3)
            self.assertTrue(harness.is_refused(client))

    def test_upgrade(self):
        """What mv(1) has put there is what runs, under the same process id."""
        with self.daemon(executable=self.program) as daemon, traffic.Traffic(daemon.connect) as clients:
            pid = daemon.pid
            for _ in range(3):
                with open(self.program, "rb") as file:
                    self.put(file.read())
                self.restart(daemon)
                self.assertEqual(os.readlink(f"/proc/{pid}/exe"), self.program)
                self.assertTrue(os.path.samefile(f"/proc/{pid}/exe", self.program))
                clients.pass_by()

    def test_arguments(self):
        """The same as before, and none more with each restart."""
        with self.daemon(executable=self.program, arguments=["--log-level", "info"]) as daemon:
            with open(f"/proc/{daemon.pid}/cmdline", "rb") as file:
                before = file.read()
            for _ in range(3):
                self.restart(daemon)
                with open(f"/proc/{daemon.pid}/cmdline", "rb") as file:
                    self.assertEqual(file.read(), before)

    def test_nothing_grows(self):
        """Descriptors, memory, environment, children."""
        with self.daemon(executable=self.program) as daemon, traffic.Traffic(daemon.connect, newcomers=0) as clients:
            def environment():
                with open(f"/proc/{daemon.pid}/environ", "rb") as file:
                    return sorted(line.partition(b"=")[0] for line in file.read().split(b"\0"))

            self.restart(daemon)
            descriptors, memory, names = daemon.descriptors(), daemon.rss(), environment()
            self.assertEqual(names.count(b"TCPECHOD_HANDOVER"), 1)
            for _ in range(20):
                self.restart(daemon)
            clients.pass_by()
            # The child of the check would have what the process that starts it has.
            self.assertEqual((daemon.descriptors(), environment()), (descriptors, names))
            self.assertEqual(self.children(daemon), [])
            if not harness.sanitized():
                self.assertLess(daemon.rss(), 2 * memory)

    def test_environment_of_the_check(self):
        """What is left to the program executed anew is no business of a child."""
        with self.daemon(executable=self.program) as daemon:
            with open(self.program, "rb") as file:
                program = file.read()
            self.restart(daemon)
            self.put(b"#!/bin/sh\nenv | grep -c ^TCPECHOD_HANDOVER >&2\nls /proc/self/fd | wc -l >&2\nexit 1\n")
            self.assert_goes_on(daemon, "0")
            self.put(program)
            self.restart(daemon)

    def test_variable_that_is_malformed(self):
        for value in ("x", "3", "=x", "2=tcpechod-state", "99999=tcpechod-state", "3=", "-1=x"):
            with self.subTest(value), daemons.Daemon(ready=False, environment={"TCPECHOD_HANDOVER": value}) as daemon:
                self.assert_ended(daemon, daemons.SYSTEM_ERROR,
                                  "cannot take over: TCPECHOD_HANDOVER in the environment is malformed")

    def test_many_connections(self):
        count = harness.scale(2000, 300)
        harness.raise_nofile(3 * count + 500)
        with self.daemon() as daemon:
            old = daemon.connect_many(count)
            for number, client in enumerate(old):
                client.sendall(b"%8d" % number)
            for number, client in enumerate(old):
                self.assertEqual(receive_exactly(client, 8), b"%8d" % number)
            for number, client in enumerate(old):
                client.sendall(b"%8d" % number)
            self.restart(daemon)
            daemon.wait_log(f"notice: 1 listener and {count} connections of the process before go on$")
            for number, client in enumerate(old):
                self.assertEqual(harness.exchange(client, b"end"), b"%8dend" % number)


# What fails in the process that hands over, and what it says.
STEPS = (
    ("memfd_create:EMFILE:1", "cannot write the state: Too many open files"),
    ("fcntl@main:EMFILE:1", "cannot write the state: Too many open files"),
    ("fcntl@main:EPERM:2", "cannot write the state: Operation not permitted"),
    ("fdopen@main:ENOMEM:1", "cannot write the state: Cannot allocate memory"),
    ("fflush@main:ENOSPC:1", "cannot write the state: No space left on device"),
    ("mmap@main:ENOMEM:1", "cannot write the state: Cannot allocate memory"),
    ("pwrite:ENOSPC:1", "cannot write the state: No space left on device"),
    ("socketpair:EMFILE:1", "cannot queue the connections: Too many open files"),
    ("sendmsg@main:ETOOMANYREFS:1", "cannot queue the connections: Too many references: cannot splice"),
    ("getsockopt@main:ENOBUFS:1", "cannot write down the listeners: No buffer space available"),
    ("getsockopt@main:ENOBUFS:2", "cannot queue the connections: No buffer space available"),
)

# Of these nobody knows which is which: each one fails, until the first that is not there.
ALLOCATIONS = ("malloc", "calloc", "reallocarray", "strdup", "strndup", "realloc", "fstat")


class StepsInPlace(InPlace, daemons.TestCase):
    """Whatever fails, this process goes on with its clients, and the next signal finds it as it was."""

    def test_each(self):
        with self.daemon(faults="") as daemon, traffic.Traffic(daemon.connect) as clients:
            clients.pass_by(5)
            for rules, why in (*STEPS,
                               ("execv:ENOEXEC", ".*tcpechod-faults: Exec format error"),
                               ("open_memstream@main:ENOMEM", ".*tcpechod-faults: Cannot allocate memory"),
                               ("pipe2@main:EMFILE:1", ".*: cannot check it: Too many open files"),
                               ("posix_spawn:EAGAIN", ".*: cannot be executed: Resource temporarily unavailable"),
                               ("calloc@main:ENOMEM:1", ".*: cannot be executed: Cannot allocate memory")):
                with self.subTest(rules):
                    failed = daemon.count_log("error: not handed over: ")
                    daemon.faults.arm(rules)
                    self.send(daemon)
                    daemon.wait_log("error: not handed over: ", failed + 1)
                    daemon.wait_log(f"error: not handed over: {why}; this process goes on$")
                    daemon.faults.disarm()
                    clients.pass_by(5)
                    self.assertEqual(self.inherited(daemon), ["0", "1", "2"])
            self.restart(daemon)
            clients.pass_by()

    def test_each_allocation(self):
        for call in ALLOCATIONS:
            if call == "malloc" and harness.sanitized():
                continue  # with coverage, execv(3) first writes it down, and does not bear it
            # A client who is in the queue at that moment would be the one whose memory is short.
            with self.subTest(call), self.daemon(faults="") as daemon, \
                    traffic.Traffic(daemon.connect, newcomers=0) as clients:
                number = 1
                while not daemon.count_log(GO_ON):
                    daemon.faults.arm(f"{call}@main:ENOMEM:{number}")
                    self.send(daemon)
                    daemon.wait_log(f"error: not handed over: .*; this process goes on$|{GO_ON}", number)
                    number += 1
                clients.pass_by(5)

    def inherited(self, daemon):
        """What a child would get."""
        found = []
        for fd in os.listdir(f"/proc/{daemon.pid}/fd"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{daemon.pid}/fdinfo/{fd}", encoding="ascii") as file:
                if not int(file.read().split("flags:")[1].split()[0], 8) & os.O_CLOEXEC:
                    found.append(fd)
        return sorted(found)

    def test_workers_that_cannot_start_again(self):
        """Who serves nobody ends."""
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            daemon.faults.arm("execv:ENOEXEC, pthread_create@main:EAGAIN:2-")
            self.send(daemon)
            self.assertEqual(daemon.wait(), daemons.SYSTEM_ERROR)
            daemon.wait_log("error: not handed over: .*: Exec format error; this process goes on")
            daemon.wait_log("error: cannot start the workers again: Resource temporarily unavailable")
            self.assertTrue(harness.is_refused(client))

    def test_log_that_cannot_start_again(self):
        """Then each message is written at once."""
        with self.daemon(faults="") as daemon, traffic.Traffic(daemon.connect) as clients:
            daemon.faults.arm("execv:ENOEXEC, pthread_create@main:EAGAIN:1")
            self.send(daemon)
            daemon.wait_log("error: cannot start the log's thread: ")
            daemon.wait_log("error: not handed over: .*: Exec format error; this process goes on")
            clients.pass_by()
            daemon.faults.disarm()
            daemon.counters()
            self.restart(daemon)
            clients.pass_by()


class StepsByStore(ByStore, daemons.TestCase):
    """Whatever fails, the clients get what they are owed and an end, and the next process has the listeners."""

    def assert_drains(self, daemon, rules, why, is_kept=True):
        client, idle = daemon.connect_many(2)
        ping(idle)
        sent = harness.fill(client, 2000000, 0.1)
        harness.wait_arrived(idle)
        if rules:
            daemon.faults.arm(rules)
        self.send(daemon)
        rest = ", and the listeners go on" if is_kept else ""
        daemon.wait_log(f"error: not handed over: {why}; the connections are finished{rest}$")
        daemon.wait_log("notice: stopping ")
        if is_kept:
            waiting = daemon.connect()
            waiting.sendall(b"waiting")
        self.assertEqual(receive_all(idle), b"")
        answer = receive_all(client)
        harness.assert_same(answer, traffic.expected_part(0, sent)[: len(answer)])
        for each in (client, idle):
            each.close()
        self.assertEqual(daemon.wait(), HANDED_OVER, daemon.log()[-3000:])
        self.assertEqual(daemon.count_log("closed: (error|reset)"), 0)
        return waiting if is_kept else None

    def assert_served(self, daemon, waiting):
        daemon.successor(FAULTS="")
        self.assertEqual(harness.exchange(waiting, b""), b"waiting")
        daemon.wait_log("notice: 1 listener and 0 connections of the process before go on$")
        ping(daemon.connect())

    def test_each(self):
        for rules, why in (*STEPS,
                           ("sd_notify_barrier:ETIMEDOUT", "the service manager does not answer: Connection timed out"),
                           ("sd_notify_barrier:ECONNREFUSED", "the service manager does not answer: Connection refused"),
                           *((f"sd_pid_notify_with_fds:ECONNREFUSED:{call}",
                              "cannot send descriptors to the service manager: Connection refused")
                             for call in range(1, 4))):
            with self.subTest(rules), self.daemon(faults="", settings=LOG + "workers = 1;") as daemon:
                self.assert_served(daemon, self.assert_drains(daemon, rules, why))

    def test_each_allocation(self):
        """The settings are read once more, too: with mistakes the next process could not start."""
        for call in ALLOCATIONS:
            number, is_whole = 1, False
            while not is_whole and number < harness.scale(30, 4):
                with self.subTest(call, number=number), self.daemon(faults="", settings=LOG + "workers = 1;") as daemon:
                    client = daemon.connect()
                    ping(client)
                    daemon.faults.arm(f"{call}@main:ENOMEM:{number}")
                    self.send(daemon)
                    harness.wait_until(lambda: daemon.count_log("notice: (stopping|handing over)"), "the outcome")
                    daemon.faults.disarm()
                    if daemon.count_log("stopping"):
                        self.assertEqual(client.recv(1), b"")
                        client.close()
                    self.assertEqual(daemon.wait(), HANDED_OVER)
                    is_whole = daemon.count_log("notice: handing over") > 0
                    daemon.successor(FAULTS="")
                    self.assertEqual(daemon.exchange(b"new"), b"new")
                number += 1

    def test_store_that_is_off(self):
        """Then the listeners are gone as well."""
        with self.daemon(store=0) as daemon:
            self.assert_drains(daemon, "", "the service manager's descriptor store is off or full .*", is_kept=False)
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect()
            daemon.successor()
            self.assertEqual(daemon.exchange(b"x"), b"x")

    def test_store_that_is_too_small(self):
        """For the queue, and also for the state and what says that they have found room."""
        why = r"the service manager's descriptor store is off or full \(FileDesc.*"
        for store in (1, 2):
            with self.subTest(store), self.daemon(store=store) as daemon:
                self.assert_drains(daemon, "", why, is_kept=False)
        with self.daemon(store=3) as daemon:
            waiting = self.assert_drains(daemon, "", why)
            daemon.successor()
            self.assertEqual(harness.exchange(waiting, b""), b"waiting")

    def test_manager_that_says_how_much_it_stores(self):
        with self.daemon(environment={"FDSTORE": "3"}, store=3) as daemon:
            waiting = self.assert_drains(daemon, "", "the service manager cannot store so many descriptors "
                                         r"\(FileDescriptorStoreMax=\): No space left on device")
            self.assert_served(daemon, waiting)
        with self.daemon(environment={"FDSTORE": "4"}, store=4) as daemon:
            client = daemon.connect()
            ping(client)
            self.restart(daemon)
            ping(client)

    def test_listeners_that_cannot_be_kept(self):
        with self.daemon(f"{ECHO}, {UPPER}", environment={"FDSTORE": "2"}, store=2) as daemon:
            daemon.wait_log("warning: the listeners may not be kept for a restart: the service manager cannot store so many "
                            "descriptors")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.send(daemon)
            daemon.wait_log(r"error: not handed over: the service manager's descriptor store is off or full .*; the connections "
                            "are finished$")
            self.assertEqual(daemon.wait(), HANDED_OVER)

    def test_workers_that_cannot_start_again(self):
        """Their clients are lost; the next process has the listeners."""
        with self.daemon(f"{ECHO}, {listener(path='DIR/socket')}", faults="") as daemon:
            client = daemon.connect()
            ping(client)
            daemon.faults.arm("memfd_create:EMFILE, pthread_create@main:EAGAIN")
            self.send(daemon)
            self.assertEqual(daemon.wait(), daemons.SYSTEM_ERROR)
            daemon.wait_log("error: cannot start the workers again: Resource temporarily unavailable")
            self.assertTrue(harness.is_refused(client))
            daemon.successor(FAULTS="")
            self.assertEqual(daemon.exchange(b"new"), b"new")
            self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
            daemon.wait_log("warning: 2 listeners and 0 connections of the process before go on; it has ended without")


class NewProcess(ByStore, daemons.TestCase):
    """What the next process cannot take over."""

    BOTH = f"{ECHO}, {listener(path='DIR/socket')}"

    def leave(self, daemon, count=3):
        """The process ends and has left so many connections."""
        clients = daemon.connect_many(count)
        for client in clients:
            ping(client)
        self.send(daemon)
        self.assertEqual(daemon.wait(), HANDED_OVER)
        return clients

    def put_state(self, daemon, fd):
        """In the place of what it has left. Returns that."""
        index = [name for name, _ in daemon.notify.stored].index("tcpechod-state")
        old = daemon.notify.stored[index][1]
        daemon.notify.stored[index] = ("tcpechod-state", fd)
        return old

    def damage(self, daemon, change, seals):
        fd = os.memfd_create("tcpechod-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        old = self.put_state(daemon, fd)
        os.write(fd, change(os.pread(old, 1 << 20, 0)))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        os.close(old)

    def assert_closes(self, daemon, clients, message=""):
        """They get an end and no reset, and are counted; all else goes on."""
        daemon.successor()
        daemon.wait_log(message)
        daemon.wait_log(f"warning: .* of the process before go on; {len(clients)} are closed, as nothing is known of them$")
        for client in clients:
            self.assertEqual(client.recv(1), b"")
            client.close()
        daemon.wait_log("closed: not_resumed, ", len(clients))
        self.assertIn(f"(not_resumed {len(clients)})", daemon.counters()[0])
        self.assertEqual(daemon.exchange(b"new"), b"new")
        self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
        client = daemon.connect()
        ping(client)
        self.restart(daemon)
        ping(client)

    def assert_unreadable(self, change, why, seals=SEALS):
        with self.daemon(self.BOTH) as daemon:
            clients = self.leave(daemon)
            self.damage(daemon, change, seals)
            self.assert_closes(daemon, clients, f"error: cannot read what the process before has left: {why}; its "
                                                "connections are closed$")

    def test_damage(self):
        def flip(at):
            return lambda state: state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :]

        for name, change in (("magic", flip(0)), ("checksum", flip(24)), ("first byte", flip(32)),
                             ("a byte in the middle", lambda state: flip(len(state) // 2)(state)),
                             ("last byte", lambda state: flip(len(state) - 1)(state)),
                             ("short", lambda state: state[:-1]), ("long", lambda state: state + b"x"),
                             ("cut header", lambda state: state[:31]), ("nothing", lambda state: b"")):
            with self.subTest(name):
                self.assert_unreadable(change, "it is damaged")

    def test_no_seals(self):
        """It could change while it is read."""
        self.assert_unreadable(lambda state: state, "it is damaged", fcntl.F_SEAL_WRITE)

    def test_other_version(self):
        self.assert_unreadable(lambda state: state[:8] + struct.pack("=Q", 1 << 40) + state[16:], "it is another version's")

    def test_no_state(self):
        """None at all, and what is none."""
        with self.daemon(self.BOTH) as daemon:
            clients = self.leave(daemon)
            os.close(self.put_state(daemon, -1))
            daemon.notify.stored.remove(("tcpechod-state", -1))
            self.assert_closes(daemon, clients)
        with self.daemon(self.BOTH) as daemon:
            clients = self.leave(daemon)
            os.close(self.put_state(daemon, os.open(daemon.config, os.O_RDONLY)))
            self.assert_closes(daemon, clients, "error: cannot read what the process before has left: it is damaged")

    def test_queue_that_is_none(self):
        with self.daemon(self.BOTH) as daemon:
            self.leave(daemon)
            daemon.notify.stored.append(("tcpechod-queue", os.open(daemon.config, os.O_RDONLY)))
            daemon.successor()
            daemon.wait_log("error: cannot take connections over: Socket operation on non-socket")
            daemon.wait_log("notice: 2 listeners and 3 connections of the process before go on$")

    def test_failing_calls(self):
        """The clients are told by an end, or a reset where bytes were left unread; whoever can, goes on."""
        for rules, message in (
                ("recvmsg@main:ENOBUFS", "error: cannot take connections over: No buffer space available"),
                ("mmap@main:ENOMEM:1", "error: cannot read what the process before has left: Cannot allocate memory"),
                ("malloc@worker:ENOMEM", "closed: error: Cannot allocate memory"),
                ("epoll_ctl_add@worker:ENOSPC:1-3", "closed: error: No space left on device")):
            with self.subTest(rules), self.daemon(faults="", settings=LOG + "workers = 1;") as daemon:
                clients = self.leave(daemon)
                daemon.successor(FAULTS=rules, ready=False)
                daemon.wait_log(message)
                daemon.wait_ready(2)
                daemon.stop()
                for client in clients:
                    self.assertTrue(harness.is_refused(client))

    def test_each_allocation(self):
        """It starts with what it has got, or ends and leaves all to the next one."""
        for call in ("malloc", "calloc", "reallocarray", "strdup", "strndup", "getsockopt"):
            number, hits = 1, 1
            while hits and number < harness.scale(40, 4):
                with self.subTest(call, number=number), self.daemon(self.BOTH, faults="") as daemon:
                    client, = self.leave(daemon, 1)
                    daemon.successor(FAULTS=f"{call}@main:ENOMEM:{number}", ready=False)
                    has_started = daemon.wait_started(2)
                    if has_started:
                        hits = daemon.faults.hits()
                        daemon.send_signal(signal.SIGKILL)
                        self.assertTrue(harness.is_refused(client))
                    is_given_up = not has_started and daemon.wait() in (daemons.BAD_SETTINGS, daemons.CANNOT_LISTEN)
                    daemon.wait()
                    daemon.successor(FAULTS="")
                    if is_given_up:
                        self.assertTrue(harness.is_refused(client))
                    elif not has_started:
                        ping(client)
                    self.assertEqual(daemon.exchange(b"new"), b"new")
                    self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
                number += 1

    def test_start_that_fails(self):
        """It leaves all to the next one as it is."""
        with self.daemon(self.BOTH, faults="", settings=LOG + "workers = 1;") as daemon:
            inode = os.stat(daemon.path("socket")).st_ino
            clients = self.leave(daemon)
            for rules in ("pthread_create@main:EAGAIN:2", "epoll_create1:EMFILE", "sd_listen_fds_with_names:ENOMEM"):
                daemon.successor(FAULTS=rules, ready=False)
                self.assertEqual(daemon.wait(), daemons.SYSTEM_ERROR, daemon.log()[-2000:])
            waiting = daemon.connect()
            waiting.sendall(b"waiting")
            daemon.successor(FAULTS="")
            for client in clients:
                ping(client)
            self.assertEqual(harness.exchange(waiting, b""), b"waiting")
            self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
            self.assertEqual(os.stat(daemon.path("socket")).st_ino, inode)

    def test_worker_that_fails(self):
        """So does one that has run."""
        with self.daemon(self.BOTH, faults="", settings=LOG + "workers = 1;") as daemon:
            inode = os.stat(daemon.path("socket")).st_ino
            client = daemon.connect()
            ping(client)
            daemon.faults.arm("epoll_wait@worker:EBADF:1")
            with contextlib.suppress(OSError):
                client.sendall(b"x")
            self.assertEqual(daemon.wait(), daemons.SYSTEM_ERROR)
            daemon.wait_log("error: a worker cannot wait for events")
            waiting = daemon.connect()
            waiting.sendall(b"waiting")
            daemon.successor(FAULTS="")
            self.assertEqual(harness.exchange(waiting, b""), b"waiting")
            self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
            self.assertEqual(os.stat(daemon.path("socket")).st_ino, inode)
            daemon.wait_log("warning: 2 listeners and 0 connections .*; it has ended without a hand-over, and its "
                            "connections with it$")

    FEW = ["prlimit", "--nofile=400:400", "--"]
    MANY = 600

    def receive_from_all(self, clients):
        """(client, answer) of each, in the order in which they end; they are closed then."""
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client, selectors.EVENT_READ, [])
            while selector.get_map():
                ready = selector.select(harness.patience())
                self.assertTrue(ready, f"{len(selector.get_map())} clients wait in vain")
                for key, _ in ready:
                    data = key.fileobj.recv(100)
                    key.data.append(data)
                    if not data:
                        selector.unregister(key.fileobj)
                        yield key.fileobj, b"".join(key.data)
                        key.fileobj.close()

    def test_few_descriptors(self):
        """All are finished, as many at a time as there is room for; who comes meanwhile waits."""
        harness.raise_nofile(4 * self.MANY)
        with self.daemon() as daemon:
            clients = self.leave(daemon, self.MANY)
            for number, client in enumerate(clients):
                client.sendall(b"%8d" % number)
            waiting = daemon.connect()
            waiting.sendall(b"waiting")
            daemon.successor(ready=False, wrapper=self.FEW)
            for client, answer in self.receive_from_all(clients):
                self.assertEqual(answer, b"%8d" % clients.index(client))
            self.assertEqual(harness.exchange(waiting, b""), b"waiting")
            daemon.wait_log(f"warning: 1 listener and 0 connections of the process before go on; {self.MANY} are finished, as "
                            "the descriptor limit has no room for all$")
            daemon.wait_log("closed: drained", self.MANY)

    def test_few_descriptors_and_little_time(self):
        """What is not finished within drain_timeout is lost, and said to be."""
        harness.raise_nofile(4 * self.MANY)
        with self.daemon(settings=LOG + "drain_timeout = 0.2;") as daemon:
            clients = self.leave(daemon, self.MANY)
            daemon.successor(wrapper=self.FEW)
            said = daemon.wait_log(r"warning: 1 listener and 0 connections of the process before go on; (\d+) are finished, as "
                                   r"the descriptor limit has no room for all; (\d+) are lost$")
            self.assertEqual(int(said.group(1)) + int(said.group(2)), self.MANY)
            self.assertGreater(int(said.group(1)), 250)
            for client in clients:
                self.assertTrue(harness.is_refused(client))


class Killed(ByStore, daemons.TestCase):
    """SIGKILL, at any time: the listeners are kept, and the next process says what was lost."""

    def assert_listeners_go_on(self, daemon, clients, message):
        waiting = daemon.connect()
        waiting.sendall(b"waiting")
        daemon.successor(FAULTS="")
        daemon.wait_log(message)
        for client in clients:
            self.assertTrue(harness.is_refused(client))
        self.assertEqual(harness.exchange(waiting, b""), b"waiting")
        self.assertEqual(harness.exchange(daemon.connect_path(), b"new"), b"new")
        client = daemon.connect()
        ping(client)
        self.restart(daemon)
        ping(client)

    def start(self):
        return self.daemon(NewProcess.BOTH, faults="")

    def test_at_any_time(self):
        with self.start() as daemon:
            client = daemon.connect()
            ping(client)
            inode = os.stat(daemon.path("socket")).st_ino
            for _ in range(2):
                daemon.send_signal(signal.SIGKILL)
                self.assertEqual(daemon.wait(), -signal.SIGKILL)
                self.assert_listeners_go_on(daemon, [client], "warning: 2 listeners and 0 connections of the process before "
                                            "go on; it has ended without a hand-over, and its connections with it$")
                self.assertEqual(os.stat(daemon.path("socket")).st_ino, inode)

    def killed(self, rules):
        daemon = self.start()
        clients = daemon.connect_many(3)
        for client in clients:
            ping(client)
        daemon.faults.arm(rules)
        self.send(daemon)
        daemon.faults.wait_hits()
        daemon.send_signal(signal.SIGKILL)
        self.assertEqual(daemon.wait(), -signal.SIGKILL)
        return daemon, clients

    def test_while_it_queues(self):
        daemon, clients = self.killed("sendmsg@main:sleep=600000:1")
        with daemon:
            self.assert_listeners_go_on(daemon, clients, "warning: 2 listeners .* it has ended without a hand-over")

    def test_while_it_stores(self):
        """Each message to the manager: the old state goes, then come the state and the queue; it has the listeners."""
        unasked = "warning: 2 listeners and 0 connections of the process before go on; it has ended without a hand-over"
        for call, message in ((1, unasked), (2, unasked),
                              (3, "warning: 2 listeners and 0 connections of the process before go on; 3 are lost$")):
            with self.subTest(call):
                daemon, clients = self.killed(f"sd_pid_notify_with_fds@main:sleep=600000:{call}")
                with daemon:
                    self.assert_listeners_go_on(daemon, clients, message)

    def test_when_all_is_stored(self):
        """It was about to end anyway."""
        daemon, clients = self.killed("sd_notify_barrier:sleep=600000")
        with daemon:
            daemon.successor(FAULTS="")
            daemon.wait_log("notice: 2 listeners and 3 connections of the process before go on$")
            for client in clients:
                ping(client)


class Signals:
    """SIGUSR2 among other signals."""

    def test_during_a_stop(self):
        """The stop goes on."""
        with self.daemon() as daemon:
            client = daemon.connect()
            ping(client)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("notice: stopping ")
            for _ in range(3):
                self.send(daemon)
            self.assertEqual(client.recv(1), b"")
            client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.count_log("handing over"), 0)

    def test_with_a_reload(self):
        """First the reload, then the restart, with the new settings."""
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            daemon.hold_main_loop()
            daemon.write_config(config_text(listener("upper"), LOG))
            daemon.send_signal(signal.SIGHUP)
            self.send(daemon)
            daemon.faults.disarm()
            self.wait_restarted(daemon)
            daemon.wait_log("notice: reloaded (.*\n)+.*handing over")
            ping(client)
            self.assertEqual(daemon.exchange(b"new"), b"NEW")

    def test_with_the_counters(self):
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            for count in range(1, 4):
                daemon.hold_main_loop()
                self.send(daemon)
                daemon.send_signal(signal.SIGUSR1)
                daemon.faults.disarm()
                self.wait_restarted(daemon, count)
                ping(client)

    def test_before_ready(self):
        """It waits for the start to be over."""
        with self.daemon(faults="listen:sleep=1000:1", ready=False) as daemon:
            harness.wait_until(lambda: daemon.faults.hits() == 1, "listen(2)")
            self.send(daemon)
            self.wait_restarted(daemon)
            self.assertEqual(daemon.exchange(b"hello"), b"hello")


class SignalsInPlace(InPlace, Signals, daemons.TestCase):
    def wait_restarted(self, daemon, count=1):
        daemon.wait_log(GO_ON, count)
        daemon.wait_ready(count + 1)

    def test_stop_right_after(self):
        """The new program stops, with all that it has got."""
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            sent = harness.fill(client, 300000, 0.1)
            daemon.hold_main_loop()
            self.send(daemon)
            daemon.send_signal(signal.SIGTERM)
            daemon.faults.disarm()
            harness.assert_same(receive_all(client), traffic.expected_part(0, sent))
            client.close()
            self.assertEqual(daemon.wait(), 0)
            daemon.wait_log("handing over (.*\n)+.*notice: stopping .SIGTERM.: 1 connection (.*\n)*.*notice: stopped: every")

    def test_twice(self):
        """Once or twice, as the kernel delivers them; nothing is lost."""
        with self.daemon() as daemon, traffic.Traffic(daemon.connect) as clients:
            for _ in range(harness.scale(5, 2)):
                self.send(daemon)
                self.send(daemon)
                clients.pass_by(5)
            harness.wait_until(lambda: daemon.count_log(GO_ON) == daemon.count_log("handing over"), "the last of them")


class SignalsByStore(ByStore, Signals, daemons.TestCase):
    def wait_restarted(self, daemon, _count=1):
        self.assertEqual(daemon.wait(), HANDED_OVER)
        daemon.successor(FAULTS="")

    def test_stop_right_after(self):
        """The stop is for good, and comes first."""
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            daemon.hold_main_loop()
            self.send(daemon)
            daemon.send_signal(signal.SIGTERM)
            daemon.faults.disarm()
            self.assertEqual(client.recv(1), b"")
            client.close()
            self.assertEqual(daemon.wait(), 0)
            daemon.wait_log("notice: stopping .SIGTERM.: 1 connection ")
            self.assertEqual(daemon.notify.stored, [], "a stop leaves nothing")

    def test_stop_while_it_finishes(self):
        """SIGTERM ends a restart that could not hand over, like every stop."""
        with self.daemon(faults="", settings=LOG + "drain_timeout = 600.0;") as daemon:
            client = daemon.connect()
            ping(client)
            harness.fill(client)
            daemon.faults.arm("memfd_create:EMFILE:1")
            self.send(daemon)
            daemon.wait_log("notice: stopping ")
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), HANDED_OVER)
            daemon.wait_log("notice: stopped: 1 connection did not finish in time")

    def test_signals_of_somebody_else_that_were_pending(self):
        """None hides the manager's: it is heard by whoever is there then."""
        with self.daemon(faults="") as daemon:
            client = daemon.connect()
            ping(client)
            daemon.hold_main_loop()
            daemon.send_signal(signal.SIGUSR2)
            daemon.send_signal(signal.SIGUSR2)
            self.send(daemon)
            daemon.faults.disarm()
            self.assertEqual(daemon.wait(), HANDED_OVER)
            daemon.successor(FAULTS="")
            ping(client)

    def test_signal_of_somebody_else(self):
        """Of kill(1): in place, whatever the manager stores."""
        with self.daemon() as daemon:
            client = daemon.connect()
            ping(client)
            for _ in range(2):
                InPlace().restart(daemon)
                ping(client)
            self.restart(daemon)
            ping(client)


if __name__ == "__main__":
    harness.main(jobs=4)
