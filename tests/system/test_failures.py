"""A start that fails: `systemctl status tcpechod` alone says why, and what to do. One cause for each exit status: which there
are, and what is said of each, is for tests/integration."""

import socket

import machine
from machine import harness


class StartFailures(machine.TestCase):
    def status_of_failed_start(self, exit_status):
        """What systemctl status shows of a service that could not start and is not tried again in vain."""
        result = self.machine.systemctl("start", "tcpechod", check=False)
        self.assertNotEqual(result.returncode, 0)
        status = self.machine.status()
        self.assertRegex(status, r"(?m)^ *Active: failed \(Result: exit-code\)")
        self.assertEqual(self.machine.show("ExecMainStatus"), str(exit_status))
        self.assertEqual(self.machine.show("NRestarts"), "0")
        return status

    def assert_said(self, status, pattern):
        """In the status line, which stays, and whole in the messages below it."""
        self.assertRegex(status, r"(?m)^ *Status: .*" + pattern)
        self.assertRegex(status, r"(?m)^\w{3} \d\d .* tcpechod\[\d+\]: .*" + pattern)

    def test_port_is_taken(self):
        with socket.create_server(("127.0.0.1", 7)):
            status = self.status_of_failed_start(69)
        self.assert_said(status, r"echo on 127\.0\.0\.1:7: Address already in use: another socket has this port, a listener's or "
                                 r"a connection's \('ss -tanp sport = :7' shows it\); end its process, or choose another port")
        self.assertEqual(self.machine.show("StatusErrno"), "98")
        self.machine.systemctl("start", "tcpechod")
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")

    def test_mistakes_in_the_file(self):
        self.machine.write(machine.CONF, 'workers = 010;\nlog = { level = "loud"; };\nidle_timout = 3;\n')
        status = self.status_of_failed_start(78)
        self.assert_said(status, r"/etc/tcpechod\.conf:1: workers = 010: has a leading zero")
        # Every mistake, not only the first.
        self.assertRegex(status, r'tcpechod\.conf:2: log\.level = "loud": must be one of')
        self.assertRegex(status, r'tcpechod\.conf:3: unknown setting "idle_timout"; did you mean "idle_timeout"\?')

    def test_descriptor_limit_that_leaves_no_room(self):
        # A shortage may pass, so systemd tries again before it gives up.
        self.machine.drop_in("[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2\n[Service]\nLimitNOFILE=24\n")
        self.assertNotEqual(self.machine.systemctl("start", "tcpechod", check=False).returncode, 0)
        harness.wait_until(lambda: self.machine.show("ActiveState") == "failed", self.machine.status)
        self.assertEqual(self.machine.show("ExecMainStatus"), "71")
        self.assertRegex(self.machine.status(), r"(?m)^ *Status: .*descriptor limit .*LimitNOFILE=")

    def test_command_line_is_wrong(self):
        self.machine.drop_in("[Service]\nExecStart=\nExecStart=/usr/sbin/tcpechod --prot 7\n")
        status = self.status_of_failed_start(64)
        self.assertRegex(status, r"(?m)tcpechod\[\d+\]: .*--prot.*tcpechod --help")


if __name__ == "__main__":
    harness.main()
