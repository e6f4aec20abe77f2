"""The watchdog: a stuck daemon is named, ended and started again; a busy one never is."""

import contextlib
import os
import re
import signal
import threading
import time

import machine
import traffic
from machine import harness

PERIOD = 3  # seconds, of WatchdogSec= in these tests
SETTINGS = """listeners = ( { address = "127.0.0.1"; port = 7; } );
workers = 2;
drain_timeout = 1.0;
log = { connections = false; };
"""


class TestCase(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.machine.drop_in(f"[Service]\nWatchdogSec={PERIOD}s\nLimitCORE=0\n")
        self.machine.write(machine.CONF, SETTINGS)

    def start(self):
        self.machine.systemctl("start", "tcpechod")
        return self.machine.show("MainPID")


class Stuck(TestCase):
    def wait_restart(self, old):
        """Waits until systemd has ended the daemon for its watchdog, once, and started another, which answers."""
        harness.wait_until(lambda: self.machine.show("NRestarts") == "1" and self.machine.show("ActiveState") == "active",
                           lambda: self.machine.status(), 10 * PERIOD)
        self.assertNotEqual(self.machine.show("MainPID"), old)
        self.assertTrue([entry for entry in self.machine.journal("_PID=1")
                         if re.search(r"Failed with result 'watchdog'", entry["MESSAGE"])],
                        self.machine.journalctl("-u", "tcpechod"))
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")

    def wait_named(self, pattern):
        entry = self.machine.wait_journal(pattern, f"MESSAGE_ID={machine.STUCK}", timeout=6 * PERIOD)
        self.assertEqual(entry["PRIORITY"], "3")
        self.assertRegex(self.machine.journalctl("-x", "-u", "tcpechod", f"MESSAGE_ID={machine.STUCK}"),
                         r"(?m)^.* Subject: A part of tcpechod is stuck$")

    def knock_until_stuck(self):
        """Clients, each of which makes a worker turn its loop, until there is one that gets no answer."""
        for _ in range(200):
            try:
                self.machine.exchange(7, b"x", timeout=0.5)
            except TimeoutError:
                return
        raise AssertionError("every client was answered")

    def test_stuck_worker_is_named_and_the_service_started_again(self):
        # Late, so that the next daemon does not come so far.
        self.machine.use_faults("epoll_wait@worker-1:sleep=600000:60")
        old = self.start()
        self.knock_until_stuck()
        self.wait_named(r"^worker 1 \((worker-1, )?thread \d+\) has not responded for \d")
        self.wait_restart(old)

    def test_stuck_acceptor_is_ended_too(self):
        self.machine.use_faults("epoll_wait@main:sleep=600000:60")
        old = self.start()
        self.knock_until_stuck()
        self.wait_named(rf"^the acceptor \(thread {old}\) has not responded for \d")
        self.wait_restart(old)

    def test_stopped_process_is_started_again(self):
        old = self.start()
        os.kill(self.machine.main_pid(), signal.SIGSTOP)
        self.wait_restart(old)


class LeftAlone(TestCase):
    def test_busy_daemon_is_left_alone(self):
        self.start()
        # Every client of traffic has more to say all the time; and this keeps what else there is of the CPUs busy.
        stopping = threading.Event()
        burners = [threading.Thread(target=self.burn, args=(stopping,), daemon=True) for _ in range(2)]
        with traffic.Traffic(lambda: self.machine.connect(7), bulk=4, ping_pong=4, newcomers=2, pause=0) as clients, \
                contextlib.ExitStack() as stack:
            stack.callback(stopping.set)
            for burner in burners:
                burner.start()
            end = time.monotonic() + 2.5 * PERIOD
            while time.monotonic() < end:
                clients.pass_by()
        self.assert_never_restarted()

    @staticmethod
    def burn(stopping):
        data = bytearray(1 << 16)
        while not stopping.is_set():
            data.count(b"x")

    def test_idle_and_reloading_daemon_is_left_alone(self):
        self.start()
        with self.machine.connect(7) as client:
            time.sleep(1.5 * PERIOD)
            self.assertEqual(harness.exchange(client, b"hi\n"), b"hi\n")
        end = time.monotonic() + 1.5 * PERIOD
        while time.monotonic() < end:
            self.machine.systemctl("reload", "tcpechod")
        self.assert_never_restarted()

    def test_draining_daemon_is_left_alone(self):
        self.machine.write(machine.CONF, SETTINGS.replace("drain_timeout = 1.0", f"drain_timeout = {2 * PERIOD}.0"))
        self.start()
        client, _ = self.machine.client_that_does_not_read(7)
        with client:
            start = time.monotonic()
            self.machine.systemctl("stop", "tcpechod")
            self.assertGreater(time.monotonic() - start, 1.5 * PERIOD)
        self.assertEqual(self.machine.show("Result"), "success")

    def assert_never_restarted(self):
        self.assertEqual(self.machine.show("NRestarts"), "0")
        self.assertEqual(self.machine.show("ActiveState"), "active")
        self.assertEqual(self.machine.journal(f"MESSAGE_ID={machine.STUCK}"), [])


if __name__ == "__main__":
    harness.main(jobs=2)
