"""The paths of Unix sockets: one daemon serves one path, and whoever else may write to the directory cannot make the daemon
change or remove what is not its own."""

import contextlib
import os
import signal
import socket
import stat
import struct
import tempfile
import unittest

import daemons
import harness
from daemons import CANNOT_LISTEN, LOG

NEVER = "sleep=600000"  # until the test has other rules


class TestCase(daemons.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpechod-test-"))
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, "echo")

    def listener(self, mode="0600"):
        return daemons.listener(path=self.path, mode=mode)

    def daemon(self, **how):
        return self.stack.enter_context(daemons.Daemon(self.listener(), LOG, **how))

    def leave_stale_socket(self):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(self.path)

    def assert_serves(self, data=b"hello"):
        self.assertEqual(harness.exchange_path(self.path, data), data)

    def mode(self, path):
        return oct(stat.S_IMODE(os.lstat(path).st_mode))


class Mode(TestCase):
    """The path is swapped for a link to a file of root between any two steps of the daemon."""

    def setUp(self):
        super().setUp()
        self.victim = os.path.join(self.directory, "victim")
        with open(self.victim, "w", encoding="ascii"):
            os.chmod(self.victim, 0o600)

    def swap(self):
        os.symlink(self.victim, self.path + ".new")
        os.rename(self.path + ".new", self.path)

    def is_socket(self):
        try:
            return stat.S_ISSOCK(os.lstat(self.path).st_mode)
        except FileNotFoundError:
            return False

    def test_swapped_at_a_start(self):
        for call in ("lstat", "chmod", "listen"):
            with self.subTest(call), \
                    daemons.Daemon(self.listener("0666"), LOG, faults=f"{call}:sleep=300", ready=False) as daemon:
                harness.wait_until(self.is_socket, "the socket")
                self.swap()
                daemon.faults.disarm()
                daemon.wait_started()
                self.assertEqual(self.mode(self.victim), "0o600")
                self.assertTrue(os.path.islink(self.path))
                daemon.kill()
                os.unlink(self.path)

    def test_swapped_at_a_reload(self):
        for call in ("lstat", "chmod", "listen"):
            with self.subTest(call), daemons.Daemon(self.listener(), LOG, faults="") as daemon:
                daemon.write_config(f"listeners = ( {self.listener('0666')} ); {LOG}")
                daemon.faults.arm(f"{call}:{NEVER}")
                daemon.send_signal(signal.SIGHUP)
                daemon.faults.wait_hits()
                self.swap()
                daemon.faults.disarm()
                daemon.wait_log("reloaded")
                self.assertEqual(self.mode(self.victim), "0o600")
                daemon.kill()
                os.unlink(self.path)

    def test_changed_by_a_reload(self):
        daemon = self.daemon(wrapper=["sh", "-c", 'umask 077; exec "$@"', "sh"])
        self.assertEqual(self.mode(self.path), "0o600")
        inode = os.lstat(self.path).st_ino
        self.reload(daemon, daemons.config_text(self.listener("0666"), LOG))
        self.assertEqual((self.mode(self.path), os.lstat(self.path).st_ino), ("0o666", inode))
        self.assertEqual(daemon.count_log("warning"), 0)
        self.assert_serves()

    def test_a_reload_without_proc(self):
        """Then the mode stays, and the log says what it takes."""
        harness.needs_root()
        harness.needs_unsanitized("a host without /proc")  # the leak sanitizer reads it
        wrapper = [harness.needs("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh"]
        daemon = self.daemon(wrapper=wrapper)
        self.reload(daemon, daemons.config_text(self.listener("0666"), LOG))
        daemon.wait_log(r"warning: .*/echo: cannot change the mode: .*/proc")
        self.assertEqual(self.mode(self.path), "0o600")

    def test_a_directory_with_a_default_acl(self):
        """bind(2) leaves the umask out there, and takes the list's mask."""
        entries = ((0x01, 6), (0x04, 4), (0x20, 0))  # the owner, the group, the others: acl(5)
        default = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries)
        try:
            os.setxattr(self.directory, "system.posix_acl_default", default)
        except OSError as error:
            raise unittest.SkipTest(f"no access control lists here ({error.strerror})") from None
        with daemons.Daemon(self.listener("0666"), LOG):
            self.assertEqual(self.mode(self.path), "0o666")


class OneServer(TestCase):
    def start_many(self, count, faults):
        started = [self.stack.enter_context(daemons.Daemon(self.listener(), LOG, faults=faults, ready=False))
                   for _ in range(count)]
        for daemon in started:
            daemon.wait_started()
        return started

    def check_round(self, count, faults=None):
        """Exactly one is ready and serves the path; the others say why they are not."""
        started = self.start_many(count, faults)
        ready = [daemon for daemon in started if daemon.notify.values("READY")]
        for daemon in started:
            if daemon in ready:
                continue
            self.assertEqual(daemon.wait(), CANNOT_LISTEN, daemon.log())
            self.assertRegex(daemon.log(), f"cannot listen: echo on {self.path}: Address already in use: "
                                           "another process serves this path")
        self.assertEqual(len(ready), 1)
        self.assert_serves()
        self.assertEqual(os.listdir(self.directory), ["echo"])
        ready[0].stop()
        self.assertEqual(os.listdir(self.directory), [])

    def test_many_start_at_one_stale_path(self):
        for _ in range(harness.scale(8, 3)):
            self.leave_stale_socket()
            self.check_round(6)

    def test_many_start_and_each_step_takes_long(self):
        for calls in (("unlink",), ("listen",), ("unlink", "listen"), ("connect", "bind"), ("bind",)):
            with self.subTest(calls):
                self.leave_stale_socket()
                self.check_round(4, ",".join(f"{call}@main:sleep=50" for call in calls))

    def test_many_start_at_a_free_path(self):
        for calls in ((), ("listen",)):
            with self.subTest(calls):
                self.check_round(4, ",".join(f"{call}@main:sleep=50" for call in calls))

    def test_a_stop_and_a_start_at_once(self):
        """The one that stops has seen its own socket there, and is about to remove it."""
        first = self.daemon(faults="")
        first.faults.arm("unlink:sleep=1000:1")
        first.send_signal(signal.SIGTERM)
        first.faults.wait_hits()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        second = self.daemon()
        self.assertEqual(first.wait(), 0)
        self.assert_serves()
        second.stop()
        self.assertEqual(os.listdir(self.directory), [])

    def test_restarts_without_a_pause(self):
        """One stops while the next starts: whoever is ready serves the path until its own end."""
        daemon = self.daemon()
        for _ in range(harness.scale(10, 3)):
            daemon.send_signal(signal.SIGTERM)
            while True:
                following = self.stack.enter_context(daemons.Daemon(self.listener(), LOG, ready=False))
                if following.wait_started():
                    break
                self.assertEqual(following.wait(), CANNOT_LISTEN)
            self.assertEqual(daemon.wait(), 0)
            self.assert_serves()
            daemon = following

    def test_a_crash_under_the_lock(self):
        with daemons.Daemon(self.listener(), LOG, faults=f"listen:{NEVER}", ready=False) as daemon:
            daemon.faults.wait_hits()
            daemon.kill()
        self.assertEqual(sorted(os.listdir(self.directory)), ["echo", "echo.tcpechod-lock"])
        self.daemon()
        self.assert_serves()
        self.assertEqual(os.listdir(self.directory), ["echo"])

    def test_the_longest_path(self):
        self.path += "x" * (107 - len(self.path))
        self.leave_stale_socket()
        self.daemon().stop()
        self.assertEqual(os.listdir(self.directory), [])

    def test_a_reload_opens_a_path_that_was_taken(self):
        """Another daemon has it by now: the settings in force stay, and the other keeps its socket."""
        first = self.daemon()
        os.unlink(self.path)
        second = self.daemon()
        first.send_signal(signal.SIGHUP)
        first.wait_log("cannot listen: .*another process serves this path")
        first.wait_log("not reloaded")
        first.stop()
        self.assert_serves()
        second.stop()


if __name__ == "__main__":
    harness.main(jobs=4)
