"""The daemon in a container: as its process 1, and with the CPUs that it may use."""

import os
import signal
import unittest

import harness

# Its process 1 is the daemon, which a shell has executed that leaves children.
SHELL = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")


def children(pid):
    """The process IDs of the children of a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += file.read().split()
    return found


class ProcessOne(harness.TestCase):
    def setUp(self):
        harness.needs_root()
        harness.needs("unshare")
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            raise unittest.SkipTest("this kernel does not list children (CONFIG_PROC_CHILDREN)")

    def start(self, script):
        return harness.Daemon(wrapper=SHELL + (f'{script}\nexec "$@"', "sh"))

    def pid_in(self, daemon):
        (pid,) = children(daemon.pid)
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            self.assertRegex(file.read(), r"(?m)^NSpid:.*\t1$")
        return int(pid)

    def end(self, daemon, pid, number):
        os.kill(pid, number)
        self.assertEqual(daemon.wait(), 0)  # unshare's, which has the daemon's

    def assert_no_children(self, pid):
        harness.wait_until(lambda: not children(pid), lambda: f"no children of {pid}: {children(pid)}")

    def test_children_of_others_do_not_stay_zombies(self):
        # Orphans of which some end before the daemon is ready, and some after.
        with self.start("for i in 1 2 3; do (sleep 0 &); (sleep 0.$i &); done; (sleep 1.5 &)") as daemon:
            pid = self.pid_in(daemon)
            self.assert_no_children(pid)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.end(daemon, pid, signal.SIGTERM)

    def test_stops_as_any_daemon(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number), self.start(":") as daemon:
                self.end(daemon, self.pid_in(daemon), number)

    def test_without_a_container(self):
        """A child of the shell, which the daemon has from it."""
        wrapper = ("sh", "-c", 'sleep 0 & sleep 0.5 &\nexec "$@"', "sh")
        with harness.Daemon(wrapper=wrapper) as daemon:
            self.assert_no_children(daemon.pid)


if __name__ == "__main__":
    harness.main()
