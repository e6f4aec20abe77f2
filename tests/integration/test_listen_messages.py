"""What is said when an address or a path cannot be had: what has happened, and what to do, both true."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import unittest

import daemons
import harness
from daemons import BAD_SETTINGS, CANNOT_LISTEN, SYSTEM_ERROR, listener

NOBODY, SOMEBODY = 65534, 65533


def ip(*arguments):
    result = subprocess.run([harness.needs("ip"), *arguments], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        raise unittest.SkipTest(f"ip {' '.join(arguments)}: {result.stderr.strip()}")


class TestCase(daemons.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def network(self, **how):
        self.stack.enter_context(harness.network_namespace(**how))


class Addresses(TestCase):
    """In networks of their own."""

    def link(self):
        """test0 and test1, the two ends of a link."""
        self.network()
        ip("link", "add", "test0", "type", "veth", "peer", "name", "test1")
        with open("/proc/sys/net/ipv6/conf/test0/dad_transmits", "w", encoding="ascii") as file:
            file.write("600")
        ip("link", "set", "test1", "up")
        ip("link", "set", "test0", "up")

    def test_a_port_that_a_connection_holds(self):
        """The advice shows it; `ss -ltnp` does not."""
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            port = client.getsockname()[1]
            log = self.assert_fails(CANNOT_LISTEN, r"Address already in use: another socket has this port, a listener's or a connection's",
                                    listeners=listener(port=port))
            command = re.search(r"'(ss [^']*)'", log).group(1).split()
            shown = subprocess.run([harness.needs(command[0]), *command[1:]], check=True, capture_output=True,
                                   text=True).stdout
            self.assertIn(f"127.0.0.1:{port}", shown)

    def test_loopback_without_ipv6(self):
        """`*` serves IPv6 all the same, so it is not the host that has none."""
        self.network()
        with open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")
        with daemons.Daemon(f"{listener(port=7, address='::1')}, {listener(port=8, address='*')}") as daemon:
            daemon.wait_log("notice: the loopback interface has no IPv6: listeners on ::1 are left out$")
            self.assertEqual(daemon.listening(), [("::", 8)])
            self.assertEqual(daemon.count_log("this host"), 0)
        self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on \[::1\]:7: Cannot assign requested address: the loopback interface has no IPv6",
                          listeners=listener(port=7, address="::1"))

    def test_an_address_that_is_tentative(self):
        """So many questions are asked that a long time passes until the address is known to be free."""
        self.link()
        ip("address", "add", "fd00::5/64", "dev", "test0")
        self.assert_fails(CANNOT_LISTEN, r"\[fd00::5\]:7: Cannot assign requested address: test0 has this address, but does not know yet .*tentative",
                          listeners=listener(port=7, address="fd00::5"))

    def test_an_address_that_another_host_has(self):
        """The other end of the link has it first."""
        self.link()
        ip("address", "add", "fd00::5/64", "dev", "test1", "nodad")
        ip("address", "add", "fd00::5/64", "dev", "test0")

        def failed():
            shown = subprocess.run([harness.needs("ip"), "-6", "address", "show", "dev", "test0"], check=True,
                                   capture_output=True,
                                   text=True).stdout
            return "dadfailed" in shown

        with contextlib.suppress(AssertionError):
            harness.wait_until(failed, "a duplicate", 5)
        if not failed():
            raise unittest.SkipTest("the kernel found no duplicate within one network")
        ip("address", "del", "fd00::5/64", "dev", "test1")
        self.assert_fails(CANNOT_LISTEN, r"test0 has this address, but another host on the link has it as well",
                          listeners=listener(port=7, address="fd00::5"))

    def test_an_interface_that_has_another_address(self):
        self.link()
        ip("address", "add", "fe80::5/64", "dev", "test0", "nodad")
        self.assert_fails(CANNOT_LISTEN, r"\[fe80::6%test0\]:7: Cannot assign requested address: this interface does not have this address",
                          listeners=listener(port=7, address="fe80::6%test0"))

    def test_addresses_that_no_client_can_reach(self):
        """Before anything is opened."""
        for address, problem in (("fe80::1", r'a link-local address needs its interface, such as "fe80::1%eth0"'),
                                 ("224.0.0.1", "no TCP client can reach a multicast address"),
                                 ("239.255.255.250", "no TCP client can reach a multicast address"),
                                 ("::ffff:224.0.0.1", "no TCP client can reach a multicast address"),
                                 ("ff02::1", "no TCP client can reach a multicast address"),
                                 ("255.255.255.255", "no TCP client can reach the broadcast address"),
                                 ("fe80::1%nope", r"there is no interface \"nope\""),
                                 ("fd00::1%lo", "only a link-local IPv6 address has an interface")):
            with self.subTest(address), tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
                file.write(f'listeners = ( {{ address = "{address}"; port = 7; }} );\n')
                file.flush()
                result = daemons.run_daemon("--test", "-c", file.name)
                self.assertEqual(result.returncode, BAD_SETTINGS)
                self.assertRegex(result.stderr, rf':1: listener 1: address = "{address}": must be .*; {problem}')

    def test_policies(self):
        for rules, status, message in (
                ("bind:EACCES", CANNOT_LISTEN, "Permission denied: a security policy of this host"),
                ("bind:EPERM", CANNOT_LISTEN,
                 "Operation not permitted: a policy of this service or host .*SocketBindDeny="),
                ("socket_inet@main:ENFILE", SYSTEM_ERROR, "Too many open files in system: the whole system .*fs.file-max"),
                ("bind:ENOBUFS", SYSTEM_ERROR, "No buffer space available: the kernel has no memory"),
                ("bind:ENODEV", CANNOT_LISTEN, "No such device: there is no such interface"),
                ("listen:EIO", CANNOT_LISTEN, "Input/output error: see bind")):
            with self.subTest(rules):
                self.assert_fails(status, rf"cannot listen: echo on 127\.0\.0\.1:\d+: {message}", faults=rules)

    def test_ports_that_need_a_privilege(self):
        """As many as the host says."""
        self.network()
        try:
            with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w", encoding="ascii") as file:
                file.write("2000")
        except OSError as error:
            raise unittest.SkipTest(f"cannot set ip_unprivileged_port_start ({error.strerror})") from None
        executable, wrapper = for_user(self.stack, NOBODY)
        self.assert_fails(CANNOT_LISTEN,
                          r"127\.0\.0\.1:1500: Permission denied: a port under 2000 needs CAP_NET_BIND_SERVICE",
                          listeners=listener(port=1500), executable=executable, wrapper=wrapper)


def for_user(stack, user):
    """The daemon where this user may run it, and a wrapper that gives up root and every capability."""
    harness.needs_root()
    path = stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpechod-test-"))
    os.chmod(path, 0o755)
    wrapper = [harness.needs("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--"]
    return shutil.copy(harness.TCPECHOD, path), wrapper


class Paths(TestCase):
    """In a directory that everybody may write to, with or without the sticky bit."""

    def setUp(self):
        super().setUp()
        self.executable, self.wrapper = for_user(self.stack, NOBODY)
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpechod-test-"))
        os.chmod(self.directory, 0o1777)
        self.path = f"{self.directory}/echo"

    def leave_stale_socket(self, mode, user=SOMEBODY):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(self.path)
        os.chown(self.path, user, user)
        os.chmod(self.path, mode)

    def assert_refused(self, message):
        log = self.assert_fails(CANNOT_LISTEN, f"cannot listen: echo on {self.path}: {message}",
                                listeners=listener(path=self.path),
                                executable=self.executable, wrapper=self.wrapper)
        self.assertEqual(log.count("another process serves"), 0)

    def test_a_stale_socket_of_another_user(self):
        """Connecting is allowed or not; nobody serves it, and the directory is writable."""
        for mode in (0o666, 0o600):
            with self.subTest(oct(mode)):
                self.leave_stale_socket(mode)
                self.assert_refused(rf"Operation not permitted: a socket of another user \(uid {SOMEBODY}\) is at this path, .*"
                                    "remove it, or choose another path")
                self.assertTrue(stat.S_ISSOCK(os.lstat(self.path).st_mode))
                os.unlink(self.path)

    def test_one_that_may_be_removed(self):
        os.chmod(self.directory, 0o777)
        self.leave_stale_socket(0o666)
        with daemons.Daemon(listener(path=self.path), executable=self.executable, wrapper=self.wrapper):
            self.assertEqual(os.lstat(self.path).st_uid, NOBODY)

    def test_a_lock_of_another_user(self):
        """As one that a crash has left."""
        with open(self.path + ".tcpechod-lock", "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fchown(file.fileno(), SOMEBODY, SOMEBODY)
        self.assert_refused(rf"Permission denied: the lock file {self.path}\.tcpechod-lock belongs to another user \(uid {SOMEBODY}\)")

    def test_a_lock_that_is_held(self):
        with open(self.path + ".tcpechod-lock", "w", encoding="ascii") as file:
            os.fchown(file.fileno(), NOBODY, NOBODY)
            fcntl.lockf(file, fcntl.LOCK_EX)
            self.assert_refused(rf"Device or resource busy: {self.path}\.tcpechod-lock is held by another process .*fuser")

    def test_a_link_in_the_place_of_the_lock(self):
        os.symlink("/nowhere", self.path + ".tcpechod-lock")
        self.assert_refused(r"Too many levels of symbolic links: .*\.tcpechod-lock is a symbolic link")

    def test_a_file_in_the_place_of_the_directory(self):
        with open(self.path, "w", encoding="ascii"):
            self.path += "/echo"
        self.assert_refused("Not a directory: a part of this path is a file and no directory")

    def test_a_directory_that_may_not_be_written_to(self):
        os.chmod(self.directory, 0o755)
        self.assert_refused("Permission denied: the directory must be writable for this user")

    def test_errors_of_the_file_system(self):
        for rules, message in (("bind:EPERM",
                                "Operation not permitted: a security policy or the file system does not allow"),
                               ("bind:ENOSPC", "No space left on device: the file system has no room"),
                               ("bind:EROFS", "Read-only file system: the directory must be writable"),
                               ("fcntl@main:ENOLCK", "No locks available: the file system has no locks"),
                               ("bind:EIO", "Input/output error: see bind")):
            with self.subTest(rules):
                self.assert_fails(CANNOT_LISTEN, f"cannot listen: echo on {self.path}: {message}",
                                  listeners=listener(path=self.path),
                                  faults=rules)


class NoNull(TestCase):
    """A container or a chroot without /dev/null."""

    def wrapper(self, shell):
        harness.needs_root()
        return [harness.needs("unshare"), "--mount", "sh", "-c", f"mount -t tmpfs tmpfs /dev && {shell}", "sh"]

    def test_it_is_missing(self):
        """With a standard input, or without."""
        for shell, message in (('exec "$@"', "error: cannot open /dev/null: "),
                               ('exec "$@" <&-', "cannot open /dev/null in the place of .*: ")):
            with self.subTest(shell):
                self.assert_fails(SYSTEM_ERROR, message + "No such file or directory; .*mknod",
                                  wrapper=self.wrapper(shell))


if __name__ == "__main__":
    harness.main(jobs=4)
