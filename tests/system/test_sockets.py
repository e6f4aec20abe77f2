"""tcpechod.socket: the first client starts the daemon, and a restart refuses nobody."""

import contextlib
import time

import machine
from machine import harness

# systemd's "A start job for unit ... has begun execution".
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
SOCKETS_ONLY = "/usr/share/doc/tcpechod/examples/sockets-only.conf"


class Activation(machine.TestCase):
    def socket_unit(self, *lines):
        """The socket unit with these listening lines instead of its own."""
        self.machine.drop_in("[Socket]\nListenStream=\n" + "".join(f"{line}\n" for line in lines), "tcpechod.socket")

    def test_first_client_starts_the_daemon(self):
        for address, port, answer in (("127.0.0.1", 7, b"hi\n"), ("::1", 7, b"hi\n"), ("127.0.0.1", 7007, b"hi\n"),
                                      ("::1", 7007, b"hi\n"), ("127.0.0.1", 7008, b"HI\n"), ("::1", 7008, b"HI\n")):
            with self.subTest(address=address, port=port):
                self.machine.systemctl("start", "tcpechod.socket")
                self.assertEqual(self.machine.show("ActiveState"), "inactive")
                self.assertEqual(self.machine.exchange(port, b"hi\n", address), answer)
                self.assertEqual(self.machine.show("ActiveState"), "active")
                self.machine.systemctl("stop", "tcpechod.socket", "tcpechod.service")

    def test_journal_says_that_the_sockets_were_passed(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        self.machine.wait_journal(r"^listening: echo on 127\.0\.0\.1:7, .*tcpechod\.socket")

    def test_restarts_refuse_nobody(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        with contextlib.ExitStack() as stack:
            newcomers = [stack.enter_context(machine.Newcomers(7, address)) for address in ("127.0.0.1", "::1",
                                                                                            "127.0.0.1")]
            for _ in range(5):
                before = [each.served for each in newcomers]
                self.machine.systemctl("restart", "tcpechod.service")
                harness.wait_until(lambda: all(each.served > count or each.failures for each,
                                               count in zip(newcomers, before)),
                                   "clients that are served after a restart")
        self.assertEqual([each.failures for each in newcomers], [[], [], []])

    def test_restarts_carry_connections(self):
        for commands in ("true", "mkdir -p /etc/systemd/system/tcpechod.service.d; "
                                 f"cp {SOCKETS_ONLY} /etc/systemd/system/tcpechod.service.d; systemctl daemon-reload"):
            with self.subTest(commands):
                self.machine.run("sh", "-c", commands)
                self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
                with self.machine.connect(7) as four, self.machine.connect(7008, "::1") as six:
                    for number in range(3):
                        harness.ping(four, b"round %d\n" % number)
                        harness.ping(six, b"round %d\n" % number, b"ROUND %d\n" % number)
                        self.machine.mark()
                        self.machine.systemctl("restart", "tcpechod.service")
                        self.machine.wait_journal("^6 listeners and 2 connections of the process before go on$")
                    harness.ping(four, b"the end\n")
                    harness.ping(six, b"the end\n", b"THE END\n")
                self.machine.systemctl("stop", "tcpechod.socket", "tcpechod.service")

    def test_reload_keeps_the_sockets(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        with machine.Newcomers(7, "127.0.0.1") as newcomers:
            for port in range(8001, 8004):
                text = self.machine.read("/root/tcpechod.conf").replace(
                    "listeners = (", f'listeners = (\n    {{ address = "127.0.0.1"; port = {port}; }},', 1)
                self.machine.write(machine.CONF, text)
                self.machine.systemctl("reload", "tcpechod")
                self.assertEqual(self.machine.exchange(port, b"hi\n"), b"hi\n")
        self.assertEqual(newcomers.failures, [])

    def test_socket_that_no_listener_matches_is_an_error_that_names_both(self):
        self.socket_unit("ListenStream=127.0.0.1:7", "ListenStream=127.0.0.1:4711")
        self.machine.systemctl("start", "tcpechod.socket")
        result = self.machine.systemctl("start", "tcpechod.service", check=False)
        self.assertNotEqual(result.returncode, 0)
        status = self.machine.status()
        self.assertEqual(self.machine.show("ExecMainStatus"), "69", status)
        error = r"127\.0\.0\.1:4711.*tcpechod\.socket.*echo on 127\.0\.0\.1:7\b"
        self.assertRegex(status, r"(?m)^ *Status: .*" + error)
        self.machine.wait_journal(error, f"MESSAGE_ID={machine.CANNOT_LISTEN}")

    def test_reload_that_drops_a_passed_socket_is_refused(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        self.machine.write(machine.CONF, 'listeners = ( { address = "127.0.0.1"; port = 7; } );\n')
        self.assertNotEqual(self.machine.systemctl("reload", "tcpechod", check=False).returncode, 0)
        self.assertRegex(self.machine.status(), r"(?m)^ *Status: .*tcpechod\.socket")
        self.assertEqual(self.machine.exchange(7008, b"hi\n"), b"HI\n")

    def test_unix_socket_is_passed(self):
        self.socket_unit("ListenStream=127.0.0.1:7", "ListenStream=/run/tcpechod-test.sock", "SocketMode=0666",
                         "RemoveOnStop=yes")
        self.machine.write(machine.CONF, 'listeners = ( { address = "127.0.0.1"; port = 7; },\n'
                                         '  { path = "/run/tcpechod-test.sock"; service = "upper"; mode = "0666"; } );\n')
        self.machine.systemctl("start", "tcpechod.socket")
        for _ in range(2):
            self.assertEqual(self.machine.exchange_path("/run/tcpechod-test.sock", b"hi\n"), b"HI\n")
            # The socket unit owns the path: it is there for the next client after a stop of the daemon.
            self.machine.systemctl("stop", "tcpechod.service")

    def test_unix_socket_beside_those_of_the_daemon_outlives_it(self):
        path = "/run/tcpechod/echo.sock"
        self.machine.run("rm", "-rf", "/run/tcpechod")
        self.machine.run("systemd-tmpfiles", "--create", "--boot", "--prefix=/run/tcpechod")  # as in a boot
        self.socket_unit(f"ListenStream={path}", "SocketGroup=daemon", "SocketMode=0660", "RemoveOnStop=yes")
        self.machine.write(machine.CONF,
                           f'listeners = ( {{ path = "{path}"; }}, {{ path = "/run/tcpechod/own.sock"; }} );\n')
        self.machine.systemctl("start", "tcpechod.socket")
        with machine.Newcomers(path, connect=self.machine.connect_path) as newcomers:
            for commands in (("restart",), ("stop", "start"), ("restart",)):
                before = newcomers.served
                for command in commands:
                    self.machine.systemctl(command, "tcpechod.service")
                self.machine.exchange_path("/run/tcpechod/own.sock", b"hi\n")
                harness.wait_until(lambda: newcomers.served > before or newcomers.failures,
                                   "clients that are served after a restart")
        self.assertEqual(newcomers.failures, [])
        # Who may connect is for the socket unit to say.
        self.assertEqual(self.machine.run("stat", "--format=%G %a", path).stdout, "daemon 660\n")

    def test_one_socket_for_both_families(self):
        self.socket_unit("ListenStream=7", "BindIPv6Only=both")
        self.machine.write(machine.CONF, 'listeners = ( { address = "*"; port = 7; } );\n')
        self.machine.systemctl("start", "tcpechod.socket")
        for address in ("127.0.0.1", "::1"):
            self.assertEqual(self.machine.exchange(7, b"hi\n", address), b"hi\n")


class StartInVain(machine.TestCase):
    """A client who waits while the daemon cannot start."""

    def fail(self):
        self.machine.write(machine.CONF, "idle_timout = 3;\n")
        self.machine.systemctl("start", "tcpechod.socket")
        client = self.machine.connect(7)
        self.addCleanup(client.close)
        harness.wait_until(lambda: self.machine.show("ActiveState", "tcpechod.socket") == "failed",
                           lambda: self.machine.status("tcpechod.socket"))

    def mend(self):
        self.machine.write(machine.CONF, self.machine.read("/root/tcpechod.conf"))

    def starts(self):
        return len(self.machine.journal(f"MESSAGE_ID={STARTING}", "_PID=1"))

    def test_ends_soon_says_why_and_what_to_do(self):
        self.fail()
        self.assertRegex(self.machine.status(), r'(?m)^ *Status: .*tcpechod\.conf:1: unknown setting "idle_timout"')
        self.assertIn("trigger-limit-hit", self.machine.status("tcpechod.socket"))
        # More where a start takes so long that the limit's interval passes meanwhile.
        self.assertIn(self.starts(), range(5, 30))
        self.mend()
        advice = "systemctl restart tcpechod.socket"
        self.assertIn(f"`{advice}`", self.machine.read("/usr/lib/systemd/catalog/tcpechod.catalog"))
        time.sleep(2)  # the interval of the limit, which counts on over a restart
        self.machine.run(*advice.split())
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
        self.assertEqual(self.machine.show("ActiveState"), "active")

    def test_is_over_some_time_after_the_cause(self):
        self.machine.drop_in("[Timer]\nOnUnitInactiveSec=\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n",
                             "tcpechod-retry.timer")
        self.fail()
        before = self.starts()
        # The client was refused, so it stays.
        harness.wait_until(lambda: self.machine.show("ActiveState", "tcpechod.socket") == "active",
                           lambda: self.machine.status("tcpechod.socket"))
        self.assertEqual(self.starts(), before)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ConnectionResetError):  # the socket may fail while the client connects
                stack.enter_context(self.machine.connect(7))
            harness.wait_until(lambda: self.machine.show("ActiveState", "tcpechod.socket") == "failed",
                               lambda: self.machine.status("tcpechod.socket"))
        self.mend()

        def is_served():
            with contextlib.suppress(ConnectionError):  # the socket is not back yet, or fails once more for the client before
                return self.machine.exchange(7, b"hi\n") == b"hi\n"
            return False

        harness.wait_until(is_served, lambda: self.machine.status("tcpechod.socket"))

    def test_stop_of_the_sockets_is_for_good(self):
        self.machine.drop_in("[Timer]\nOnUnitInactiveSec=\nOnUnitInactiveSec=500ms\nAccuracySec=100ms\n",
                             "tcpechod-retry.timer")
        self.fail()
        self.machine.systemctl("stop", "tcpechod.socket")
        time.sleep(1.5)
        self.assertNotEqual(self.machine.show("ActiveState", "tcpechod.socket"), "active")


class SocketsOnly(machine.TestCase):
    """The variant without a capability and without a network of its own."""

    def setUp(self):
        super().setUp()
        self.machine.drop_in(self.machine.read(SOCKETS_ONLY), name="sockets-only.conf")

    def test_serves_clients(self):
        self.machine.systemctl("start", "tcpechod.socket")
        data = harness.pattern(1 << 20)
        for address in ("127.0.0.1", "::1"):
            harness.assert_same(self.machine.exchange(7, data, address), data)
            self.assertEqual(self.machine.exchange(7008, b"hi\nend\n", address), b"HI\nEND\n")
        entry = self.machine.wait_journal("closed: end_word", "TCPECHOD_REASON=end_word", count=2)
        self.assertRegex(entry["TCPECHOD_CLIENT"], r"^\[::1\]:\d+$")

    def test_reloads_and_restarts(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        self.machine.systemctl("reload", "tcpechod")
        with machine.Newcomers(7, "127.0.0.1") as newcomers:
            for _ in range(3):
                self.machine.systemctl("restart", "tcpechod")
        self.assertEqual(newcomers.failures, [])
        self.assertGreater(newcomers.served, 0)

    def test_has_no_network_and_no_capability(self):
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        pid = self.machine.show("MainPID")
        self.assertNotEqual(self.machine.run("readlink", f"/proc/{pid}/ns/net").stdout,
                            self.machine.run("readlink", "/proc/self/ns/net").stdout)
        status = self.machine.run("cat", f"/proc/{pid}/status").stdout
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertRegex(status, rf"(?m)^{name}:\s+0+$")

    def test_opens_a_path_of_its_own(self):
        self.machine.write(machine.CONF, self.machine.read("/root/tcpechod.conf").replace(
            "listeners = (", 'listeners = (\n    { path = "/run/tcpechod/own.sock"; service = "upper"; },', 1))
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        self.assertEqual(self.machine.exchange_path("/run/tcpechod/own.sock", b"hi\n"), b"HI\n")

    def test_listener_that_no_socket_serves_is_a_failure_that_says_why(self):
        installed = self.machine.read("/root/tcpechod.conf")
        self.machine.systemctl("start", "tcpechod.socket")
        for address, place in (("127.0.0.1", r"127\.0\.0\.1:9"), ("::1", r"\[::1\]:9"), ("*", r"\*:9")):
            with self.subTest(address=address):
                self.machine.write(machine.CONF, installed.replace(
                    "listeners = (", f'listeners = (\n    {{ address = "{address}"; port = 9; }},', 1))
                self.assertNotEqual(self.machine.systemctl("start", "tcpechod.service", check=False).returncode, 0)
                self.assertEqual(self.machine.show("ExecMainStatus"), "69")
                self.assertRegex(self.machine.status(),
                                 rf"(?m)^ *Status: .*echo on {place}: .*: this service may make no IP "
                                                        r"sockets \(RestrictAddressFamilies=\); have tcpechod\.socket pass "
                                                        r"this one \(ListenStream=\), or take the listener out")


if __name__ == "__main__":
    harness.main(jobs=2)
