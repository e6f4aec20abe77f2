"""The start: what is opened and what is not, defaults without a file, and every way to fail with its exit status and a
message that says what to do."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import unittest

import daemons
import harness
from daemons import BAD_SETTINGS, CANNOT_LISTEN, DEBUG, ECHO, SYSTEM_ERROR, USAGE, TestCase, listener
from harness import exchange_path


DEFAULT_FILE = "/etc/tcpechod.conf"
NOBODY = 65534
CALLS_OF_SOCKETS = ("socket", "bind", "listen", "accept4", "connect")


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as path:
        os.chmod(path, 0o755)
        yield path


@contextlib.contextmanager
def settings_file(text):
    with directory() as path:
        file = os.path.join(path, "tcpechod.conf")
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)
        yield file


def default_file(text=None):
    """A wrapper that gives the daemon an /etc of its own, with this settings file or none."""
    if text is None and not os.path.exists(DEFAULT_FILE):
        return []
    harness.needs_root()
    install = 'printf %s "$TEST_CONFIG" >/etc/tcpechod.conf && ' if text is not None else ""
    return [harness.needs("unshare"), "--mount", "sh", "-c", "mount -t tmpfs tmpfs /etc && " + install + 'exec "$@"', "sh"]


def as_nobody():
    """A wrapper that gives up root and every capability. The dead parent's signal is set once more: it does not survive
    the change of user."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--"]


def exchange(address, port, data):
    with socket.create_connection((address, port), harness.patience()) as client:
        return harness.exchange(client, data)


class Test(TestCase):
    """--test checks and opens nothing."""

    GOOD = """
        listeners = ( { address = "127.0.0.1"; port = 7; }, { address = "*"; port = 7008; service = "upper"; },
                      { path = "/run/tcpechod-test/absent/echo"; } );
        workers = 4;
    """

    def test_opens_no_socket(self):
        with settings_file(self.GOOD) as file:
            page = daemons.Faults(file + ".faults")
            rules = ",".join(f"{call}:count" for call in (*CALLS_OF_SOCKETS, "pthread_create", "sd_pid_notify_with_fds"))
            result = daemons.run_daemon("--test", "-c", file, faults=rules,
                                        environment={"FAULTS_FILE": page.path, "NOTIFY_SOCKET": "/nowhere"})
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{file}: configuration OK\n", ""))
            for rule, call in enumerate(rules.split(",")):
                self.assertEqual(page.hits(rule), 0, call)
        # Counting works.
        with daemons.Daemon(faults=rules) as daemon:
            for rule in range(3):
                self.assertGreaterEqual(daemon.faults.hits(rule), 1, CALLS_OF_SOCKETS[rule])

    def test_the_kernel_saw_no_socket_either(self):
        strace = harness.needs("strace")
        harness.needs_unsanitized("a trace of system calls")  # its runtime cannot be traced
        with settings_file(self.GOOD) as file:
            trace = file + ".trace"
            result = daemons.run_daemon("--test", "-c", file,
                                        wrapper=[strace, "-f", "-o", trace, "-e", "trace=%network,execve"])
            if not os.path.exists(trace) or "execve" not in open(trace, encoding="utf-8").read():
                raise unittest.SkipTest(f"strace does not work here: {result.stderr}")
            self.assertEqual(result.returncode, 0)
            with open(trace, encoding="utf-8") as lines:
                calls = [line for line in lines if re.search(r"\b(socket|bind|connect|listen|accept4?)\(", line)]
            self.assertEqual(calls, [])

    def test_bad_settings(self):
        with settings_file("workers = -1;\nwrong = 2;\n") as file:
            result = daemons.run_daemon("--test", "-c", file)
            self.assertEqual((result.returncode, result.stdout), (BAD_SETTINGS, ""))
            self.assertRegex(result.stderr, rf"(?m)^{re.escape(file)}:1: .*workers")
            self.assertRegex(result.stderr, rf"(?m)^{re.escape(file)}:2: .*wrong")


class Defaults(TestCase):
    """No file at the default place: loopback, echo on 7007, upper on 7008."""

    def check(self, daemon, addresses):
        self.assertEqual(daemon.listening(), sorted((address, port) for address in addresses for port in (7007, 7008)))
        for address in addresses:
            self.assertEqual(exchange(address, 7007, b"Hello\n"), b"Hello\n")
            self.assertEqual(exchange(address, 7008, b"Hello\nend\nnot answered"), b"HELLO\nEND\n")
        daemon.wait_log("notice: ready: ")

    def test_ipv4_and_ipv6(self):
        harness.needs_ipv6()
        with harness.network_namespace(), daemons.Daemon(config=None, wrapper=default_file()) as daemon:
            self.check(daemon, ["127.0.0.1", "::1"])
            for name in (r"echo on 127\.0\.0\.1:7007", r"echo on \[::1\]:7007", r"upper on 127\.0\.0\.1:7008",
                         r"upper on \[::1\]:7008"):
                self.assertEqual(daemon.count_log(rf"info: listening: {name}$"), 1)

    def test_without_ipv6(self):
        """Served on IPv4, with one notice; the loopback interface has none, or the kernel."""
        for faults, notice in ((None, r"notice: the loopback interface has no IPv6: listeners on ::1 are left out$"),
                               ("socket_inet6:EAFNOSUPPORT", r"notice: .*no IPv6.*IPv4")):
            with self.subTest(faults), harness.network_namespace(ipv6=faults is not None), \
                    daemons.Daemon(config=None, wrapper=default_file(), faults=faults) as daemon:
                self.check(daemon, ["127.0.0.1"])
                self.assertEqual(daemon.count_log(notice), 1)
                self.assertEqual(daemon.count_log("(error|warning): "), 0)

    def test_test_says_that_the_file_is_absent(self):
        result = daemons.run_daemon("--test", wrapper=default_file())
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, rf"(?m)^{DEFAULT_FILE}: .*absent")

    def test_a_file_at_the_default_place_counts(self):
        with harness.network_namespace():
            text = 'listeners = ( { address = "127.0.0.1"; port = 7; service = "daytime"; } );'
            with daemons.Daemon(config=None, wrapper=default_file(text), environment={"TEST_CONFIG": text}) as daemon:
                self.assertEqual(daemon.listening(), [("127.0.0.1", 7)])

    def test_a_bad_file_at_the_default_place_is_no_absent_one(self):
        text = "listeners = nonsense"
        self.assert_fails(BAD_SETTINGS, rf"^{DEFAULT_FILE}:1: ", config=None, wrapper=default_file(text),
                          environment={"TEST_CONFIG": text})

    def test_a_named_file_that_is_absent_is_an_error(self):
        self.assert_fails(BAD_SETTINGS, r"/nowhere/tcpechod\.conf: .*No such file", config=None,
                          arguments=["-c", "/nowhere/tcpechod.conf"])

    def test_a_file_that_may_not_be_read_is_an_error(self):
        harness.needs_root()
        with settings_file("") as file, harness.executable_for_all(harness.TCPECHOD) as executable:
            os.chmod(file, 0o600)
            self.assert_fails(BAD_SETTINGS, re.escape(file) + ": .*Permission denied", config=None, arguments=["-c", file],
                              wrapper=as_nobody(), executable=executable)


class Listeners(TestCase):
    def test_port_0_takes_a_free_port_and_says_which(self):
        """At any level: nobody could find the daemon otherwise. Who asked for a port knows it."""
        for level in ("info", "notice", "error"):
            entries = ", ".join([listener(port=0), listener("upper", 0, address="*"), listener(port="PORT1")])
            with self.subTest(level=level), daemons.Daemon(entries, f'log = {{ level = "{level}"; }};') as daemon:
                for name, answer in ((r"echo on 127\.0\.0\.1", b"Hello"), (r"upper on \*", b"HELLO")):
                    port = int(daemon.wait_log(rf"listening: {name}:(?!{daemon.ports[1]})(\d+)$").group(1))
                    self.assertEqual(exchange("127.0.0.1", port, b"Hello"), answer)
                self.assertEqual(daemon.count_log("listening"), 3 if level == "info" else 2)

    def test_every_address(self):
        """"*" serves IPv4 and IPv6, with one socket and one name."""
        with daemons.Daemon(listener(address="*")) as daemon:
            daemon.wait_log(rf"listening: echo on \*:{daemon.port}$")
            self.assertEqual(daemon.exchange(b"four"), b"four")
            self.assertEqual(daemon.exchange(b"any of ours", address="127.1.2.3"), b"any of ours")
            self.assertEqual(daemon.count_log("no IPv6"), 0)
            harness.needs_ipv6()
            self.assertEqual(daemon.exchange(b"six", address="::1"), b"six")
            daemon.wait_log(rf"from \[::1\]:\d+ closed: client_closed, echo on \*:{daemon.port}")
            daemon.wait_log(r"from 127\.0\.0\.1:\d+ closed: client_closed")

    def test_without_ipv6(self):
        """`*` is served on IPv4; an address that is not loopback is not left out, nor is the only one."""
        faults = "socket_inet6:EAFNOSUPPORT"
        with daemons.Daemon(listener(address="*"), faults=faults) as daemon:
            self.assertEqual(daemon.exchange(b"four"), b"four")
            daemon.wait_log("notice: ready: ")
            self.assertEqual(daemon.count_log(r"notice: .*no IPv6.*IPv4"), 1)
        self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on \[fd00::1\]:\d+: .*no IPv6", faults=faults,
                          listeners=f"{ECHO}, {listener(port='PORT1', address='fd00::1')}")
        self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on \[::1\]:\d+: ", listeners=listener(address="::1"),
                          faults=faults)

    def test_the_same_port_on_both_loopback_addresses(self):
        harness.needs_ipv6()
        with daemons.Daemon(f"{ECHO}, {listener('upper', address='::1')}") as daemon:
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.assertEqual(daemon.exchange(b"x", address="::1"), b"X")

    def test_listeners_of_the_command_line_replace_those_of_the_file(self):
        arguments = ["--listen", "upper@127.0.0.1:PORT1", "-l", "127.0.0.1:PORT2", "-p", "PORT3", "-l", "discard@DIR/sock"]
        with daemons.Daemon(arguments=arguments) as daemon:
            self.assertEqual(daemon.exchange(b"x", 1), b"X")
            self.assertEqual(daemon.exchange(b"x", 2), b"x")
            self.assertEqual(daemon.exchange(b"x", 3), b"x")
            self.assertEqual(exchange_path(daemon.path("sock"), b"x"), b"")
            with self.assertRaises(ConnectionRefusedError):
                daemon.connect()

    def test_workers_and_log_level_of_the_command_line(self):
        with daemons.Daemon(settings='workers = 1; log = { level = "info"; };',
                            arguments=["-w", "3", "-L", "debug"]) as daemon:
            daemon.wait_log("ready: 1 listeners?, 3 workers")
            daemon.connect().close()
            daemon.wait_log("debug: connection 1 from")


class Paths(TestCase):
    def test_mode(self):
        for mode in (0o660, 0o600, 0o666):
            with self.subTest(mode=oct(mode)), \
                    daemons.Daemon(listener(path="DIR/echo", mode=f"0{mode:o}"),
                                   wrapper=["sh", "-c", 'umask 077; exec "$@"', "sh"]) \
                    as daemon:
                status = os.stat(daemon.path("echo"))
                self.assertTrue(stat.S_ISSOCK(status.st_mode))
                self.assertEqual(oct(stat.S_IMODE(status.st_mode)), oct(mode))
                self.assertEqual(exchange_path(daemon.path("echo"), b"hello"), b"hello")
                daemon.wait_log("listening: echo on .*/echo$")

    def test_a_stop_removes_the_socket(self):
        """And not what another has put there."""
        for replaced in (False, True):
            with self.subTest(replaced=replaced), daemons.Daemon(listener(path="DIR/echo")) as daemon:
                self.assertTrue(os.path.exists(daemon.path("echo")))
                if replaced:
                    os.unlink(daemon.path("echo"))
                    with open(daemon.path("echo"), "w", encoding="ascii"):
                        pass
                daemon.stop()
                self.assertEqual(os.path.exists(daemon.path("echo")), replaced)

    def test_a_stale_socket_is_replaced(self):
        with directory() as path:
            with daemons.Daemon(listener(path=f"{path}/echo")) as daemon:
                daemon.kill()
            self.assertTrue(os.path.exists(f"{path}/echo"))
            with daemons.Daemon(listener(path=f"{path}/echo")):
                self.assertEqual(exchange_path(f"{path}/echo", b"again"), b"again")

    def test_a_living_socket_is_not(self):
        with directory() as path, daemons.Daemon(listener(path=f"{path}/echo")):
            self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on .*/echo: Address already in use",
                              listeners=listener(path=f"{path}/echo"))
            self.assertEqual(exchange_path(f"{path}/echo", b"still"), b"still")

    def test_a_file_is_never_removed(self):
        with directory() as path:
            with open(f"{path}/echo", "w", encoding="ascii") as file:
                file.write("precious")
            self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on .*/echo: .*no socket",
                              listeners=listener(path=f"{path}/echo"))
            with open(f"{path}/echo", encoding="ascii") as file:
                self.assertEqual(file.read(), "precious")

    def test_no_directory(self):
        self.assert_fails(CANNOT_LISTEN, r"cannot listen: echo on .*/absent/echo: No such file or directory: .*directory",
                          listeners=listener(path="DIR/absent/echo"))


class CannotListen(TestCase):
    def test_two_daemons_on_one_port(self):
        """The second says who cannot have what, and the first goes on."""
        with daemons.Daemon() as first:
            log = self.assert_fails(CANNOT_LISTEN,
                                    rf"error: cannot listen: upper on 127\.0\.0\.1:{first.port}: Address already in use: "
                                    rf"another socket has this port, .*'ss -tanp sport = :{first.port}' .*",
                                    listeners=listener("upper", first.port))
            self.assertNotIn(": ready:", log)
            self.assertEqual(first.exchange(b"mine"), b"mine")

    def test_every_address_against_one(self):
        with daemons.Daemon() as first:
            self.assert_fails(CANNOT_LISTEN, rf"cannot listen: echo on \*:{first.port}: Address already in use",
                              listeners=listener(port=first.port, address="*"))
        with daemons.Daemon(listener(address="*")) as first:
            self.assert_fails(CANNOT_LISTEN, rf"cannot listen: echo on 127\.0\.0\.1:{first.port}: Address already in use",
                              listeners=listener(port=first.port))

    def test_all_that_fail_are_named(self):
        with daemons.Daemon(f"{ECHO}, {listener(port='PORT1')}") as first:
            listeners = ", ".join([listener(port=int(first.ports[0])), listener(port="PORT2"),
                                   listener(port=int(first.ports[1])),
                                   listener(port="PORT3", address="192.0.2.1")])
            self.assert_fails(CANNOT_LISTEN, rf"127\.0\.0\.1:{first.ports[0]}: Address already in use",
                              rf"127\.0\.0\.1:{first.ports[1]}: Address already in use",
                              r"192\.0\.2\.1:\d+: Cannot assign requested address: no interface .*ip address",
                              listeners=listeners)

    def test_a_port_below_1024_with_it(self):
        """CAP_NET_BIND_SERVICE is enough."""
        harness.needs_root()
        capability = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                      "--inh-caps=-all,+net_bind_service",
                      "--ambient-caps=-all,+net_bind_service", "--bounding-set=-all,+net_bind_service", "--"]
        with harness.network_namespace(), harness.executable_for_all(harness.TCPECHOD) as executable, \
                daemons.Daemon(listener(port=7), wrapper=capability, executable=executable) as daemon:
            self.assertEqual(exchange("127.0.0.1", 7, b"x"), b"x")
            with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
                self.assertRegex(file.read(), rf"(?m)^Uid:\t{NOBODY}\b")

    def test_the_port_of_a_dead_daemon_is_free_at_once(self):
        """Killed amid its connections."""
        with daemons.Daemon() as first:
            for client in first.connect_many(20):
                harness.ping(client)
            first.kill()
            with daemons.Daemon(listener(port=first.port)) as second:
                self.assertEqual(exchange("127.0.0.1", first.port, b"again"), b"again")
                self.assertEqual(second.count_log("error"), 0)


class Descriptors(TestCase):
    def test_far_too_few(self):
        """Fewer than the daemon itself needs: which call notices first does not matter, the message does."""
        for limit in range(5, 17):
            with self.subTest(limit=limit), daemons.Daemon(settings="workers = 2;", ready=False, nofile=limit) as daemon:
                self.assertIn(daemon.wait(), (SYSTEM_ERROR, CANNOT_LISTEN), daemon.log())
                self.assertRegex(daemon.log(), "(?i)too many open files|descriptors|cannot be read")
                self.assertEqual(daemon.notify.values("READY"), [])

    def test_none_for_clients(self):
        self.assert_fails(SYSTEM_ERROR, "error: .*descriptor.* for clients.*LimitNOFILE=.*ulimit -n",
                          settings="workers = 2;", nofile=30)

    def test_the_soft_limit_is_raised(self):
        with daemons.Daemon(settings="workers = 2;", nofile=(20, 500)) as daemon:
            room = int(daemon.wait_log(r"room for (\d+) connections").group(1))
            self.assertGreater(room, 400)

    def test_more_than_fits(self):
        with daemons.Daemon(settings="max_connections = 5000;", nofile=500) as daemon:
            room = int(daemon.wait_log(r"warning: max_connections = 5000, but the descriptor limit leaves room for (\d+); "
                                       r"raise it \(LimitNOFILE=").group(1))
            daemon.wait_log(rf"ready: .* room for {room} connections")

    def test_less_than_fits(self):
        with daemons.Daemon(settings="max_connections = 50;", nofile=500) as daemon:
            daemon.wait_log("ready: .* room for 50 connections")
            self.assertEqual(daemon.count_log("warning"), 0)


class ExitStatus(TestCase):
    def test_usage(self):
        for arguments in (["--wrong"], ["-x"], ["surplus"], ["-c"], ["--workers", "many"], ["-L", "loud"], ["-p", "70000"],
                          ["-l", "nonsense@127.0.0.1:1"], ["-t", "-T"], ["-l", "echo@127.0.0.1"]):
            with self.subTest(arguments=arguments):
                result = daemons.run_daemon(*arguments)
                self.assertEqual(result.returncode, USAGE)
                self.assertEqual(result.stdout, "")
                self.assertRegex(result.stderr, r"\Atcpechod: .*; see tcpechod --help\n\Z")

    def test_bad_settings(self):
        """Nothing is opened, and all problems are told."""
        log = self.assert_fails(BAD_SETTINGS, r"tcpechod\.conf:2: ", r"tcpechod\.conf:3: ",
                                config='listeners = ( { address = "127.0.0.1"; port = PORT; } );\nworkers = 99999999;\n'
                                       "overload = 3;\n")
        self.assertNotIn("listening", log)

    def test_system_error(self):
        self.assert_fails(SYSTEM_ERROR, "error: .*main loop.*Too many open files", faults="epoll_create1:EMFILE")

    def test_help_and_version(self):
        for option, pattern in (("--help", r"\AUsage: tcpechod .*"), ("-h", r"\AUsage: tcpechod .*"),
                                ("--version", r"\Atcpechod \d+\.\d+\.\d+\n\Z"), ("-V", r"\Atcpechod \d")):
            with self.subTest(option=option):
                result = daemons.run_daemon(option)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertRegex(result.stdout, pattern)

    def test_help_into_a_full_disk(self):
        """Or into a closed standard output."""
        for place, error in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
            for option in ("--help", "--version", "--test", "--dump"):
                with self.subTest(place=place, option=option), settings_file("") as file:
                    result = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" "$2" {place}', harness.TCPECHOD, file, option],
                                            stderr=subprocess.PIPE, text=True, check=False, timeout=harness.patience())
                    self.assertEqual(result.returncode, SYSTEM_ERROR)
                    self.assertIn(error, result.stderr)

    def test_closed_standard_descriptors(self):
        """No socket gets the number that messages for stderr go to."""
        with daemons.Daemon(settings=DEBUG,
                            wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]) as daemon:
            for number in range(3):
                self.assertEqual(os.readlink(f"/proc/{daemon.pid}/fd/{number}"), "/dev/null")
            self.assertEqual(daemon.exchange(b"x" * 1000), b"x" * 1000)

    def test_no_dev_null_for_closed_standard_descriptors(self):
        self.assert_fails(SYSTEM_ERROR, "cannot open /dev/null .*: Too many open files", "^tcpechod: cannot open",
                          wrapper=["sh", "-c", 'exec "$@" <&-', "sh"], faults="open:EMFILE:1")


class Manager(TestCase):
    """What the service manager and a person at the terminal are told."""

    def test_ready_comes_when_everything_is(self):
        with daemons.Daemon(settings="workers = 3;", ready=False) as daemon:
            daemon.notify.wait("READY", "^1$")
            # From here on nobody is refused, and every worker is there.
            self.assertEqual(daemon.exchange(b"now"), b"now")
            self.assertRegex(daemon.notify.values("STATUS")[0], r"^0 connections, 0 queued, 0 accepted")
            daemon.stop()
            self.assertEqual(daemon.notify.values("STOPPING"), ["1"])
            self.assertEqual(len(daemon.notify.values("READY")), 1)

    def test_without_a_manager(self):
        with daemons.Daemon(wrapper=["env", "-u", "NOTIFY_SOCKET"], ready=False) as daemon:
            daemon.wait_log("ready: ")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.stop(signal.SIGINT)
            self.assertEqual(daemon.count_log("error|warning"), 0)

    def test_a_manager_that_is_gone(self):
        """Told once, not with every STATUS=; the service goes on."""
        with daemons.Daemon(environment={"NOTIFY_SOCKET": "/nowhere/notify"}, ready=False) as daemon:
            daemon.wait_log("error: cannot notify the service manager")
            for _ in range(3):
                self.assertEqual(daemon.exchange(b"x"), b"x")
                harness.wait_until(lambda: daemon.count_log("closed: client_closed"), "a connection")
            daemon.stop()
            self.assertEqual(daemon.count_log("cannot notify"), 1)

    def test_workers_0_is_one_for_each_cpu_that_it_may_use(self):
        cpus = sorted(os.sched_getaffinity(0))
        for count in {1, len(cpus)}:
            with self.subTest(cpus=count):
                wrapper = [harness.needs("taskset"), "-c", ",".join(map(str, cpus[:count]))]
                with daemons.Daemon(wrapper=wrapper) as daemon:
                    daemon.wait_log(rf"ready: 1 listeners?, {count} workers?")


if __name__ == "__main__":
    harness.main(jobs=4)
