"""The daemon as a fixture: it serves while a command runs, and ends with it. And --port-file, for who starts it
otherwise."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import unittest

import daemons
import harness
from daemons import CANNOT_LISTEN, SYSTEM_ERROR, listener

SPEC = ("-l", "127.0.0.1:0")
CTRL_C = bytes([3])

# Commands in Python: one that talks to the listeners,
CONNECT = """
import os, socket, sys
def connect(number):
    place = os.environ[f"TCPECHOD_{number}"]
    if place.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(place)
        return client
    host, _, port = place.rpartition(":")
    assert port == os.environ[f"TCPECHOD_{number}_PORT"], os.environ
    return socket.create_connection((host.strip("[]"), int(port)), 20)
def exchange(number, data):
    with connect(number) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))
"""
# and one that notes each signal, a line each, in the file that is its argument; with "leave" it ends at the first.
NOTE = """
import os, signal, sys
numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
with open(sys.argv[1] + ".pid.new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".pid.new", sys.argv[1] + ".pid")
while True:
    number = signal.sigwait(numbers)
    with open(sys.argv[1], "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if sys.argv[2] == "leave" or number == signal.SIGTERM:
        sys.exit(7)
"""


def run(*arguments, **how):
    """tcpechod ARGUMENTS to its end; what follows "--" is the command."""
    return daemons.run_daemon(*arguments, **how)


def python(code, *arguments):
    return ["--", sys.executable, "-c", code, *arguments]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def directory():
    return tempfile.TemporaryDirectory(prefix="tcpechod-test-")


def hand_over(daemon):
    """In place: its parent, which is its service manager, has not sent this."""
    subprocess.run(["sh", "-c", f"kill -USR2 {daemon.pid}"], check=True)


def has_ended(pidfd, seconds=None):
    return bool(select.select([pidfd], [], [], harness.patience() if seconds is None else seconds)[0])


class Fixture(daemons.Daemon):
    """With a command that notes its signals; `pidfd` is the command's."""

    def __init__(self, action="stay", arguments=SPEC, config=None, **how):
        self.command_pid = self.pidfd = None
        super().__init__(config=config, arguments=[*arguments, *python(NOTE, "DIR/signals", action)], **how)
        path = self.path("signals.pid")
        harness.wait_until(lambda: os.path.exists(path), lambda: f"the command, stderr:\n{self.log()}")
        self.command_pid = int(read(path))
        self.pidfd = os.pidfd_open(self.command_pid)

    def signals(self):
        return read(self.path("signals")).split() if os.path.exists(self.path("signals")) else []

    def wait_signals(self, *names):
        harness.wait_until(lambda: self.signals() == list(names), lambda: f"{names}, got {self.signals()}")

    def close(self):
        super().close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class Status(harness.TestCase):
    def test_is_that_of_the_command(self):
        for script, status in (("exit 0", 0), ("exit 3", 3), ("exit 69", 69), ("exit 75", 75), ("exit 255", 255),
                               ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)):
            with self.subTest(script):
                result = run(*SPEC, "--", "sh", "-c", script)
                self.assertEqual((result.returncode, result.stdout, result.stderr), (status, "", ""))

    def test_not_found_and_not_executable(self):
        with directory() as path:
            file = os.path.join(path, "file")
            with open(file, "w", encoding="ascii"):
                pass
            for command, status, why in ((f"{path}/absent", 127, "No such file or directory"),
                                         ("tcpechod-test-absent", 127, "No such file or directory"),
                                         ("", 127, "No such file or directory"),
                                         (file, 126, "Permission denied"), (path, 126, "Permission denied")):
                with self.subTest(command):
                    result = run(*SPEC, "--", command, "argument")
                    self.assertEqual((result.returncode, result.stdout, result.stderr),
                                     (status, "", f"tcpechod: cannot run {command}: {why}\n"))

    def test_no_command_where_the_daemon_cannot_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken, directory() as path:
            made = os.path.join(path, "made")
            result = run("-l", f"127.0.0.1:{taken.getsockname()[1]}", "--", "touch", made)
            self.assertEqual(result.returncode, CANNOT_LISTEN)
            self.assertIn("error: cannot listen: ", result.stderr)
            self.assertFalse(os.path.exists(made))

    def test_as_process_1(self):
        harness.needs_root()
        wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        self.assertEqual(run(*SPEC, "--", "sh", "-c", "(sleep 0 &); exit 5", wrapper=wrapper).returncode, 5)

    def test_clients_of_others_are_finished(self):
        """Until a signal comes: the command has its status by then."""
        with daemons.Daemon(config=None, arguments=["-l", "chargen@127.0.0.1:PORT", "-L", "notice", "--", "sh", "-c",
                                                    "until [ -e DIR/end ]; do sleep 0.01; done; exit 9"]) as daemon, \
                daemon.connect() as client:
            harness.receive_exactly(client, 1000)
            with open(daemon.path("end"), "w", encoding="ascii"):
                pass
            daemon.wait_log(r"notice: stopping \(its command has ended with status 9\): 1 connection to finish")
            daemon.stop(status=9)


class Environment(harness.TestCase):
    def test_leads_to_each_listener(self):
        with directory() as path:
            specs = ("upper@*:0", f"{path}/echo", "127.0.0.1:0", "upper@0.0.0.0:0", "127.1.2.3:0")
            code = CONNECT + 'print([exchange(number, b"x") for number in range(1, 6)], "TCPECHOD_2_PORT" in os.environ)'
            result = run(*(word for spec in specs for word in ("-l", spec)), *python(code))
            self.assertEqual((result.returncode, result.stdout, result.stderr),
                             (0, "[b'X', b'x', b'x', b'X', b'x'] False\n", ""))

    def test_ipv6(self):
        harness.needs_ipv6()
        code = CONNECT + 'print(exchange(1, b"x"), exchange(2, b"y"), os.environ["TCPECHOD_1"].partition("]:")[0])'
        result = run("-l", "[::1]:0", "-l", "[::]:0", *python(code))
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "b'x' b'y' [::1\n", ""))

    def test_listeners_of_a_file(self):
        code = CONNECT + 'open(sys.argv[1], "wb").write(exchange(1, b"x") + exchange(2, b"x")); sys.exit(3)'
        with daemons.Daemon(f"{listener('upper', 0)}, {listener(port=0)}", arguments=python(code, "DIR/got")) as daemon:
            self.assertEqual(daemon.wait(), 3)
            self.assertEqual(read(daemon.path("got")), "Xx")

    def test_of_a_port(self):
        port = harness.free_port()
        result = run("-p", str(int(port)), "-l", "upper@127.0.0.1:0", "--", "sh", "-c", "echo $TCPECHOD_1")
        port.close()
        self.assertEqual(result.stdout, f"127.0.0.1:{int(port)}\n")

    def test_one_that_is_left_out_keeps_its_number(self):
        with harness.network_namespace(ipv6=False):
            result = run("-l", "[::1]:0", "-l", "127.0.0.1:0", *python(
                CONNECT + 'print("TCPECHOD_1" in os.environ, exchange(2, b"x"))'))
        self.assertEqual((result.returncode, result.stdout), (0, "False b'x'\n"))

    def test_of_a_fixture_in_a_fixture(self):
        environment = {"TCPECHOD_7": "old", "TCPECHOD_8_PORT": "old", "TCPECHOD_": "kept", "TCPECHOD_1X": "kept"}
        code = 'import os; print(*sorted(name for name in os.environ if name.startswith("TCPECHOD_") and name[9:10] < "A"))'
        result = run(*SPEC, *python(code), environment=environment)
        self.assertEqual(result.stdout.split(), ["TCPECHOD_", "TCPECHOD_1", "TCPECHOD_1X", "TCPECHOD_1_PORT"])


class Inherited(harness.TestCase):
    """The command finds all as the daemon has found it."""

    SETUP = """
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_IGN if "pipe" in sys.argv[1] else signal.SIG_DFL)
signal.signal(signal.SIGCHLD, signal.SIG_IGN if "child" in sys.argv[1] else signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, signal.SIGTERM} if "mask" in sys.argv[1] else ())
os.dup2(1, 9)
os.execvp(sys.argv[2], sys.argv[2:])
"""

    def compare(self, what, *command):
        """What the command says is the same with the daemon and without. Returns it."""
        wrapper = [sys.executable, "-c", self.SETUP, what, harness.needs("prlimit"), "--nofile=256:1024", "--"]
        alone = subprocess.run([*wrapper, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        within = run(*SPEC, "--", *command, wrapper=wrapper)
        self.assertEqual((within.stdout, within.stderr, within.returncode), (alone.stdout, "", 0))
        return within.stdout

    def test_signals(self):
        for what in ("", "pipe", "child", "mask", "pipe child mask"):
            with self.subTest(what):
                self.compare(what, "grep", "^Sig[BIC]", "/proc/self/status")

    def test_descriptor_limit(self):
        self.assertEqual(self.compare("", "sh", "-c", "ulimit -Sn; ulimit -Hn"), "256\n1024\n")

    def test_descriptors(self):
        """Those of the daemon's parent, and none of the daemon."""
        self.assertIn("9\n", self.compare("", "ls", "/proc/self/fd"))

    def test_streams_and_directory(self):
        result = subprocess.run([harness.TCPECHOD, *SPEC, "--", "sh", "-c", "pwd; cat; echo told >&2"], input=b"typed",
                                cwd="/usr", capture_output=True, check=False, timeout=harness.patience(),
                                env=daemons.clean_environment(None, {}))
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"/usr\ntyped", b"told\n"))

    def test_arguments(self):
        self.assertEqual(run(*SPEC, "--", "printf", "%s|", "-l", "--", "a b", "").stdout, "-l|--|a b||")


class Log(harness.TestCase):
    def test_is_quiet_unless_asked(self):
        with directory() as path:
            file = os.path.join(path, "tcpechod.conf")
            with open(file, "w", encoding="ascii") as out:
                out.write('log = { level = "info"; };')
            for arguments in (["-L", "info"], ["-c", file]):
                with self.subTest(arguments):
                    self.assertRegex(run(*arguments, *SPEC, "--", "true").stderr,
                                     r"(?s)info: listening: echo on .*notice: ready: .*its command has ended with status 0")
            with open(file, "w", encoding="ascii") as out:
                out.write("log = { rate = 0; };")
            self.assertEqual(run("-c", file, *SPEC, "--", "true").stderr, "")
            self.assertEqual(run("-c", file, "-L", "notice", *SPEC, "--", "true").stderr.count("listening"), 0)
        # Of connections, too.
        self.assertEqual(run(*SPEC, *python(CONNECT + 'exchange(1, b"x")')).stderr, "")


class Signals(daemons.TestCase):
    def test_reach_the_command(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number=number), Fixture("leave") as daemon:
                daemon.send_signal(number)
                self.assertEqual(daemon.wait(), 7)
                self.assertEqual(daemon.signals(), [number.name])

    def test_the_command_decides(self):
        """It goes on, and so does the daemon, which serves it to its end."""
        with Fixture(arguments=["-l", "127.0.0.1:PORT"]) as daemon:
            for names in (["SIGINT"], ["SIGINT", "SIGHUP"], ["SIGINT", "SIGHUP", "SIGINT"]):
                daemon.send_signal(getattr(signal, names[-1]))
                daemon.wait_signals(*names)
                self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.stop(status=7)
            self.assertEqual(read(daemon.path("signals")).split()[3:], ["SIGTERM"])

    def test_that_cannot_be_sent_on(self):
        with Fixture(faults="", arguments=["-l", "127.0.0.1:PORT"]) as daemon:
            daemon.faults.arm("kill:EPERM:1")
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("error: cannot send SIGTERM to the command: Operation not permitted")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.stop(status=7)

    def test_counters_and_hand_over(self):
        """SIGUSR1 is the daemon's own; SIGUSR2 is refused."""
        with Fixture(arguments=["-l", "127.0.0.1:PORT", "-L", "notice"]) as daemon:
            daemon.send_signal(signal.SIGUSR1)
            daemon.wait_log("notice: counters: 0 connections")
            daemon.send_signal(signal.SIGUSR2)
            daemon.wait_log("error: not handed over: .*: a command that runs is not handed over; this process goes on")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.assertEqual(daemon.signals(), [])
            daemon.stop(status=7)

    def test_reload_by_request(self):
        """A plain SIGHUP is the command's."""
        with Fixture(arguments=(), config=daemons.config_text(listener("upper"))) as daemon:
            daemon.write_config(daemons.config_text(listener("echo")))
            result = run("--reload", str(daemon.pid))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.assertEqual(daemon.signals(), [])
            daemon.stop(status=7)


class Terminal(harness.TestCase):
    @contextlib.contextmanager
    def start(self):
        """At a terminal of its own. Gives the directory, the terminal, and the command's process ID and pidfd."""
        with directory() as path:
            terminal, line = pty.openpty()

            def take_terminal():
                signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup(1)
                os.setsid()
                fcntl.ioctl(line, termios.TIOCSCTTY, 0)

            # A shell is the session's leader and waits.
            command = ["sh", "-c", 'trap : INT HUP; "$@"; echo $? >"$0.new"; mv "$0.new" "$0"', f"{path}/status",
                       harness.TCPECHOD, *SPEC, *python(NOTE, f"{path}/signals", "stay")]
            shell = subprocess.Popen(command, stdin=line, stdout=line, stderr=line, cwd="/", preexec_fn=take_terminal,
                                     env=daemons.clean_environment(None, {}))
            os.close(line)
            try:
                harness.wait_until(lambda: os.path.exists(f"{path}/signals.pid"), "the command")
                pid = int(read(f"{path}/signals.pid"))
                pidfd = os.pidfd_open(pid)
                yield path, terminal, pid, pidfd
                os.close(pidfd)
                shell.wait(harness.patience())
            finally:
                shell.kill()
                shell.wait()

    def test_ctrl_c_comes_once(self):
        with self.start() as (path, terminal, pid, pidfd):
            os.write(terminal, CTRL_C)
            harness.wait_until(lambda: os.path.exists(f"{path}/signals"), "SIGINT")
            # The daemon would have sent a second SIGINT before this one.
            os.kill(int(harness.stat_fields(pid)[1]), signal.SIGTERM)
            self.assertTrue(has_ended(pidfd))
            harness.wait_until(lambda: os.path.exists(f"{path}/status"), "the daemon's end")
            self.assertEqual(read(f"{path}/signals").split(), ["SIGINT", "SIGTERM"])
            self.assertEqual(read(f"{path}/status"), "7\n")
            os.close(terminal)

    def test_that_is_gone(self):
        with self.start() as (path, terminal, pid, pidfd):
            os.close(terminal)
            harness.wait_until(lambda: os.path.exists(f"{path}/signals"), "SIGHUP")
            os.kill(pid, signal.SIGTERM)
            self.assertTrue(has_ended(pidfd))
            self.assertEqual(set(read(f"{path}/signals").split()), {"SIGHUP", "SIGTERM"})


class NothingIsLeft(harness.TestCase):
    def test_the_daemon_is_killed(self):
        with Fixture() as daemon:
            daemon.kill()
            self.assertTrue(has_ended(daemon.pidfd))

    def test_the_daemon_fails(self):
        with Fixture(faults="") as daemon:
            daemon.faults.arm("epoll_wait@main:EBADF")
            daemon.send_signal(signal.SIGUSR1)
            self.assertEqual(daemon.wait(), SYSTEM_ERROR)
            self.assertTrue(has_ended(daemon.pidfd))
            self.assertRegex(daemon.log(), "error: cannot wait for events: Bad file descriptor")

    def test_the_command_is_killed(self):
        with Fixture() as daemon:
            os.kill(daemon.command_pid, signal.SIGKILL)
            self.assertEqual(daemon.wait(), 137)

    def test_the_command_is_stopped(self):
        """It has not ended by that."""
        with Fixture(arguments=["-l", "127.0.0.1:PORT"]) as daemon:
            os.kill(daemon.command_pid, signal.SIGSTOP)
            harness.wait_until(lambda: harness.stat_fields(daemon.command_pid)[0] == "T", "the command to stop")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            os.kill(daemon.command_pid, signal.SIGCONT)
            daemon.stop(status=7)

    def test_the_daemon_dies_before_the_command_can_hear_of_it(self):
        """Between fork(2) and the child's own request."""
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            raise unittest.SkipTest("this kernel does not list children (CONFIG_PROC_CHILDREN)")
        with daemons.Daemon(config=None, faults="prctl:sleep=600000", arguments=[*SPEC, "--", "touch", "DIR/made"]) as daemon:
            (child,) = read(f"/proc/{daemon.pid}/task/{daemon.pid}/children").split()
            pidfd = os.pidfd_open(int(child))
            daemon.kill()
            self.assertFalse(has_ended(pidfd, 0))
            daemon.faults.disarm()
            self.assertTrue(has_ended(pidfd))
            os.close(pidfd)
            self.assertFalse(os.path.exists(daemon.path("made")))

    def test_children_of_the_command_are_its_own(self):
        script = "sleep 600 >/dev/null 2>&1 & echo $! >DIR/child; exit 4"
        with daemons.Daemon(config=None, arguments=[*SPEC, "--", "sh", "-c", script]) as daemon:
            self.assertEqual(daemon.wait(), 4)
            os.kill(int(read(daemon.path("child"))), signal.SIGKILL)  # is there


class Failures(daemons.TestCase):
    def test_of_the_start(self):
        for faults, why in (("fork:EAGAIN", "cannot start true: Resource temporarily unavailable"),
                            ("fork:ENOMEM", "cannot start true: Cannot allocate memory")):
            with self.subTest(faults):
                self.assert_fails(SYSTEM_ERROR, f"error: {why}", config=None, arguments=[*SPEC, "--", "true"], faults=faults)

    def test_of_the_child(self):
        for faults, status, why in (("prctl:EPERM", SYSTEM_ERROR, "Operation not permitted"),
                                    ("setrlimit:EINVAL:2", SYSTEM_ERROR, "Invalid argument"),
                                    ("execvpe:ENOENT", 127, "No such file or directory"),
                                    ("execvpe:ENOMEM", 126, "Cannot allocate memory")):
            with self.subTest(faults), daemons.Daemon(config=None, arguments=[*SPEC, "--", "true"], faults=faults,
                                                      nofile=(256, 1024)) as daemon:
                self.assertEqual(daemon.wait(), status)
                self.assertEqual(daemon.log(), f"tcpechod: cannot run true: {why}\n")

    def test_limit_that_is_not_known(self):
        result = run(*SPEC, "--", "echo", "runs", faults="getrlimit:EPERM:1")
        self.assertEqual((result.returncode, result.stdout), (0, "runs\n"))


class PortFile(daemons.TestCase):
    def write(self, *listeners):
        return daemons.config_text(", ".join(listeners))

    def assert_lines(self, path, *lines):
        written = read(path)
        self.assertTrue(written.endswith("\n"))
        self.assertEqual(len(written.splitlines()), len(lines), written)
        for line, wanted in zip(written.splitlines(), lines):
            self.assertRegex(line, f"^{wanted}$")

    def test_is_there_once_ready_and_gone_at_the_end(self):
        with daemons.Daemon(config=None, arguments=["--port-file", "DIR/ports", "-l", "upper@127.0.0.1:0", "-l", "DIR/echo",
                                                    "-l", "*:PORT", "-l", "127.0.0.1:0"]) as daemon:
            path = daemon.path("ports")
            self.assert_lines(path, r"upper 127\.0\.0\.1:\d+", f"echo {daemon.path('echo')}", f"echo 127.0.0.1:{daemon.port}",
                              r"echo 127\.0\.0\.1:\d+")
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o644)
            port = int(read(path).split()[1].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), harness.patience()) as client:
                self.assertEqual(harness.exchange(client, b"x"), b"X")
            daemon.stop()
            self.assertEqual([name for name in os.listdir(daemon.directory) if name.startswith("ports")], [])

    def test_for_a_command(self):
        """Which may look at it at once."""
        with directory() as path:
            file = os.path.join(path, "ports")
            result = run(*SPEC, "--port-file", file, "--", "sh", "-c", f'test "echo $TCPECHOD_1" = "$(cat {file})" && exit 8')
            self.assertEqual((result.returncode, result.stdout, result.stderr), (8, "", ""))
            self.assertEqual(os.listdir(path), [])

    def test_takes_the_place_of_an_old_one(self):
        with directory() as path:
            file = os.path.join(path, "ports")
            with open(file, "w", encoding="ascii") as out:
                out.write("left by a crash\n")
            with open(file, encoding="ascii") as old, daemons.Daemon(config=None, arguments=["--port-file", file, *SPEC]):
                self.assert_lines(file, r"echo 127\.0\.0\.1:\d+")
                self.assertEqual(old.read(), "left by a crash\n")  # whole for who has it open
            self.assertFalse(os.path.exists(file))

    def test_of_another_stays(self):
        with daemons.Daemon(config=None, arguments=["--port-file", "DIR/ports", *SPEC]) as daemon, \
                daemons.Daemon(config=None, arguments=["--port-file", daemon.path("ports"), *SPEC]) as other:
            written = read(daemon.path("ports"))
            daemon.stop()
            self.assertEqual(read(daemon.path("ports")), written)
            os.rename(daemon.path("ports"), daemon.path("moved"))
            other.stop()  # one that is gone is no trouble
            self.assertNotIn("error", other.log())

    def test_follows_a_reload(self):
        with daemons.Daemon(config=self.write(listener(), listener("upper", "PORT1")),
                            arguments=["--port-file", "DIR/ports"]) as daemon:
            path = daemon.path("ports")
            self.assert_lines(path, f"echo 127.0.0.1:{daemon.port}", f"upper 127.0.0.1:{int(daemon.ports[1])}")
            daemon.write_config(self.write(listener("discard", "PORT2"), listener("upper")))
            self.assertEqual(run("--reload", str(daemon.pid)).returncode, 0)
            after = f"discard 127.0.0.1:{int(daemon.ports[2])}", f"upper 127.0.0.1:{daemon.port}"
            self.assert_lines(path, *after)
            daemon.wait_log("notice: reloaded ")
            self.reload(daemon, "listeners = nonsense;", failing=True)
            self.assert_lines(path, *after)
            daemon.stop()
            self.assertFalse(os.path.exists(path))

    def test_follows_a_hand_over(self):
        with daemons.Daemon(config=self.write(listener(port=0)), arguments=["--port-file", "DIR/ports"]) as daemon:
            before = read(daemon.path("ports"))
            hand_over(daemon)
            daemon.notify.wait("READY", count=2)
            self.assertEqual(read(daemon.path("ports")), before)
            daemon.stop()
            self.assertFalse(os.path.exists(daemon.path("ports")))

    def test_that_cannot_be_written(self):
        for faults, why in (("mkostemp:EACCES", "Permission denied"), ("fchmod:EPERM", "Operation not permitted"),
                            ("fdopen:ENOMEM", "Cannot allocate memory"), ("fflush:ENOSPC", "No space left on device"),
                            ("fstat:EIO", "Input/output error"), ("rename:EIO", "Input/output error")):
            with self.subTest(faults), directory() as path:
                self.assert_fails(SYSTEM_ERROR, f"error: cannot write the port file {path}/ports: {why}", config=None,
                                  arguments=["--port-file", f"{path}/ports", *SPEC], faults=faults)
                self.assertEqual(os.listdir(path), [])
        self.assert_fails(SYSTEM_ERROR, "error: cannot write the port file /nowhere/ports: No such file or directory",
                          config=None, arguments=["--port-file", "/nowhere/ports", *SPEC])
        result = run(*SPEC, "--port-file", "/nowhere/ports", "--", "echo", "runs")
        self.assertEqual((result.returncode, result.stdout), (SYSTEM_ERROR, ""))

    def test_is_no_other_thing(self):
        """A device or a link would be lost for good."""
        with directory() as path:
            os.symlink("/dev/null", os.path.join(path, "link"))
            os.mkdir(os.path.join(path, "directory"))
            os.mkfifo(os.path.join(path, "pipe"))
            for name in ("link", "directory", "pipe"):
                self.assert_fails(SYSTEM_ERROR, f"cannot write the port file .*/{name}, since there is something that is no "
                                  "regular file: File exists", config=None,
                                  arguments=["--port-file", os.path.join(path, name), *SPEC])
            self.assertEqual(sorted(os.listdir(path)), ["directory", "link", "pipe"])

    def test_that_cannot_be_written_anew(self):
        """The reload counts, and who has asked for it is told."""
        with daemons.Daemon(config=self.write(listener()), arguments=["--port-file", "DIR/ports"]) as daemon:
            os.unlink(daemon.path("ports"))
            os.mkdir(daemon.path("ports"))
            daemon.write_config(self.write(listener("upper")))
            result = run("--reload", str(daemon.pid))
            self.assertEqual(result.returncode, 0)
            self.assertIn("cannot write the port file", result.stderr)
            self.assertEqual(daemon.exchange(b"x"), b"X")

    def test_that_cannot_be_written_after_a_hand_over(self):
        """Connections are worth more."""
        with daemons.Daemon(config=self.write(listener()), arguments=["--port-file", "DIR/ports"]) as daemon, \
                daemon.connect() as client:
            harness.ping(client)
            os.unlink(daemon.path("ports"))
            os.mkdir(daemon.path("ports"))
            hand_over(daemon)
            daemon.wait_log("error: cannot write the port file ")
            harness.ping(client)
            client.close()

    def test_that_cannot_be_removed(self):
        with daemons.Daemon(config=None, arguments=["--port-file", "DIR/ports", *SPEC], faults="unlink:EROFS") as daemon:
            daemon.stop()
            self.assertRegex(daemon.log(), "error: cannot remove the port file .*/ports: Read-only file system")


class Examples(harness.TestCase):
    """They run as they are."""

    def setUp(self):
        tools = directory()
        self.addCleanup(tools.cleanup)
        os.symlink(harness.TCPECHOD, os.path.join(tools.name, "tcpechod"))
        self.environment = daemons.clean_environment(None, {"PATH": f"{tools.name}:{os.environ['PATH']}"})

    def run_in(self, path, *command):
        result = subprocess.run(command, cwd=os.path.join(harness.ROOT, "examples", "fixture", path), env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False, timeout=harness.patience(60))
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def test_python(self):
        self.assertRegex(self.run_in("python", "./check"), r"(?m)^Ran \d+ tests[^\n]*\n\nOK$")

    def test_c(self):
        meson = harness.needs("meson")
        with directory() as build:
            self.run_in("c", meson, "setup", build)
            self.assertRegex(self.run_in("c", meson, "test", "-C", build, "--verbose"),
                             r"(?m)^100%: Checks: \d+, Failures: 0, Errors: 0$")


if __name__ == "__main__":
    harness.main(jobs=4)
