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
import collections
import contextlib
import ctypes
import errno
import fcntl
import functools
import io
import mmap
import os
import re
import resource
import select
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

# How much of the daemon's stderr is kept.
STDERR_KEPT = 16 << 20

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
PR_SET_PDEATHSIG = 1


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

    def __init__(self, pid, seconds=0.0):
        self.pid = pid
        self.seconds = seconds

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: stat_fields(self.pid)[0] == "T", "the process to be stopped")
        self.until = time.monotonic() + self.seconds

    def __exit__(self, *_):
        time.sleep(max(0.0, self.until - time.monotonic()))
        os.kill(self.pid, signal.SIGCONT)


def stat_fields(pid):
    """/proc/PID/stat from the state on."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()


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
        self.messages = []  # (monotonic time, {name: value})
        self.stored = []  # (FDNAME, descriptor): what FDSTORE=1 handed over; the test may take them
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)  # for a daemon of another user
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        more = True
        while more:
            select.select([self.socket], [], [])
            more = self._take()

    def _take(self):
        """Takes all that was sent so far. Returns whether there may be more."""
        with self.lock:
            while True:
                try:
                    data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(256 * 4), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return True
                except OSError:  # closed
                    return False
                if not data:  # from close()
                    return False
                fields = dict(line.split("=", 1) for line in data.decode(errors="replace").splitlines() if "=" in line)
                fds = [fd for level, kind, content in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                       for fd in struct.unpack(f"={len(content) // 4}i", content[: len(content) // 4 * 4])]
                if fields.get("FDSTORE") == "1":
                    self.stored += [(fields.get("FDNAME", "stored"), fd) for fd in fds]
                else:
                    for fd in fds:  # BARRIER=1 waits for this
                        os.close(fd)
                self.messages.append((time.monotonic(), fields))

    def sent(self, name):
        """When each value of a name was sent so far, and the value, in the order sent."""
        self._take()
        with self.lock:
            return [(when, fields[name]) for when, fields in self.messages if name in fields]

    def values(self, name):
        return [value for _, value in self.sent(name)]

    def last(self, name):
        values = self.values(name)
        return values[-1] if values else None

    def wait(self, name, value=None, count=1, timeout=None):
        """Waits until NAME=, whose value matches the regex, was sent `count` times; returns the last value."""

        def seen():
            found = [item for item in self.values(name) if value is None or re.search(value, item)]
            return found if len(found) >= count else None

        return wait_until(seen, lambda: f"{name}={value or ''} from the daemon, got {self.values(name)}", timeout)[-1]

    def close(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.path)
        self.thread.join(5)
        self.socket.close()
        for _, fd in self.stored:
            with contextlib.suppress(OSError):
                os.close(fd)


# ---- settings: see class Daemon for PORT and DIR ----


def literal(value):
    """A value as the settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[ {', '.join(map(literal, value))} ]"
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        safe = set(range(32, 127)) - set(b'"\\')
        return '"' + "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in value) + '"'
    return str(value)


def listener(service="echo", port="PORT", *, address="127.0.0.1", path=None, **options):
    """One entry of the list of listeners, at a path if one is given."""
    place = f"path = {literal(path)};" if path else f"address = {literal(address)}; port = {port};"
    return " ".join(["{", place, f"service = {literal(service)};",
                     *(f"{name} = {literal(value)};" for name, value in options.items()), "}"])


ECHO = listener()
UPPER = listener("upper", "PORT1")


def config_text(listeners=ECHO, settings=""):
    """A whole file."""
    return f"listeners = ( {listeners} );\n{settings}\n"


# What tests of the log, and tests that must not hear of it, set.
LOG = 'log = { level = "info"; rate = 0; };'
DEBUG = 'log = { level = "debug"; rate = 0; };'
QUIET = 'log = { level = "notice"; };'

# "connection 7 from 127.0.0.1:40000 closed: reset, echo on 127.0.0.1:7007, worker 1, 5 bytes in, 4 out, 0.000123 s"
CLOSED = re.compile(
    r"^\S+Z (?P<level>\w+): connection (?P<id>\d+) from (?P<client>\S+) closed: (?P<reason>\w+)(?:: (?P<error>[^,]+))?, "
    r"(?P<service>\w+) on (?P<listener>\S+), worker (?P<worker>\d+), (?P<bytes_in>\d+) bytes in, (?P<bytes_out>\d+) out, "
    r"(?P<seconds>\d+\.\d{6}) s$", re.MULTILINE)
COUNTERS = r"counters: (\d+ connections?\b.*)$"


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

    As a context: when the block ends, the clients that connect() made are closed, and the daemon is stopped and has to end
    with status 0; when it ends by an exception, or the test has waited for the end itself, that is left out. A sanitizer's
    report fails the test in any case.
    """

    def __init__(self, listeners=None, settings="", *, config="", arguments=(), faults=None, environment=None,
                 nofile=None, stderr=None, wrapper=(), executable=None, ready=True, pass_fds=()):
        self.ports = []
        self.clients = []
        self.process = None
        self.stderr = bytearray()
        self.reader = None
        self.config = None
        self.directory = tempfile.mkdtemp(prefix="tcpechod-test-")
        # A client of another user may have to come in, when the test drops privileges.
        os.chmod(self.directory, 0o755)
        self.notify = NotifySocket(os.path.join(self.directory, "notify"))
        self.faults = Faults(os.path.join(self.directory, "faults")) if faults is not None else None
        try:
            # Each executes what follows, so that the process stays the same; the daemon dies with the test that is killed.
            command = [*wrapper, "setpriv", "--pdeathsig", "KILL", "--"]
            if nofile is not None:
                soft, hard = nofile if isinstance(nofile, tuple) else (nofile, nofile)
                command += ["prlimit", f"--nofile={soft}:{hard}", "--"]
            command.append(executable or (TCPECHOD if faults is None else TCPECHOD_FAULTS))
            if config is not None:
                self.config = os.path.join(self.directory, "tcpechod.conf")
                self.write_config(config or config_text(listeners or ECHO, settings))
                command += ["-c", self.config]
            self.command = command + [self.fill_in(argument) for argument in arguments]
            extra = {"NOTIFY_SOCKET": self.notify.path, **(environment or {})}
            if faults is not None:
                extra = {"FAULTS_FILE": self.faults.path, **extra}
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.PIPE if stderr is None else stderr, cwd="/",
                                            env=clean_environment(faults, extra), pass_fds=pass_fds)
            running.add(self)
            if stderr is None:
                self.reader = threading.Thread(target=self._collect_stderr, daemon=True)
                self.reader.start()
            if ready:
                self.wait_ready()
        except BaseException:
            self.close()
            raise

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

    def wait_started(self):
        """Waits until the daemon is ready or has ended. Returns whether it is ready."""
        wait_until(lambda: self.notify.values("READY") or self.process.poll() is not None,
                   lambda: f"READY=1, stderr:\n{self.log()}")
        return bool(self.notify.values("READY"))

    def wait_ready(self):
        if not self.wait_started():
            raise AssertionError(f"ended with {self.process.poll()} before it was ready:\n{self.log()}")

    # -- stderr --

    def _collect_stderr(self):
        while data := os.read(self.process.stderr.fileno(), 65536):
            if len(self.stderr) < STDERR_KEPT:
                self.stderr += data

    def log(self):
        """What the daemon has written to stderr so far."""
        return bytes(self.stderr).decode(errors="replace")

    def wait_log(self, pattern, count=1, timeout=None):
        """Waits for a regex in the log (^ and $ match at lines), `count` times; returns the last match."""

        def seen():
            found = list(re.finditer(pattern, self.log(), re.MULTILINE))
            return found if len(found) >= count else None

        return wait_until(seen, lambda: f"/{pattern}/ in the log:\n{self.log()[-4000:]}", timeout)[-1]

    def count_log(self, pattern):
        return len(re.findall(pattern, self.log(), re.MULTILINE))

    def closed(self):
        """The messages about closed connections: matches of CLOSED."""
        return list(CLOSED.finditer(self.log()))

    def wait_closed(self, count=1):
        """The same, once there are so many."""
        wait_until(lambda: len(self.closed()) >= count,
                   lambda: f"{count} closed connections in the log:\n{self.log()[-4000:]}")
        return self.closed()

    def counters(self):
        """What SIGUSR1 makes the daemon log: the line of the whole, and a list of the connections of each worker."""
        before = self.count_log(COUNTERS)
        self.send_signal(signal.SIGUSR1)
        workers = int(self.wait_log(r"ready: .*, (\d+) workers?,").group(1))

        def seen():
            lines = list(re.finditer(COUNTERS, self.log(), re.MULTILINE))[before:]
            rest = self.log()[lines[0].start():] if lines else ""
            found = re.findall(r"counters: worker \d+: (\d+) connections?$", rest, re.MULTILINE)
            return (lines[0].group(1), [int(count) for count in found[:workers]]) if len(found) >= workers else None

        return wait_until(seen, "the counters in the log")

    def hold_main_loop(self):
        """The main loop is kept from its next wait, until other fault rules come."""
        self.faults.arm("epoll_wait@main:sleep=600000")
        self.send_signal(signal.SIGUSR1)  # and not a client: what is ready is looked at with a wait of its own
        self.faults.wait_hits()

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
        for client in self.clients:
            client.close()
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
            for client in self.clients:
                client.close()
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
        fields = stat_fields(self.pid)
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
        # Not from /proc/net/tcp, where the kernel tells thousands in TIME_WAIT one by one.
        shown = subprocess.run([needs("ss"), "-Hltne"], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        found = re.findall(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) .*\bino:(\d+)\b", shown, re.MULTILINE)
        return sorted((host.strip("[]").replace("*", "::"), int(port)) for host, port, inode in found if inode in inodes)

    def established(self):
        """How many connections to its ports the kernel holds, accepted or not."""
        ports = " or ".join(f"sport = :{int(port)}" for port in self.ports)
        return subprocess.run([needs("ss"), "-Htn", "state", "established", f"( {ports} )"], check=True, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True).stdout.count("\n")

    # -- its clients --

    def connect(self, index=0, address="127.0.0.1", timeout=None, source=None):
        """A blocking socket to PORT (PORTindex), from `source` if given, that fails rather than waiting for ever."""
        client = socket.create_connection((address, int(self.ports[index])), patience() if timeout is None else timeout,
                                          source_address=socket.getaddrinfo(source, 0)[0][4] if source else None)
        self.clients.append(client)
        return client

    def connect_many(self, count, *place, **how):
        return [self.connect(*place, **how) for _ in range(count)]

    def connect_path(self, name="socket"):
        """The same to DIR/NAME, or to another path."""
        client = connect_path(self.path(name))
        self.clients.append(client)
        return client

    def exchange(self, data, index=0, address="127.0.0.1", timeout=None):
        """Sends `data`, half-closes, and returns all that comes back until the other side's end."""
        with self.connect(index, address, timeout) as client:
            return exchange(client, data)


def clean_environment(faults, extra):
    """The environment of a daemon: nothing of who runs the tests, and these faults."""
    environment = dict(os.environ)
    for name in ("FAULTS", "FAULTS_FILE", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
                 "WATCHDOG_USEC", "WATCHDOG_PID"):
        environment.pop(name, None)
    if faults is not None:
        environment["FAULTS"] = faults
    return {**environment, **extra}


def run_daemon(*arguments, environment=None, timeout=None, faults=None, cwd="/", wrapper=()):
    """Runs the daemon to its end, as for --help or -t: a CompletedProcess with texts."""
    command = [*wrapper, "setpriv", "--pdeathsig", "KILL", "--", TCPECHOD if faults is None else TCPECHOD_FAULTS,
               *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                            env=clean_environment(faults, environment or {}), cwd=cwd,
                            timeout=patience() if timeout is None else timeout, check=False)
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


def connect_path(path):
    """A blocking socket to a path that fails rather than waiting for ever."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(patience())
    client.connect(path)
    return client


def exchange_path(path, data):
    with connect_path(path) as client:
        return exchange(client, data)


class Sender:
    """Sends, and half-closes at the end, in a thread of its own, so that neither side can wait for the other. When the
    block ends, all of it was sent, or what prevented that is in `failure`."""

    def __init__(self, client, data, half_close=True):
        self.client = client
        self.data = data
        self.half_close = half_close
        self.failure = None
        self.thread = threading.Thread(target=self._send, daemon=True)

    def _send(self):
        try:
            self.client.sendall(self.data)
            if self.half_close:
                self.client.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.thread.join(patience())
            if self.thread.is_alive():
                raise AssertionError("the daemon ended the connection and left the client sending")


def exchange(client, data, receive=receive_all):
    """Sends and receives at the same time; half-closes at the end."""
    with Sender(client, data) as sender:
        answer = receive(client)
    # A service that says all it has to say and closes may cut a long request short.
    if sender.failure and not isinstance(sender.failure, (BrokenPipeError, ConnectionResetError)):
        raise sender.failure
    return answer


def ping(client, data=b"x", answer=None):
    """One message, and its answer, which is `data` itself unless said otherwise."""
    client.sendall(data)
    assert_same(receive_exactly(client, len(answer or data)), answer or data)


def fill(client, limit=1 << 30, quiet=0.3):
    """Sends bytes of pattern() and reads nothing, until nothing more is taken for a while. Returns what was sent."""
    block = pattern(1 << 20)
    sent = 0
    client.settimeout(quiet)
    with contextlib.suppress(TimeoutError):
        while sent < limit:
            sent += client.send(block[sent % len(block):][: limit - sent])
    client.settimeout(patience())
    return sent


def is_silent(client, seconds=0.25):
    """Whether nothing comes for a while, not even an end."""
    return not select.select([client], [], [], seconds)[0]


def is_refused(client):
    """Whether the daemon closes without a word; waits for that."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def reset(client):
    """Leaves with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


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


# ---- test cases ----


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def assert_names(self, file, written, wanted):
        """A file, or part of it, names all that is wanted, and nothing else."""
        written, wanted = collections.Counter(list(written)), collections.Counter(list(wanted))
        if written != wanted:
            self.fail(f"{file}: add {[*(wanted - written).elements()]}, take out {[*(written - wanted).elements()]}")

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

    def assert_fails(self, status, *patterns, **how):
        """A daemon that is started like this does not get ready: see assert_ended()."""
        with Daemon(ready=False, **how) as daemon:
            return self.assert_ended(daemon, status, *patterns)

    def assert_ended(self, daemon, status, *patterns):
        """The daemon was never ready, ends with this status, and stderr matches the patterns. Where the system is the cause,
        the service manager is told the first of them, too, and systemctl status shows it. Returns stderr."""
        self.assertEqual(daemon.wait(), status, daemon.log())
        for each in patterns:
            self.assertRegex(daemon.log(), re.compile(each, re.MULTILINE))
        self.assertEqual(daemon.notify.values("READY"), [])
        if status in (CANNOT_LISTEN, SYSTEM_ERROR):
            self.assertRegex(daemon.notify.last("ERRNO"), r"^\d+$")
            self.assertRegex(daemon.notify.last("STATUS"), patterns[0].removeprefix("error: "))
        return daemon.log()


# ---- the runner: TAP version 12, testanything.org ----


def indent(text):
    return "".join(f"#   {line}\n" for line in text.splitlines()).rstrip("\n")


class TapResult(unittest.TestResult):
    """One line a test, whatever it ends in, with its reason; subtests that fail are told as diagnostics."""

    def __init__(self, tests):
        super().__init__()
        self.pending = {test.id(): test for test in tests}
        self.failed = False
        self.trouble = []
        self.left_out = ""
        self.started = 0.0

    def line(self, test, ok, directive=""):
        self.failed = self.failed or not ok
        self.pending.pop(test.id(), None)
        name = ".".join(test.id().split(".")[1:]).replace("#", "")
        spent = f" ({time.monotonic() - self.started:.1f} s)" if self.started and not directive else ""
        print(f"{'ok' if ok else 'not ok'} - {name}{spent}{directive}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.trouble = []
        self.left_out = ""
        self.started = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        if (self.trouble or self.left_out) and test.id() in self.pending:
            self.line(test, not self.trouble, self.left_out if not self.trouble else "")

    def _tell(self, error, test):
        text = self._exc_info_to_string(error, test)  # without the frames of unittest
        print(indent(text), flush=True)
        self.trouble.append(text)

    def addSuccess(self, test):
        if not self.trouble:
            self.line(test, True)

    def addSkip(self, test, reason):
        directive = f" # SKIP {' '.join(reason.split())}"
        for each in self._of(test):
            self.line(each, True, directive)
        self.left_out = directive  # of a subtest: the test's line comes with stopTest

    def addFailure(self, test, err):
        self.addError(test, err)

    def addError(self, test, err):
        self._tell(err, test)
        if isinstance(test, unittest.TestCase):
            return  # its line comes with stopTest
        self.failed = True
        for each in self._of(test):
            self.line(each, False)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            print(f"# in {subtest}", flush=True)
            self._tell(err, test)

    def _of(self, holder):
        """The tests that have not run of a test, or of a class or module whose set-up ended early: 'setUpClass (x.Class)'."""
        match = re.search(r"\((.*)\)", str(holder))
        prefix = match.group(1) + "." if match and not isinstance(holder, unittest.TestCase) else holder.id()
        return [test for name, test in self.pending.items() if name.startswith(prefix)]


def all_tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from all_tests(item)
        else:
            yield item


def groups_of(tests):
    """Lists of tests, each of which runs in one process: a test alone, or all of a class that is set up as a whole."""
    groups = {}
    for test in tests:
        alone = type(test).setUpClass.__func__ is unittest.TestCase.setUpClass.__func__
        groups.setdefault(test if alone else type(test), []).append(test)
    return list(groups.values())


def run_groups(groups, queue):
    """Runs those groups whose numbers it gets from the queue, and returns the exit status. What a group says comes in one
    piece, since other processes write, too."""
    failed = False
    with open(sys.argv[0], "rb") as lock:
        while number := os.read(queue, 1):
            group = groups[number[0]]
            result = TapResult(group)
            said, sys.stdout = sys.stdout, io.StringIO()
            try:
                unittest.TestSuite(group).run(result)
            finally:
                for test in list(result.pending.values()):
                    print("# did not run")
                    result.line(test, False)
                for daemon in list(running):
                    print(f"# a daemon was left running: {' '.join(daemon.command)}")
                    result.failed = True
                    daemon.close()
                said, sys.stdout = sys.stdout.getvalue(), said
                fcntl.flock(lock, fcntl.LOCK_EX)
                print(said, end="", flush=True)
                fcntl.flock(lock, fcntl.LOCK_UN)
            failed = failed or result.failed
    return 1 if failed else 0


def main(jobs=1):
    """Runs the tests of the calling file, all or those named as arguments, and exits: 0 when none failed. With `jobs`, so
    many at a time: for tests that measure nothing, and wait most of the time."""
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
    groups = groups_of(all_tests(suite))
    if not groups:
        sys.exit("no tests")
    print(f"1..{sum(map(len, groups))}", flush=True)
    queue, feed = os.pipe()
    os.write(feed, bytes(range(len(groups))))
    os.close(feed)
    children = []
    for _ in range(min(jobs, len(groups)) if jobs > 1 else 0):
        child = os.fork()
        if not child:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            sys.exit(run_groups(groups, queue))
        children.append(child)
    if not children:
        sys.exit(run_groups(groups, queue))
    sys.exit(1 if any([os.waitpid(child, 0)[1] for child in children]) else 0)
