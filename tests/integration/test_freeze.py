"""A daemon that did not run for a while, because it was stopped, starved or held up in a system call, looks at what has
come meanwhile before it lets a timeout act: nobody is dropped for it, and nobody's answer is lost."""

import selectors
import signal
import socket

import daemons
import harness
from daemons import ECHO, LOG, listener
from traffic import expected_part, read_slowly

# More than one batch of events takes.
MANY = 400


class Freeze(harness.TestCase):
    def connect(self, daemon, connect=daemons.Daemon.connect):
        """Each has had an answer, so that it counts as active from then on."""
        clients = [connect(daemon) for _ in range(MANY)]
        for client in clients:
            client.sendall(b"first")
        self.assert_answered(clients, b"first")
        return clients

    def assert_answered(self, clients, text):
        for client in clients:
            self.assertEqual(harness.receive_exactly(client, len(text)), text)

    def bytes_that_came_in_time(self, place, connect):
        with daemons.Daemon(listener(**place), LOG + "idle_timeout = 3.0;") as daemon:
            clients = self.connect(daemon, connect)
            with harness.Frozen(daemon.pid, 4.0):
                for client in clients:
                    client.sendall(b"second")
            self.assert_answered(clients, b"second")
            self.assertEqual(daemon.count_log("idle_timeout"), 0, daemon.log())

    def test_bytes_that_came_in_time_are_answered(self):
        self.bytes_that_came_in_time({}, daemons.Daemon.connect)

    def test_bytes_that_came_in_time_to_a_path_are_answered(self):
        self.bytes_that_came_in_time({"path": "DIR/socket"}, daemons.Daemon.connect_path)

    def test_the_idle_time_counts_from_the_answer(self):
        # A worker is held up in the middle of a batch, twice. The answers that follow are late, and who gets one has its
        # time from then on.
        with daemons.Daemon(ECHO, LOG + "workers = 1; idle_timeout = 2.0;", faults="") as daemon, \
                selectors.DefaultSelector() as waiting:
            clients = self.connect(daemon)
            daemon.faults.arm("recv@worker-1:sleep=2500:3,recv@worker-1:sleep=2500:150")
            for client in clients:
                waiting.register(client, selectors.EVENT_READ)
                client.sendall(b"second")
            while waiting.get_map():
                ready = waiting.select(harness.patience())
                self.assertTrue(ready, "nobody is answered any more")
                for key, _ in ready:
                    waiting.unregister(key.fileobj)
                    self.assertEqual(harness.receive_exactly(key.fileobj, 6), b"second")
                    key.fileobj.sendall(b"third")
            self.assert_answered(clients, b"third")
            self.assertEqual([daemon.faults.hits(0), daemon.faults.hits(1)], [1, 1])
            self.assertEqual(daemon.count_log("idle_timeout"), 0, daemon.log())

    def reads_all_the_time(self, place, connect):
        with daemons.Daemon(listener("chargen", **place), LOG + "write_timeout = 2.0;") as daemon, \
                connect(daemon) as client:
            self.assertEqual(len(harness.receive_exactly(client, 74)), 74)
            with harness.Frozen(daemon.pid, 3.0):
                read_slowly(client, 3.0)
            # More than any buffer has held at the freeze.
            harness.receive_exactly(client, 16 << 20)
            self.assertEqual(daemon.count_log("closed: "), 0, daemon.log())

    def test_who_reads_all_the_time_is_not_reset(self):
        self.reads_all_the_time({}, daemons.Daemon.connect)

    def test_who_reads_all_the_time_at_a_path_is_not_reset(self):
        self.reads_all_the_time({"path": "DIR/socket"}, daemons.Daemon.connect_path)

    def test_a_slow_reader_is_not_reset(self):
        # The rest of an answer waits in the daemon when the freeze begins.
        with daemons.Daemon(ECHO, LOG + "write_timeout = 2.0;") as daemon, daemon.connect() as client:
            sent = harness.fill(client)
            with harness.Frozen(daemon.pid, 3.0):
                answer = read_slowly(client, 3.0)
            client.shutdown(socket.SHUT_WR)
            answer += harness.receive_all(client)
            harness.assert_same(bytes(answer), expected_part(0, sent))
            daemon.wait_log("closed: client_closed")

    def test_a_stop_has_the_time_that_it_was_given(self):
        with daemons.Daemon(ECHO, LOG + "drain_timeout = 2.0;") as daemon, daemon.connect() as client:
            harness.fill(client)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("stopping")
            with harness.Frozen(daemon.pid, 3.0):
                pass
            answer = harness.receive_all(client)
            client.close()
            # What had arrived at the stop: the kernel held the rest at our side.
            harness.assert_same(answer, expected_part(0, len(answer)))
            self.assertGreater(len(answer), 0)
            daemon.wait_log("closed: drained")
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.count_log("did not finish"), 0, daemon.log())

    def test_a_stop_takes_in_all_who_had_connected(self):
        # Held up twice while it empties the backlog, for longer than it gives itself.
        with daemons.Daemon(ECHO, LOG, faults="") as daemon:
            daemon.faults.arm("accept4@main:sleep=800:100,accept4@main:sleep=800:200")
            with harness.Frozen(daemon.pid, 0.0):
                clients = daemon.connect_many(300)
                for client in clients:
                    client.sendall(b"last")
                daemon.send_signal(signal.SIGTERM)
            self.assert_answered(clients, b"last")
            for client in clients:
                client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual([daemon.faults.hits(0), daemon.faults.hits(1)], [1, 1])


if __name__ == "__main__":
    harness.main(jobs=4)
