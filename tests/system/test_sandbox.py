"""The sandbox of the units: what systemd-analyze says of it, and that nothing of the daemon breaks on it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import filters
import machine
from machine import daemons, harness

EXAMPLES = "/usr/share/doc/tcpechod/examples/"
INTEGRATION = os.path.join(harness.ROOT, "tests", "integration")


class Analyze(machine.TestCase):
    def exposure(self):
        output = self.machine.run("systemd-analyze", "security", "--no-pager", "tcpechod.service").stdout
        return float(re.search(r"Overall exposure level for tcpechod\.service: ([\d.]+)", output).group(1))

    def test_exposure_of_the_service(self):
        self.assertLessEqual(self.exposure(), 1.4)

    def test_exposure_of_the_variant_whose_sockets_are_passed(self):
        self.machine.drop_in(self.machine.read(EXAMPLES + "sockets-only.conf"))
        self.assertLessEqual(self.exposure(), 0.3)

    def test_units_are_without_a_fault(self):
        for name in ("tcpechod.service", "tcpechod.socket", "tcpechod-retry.timer"):
            output = self.machine.run("systemd-analyze", "verify", "--recursive-errors=no", "--man=yes", name).stdout
            self.assertEqual(output, "")

    def test_variants_are_without_a_fault(self):
        for name in ("sockets-only.conf", "container.conf"):
            self.machine.drop_in(self.machine.read(EXAMPLES + name))
            output = self.machine.run("systemd-analyze", "verify", "--recursive-errors=no", "tcpechod.service").stdout
            self.assertEqual(output, "", name)


class Sandbox(machine.TestCase):
    def namespace(self, pid, name):
        return os.readlink(f"/proc/{pid}/ns/{name}")

    def test_service_has_one_capability_and_cannot_write(self):
        self.machine.systemctl("start", "tcpechod")
        with open(f"/proc/{self.machine.main_pid()}/status", encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
        self.assertEqual({fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0000000000000400"})
        self.assertEqual(fields["NoNewPrivs"], "1")
        self.assertEqual(fields["Seccomp"], "2")

    def test_container_variant_asks_for_nothing_that_a_container_may_forbid(self):
        self.machine.drop_in(self.machine.read(EXAMPLES + "container.conf"), name="container.conf")
        self.machine.systemctl("start", "tcpechod")
        pid = self.machine.main_pid()
        for name in ("mnt", "net", "user", "ipc", "uts", "pid", "cgroup"):
            self.assertEqual(self.namespace(pid, name), self.namespace(self.machine.leader, name))
        self.assertEqual(filters.count(pid), filters.count(self.machine.leader))
        self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
        self.machine.systemctl("reload", "tcpechod")
        self.machine.systemctl("restart", "tcpechod")
        self.assertEqual(self.machine.exchange(7, b"hi\n", "::1"), b"hi\n")


class Filter(machine.TestCase):
    """The tests of tests/integration, with a daemon under the very filters that the service has: its system calls, its
    address families, and what else systemd filters for it."""

    # Together these make every call that the others make, as trace-calls tells. The long ones first.
    TESTS = ("faults", "settings", "reload", "manager", "whoami")

    def setUp(self):
        super().setUp()
        harness.needs_unsanitized("the system call filter")
        self.directory = tempfile.mkdtemp(prefix="tcpechod-filter-")
        self.addCleanup(shutil.rmtree, self.directory)
        # Some tests start the daemon as another user.
        os.chmod(self.directory, 0o755)
        self.addCleanup(os.environ.pop, "TCPECHOD_FILTERED", None)
        count = filters.save(self.machine, self.directory)
        self.assertGreater(count, 10)
        self.count = filters.count("self") + count

    def filtered(self, executable):
        return filters.filtered(self.directory, executable)

    def test_filter_is_in_force(self):
        with daemons.Daemon(executable=self.filtered(harness.TCPECHOD)) as daemon:
            self.assertEqual(filters.count(daemon.pid), self.count)
            self.assertEqual(daemon.exchange(b"hi\n"), b"hi\n")
        # And does something: the daemon may not change its scheduling policy.
        arguments = ["--batch", "0", "true"]
        for command, is_allowed in (shutil.which("chrt"), True), (self.filtered(shutil.which("chrt")), False):
            result = subprocess.run([command, *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True)
            self.assertEqual(result.returncode == 0, is_allowed, result.stderr)

    def test_suite_passes_under_it(self):
        environment = dict(os.environ, TCPECHOD=self.filtered(harness.TCPECHOD), TCPECHOD_SANITIZED="0",
                           TCPECHOD_FAULTS=self.filtered(harness.TCPECHOD_FAULTS), PYTHONDONTWRITEBYTECODE="1")
        for name in self.TESTS:
            result = subprocess.run(
                ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, os.path.join(INTEGRATION, f"test_{name}.py")],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False)
            self.check(name, result.returncode, result.stdout)

    def check(self, name, status, output):
        with self.subTest(suite=name):
            passed = len(re.findall(r"(?m)^ok - (?!.* # SKIP)", output))
            print(f"# {name}: {passed} passed", flush=True)
            self.assertEqual(status, 0, "".join(line for line in output.splitlines(True) if not line.startswith("ok")))
            self.assertGreater(passed, 0)


if __name__ == "__main__":
    harness.main()
