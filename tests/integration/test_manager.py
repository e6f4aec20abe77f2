#!/usr/bin/env python3
"""What a service manager asks of the daemon, and what it is told: reload with an outcome, watchdog, a stop that takes
time."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time

import daemons
import harness
import traffic
from daemons import BAD_SETTINGS, CANNOT_LISTEN, ECHO, SYSTEM_ERROR, UPPER, USAGE, config_text


class Reload(daemons.TestCase):
    def reload(self, daemon, **how):
        return daemons.run_daemon("--reload", str(daemon.pid), **how)

    def assert_in_force(self, result):
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_returns_when_the_new_settings_are_in_force(self):
        with daemons.Daemon(config=config_text()) as daemon:
            daemon.fill_in("PORT1")
            for _ in range(10):
                daemon.write_config(config_text(f"{ECHO}, {UPPER}"))
                self.assert_in_force(self.reload(daemon))
                self.assertEqual(daemon.exchange(b"at once", 1), b"AT ONCE")
                daemon.write_config(config_text())
                self.assert_in_force(self.reload(daemon))
                with self.assertRaises(ConnectionRefusedError):
                    daemon.connect(1)

    def test_a_bad_file(self):
        with daemons.Daemon(config=config_text()) as daemon, daemon.connect() as client:
            daemon.write_config(config_text(settings="workers = -1;\nwrong = 1;"))
            result = self.reload(daemon)
            self.assertEqual(result.returncode, BAD_SETTINGS)
            self.assertRegex(result.stderr, rf"(?m)\A{re.escape(daemon.config)}:2: workers = -1.*\n"
                                            rf"{re.escape(daemon.config)}:3: .*wrong.*\n.*not reloaded")
            self.assertEqual(harness.exchange(client, b"as before"), b"as before")
            # The manager shows it until a reload succeeds.
            daemon.notify.wait("STATUS", rf"; not reloaded: {re.escape(daemon.config)}:2: workers = -1")
            daemon.write_config(config_text())
            self.assert_in_force(self.reload(daemon))
            self.assertNotIn("not reloaded", daemon.notify.last("STATUS"))

    def test_more_mistakes_than_an_answer_holds(self):
        with daemons.Daemon(config=config_text()) as daemon:
            daemon.write_config(config_text(settings="\n".join(f"mistake{i} = 1;" for i in range(500))))
            result = self.reload(daemon)
            self.assertEqual(result.returncode, BAD_SETTINGS)
            self.assertIn("mistake0", result.stderr)
            self.assertTrue(result.stderr.endswith("and more; the log has them all\n"))

    def test_an_address_that_is_taken(self):
        with daemons.Daemon(config=config_text()) as daemon, daemons.Daemon() as other:
            daemon.write_config(config_text(f"{ECHO}, {UPPER}".replace("PORT1", str(other.port))))
            result = self.reload(daemon)
            self.assertEqual(result.returncode, CANNOT_LISTEN)
            self.assertIn(f"cannot listen: upper on 127.0.0.1:{other.port}", result.stderr)

    def test_no_descriptors(self):
        with daemons.Daemon(config=config_text(), faults="") as daemon:
            daemon.write_config(config_text(f"{ECHO}, {UPPER}"))
            daemon.faults.arm("socket_inet:EMFILE")
            result = self.reload(daemon)
            self.assertEqual(result.returncode, SYSTEM_ERROR)
            self.assertIn("Too many open files", result.stderr)

    def test_told_to_the_manager(self):
        with daemons.Daemon(config=config_text()) as daemon:
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            for content, count in ((config_text(), 2), (config_text(settings="wrong"), 3)):
                daemon.write_config(content)
                self.reload(daemon)
                daemon.notify.wait("READY", "^1$", count)
            self.assertEqual(daemon.notify.values("RELOADING"), ["1", "1"])
            times = [int(text) for text in daemon.notify.values("MONOTONIC_USEC")]
            self.assertTrue(before <= times[0] <= times[1] <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
            # In this order.
            sent = sorted((when, name) for name in ("RELOADING", "READY") for when, _ in daemon.notify.sent(name))
            self.assertEqual([name for _, name in sent], ["READY", "RELOADING", "READY", "RELOADING", "READY"])

    def test_many_at_once(self):
        """Signals that are pending at once are one; everybody who asks gets an answer nevertheless."""
        with daemons.Daemon(config=config_text()) as daemon:
            command = [harness.TCPECHOD, "--reload", str(daemon.pid)]
            askers = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(20)]
            for _ in range(100):
                daemon.send_signal(signal.SIGHUP)
            self.assertEqual([asker.wait(harness.patience(30)) for asker in askers], [0] * len(askers))

    def test_while_it_stops(self):
        with daemons.Daemon(config=config_text(settings="drain_timeout = 60.0;")) as daemon, daemon.connect() as client:
            harness.fill(client)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("stopping")
            result = self.reload(daemon)
            self.assertEqual((result.returncode, result.stderr), (SYSTEM_ERROR, "not reloaded: the daemon is stopping\n"))
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()

    def test_who_asked_is_gone(self):
        with daemons.Daemon(config=config_text(), faults="") as daemon:
            daemon.faults.arm("sendmsg:ECONNREFUSED:1")
            self.assert_in_force(self.reload(daemon))  # asks again
            daemon.wait_log("warning: not reloaded: cannot answer the request: Connection refused")
            daemon.wait_log("notice: reloaded")
            self.assertEqual(daemon.count_log("notice: reloaded"), 1)

    def test_who_asked_leaves_meanwhile(self):
        with daemons.Daemon(config=config_text(), faults="") as daemon:
            daemon.faults.arm("sendmsg:ECONNREFUSED:2")
            asker = subprocess.Popen([harness.TCPECHOD, "--reload", str(daemon.pid)], stdin=subprocess.DEVNULL)
            daemon.wait_log("notice: reloaded")
            daemon.wait_log("warning: reload: cannot answer the request: Connection refused")
            asker.kill()
            asker.wait()

    def test_a_value_of_another_program(self):
        with daemons.Daemon(config=config_text()) as daemon:
            self.assertEqual(ctypes.CDLL(None).sigqueue(daemon.pid, signal.SIGHUP, ctypes.c_void_p(7)), 0)
            daemon.wait_log("notice: reloaded")
            self.assertEqual(daemon.count_log("warning|error"), 0)

    def test_in_another_network(self):
        """The socket for the answer has a name that only one network knows."""
        with contextlib.ExitStack() as stack:
            with harness.network_namespace():
                daemon = stack.enter_context(daemons.Daemon(config=config_text()))
                self.assert_in_force(self.reload(daemon))
            result = self.reload(daemon)
            self.assertEqual(result.returncode, SYSTEM_ERROR)
            self.assertIn(f"process {daemon.pid} is in another network namespace", result.stderr)
            self.assertEqual(daemon.notify.values("RELOADING"), ["1"])  # and it was not asked

    def test_strangers_are_not_heard(self):
        """The name of the socket for the answer is public: anybody may send to it, and it changes nothing."""
        with daemons.Daemon(config=config_text()) as daemon:
            before = self.autobound()
            daemon.send_signal(signal.SIGSTOP)
            asker = subprocess.Popen([harness.TCPECHOD, "--reload", str(daemon.pid)], stdin=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True)
            names = harness.wait_until(lambda: self.autobound() - before, "the socket of who asks")
            with harness.socket.socket(harness.socket.AF_UNIX, harness.socket.SOCK_DGRAM) as stranger:
                stranger.setblocking(False)
                end = time.monotonic() + 1.2
                sent = 0
                while time.monotonic() < end or sent < 2000:
                    for name in names:
                        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                            stranger.sendto(b"taken\n" if sent % 2 else b"69\nnever\n", b"\0" + name)
                    sent += 1
            self.assertIsNone(asker.poll(), "it has given up")
            daemon.send_signal(signal.SIGCONT)
            self.assertEqual(("", 0), (asker.communicate(timeout=harness.patience(30))[1], asker.returncode))
            daemon.write_config(config_text(f"{ECHO}, {UPPER}"))
            self.assert_in_force(self.reload(daemon))
            daemon.wait_log("reloaded .* 2 listeners")
            self.assertEqual(daemon.count_log("notice: reloaded"), 2)

    @staticmethod
    def autobound():
        """The abstract names that the kernel made, of this network."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as lines:
            return {line.split("@")[1].strip().encode() for line in lines if re.search(r" @[0-9a-f]{5}$", line)}

    def test_usage(self):
        for arguments in (("--reload",), ("--reload", "x"), ("--reload", "0"), ("--reload", "-1"), ("--reload", "1.5"),
                          ("--reload", "1", "--test"), ("--reload", "1", "-c", "/x"), ("--reload", "1", "-p", "7"),
                          ("--reload", "1", "-w", "2"), ("--reload", "1", "-L", "info"), ("-R", "1", "more")):
            with self.subTest(arguments):
                result = daemons.run_daemon(*arguments)
                self.assertEqual(result.returncode, USAGE)
                self.assertRegex(result.stderr, r"\Atcpechod: .*; see tcpechod --help\n\Z")

    def test_not_a_daemon(self):
        result = daemons.run_daemon("--reload", str(os.getpid()))
        self.assertEqual(result.returncode, SYSTEM_ERROR)
        self.assertRegex(result.stderr, rf"process {os.getpid()} is '.*' and not tcpechod")


class Watchdog(daemons.TestCase):
    def start(self, seconds=1.0, **how):
        return daemons.Daemon(environment={"WATCHDOG_USEC": str(int(seconds * 1e6))}, **how)

    def test_at_half_the_time(self):
        with self.start(0.4, settings="workers = 3;") as daemon:
            daemon.notify.wait("WATCHDOG", "^1$", 5)
            times = [when for when, _ in daemon.notify.sent("WATCHDOG")]
            self.assertGreater(times[-1] - times[0], 4 * 0.19)

    def test_not_asked_for(self):
        with daemons.Daemon(environment={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}) as daemon:
            time.sleep(0.5)
            self.assertEqual(daemon.notify.values("WATCHDOG"), [])

    def test_cannot_be_read(self):
        with daemons.Daemon(environment={"WATCHDOG_USEC": "soon"}) as daemon:
            daemon.wait_log("warning: no watchdog: .*WATCHDOG_USEC.*Invalid argument")
            self.assertEqual(daemon.exchange(b"x"), b"x")

    def test_stuck(self):
        """Each is named, once, and all is well again if it turns again after all."""
        for thread, name in (("worker-2", "worker 2"), ("main", "the acceptor")):
            with self.subTest(thread), self.start(1.0, settings="workers = 3;", faults="") as daemon:
                daemon.notify.wait("WATCHDOG", "^1$", 2)
                daemon.faults.arm(f"epoll_wait@{thread}:sleep=600000")
                daemon.notify.wait("WATCHDOG", "^trigger$")
                number = daemon.wait_log(rf"error: {name} \(thread (\d+)\) has not responded for [\d.]+ s").group(1)
                with open(f"/proc/{daemon.pid}/task/{number}/comm", encoding="ascii") as comm:
                    self.assertEqual(comm.read().strip(),
                                     thread.replace("main", os.path.basename(harness.TCPECHOD_FAULTS))[:15])
                time.sleep(0.7)
                self.assertEqual(daemon.count_log("has not responded"), 1)
                alive = len(daemon.notify.values("WATCHDOG"))
                daemon.faults.disarm()
                harness.wait_until(lambda: daemon.notify.values("WATCHDOG")[alive:].count("1") >= 2, "signs of life")

    def test_busy_is_not_stuck(self):
        with self.start(2.0, settings="workers = 2;") as daemon:
            with traffic.Traffic(daemon.connect, bulk=4, ping_pong=0, newcomers=0, pause=0) as clients:
                daemon.notify.wait("WATCHDOG", "^1$", 4)
                clients.pass_by()
            self.assertNotIn("trigger", daemon.notify.values("WATCHDOG"))


class LongStop(daemons.TestCase):
    def test_asks_for_more_time(self):
        with daemons.Daemon(settings="drain_timeout = 3.0;") as daemon, daemon.connect() as client:
            harness.fill(client)  # more than it can get rid of
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0)
            self.assertGreaterEqual(len(daemon.notify.values("EXTEND_TIMEOUT_USEC")), 3)
            self.assertTrue(all(int(text) > 5e6 for text in daemon.notify.values("EXTEND_TIMEOUT_USEC")))

    def test_asks_for_none_while_it_serves(self):
        with daemons.Daemon() as daemon:
            self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.notify.wait("STATUS", "1 accepted")
            self.assertEqual(daemon.notify.values("EXTEND_TIMEOUT_USEC"), [])


if __name__ == "__main__":
    harness.main(jobs=4)
