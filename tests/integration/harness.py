"""What the integration tests share: the daemon as a child, its faults, its clients, and a runner that prints TAP.

    import harness

    class Echo(harness.TestCase):
        def test_returns_bytes(self):
            with harness.Daemon('{ address = "127.0.0.1"; port = PORT; service = "echo"; }') as daemon:
                self.assertEqual(daemon.exchange(b"hello"), b"hello")

    if __name__ == "__main__":
        harness.main()

A file runs by itself, too: tests/integration/test_NAME.py [-v] [CLASS[.TEST] ...]. It takes the executables of build/
then, or those that $TCPECHOD and $TCPECHOD_FAULTS name.
"""

import atexit
import contextlib
import ctypes
import errno
import functools
import mmap
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TCPECHOD = os.environ.get("TCPECHOD") or os.path.join(ROOT, "build", "tcpechod")
TCPECHOD_FAULTS = os.environ.get("TCPECHOD_FAULTS") or os.path.join(ROOT, "build", "tests", "support", "tcpechod-faults")
os.environ.setdefault("LSAN_OPTIONS", "print_suppressions=0:suppressions="
                      + os.path.join(ROOT, "tests", "support", "leaks.txt"))

# Exit statuses of tcpechod(8).
USAGE, CANNOT_LISTEN, SYSTEM_ERROR, BAD_SETTINGS = 64, 69, 71, 78

# Long enough for a loaded machine; a test that waits this long has failed.
PATIENCE = 20.0

# How much of the daemon's stderr is kept: the beginning and the end.
STDERR_KEPT = 8 << 20

SANITIZER_REPORT = re.compile(
    r"(ERROR|WARNING): (Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|: runtime error: |FATAL: ThreadSanitizer"
    r"|DEADLYSIGNAL")


# ---- how thorough ----


@functools.lru_cache(None)
def sanitized():
    """Whether the daemon was built with a sanitizer: it is slower and larger then, and no bound on either holds."""
    setting = os.environ.get("TCPECHOD_SANITIZED")
    if setting is not None:
        return setting not in ("", "0")
    with open(TCPECHOD, "rb") as file:
        code = file.read()
    return any(name in code for name in (b"__asan_init", b"__tsan_init", b"__ubsan_handle", b"__msan_init"))


def scale(count, sanitized_count=None):
    """A number of clients or bytes: less with a sanitizer, a tenth where the test does not say how much."""
    if not sanitized():
        return count
    return sanitized_count if sanitized_count is not None else max(1, count // 10)


def patience(seconds=PATIENCE):
    """A time that something may take at most: longer with a sanitizer."""
    return seconds * 5 if sanitized() else seconds


# ---- what a test needs; a test that lacks it is skipped and says why ----


def needs(tool):
    """The path of a program."""
    path = shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if not path:
        raise unittest.SkipTest(f"{tool} is not installed")
    return path


def needs_inetd():
    """The path of Debian's openbsd-inetd, the peer that tests compare with."""
    path = "/usr/sbin/inetd"
    if not os.access(path, os.X_OK):
        raise unittest.SkipTest("openbsd-inetd is not installed")
    return path


def needs_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest("not run as root")


def needs_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        raise unittest.SkipTest(f"no IPv6 on this host ({error.strerror})") from None


def needs_unsanitized(what):
    """For what a sanitizer changes by design: memory, CPU time, latency."""
    if sanitized():
        raise unittest.SkipTest(f"{what} is not measured under a sanitizer")


def raise_nofile(count):
    """Raises the descriptor limit of this process, and of the daemons that it starts from now on, to `count`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        try:
            limit = hard if hard == resource.RLIM_INFINITY else max(hard, count)
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, limit))
        except (OSError, ValueError):
            raise unittest.SkipTest(f"the descriptor limit is {hard} here, and {count} are needed") from None


@contextlib.contextmanager
def executable_for_all(path):
    """A copy that every user may run: the build may be in a home directory, which Debian 13 makes for its owner alone."""
    with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as directory:
        os.chmod(directory, 0o755)
        copy = shutil.copy(path, directory)
        os.chmod(copy, 0o755)
        yield copy


# ---- ports and networks ----


class Port(int):
    """A free port, ours until it is closed: other tests that ask here do not get it, and the kernel gives ports below
    its ephemeral range to nobody who does not name them."""

    claim = None

    def close(self):
        self.claim.close()


def free_port():
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first_ephemeral = int(file.read().split()[0])
    low, high = (10240, first_ephemeral) if first_ephemeral > 12000 else (1024, 65535)
    for _ in range(1000):
        port = Port(low + int.from_bytes(os.urandom(4), "little") % (high - low))
        port.claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # An abstract name has one owner, and is gone with it.
            port.claim.bind(f"\0tcpechod-test-port-{port}")
            for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                _try_bind(family, address, port)
            return port
        except OSError as error:
            port.claim.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise AssertionError("no free port")


def _try_bind(family, address, port):
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return  # a kernel without IPv6
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # a network without IPv6
                raise


CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def network_namespace(ipv6=True):
    """A network of its own for this thread and the children that it starts inside: all ports free, also those below
    1024, and, if asked, no IPv6."""
    needs_root()
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as outside:
        if libc.unshare(CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise unittest.SkipTest(f"cannot make a network namespace ({reason})")
        try:
            if not ipv6:
                _disable_ipv6()
            subprocess.run([needs("ip"), "link", "set", "lo", "up"], check=True, stdin=subprocess.DEVNULL)
            yield
        finally:
            if libc.setns(outside.fileno(), CLONE_NEWNET) != 0:
                os._exit(1)  # every later test would run in the wrong network


def _disable_ipv6():
    for name in ("all", "default", "lo"):
        try:
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
                file.write("1")
        except FileNotFoundError:
            return  # a kernel without IPv6
        except OSError as error:
            raise unittest.SkipTest(f"cannot disable IPv6 in a network namespace ({error.strerror})") from None


# ---- waiting ----


def wait_until(condition, what, timeout=None):
    """Waits for condition() to be true, and returns what it returned."""
    deadline = time.monotonic() + (patience() if timeout is None else timeout)
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what() if callable(what) else what}")
        time.sleep(0.005)


class Frozen:
    """A process is stopped meanwhile, by SIGSTOP, for `seconds` at least."""

    def __init__(self, pid, seconds):
        self.pid = pid
        self.seconds = seconds

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._is_stopped, "the process to be stopped")
        self.until = time.monotonic() + self.seconds

    def __exit__(self, *_):
        time.sleep(max(0.0, self.until - time.monotonic()))
        os.kill(self.pid, signal.SIGCONT)

    def _is_stopped(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"


# ---- faults: tests/support/faults.h ----


class Faults:
    """The rules of a running daemon, in the page that it shares with us."""

    RULES = 32
    HITS_AT = 8
    SPEC_AT = HITS_AT + 8 * RULES
    SIZE = 4096

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            file.truncate(self.SIZE)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), self.SIZE)
        self.generation = 0

    def arm(self, rules):
        """From now on these rules and no others; they count from here. In force with the daemon's next wrapped call."""
        spec = rules.encode() + b"\0"
        if len(spec) > self.SIZE - self.SPEC_AT:
            raise ValueError("too many rules")
        self.page[self.SPEC_AT : self.SPEC_AT + len(spec)] = spec
        # Old counts do not pass for new ones while the daemon has yet to look.
        self.page[self.HITS_AT : self.SPEC_AT] = bytes(8 * self.RULES)
        self.generation += 1
        self.page[0:4] = struct.pack("=I", self.generation)

    def disarm(self):
        self.arm("")

    def loaded(self):
        """Whether the daemon has read the rules armed last."""
        return struct.unpack("=I", self.page[4:8])[0] == self.generation

    def hits(self, rule=0):
        """How often a rule, by its place in the list, has had its effect."""
        at = self.HITS_AT + 8 * rule
        return struct.unpack("=Q", self.page[at : at + 8])[0] if self.loaded() else 0

    def wait_hits(self, count=1, rule=0, timeout=None):
        wait_until(lambda: self.hits(rule) >= count, lambda: f"fault {rule} to happen {count} times, saw {self.hits(rule)}",
                   timeout)


# ---- the service manager's side ----


class NotifySocket:
    """Collects what a daemon tells its service manager, sd_notify(3)."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.asking = threading.Lock()
        self.caught_up = threading.Event()
        self.messages = []  # (monotonic time, {name: value})
        self.stored = []  # (FDNAME, descriptor): what FDSTORE=1 handed over; the test may take them
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)  # for a daemon of another user
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(256 * 4))
            except OSError:
                return
            if data == b"\0stop":
                return
            if data == b"\0catch up":
                self.caught_up.set()
                continue
            fields = dict(line.split("=", 1) for line in data.decode(errors="replace").splitlines() if "=" in line)
            fds = []
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds += struct.unpack(f"={len(content) // 4}i", content[: len(content) // 4 * 4])
            with self.lock:
                if fields.get("FDSTORE") == "1":
                    self.stored += [(fields.get("FDNAME", "stored"), fd) for fd in fds]
                else:
                    for fd in fds:  # BARRIER=1 waits for this
                        os.close(fd)
                self.messages.append((time.monotonic(), fields))

    def values(self, name):
        """Every value that a name had so far, in the order sent."""
        self._catch_up()
        with self.lock:
            return [fields[name] for _, fields in self.messages if name in fields]

    def last(self, name):
        values = self.values(name)
        return values[-1] if values else None

    def wait(self, name, value=None, count=1, timeout=None):
        """Waits until NAME=, whose value matches the regex, was sent `count` times; returns the last value."""

        def seen():
            found = [item for item in self.values(name) if value is None or re.search(value, item)]
            return found if len(found) >= count else None

        return wait_until(seen, lambda: f"{name}={value or ''} from the daemon, got {self.values(name)}", timeout)[-1]

    def _catch_up(self):
        """Waits until all that was sent before is in messages."""
        with self.asking:
            if not self.thread.is_alive():
                return
            self.caught_up.clear()
            self._tell_collector(b"\0catch up")
            if not self.caught_up.wait(patience()):
                raise AssertionError("the notify socket is not read")

    def _tell_collector(self, message):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, self.path)

    def close(self):
        with contextlib.suppress(OSError):
            self._tell_collector(b"\0stop")
        self.thread.join(5)
        self.socket.close()
        for _, fd in self.stored:
            with contextlib.suppress(OSError):
                os.close(fd)


# ---- the daemon ----

running = set()


@atexit.register
def kill_all():
    for daemon in list(running):
        daemon.kill()


class Daemon:
    """A tcpechod with a directory of its own: settings file, sockets, notify socket.

    `listeners` is the inside of the file's list of listeners, `settings` whatever else the file says; with `config`,
    its whole text; with config=None there is no file and no -c. In these texts and in `arguments`, PORT (PORT1, PORT2
    ...) stands for a free port, kept in daemon.port (daemon.ports[1] ...), and DIR for the directory.

    `faults` starts the fault-injecting build with these rules (tests/support/faults.h); "" starts it without any.
    `nofile` is its descriptor limit, N or (soft, hard). `stderr` is a file or descriptor instead of the one collected.
    `wrapper` is put in front of the command line, and has to exec it. `ready` False does not wait for READY=1.

    Start it from a thread that outlives it: the kernel kills it when that thread ends.

    As a context: when the block ends, the daemon is stopped and has to end with status 0; when it ends by an exception,
    or the test has waited for the end itself, that is left out. A sanitizer's report fails the test in any case.
    """

    def __init__(self, listeners=None, settings="", *, config="", arguments=(), faults=None, environment=None,
                 nofile=None, stderr=None, wrapper=(), executable=None, ready=True, pass_fds=()):
        self.ports = []
        self.process = None
        self.stderr_head = bytearray()
        self.stderr_tail = bytearray()
        self.stderr_lost = 0
        self.stderr_lock = threading.Lock()
        self.reader = None
        self.faults = None
        self.directory = tempfile.mkdtemp(prefix="tcpechod-test-")
        # A client of another user may have to come in, when the test drops privileges.
        os.chmod(self.directory, 0o755)
        self.notify = NotifySocket(os.path.join(self.directory, "notify"))
        try:
            self._start(listeners, settings, config, arguments, faults, environment, nofile, stderr, wrapper, executable,
                        pass_fds)
            if ready:
                self.wait_ready()
        except BaseException:
            self.close()
            raise

    # -- start --

    def _start(self, listeners, settings, config, arguments, faults, environment, nofile, stderr, wrapper, executable,
               pass_fds):
        command = list(wrapper) + self._limits(nofile)
        command.append(executable or (TCPECHOD if faults is None else TCPECHOD_FAULTS))
        self.config = None
        if config is not None:
            if not config:
                if listeners is None:
                    listeners = '{ address = "127.0.0.1"; port = PORT; service = "echo"; }'
                config = f"listeners = (\n{listeners}\n);\n{settings}\n"
            self.config = os.path.join(self.directory, "tcpechod.conf")
            self.write_config(config)
            command += ["-c", self.config]
        command += [self.fill_in(argument) for argument in arguments]

        child_environment = dict(os.environ, NOTIFY_SOCKET=self.notify.path)
        for name in ("FAULTS", "FAULTS_FILE", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
                     "WATCHDOG_USEC", "WATCHDOG_PID"):
            child_environment.pop(name, None)
        if faults is not None:
            self.faults = Faults(os.path.join(self.directory, "faults"))
            child_environment.update(FAULTS=faults, FAULTS_FILE=self.faults.path)
        child_environment.update(environment or {})

        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE if stderr is None else stderr, env=child_environment,
                                        cwd="/", pass_fds=pass_fds)
        running.add(self)
        if stderr is None:
            self.reader = threading.Thread(target=self._collect_stderr, daemon=True)
            self.reader.start()

    @staticmethod
    def _limits(nofile):
        # These exec what follows, so that the process stays the same; the daemon dies with the test that is killed.
        command = ["setpriv", "--pdeathsig", "KILL", "--"]
        if nofile is not None:
            soft, hard = nofile if isinstance(nofile, tuple) else (nofile, nofile)
            command += ["prlimit", f"--nofile={soft}:{hard}", "--"]
        return command

    def fill_in(self, text):
        def port(match):
            index = int(match.group(1) or 0)
            while len(self.ports) <= index:
                self.ports.append(free_port())
            return str(int(self.ports[index]))

        return re.sub(r"\bPORT(\d*)\b", port, re.sub(r"\bDIR\b", lambda _: self.directory, text))

    def write_config(self, text):
        """The whole settings file, for the next reload; PORT and DIR are filled in. A reload sees the old or the new one."""
        with open(self.config + ".new", "w", encoding="utf-8", newline="") as file:
            file.write(self.fill_in(text))
        os.replace(self.config + ".new", self.config)

    def wait_ready(self, timeout=None):
        wait_until(lambda: self.notify.values("READY") or self.process.poll() is not None,
                   lambda: f"READY=1, stderr:\n{self.log()}", timeout)
        if not self.notify.values("READY"):
            raise AssertionError(f"ended with {self.process.poll()} before it was ready:\n{self.log()}")

    # -- stderr --

    def _collect_stderr(self):
        stream = self.process.stderr
        while True:
            data = os.read(stream.fileno(), 65536)
            if not data:
                return
            with self.stderr_lock:
                room = STDERR_KEPT // 2 - len(self.stderr_head)
                self.stderr_head += data[:max(room, 0)]
                self.stderr_tail += data[max(room, 0):]
                if len(self.stderr_tail) > STDERR_KEPT // 2:
                    lost = len(self.stderr_tail) - STDERR_KEPT // 4
                    del self.stderr_tail[:lost]
                    self.stderr_lost += lost

    def log(self):
        """What the daemon has written to stderr so far."""
        with self.stderr_lock:
            gap = f"\n[... {self.stderr_lost} bytes not kept ...]\n" if self.stderr_lost else ""
            return (self.stderr_head.decode(errors="replace") + gap + self.stderr_tail.decode(errors="replace"))

    def wait_log(self, pattern, count=1, timeout=None):
        """Waits for a regex in the log (^ and $ match at lines), `count` times; returns the last match."""

        def seen():
            found = list(re.finditer(pattern, self.log(), re.MULTILINE))
            return found if len(found) >= count else None

        return wait_until(seen, lambda: f"/{pattern}/ in the log:\n{self.log()[-4000:]}", timeout)[-1]

    def count_log(self, pattern):
        return len(re.findall(pattern, self.log(), re.MULTILINE))

    # -- signals and the end --

    @property
    def pid(self):
        return self.process.pid

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=None):
        """Waits for the end. Returns the exit status, negative for a signal; all of stderr is in log() then."""
        try:
            status = self.process.wait(patience() if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end:\n{self.log()[-4000:]}") from None
        if self.reader:
            self.reader.join(5)
        return status

    def stop(self, number=signal.SIGTERM, status=0, timeout=None):
        self.send_signal(number)
        ended = self.wait(timeout)
        if ended != status:
            raise AssertionError(f"the daemon ended with {ended} instead of {status}:\n{self.log()[-8000:]}")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        """Kills the daemon if it still runs, and gives everything back."""
        self.kill()
        running.discard(self)
        if self.reader:
            self.reader.join(5)
        if self.process and self.process.stderr:
            self.process.stderr.close()
        self.notify.close()
        for port in self.ports:
            port.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def check_sanitizers(self):
        log = self.log()
        report = SANITIZER_REPORT.search(log)
        if report:
            raise AssertionError(f"a sanitizer reports:\n{log[max(0, report.start() - 200):report.start() + 12000]}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            ended_by_test = self.process.poll() is not None
            if kind is None and not ended_by_test:
                self.stop()
            self.kill()
            if self.reader:
                self.reader.join(5)
            self.check_sanitizers()
            if kind is not None and not issubclass(kind, unittest.SkipTest):
                print(f"# stderr of the daemon:\n{indent(self.log()[-6000:])}", flush=True)
        finally:
            self.close()

    # -- what it uses --

    @property
    def port(self):
        return int(self.ports[0])

    def path(self, name):
        return os.path.join(self.directory, name)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def cpu_seconds(self):
        """CPU time of all threads, those that have ended included."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        coarse = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        fine = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                    fine += int(file.read().split()[0])
            except (OSError, IndexError):
                return coarse
        return max(fine / 1e9, coarse - 0.02 * self.threads())

    def _status_number(self, name):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
        raise AssertionError(f"no {name} in /proc/{self.pid}/status")

    def rss(self):
        """Resident memory in bytes."""
        return self._status_number("VmRSS") * 1024

    def listening(self):
        """The (address, port) pairs on which the daemon listens, sorted, as the kernel has them."""
        inodes = set()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):
                match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{self.pid}/fd/{fd}"))
                if match:
                    inodes.add(match.group(1))
        found = []
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{self.pid}/net/{table}", encoding="ascii") as file:
                for line in file.readlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and fields[9] in inodes:
                        host, port = fields[1].split(":")
                        words = [struct.pack("=I", int(host[i : i + 8], 16)) for i in range(0, len(host), 8)]
                        found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
        return sorted(found)

    # -- its clients --

    def connect(self, index=0, address="127.0.0.1", timeout=None):
        """A blocking socket to PORT (PORTindex) that fails rather than waiting for ever."""
        return socket.create_connection((address, int(self.ports[index])), patience() if timeout is None else timeout)

    def connect_path(self, name="socket"):
        """The same to DIR/NAME."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(patience())
        client.connect(self.path(name))
        return client

    def exchange(self, data, index=0, address="127.0.0.1", timeout=None):
        """Sends `data`, half-closes, and returns all that comes back until the other side's end."""
        with self.connect(index, address, timeout) as client:
            return exchange(client, data)


def run_daemon(*arguments, environment=None, timeout=None, faults=None, cwd="/", wrapper=()):
    """Runs the daemon to its end, as for --help or -t: a CompletedProcess with texts."""
    child_environment = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "FAULTS", "FAULTS_FILE", "JOURNAL_STREAM"):
        child_environment.pop(name, None)
    if faults is not None:
        child_environment["FAULTS"] = faults
    child_environment.update(environment or {})
    command = [*wrapper, "setpriv", "--pdeathsig", "KILL", "--", TCPECHOD if faults is None else TCPECHOD_FAULTS, *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                            env=child_environment, cwd=cwd, timeout=patience() if timeout is None else timeout, check=False)
    if SANITIZER_REPORT.search(result.stderr):
        raise AssertionError(f"a sanitizer reports:\n{result.stderr[:12000]}")
    return result


# ---- clients ----


def pattern(length):
    """Bytes in which every place is told from its neighbours', however the answer is cut or shifted."""
    block = bytes(range(256)) * 4
    out = bytearray()
    number = 0
    while len(out) < length:
        out += struct.pack(">I", number) + block[number % 251 : number % 251 + 252]
        number += 1
    return bytes(out[:length])


def assert_same(got, wanted, what="answer"):
    """Compares bytes without printing megabytes of them."""
    if got == wanted:
        return
    offset = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    raise AssertionError(f"{what}: {len(got)} bytes instead of {len(wanted)}, the first difference at {offset}: "
                         f"{got[offset:offset + 24]!r} instead of {wanted[offset:offset + 24]!r}")


def receive_all(client):
    """Everything until the other side's end."""
    chunks = []
    while True:
        chunk = client.recv(1 << 18)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def receive_exactly(client, length):
    data = bytearray()
    while len(data) < length:
        chunk = client.recv(min(length - len(data), 1 << 18))
        if not chunk:
            raise AssertionError(f"the connection ended after {len(data)} of {length} bytes")
        data += chunk
    return bytes(data)


def exchange(client, data):
    """Sends and receives at the same time, so that neither side can wait for the other; half-closes at the end."""
    failures = []

    def send():
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    answer = receive_all(client)
    sender.join(patience())
    if sender.is_alive():
        raise AssertionError("the daemon ended the connection and left the client sending")
    # A service that says all it has to say and closes may cut a long request short.
    if failures and not isinstance(failures[0], (BrokenPipeError, ConnectionResetError)):
        raise failures[0]
    return answer


# How common clients send stdin, half-close at its end, and write what comes back to stdout.
CLIENTS = {
    "socat": lambda host, port: ["socat", "-t30", "-", f"TCP:{'[' + host + ']' if ':' in host else host}:{port}"],
    "ncat": lambda host, port: ["ncat", host, str(port)],
    "nc": lambda host, port: ["nc.openbsd", "-N", host, str(port)],
}


def run_client(name, port, data, host="127.0.0.1", timeout=None):
    """What `name` (socat, ncat, nc) gets back for `data`."""
    command = CLIENTS[name](host, int(port))
    needs(command[0])
    result = subprocess.run(command, input=data, capture_output=True, check=False,
                            timeout=patience(60) if timeout is None else timeout)
    if result.returncode != 0:
        raise AssertionError(f"{name} ended with {result.returncode}: {result.stderr.decode(errors='replace')}")
    return result.stdout


# ---- the runner: TAP version 12, testanything.org ----


def indent(text):
    return "".join(f"#   {line}\n" for line in text.splitlines()).rstrip("\n")


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def reload(self, daemon, text=None, failing=False):
        """Sends SIGHUP, with another settings file if one is given, and waits for the outcome, which has to be the
        expected one."""
        def ends():
            return daemon.count_log("notice: reloaded ") + daemon.count_log("error: not reloaded")

        before, failed = ends(), daemon.count_log("error: not reloaded")
        if text is not None:
            daemon.write_config(text)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: ends() > before, "the end of a reload")
        self.assertEqual(daemon.count_log("error: not reloaded") - failed, 1 if failing else 0, daemon.log()[-3000:])


class TapResult(unittest.TestResult):
    """One line a test, whatever it ends in, with its reason; subtests that fail are told as diagnostics."""

    def __init__(self, tests):
        super().__init__()
        self.pending = {test.id(): test for test in tests}
        self.number = 0
        self.failed = False
        self.trouble = []
        self.started = 0.0

    def _line(self, test, ok, directive=""):
        self.number += 1
        self.failed = self.failed or not ok
        self.pending.pop(test.id(), None)
        name = ".".join(test.id().split(".")[1:]).replace("#", "")
        spent = f" ({time.monotonic() - self.started:.1f} s)" if self.started and not directive else ""
        print(f"{'ok' if ok else 'not ok'} {self.number} - {name}{spent}{directive}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.trouble = []
        self.started = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        if self.trouble and test.id() in self.pending:
            self._line(test, False)

    def _tell(self, error, test):
        text = self._exc_info_to_string(error, test)  # without the frames of unittest
        print(indent(text), flush=True)
        self.trouble.append(text)

    def addSuccess(self, test):
        if not self.trouble:
            self._line(test, True)

    def addSkip(self, test, reason):
        reason = " ".join(reason.split())
        if test.id() in self.pending:
            self._line(test, True, f" # SKIP {reason}")
        elif not isinstance(test, unittest.TestCase):  # setUpClass, setUpModule
            for other in self._behind(test):
                self._line(other, True, f" # SKIP {reason}")

    def addFailure(self, test, err):
        self.addError(test, err)

    def addError(self, test, err):
        self._tell(err, test)
        if test.id() in self.pending or isinstance(test, unittest.TestCase):
            return  # its line comes with stopTest
        behind = self._behind(test)
        for other in behind:
            self._line(other, False)
        if not behind:  # tearDownClass: all lines are written
            self.number += 1
            self.failed = True
            print(f"not ok {self.number} - {str(test).replace('#', '')}", flush=True)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            print(f"# in {subtest}", flush=True)
            self._tell(err, test)

    def addExpectedFailure(self, test, err):
        self._line(test, True)

    def addUnexpectedSuccess(self, test):
        self.trouble.append("expected to fail")
        print("# passed, and was expected to fail", flush=True)

    def _behind(self, holder):
        """The tests that a class or module, whose set-up ended early, has not run: 'setUpClass (test_x.Class)'."""
        match = re.search(r"\((.*)\)", str(holder))
        prefix = match.group(1) + "." if match else ""
        return [test for name, test in self.pending.items() if name.startswith(prefix)]


def all_tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from all_tests(item)
        else:
            yield item


def main():
    """Runs the tests of the calling file, all or those named as arguments, and exits: 0 when none failed."""
    # Meson ends a test over its time limit so; the finally blocks and atexit run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    module = sys.modules["__main__"]
    # The file's name rather than __main__, for the reader of a list of failures.
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    sys.modules[name] = module
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == "__main__":
            value.__module__ = name
    if not os.access(TCPECHOD, os.X_OK):
        sys.exit(f"no executable {TCPECHOD}: run ./bootstrap, or set $TCPECHOD")
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    tests = list(all_tests(suite))
    print(f"1..{len(tests)}", flush=True)
    result = TapResult(tests)
    suite.run(result)
    for test in list(result.pending.values()):
        print("# did not run", flush=True)
        result._line(test, False)
    for daemon in list(running):
        print(f"# a daemon was left running: {' '.join(daemon.command)}", flush=True)
        result.failed = True
        daemon.close()
    sys.exit(1 if result.failed or not tests else 0)
