"""The daemon in a container: as its process 1, and with the CPUs that it may use."""

import os
import signal
import unittest

import daemons
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
        return daemons.Daemon(wrapper=SHELL + (f'{script}\nexec "$@"', "sh"))

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
        with self.start("for i in 1 2 3; do (sleep 0 &); (sleep 0.$i &); done; (sleep 0.7 &)") as daemon:
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
        with daemons.Daemon(wrapper=wrapper) as daemon:
            self.assert_no_children(daemon.pid)


class Quota(harness.TestCase):
    """workers = 0 is one for each CPU that the process may use, which its control groups bound."""

    def setUp(self):
        harness.needs_root()
        if len(os.sched_getaffinity(0)) == 1:
            raise unittest.SkipTest("there is one CPU, so a quota cannot make the workers fewer")
        self.group, self.mount = self.own_group()
        self.is_v2 = self.mount[2] == "cgroup2"

    @staticmethod
    def own_group():
        """The directory of this process's control group, in a hierarchy that has quotas, and how that is mounted."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [(line.split(), line.split(" - ")[1].split()) for line in file]
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        for fields, (kind, _, options) in mounts:
            for _, controllers, path in groups:
                directory = os.path.join(fields[4], path.lstrip("/"))
                controllers_mounted = [option for option in options.split(",") if option not in ("rw", "ro")]
                if kind == "cgroup" and "cpu" in controllers_mounted and "cpu" in controllers.split(","):
                    return directory, ("mount", "-t", kind, "-o", ",".join(controllers_mounted), "cgroup", fields[4])
                if kind == "cgroup2" and not controllers and "cpu" in Quota.read(directory, "cgroup.subtree_control").split():
                    return directory, ("mount", "-t", kind, "cgroup", fields[4])
        raise unittest.SkipTest("no control group here whose children have quotas")

    @staticmethod
    def read(*path):
        try:
            with open(os.path.join(*path), encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""

    def make_group(self, parent, quota):
        """A group below it with so many hundredths of a CPU."""
        directory = os.path.join(parent, f"tcpechod-test-{os.getpid()}")
        try:
            os.mkdir(directory)
            self.addCleanup(os.rmdir, directory)
            for name, text in ((("cpu.max", f"{quota * 1000} 100000"),) if self.is_v2 else
                               (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", f"{quota * 1000}"))):
                with open(os.path.join(directory, name), "w", encoding="ascii") as file:
                    file.write(text)
        except OSError as error:
            raise unittest.SkipTest(f"no control group with a quota can be made ({error.strerror})") from None
        return directory

    def workers(self, directory, script='exec "$@"', **how):
        enter = f'echo $$ >"{directory}/cgroup.procs"\n{script}'
        with daemons.Daemon(wrapper=("sh", "-c", enter, "sh"), **how) as daemon:
            return int(daemon.wait_log(r"ready: \d+ listeners?, (\d+) workers?,").group(1))

    def test_half_a_cpu(self):
        self.assertEqual(self.workers(self.make_group(self.group, 50)), 1)

    def test_more_than_there_are(self):
        cpus = len(os.sched_getaffinity(0))
        self.assertEqual(self.workers(self.make_group(self.group, 100 * cpus + 50)), cpus)

    def test_what_is_asked_for_is_made(self):
        self.assertEqual(self.workers(self.make_group(self.group, 50), settings="workers = 3;"), 3)

    def test_in_a_namespace(self):
        """As a container's runtime makes it: the group is the root of its namespace, and mounted as such."""
        harness.needs("unshare")
        group = self.make_group(self.group, 50)
        script = f"exec unshare --cgroup --mount sh -c 'umount -l {self.mount[-1]} && {' '.join(self.mount)} && exec \"$@\"' sh \"$@\""
        self.assertEqual(self.workers(group, script), 1)


if __name__ == "__main__":
    harness.main(jobs=4)
