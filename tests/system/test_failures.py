"""A start that fails: `systemctl status tcpechod` alone says why, and what to do."""

import contextlib
import os
import socket

import machine
from machine import harness


@contextlib.contextmanager
def no_ipv6():
    """The network of this thread, which is the machine's, as on a host that has IPv6 switched off."""
    switches = [f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6" for name in ("all", "default", "lo")]
    harness.needs_ipv6()

    def switch(value):
        for path in switches:
            with open(path, "w", encoding="ascii") as file:
                file.write(value)

    switch("1")
    try:
        yield
    finally:
        switch("0")


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

    def test_file_that_the_daemon_may_not_read(self):
        os.chmod(self.machine.path(machine.CONF), 0o600)
        try:
            status = self.status_of_failed_start(78)
        finally:
            os.chmod(self.machine.path(machine.CONF), 0o644)
        self.assert_said(status, r"/etc/tcpechod\.conf: .*Permission denied")

    def test_no_permission_for_the_port(self):
        self.machine.drop_in("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n")
        status = self.status_of_failed_start(69)
        self.assert_said(status, r"echo on \S+:7: Permission denied: a port under 1024 needs CAP_NET_BIND_SERVICE "
                                 r"\(root, or systemd's AmbientCapabilities=\), or choose a port from 1024 on")

    def test_address_that_no_interface_has(self):
        self.machine.write(machine.CONF, 'listeners = ( { address = "192.0.2.1"; port = 7; } );\n')
        self.assert_said(self.status_of_failed_start(69),
                         r"echo on 192\.0\.2\.1:7: .*no interface of this host has this address \('ip address' lists them\)")

    def test_without_ipv6_it_serves_ipv4_and_says_so(self):
        with no_ipv6():
            self.machine.systemctl("start", "tcpechod")
            self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
            self.assertRegex(self.machine.status(), r"(?m)tcpechod\[\d+\]: .*no IPv6")
            self.machine.systemctl("stop", "tcpechod")

    def test_without_ipv6_an_ipv6_address_alone_cannot_be_had(self):
        self.machine.write(machine.CONF, 'listeners = ( { address = "2001:db8::1"; port = 7; } );\n')
        with no_ipv6():
            status = self.status_of_failed_start(69)
        self.assertRegex(status, r"(?m)^ *Status: .*\[2001:db8::1\]:7: ")

    def test_descriptor_limit_that_leaves_no_room(self):
        # A shortage may pass, so systemd tries again before it gives up.
        self.machine.drop_in("[Unit]\nStartLimitBurst=3\n[Service]\nLimitNOFILE=24\n")
        self.assertNotEqual(self.machine.systemctl("start", "tcpechod", check=False).returncode, 0)
        harness.wait_until(lambda: self.machine.show("ActiveState") == "failed", self.machine.status)
        self.assertEqual(self.machine.show("ExecMainStatus"), "71")
        self.assertRegex(self.machine.status(), r"(?m)^ *Status: .*descriptor limit .*LimitNOFILE=")

    def test_descriptor_limit_below_what_is_asked_for(self):
        self.machine.drop_in("[Service]\nLimitNOFILE=100\n")
        self.machine.write(machine.CONF, "max_connections = 5000;\n")
        self.machine.systemctl("start", "tcpechod")
        self.assertRegex(self.machine.status(), r"(?m)tcpechod\[\d+\]: .*5000.*LimitNOFILE=")

    def test_command_line_is_wrong(self):
        self.machine.drop_in("[Service]\nExecStart=\nExecStart=/usr/sbin/tcpechod --prot 7\n")
        status = self.status_of_failed_start(64)
        self.assertRegex(status, r"(?m)tcpechod\[\d+\]: .*--prot.*tcpechod --help")


if __name__ == "__main__":
    harness.main()
