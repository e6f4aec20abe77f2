"""What an administrator does with tcpechod.service: start, status, reload, stop."""

import os
import re
import socket
import threading
import time

import machine
import traffic
from machine import harness

LISTENERS = """listeners = (
  { address = "127.0.0.1"; port = 7; service = "echo"; }%s
);
"""

PORTS = tuple((address, port, answer) for port, answer in ((7, b"hi\n"), (7007, b"hi\n"), (7008, b"HI\n"))
              for address in ("127.0.0.1", "::1"))


class Start(machine.TestCase):
    def test_start_returns_when_every_port_answers(self):
        for _ in range(4):
            self.machine.systemctl("start", "tcpechod")
            for address, port, answer in PORTS:
                self.assertEqual(self.machine.exchange(port, b"hi\n", address), answer)
            self.machine.systemctl("stop", "tcpechod")

    def test_netcat_in_the_machine_gets_its_answer(self):
        self.machine.systemctl("start", "tcpechod")
        # Without -N, as people type it, nc goes on until it is told to stop.
        self.assertEqual(self.machine.run("sh", "-c", "echo hi | timeout 1 nc 127.0.0.1 7", check=False).stdout, "hi\n")
        self.assertEqual(self.machine.run("sh", "-c", "echo hi | nc -N ::1 7008").stdout, "HI\n")

    def test_the_client_finds_the_daemon_by_itself(self):
        self.machine.systemctl("start", "tcpechod")
        self.assertEqual(self.machine.run("sh", "-c", "echo hi | tcpecho localhost").stdout, "hi\n")

    def test_runs_as_its_own_user(self):
        self.machine.systemctl("start", "tcpechod")
        pid = self.machine.main_pid()
        self.assertEqual(self.machine.processes("tcpechod"), [pid])
        user = self.machine.run("getent", "passwd", str(os.stat(f"/proc/{pid}").st_uid)).stdout
        self.assertEqual(user.split(":")[0], "_tcpechod")

    def test_status_shows_what_goes_on(self):
        self.machine.systemctl("start", "tcpechod")
        clients = [self.machine.connect(7) for _ in range(3)]
        self.assertEqual(self.machine.exchange(7, b"hello"), b"hello")
        harness.wait_until(lambda: re.search(r"^ *Status: .*\b3 connections", self.machine.status(), re.MULTILINE),
                           lambda: f"3 connections in the status:\n{self.machine.status()}")
        for client in clients:
            client.close()
        harness.wait_until(lambda: re.search(r"^ *Status: .*\b0 connections", self.machine.status(), re.MULTILINE),
                           lambda: f"no connections in the status:\n{self.machine.status()}")

    def test_is_started_again_after_a_crash(self):
        self.machine.systemctl("start", "tcpechod")
        self.machine.systemctl("kill", "--kill-whom=main", "--signal=SEGV", "tcpechod")
        harness.wait_until(lambda: self.machine.show("NRestarts") == "1" and self.machine.show("ActiveState") == "active",
                           lambda: self.machine.status())
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")

    def test_a_unix_socket_has_its_place(self):
        self.machine.write(machine.CONF, LISTENERS % ', { path = "/run/tcpechod/echo.sock"; mode = "0666"; }')
        self.machine.systemctl("start", "tcpechod")
        self.assertEqual(self.machine.exchange_path("/run/tcpechod/echo.sock", b"hi\n"), b"hi\n")
        self.machine.systemctl("stop", "tcpechod")
        self.assertEqual(self.machine.run("ls", "/run/tcpechod").stdout, "")


class Reload(machine.TestCase):
    def setUp(self):
        super().setUp()
        self.machine.systemctl("start", "tcpechod")
        self.pid = self.machine.show("MainPID")

    def test_returns_when_the_settings_are_in_force(self):
        with self.machine.connect(7) as old:
            for port in range(8001, 8006):
                self.machine.write(machine.CONF,
                                   LISTENERS % f', {{ address = "127.0.0.1"; port = {port}; service = "upper"; }}')
                self.machine.systemctl("reload", "tcpechod")
                self.assertEqual(self.machine.exchange(port, b"hi\n"), b"HI\n")
                with self.assertRaises(ConnectionRefusedError):
                    self.machine.connect(port - 1)
            self.assertEqual(harness.exchange(old, b"still here"), b"still here")
        self.assertEqual(self.machine.show("MainPID"), self.pid)

    def test_fails_with_file_and_line_and_changes_nothing(self):
        with self.machine.connect(7) as old:
            self.machine.write(machine.CONF, 'workers = 2;\nidle_timout = 4;\n')
            result = self.machine.systemctl("reload", "tcpechod", check=False)
            self.assertNotEqual(result.returncode, 0)
            status = self.machine.status()
            mistake = r'/etc/tcpechod\.conf:2: unknown setting "idle_timout"; did you mean "idle_timeout"\?'
            self.assertRegex(status, r"(?m)^ *Status: .*" + mistake)
            self.assertRegex(status, r"(?m)^ *Active: active \(running\)")
            self.assertTrue([entry for entry in self.machine.journal(f"MESSAGE_ID={machine.MISTAKE}")
                             if re.search(mistake, entry["MESSAGE"])])
            self.assertEqual(harness.exchange(old, b"still here"), b"still here")
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
        self.assertEqual(self.machine.show("MainPID"), self.pid)

        self.machine.write(machine.CONF, LISTENERS % "")
        self.machine.systemctl("reload", "tcpechod")
        self.assertNotIn("idle_timout", self.machine.show("StatusText"))

    def test_fails_for_an_address_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 8001)):
            self.machine.write(machine.CONF, LISTENERS % ', { address = "127.0.0.1"; port = 8001; }')
            self.assertNotEqual(self.machine.systemctl("reload", "tcpechod", check=False).returncode, 0)
            self.assertRegex(self.machine.status(), r"(?m)^ *Status: .*127\.0\.0\.1:8001")
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
        self.machine.systemctl("reload", "tcpechod")
        self.assertEqual(self.machine.exchange(8001, b"hi\n"), b"hi\n")

    def test_two_at_a_time_both_end(self):
        reloads = [self.machine.start("systemctl", "reload", "tcpechod") for _ in range(2)]
        for reload in reloads:
            self.assertEqual(reload.wait(harness.patience()), 0)
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")


class Stop(machine.TestCase):
    def start_with(self, settings):
        self.machine.write(machine.CONF, LISTENERS % "" + settings)
        self.machine.systemctl("start", "tcpechod")

    def test_may_take_longer_than_systemd_waits_for_others(self):
        self.machine.drop_in("[Service]\nTimeoutStopSec=1\n")
        self.start_with("drain_timeout = 3.0;\nwrite_timeout = 3600.0;\n")
        client, _ = self.machine.client_that_does_not_read(7)
        with client:
            start = time.monotonic()
            self.machine.systemctl("stop", "tcpechod")
            spent = time.monotonic() - start
        self.assertGreater(spent, 2.5)
        self.assertEqual(self.machine.show("Result"), "success")
        self.assertEqual(self.machine.show("ExecMainStatus"), "0")

    def test_gives_a_slow_client_its_answers(self):
        self.machine.drop_in("[Service]\nTimeoutStopSec=1\n")
        self.start_with("drain_timeout = 20.0;\n")
        client, sent = self.machine.client_that_does_not_read(7)
        with client:
            stopped = threading.Thread(target=self.machine.systemctl, args=("stop", "tcpechod"))
            stopped.start()
            answer = traffic.read_slowly(client, 2) + harness.receive_all(client)
            stopped.join(harness.patience())
        # What was in the daemon's hands when the stop came is answered; what it had not read is not.
        harness.assert_same(bytes(answer), traffic.expected_part(0, len(answer)))
        self.assertGreater(len(answer), 100000)
        self.assertLessEqual(len(answer), sent)
        self.assertEqual(self.machine.show("Result"), "success")


if __name__ == "__main__":
    harness.main(jobs=2)
