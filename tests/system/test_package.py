"""The package's way: install, upgrade, remove, purge. Each test has a machine of its own, and each of its parts goes on from
the one before."""

import os
import re

import machine
from machine import harness

# What dpkg, apt and the triggers of other packages keep for themselves.
NOT_OURS = re.compile(
    r"/var/lib/dpkg|/var/lib/apt|/var/cache/(apt|man|debconf|ldconfig)|/var/log|/var/lib/systemd/(catalog|linger)|/run|/tmp|/var/tmp"
    r"|/etc/\.pwd\.lock|/etc/(passwd|shadow|group|gshadow)-?|/etc/sub[ug]id-?"
    # The directories in which a unit is enabled stay when it goes.
    r"|/etc/systemd/system/[^/]+\.wants")


class Package(harness.TestCase):
    def setUp(self):
        super().setUp()
        machine.needs_all()
        self.built = machine.package()
        self.machine = machine.Machine()
        self.addCleanup(self.machine.close)
        self.enterContext(self.machine.inside_network())

    def left_behind(self, before):
        """Files that were not there, or were not as they are. Of the host's directories those are above in which there
        was something to write."""
        after = self.machine.written()
        return sorted(path for path in set(before) | set(after) if before.get(path) != after.get(path)
                      and not re.match(rf"({NOT_OURS.pattern})(/|$)", path) and not os.path.isdir(path))

    def accounts(self):
        return {database: self.machine.run("getent", database).stdout for database in ("passwd", "group")}

    def units(self):
        return [name for name in self.machine.systemctl("list-units", "--all", "--plain", "--no-legend", "tcpechod*").stdout
                .split() if name.startswith("tcpechod")]

    def apt_get(self, command):
        self.machine.run("apt-get", command, "--yes", "tcpechod", timeout=120)

    def assert_answers(self, port=7):
        self.assertEqual(self.machine.exchange(port, b"hi\n"), b"hi\n")

    def test_install_remove_and_purge(self):
        files, accounts = self.machine.written(), self.accounts()
        self.machine.install(self.built)
        with self.subTest("install starts a service that answers"):
            self.assertEqual(self.machine.show("ActiveState"), "active", self.machine.status())
            self.assert_answers()
            self.assertEqual(self.machine.run("tcpecho", "--expect", "echo", "localhost", "7", stdin="hi\n").stdout, "hi\n")
            self.assertEqual(self.machine.systemctl("is-enabled", "tcpechod.service").stdout.strip(), "enabled")
            self.assertEqual(self.machine.systemctl("is-enabled", "tcpechod.socket", check=False).stdout.strip(),
                             "disabled")
        with self.subTest("manuals are read with man"):
            for name in os.listdir(os.path.join(harness.ROOT, "man")):
                name = name[:-2]
                page = self.machine.run("sh", "-c", f"MANWIDTH=100 MANPAGER=cat man {name} | col -b").stdout
                self.assertRegex(page, rf"(?m)^NAME\n\s+{re.escape(name)}\b", name)
        with self.subTest("the socket unit has the installed listeners' addresses, so that one can change to it"):
            self.machine.systemctl("stop", "tcpechod.service")
            self.machine.systemctl("start", "tcpechod.socket")
            self.assert_answers()

        # A socket that is there as long as nobody removes it.
        self.machine.systemctl("stop", "tcpechod.socket", "tcpechod.service")
        self.machine.drop_in("[Socket]\nListenStream=\nListenStream=/run/tcpechod/echo.sock\n", "tcpechod.socket")
        self.machine.systemctl("start", "tcpechod.socket")
        self.machine.systemctl("stop", "tcpechod.socket")
        self.machine.run("rm", "-r", "/etc/systemd/system/tcpechod.socket.d")
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("start", "tcpechod.socket", "tcpechod.service")
        self.assertNotEqual(self.accounts(), accounts)
        self.machine.write(machine.CONF, self.machine.read(machine.CONF) + "# edited\n")
        self.apt_get("remove")
        with self.subTest("remove keeps the settings"):
            self.assertTrue(self.machine.read(machine.CONF).endswith("# edited\n"))
            with self.assertRaises(ConnectionRefusedError):
                self.machine.connect(7)
            self.assertEqual(self.machine.processes("tcpechod"), [])
            self.assertTrue(os.path.exists(self.machine.path("/run/tcpechod/echo.sock")))
        self.apt_get("purge")
        with self.subTest("purge leaves nothing"):
            self.assertEqual(self.left_behind(files), [])
            self.assertFalse(os.path.exists(self.machine.path("/run/tcpechod")))
            self.assertEqual(self.accounts(), accounts)
            self.machine.systemctl("reset-failed")
            self.assertEqual(self.units(), [])
            self.assertEqual(self.machine.run("dpkg-query", "--show", "tcpechod", check=False).returncode, 1)
            self.assertEqual(self.machine.journalctl("-x", "-u", "tcpechod").count("Subject: tcpechod"), 0)
        with self.subTest("remove leaves no empty directory"):
            self.machine.install(self.built)
            self.apt_get("remove")
            self.assertFalse(os.path.exists(self.machine.path("/run/tcpechod")))

    def test_upgrade(self):
        self.machine.run("rm", "-f", "/var/lib/man-db/auto-update")  # which takes its time
        self.machine.install(self.built)
        with self.subTest("with the socket it refuses nobody"):
            self.machine.systemctl("stop", "tcpechod.service")
            self.machine.systemctl("start", "tcpechod.socket")
            newer = machine.package("9:9.9")
            with machine.Newcomers(7, "127.0.0.1") as newcomers:
                harness.wait_until(lambda: newcomers.served > 5 or newcomers.failures, "clients that are served")
                self.machine.install(newer)
            self.assertEqual(newcomers.failures, [])
            self.assertEqual(self.machine.show("ActiveState"), "active")
        with self.subTest("it takes the new settings file where the old was not edited"):
            self.assertTrue(self.machine.read(machine.CONF).endswith("# As of 9:9.9.\n"))
            self.assert_answers()

        self.machine.systemctl("stop", "tcpechod.socket")
        edited = self.machine.read(machine.CONF).replace("port = 7;", "port = 7777;", 1)
        self.machine.write(machine.CONF, edited)
        self.machine.systemctl("restart", "tcpechod")
        old = self.machine.show("MainPID")
        # As an administrator without a terminal is asked nothing: an edited file stays unless one says otherwise.
        keep = ("-o", "Dpkg::Options::=--force-confold")
        with self.subTest("it keeps edited settings and restarts the daemon"):
            self.machine.install(machine.package("9:9.10"), *keep)
            self.assertEqual(self.machine.run("dpkg-query", "--show", "--showformat=${Version}", "tcpechod").stdout,
                             "9:9.10")
            self.assertEqual(self.machine.read(machine.CONF), edited)
            self.assert_answers(7777)
            self.assertNotEqual(self.machine.show("MainPID"), old)
            self.assertEqual(self.machine.show("ActiveState"), "active")
        with self.subTest("it leaves a stopped service stopped"):
            self.machine.systemctl("disable", "--now", "tcpechod")
            self.machine.install(machine.package("9:9.11"), *keep)
            self.assertEqual(self.machine.systemctl("is-enabled", "tcpechod.service", check=False).stdout.strip(),
                             "disabled")


if __name__ == "__main__":
    harness.main(jobs=2)
