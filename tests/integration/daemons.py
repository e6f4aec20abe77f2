"""The daemon as a child of a test: its settings, its log, the service manager's side, its faults."""

import contextlib
import mmap
import os
import re
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

import harness
from harness import patience, wait_until

# Exit statuses of tcpechod(8).
USAGE, CANNOT_LISTEN, SYSTEM_ERROR, BAD_SETTINGS = 64, 69, 71, 78

# How much of the daemon's stderr is kept.
STDERR_KEPT = 16 << 20


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
    """Collects what a daemon tells its service manager, sd_notify(3), and stores so many of its descriptors
    (FileDescriptorStoreMax=)."""

    def __init__(self, path, store=0):
        self.path = path
        self.store = store
        self.lock = threading.Lock()
        self.messages = []  # (monotonic time, {name: value})
        self.stored = []  # (FDNAME, descriptor), which the test may take
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
                self._handle(fields, fds)
                self.messages.append((time.monotonic(), fields))

    def _handle(self, fields, fds):
        name = fields.get("FDNAME", "stored")
        if fields.get("FDSTOREREMOVE") == "1":
            fds = [fd for stored, fd in self.stored if stored == name]
            self.stored = [item for item in self.stored if item[0] != name]
        elif fields.get("FDSTORE") == "1":
            new = [fd for fd in fds if not any(os.path.sameopenfile(fd, stored) for _, stored in self.stored)]
            new = new[: self.store - len(self.stored)]
            self.stored += [(name, fd) for fd in new]
            fds = [fd for fd in fds if fd not in new]
        for fd in fds:  # BARRIER=1 waits for this
            os.close(fd)

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
    r"^\S+Z (?P<level>\w+): connection (?P<id>\d+) from (?P<client>\S+)(?: via (?P<proxy>\S+))? closed: "
    r"(?P<reason>\w+)(?:: (?P<error>[^,]+))?, "
    r"(?P<service>\w+) on (?P<listener>\S+), worker (?P<worker>\d+), (?P<bytes_in>\d+) bytes in, (?P<bytes_out>\d+) out, "
    r"(?P<seconds>\d+\.\d{6}) s$", re.MULTILINE)
COUNTERS = r"counters: (\d+ connections?\b.*)$"


# ---- the daemon ----

# What systemd does between fork(2) and execve(2): descriptors from 3 on, and the environment that tells of them.
PASS = """
import fcntl, os, sys
end = sys.argv.index("--")
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1:end]]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.closerange(3 + len(fds), 1 << 20)
os.environ.setdefault("LISTEN_FDS", str(len(fds)))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
"""


class Daemon:
    """A tcpechod with a directory of its own: settings file, sockets, notify socket.

    `listeners` is the inside of the file's list of listeners, `settings` whatever else the file says; with `config`,
    its whole text; with config=None there is no file and no -c. In these texts and in `arguments`, PORT (PORT1, PORT2
    ...) stands for a free port, kept in daemon.port (daemon.ports[1] ...), and DIR for the directory.

    `faults` starts the fault-injecting build with these rules (tests/support/faults.h); "" starts it without any.
    `nofile` is its descriptor limit, N or (soft, hard). `stderr` is a file or descriptor instead of the one collected.
    `wrapper` is put in front of the command line, and has to exec it. `ready` False does not wait for READY=1.
    `passed` are the sockets that it gets, (name, socket), as from a socket unit; `store`: so many of its own descriptors
    the service manager stores, for successor().

    Start it from a thread that outlives it: the kernel kills it when that thread ends.

    As a context: when the block ends, the clients that connect() made are closed, and the daemon is stopped and has to end
    with status 0; when it ends by an exception, or the test has waited for the end itself, that is left out. A sanitizer's
    report fails the test in any case.
    """

    def __init__(self, listeners=None, settings="", *, config="", arguments=(), faults=None, environment=None,
                 nofile=None, stderr=None, wrapper=(), executable=None, ready=True, passed=(), store=0):
        self.ports = []
        self.clients = []
        self.process = None
        self.stderr = bytearray()
        self.reader = None
        self.config = None
        self.passed = [(name, item.fileno()) for name, item in passed]
        self.directory = tempfile.mkdtemp(prefix="tcpechod-test-")
        # A client of another user may have to come in, when the test drops privileges.
        os.chmod(self.directory, 0o755)
        self.notify = NotifySocket(os.path.join(self.directory, "notify"), store)
        self.faults = Faults(os.path.join(self.directory, "faults")) if faults is not None else None
        try:
            # Each executes what follows, so that the process stays the same; the daemon dies with the test that is killed.
            command = [*wrapper, "setpriv", "--pdeathsig", "KILL", "--"]
            if nofile is not None:
                soft, hard = nofile if isinstance(nofile, tuple) else (nofile, nofile)
                command += ["prlimit", f"--nofile={soft}:{hard}", "--"]
            command.append(executable or (harness.TCPECHOD if faults is None else harness.TCPECHOD_FAULTS))
            if config is not None:
                self.config = os.path.join(self.directory, "tcpechod.conf")
                self.write_config(config or config_text(listeners or ECHO, settings))
                command += ["-c", self.config]
            self.command = command + [self.fill_in(argument) for argument in arguments]
            extra = {"NOTIFY_SOCKET": self.notify.path, **(environment or {})}
            if faults is not None:
                extra = {"FAULTS_FILE": self.faults.path, **extra}
            self.environment = clean_environment(faults, extra)
            self._start(stderr, ready)
        except BaseException:
            self.close()
            raise

    def _start(self, stderr, ready, wrapper=(), **environment):
        before = len(self.notify.values("READY"))  # all that the process before has said is seen to by then
        passed = self.passed + self.notify.stored
        command = [*wrapper, *self.command]
        environment = {**self.environment, **environment}
        if passed:
            command = [sys.executable, "-c", PASS, *(str(fd) for _, fd in passed), "--", *command]
            environment.setdefault("LISTEN_FDNAMES", ":".join(name for name, _ in passed))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE if stderr is None else stderr, cwd="/",
                                        env=environment, pass_fds=[fd for _, fd in passed])
        harness.running.add(self)
        if stderr is None:
            self.reader = threading.Thread(target=self._collect_stderr, daemon=True)
            self.reader.start()
        if ready:
            self.wait_ready(before + 1)

    def successor(self, ready=True, wrapper=(), **environment):
        """The next process, after wait(): it gets what the service manager has stored. FAULTS= are its rules from the
        start."""
        self.process.stderr.close()
        self._start(None, ready, wrapper, **environment)

    def fill_in(self, text):
        def port(match):
            index = int(match.group(1) or 0)
            while len(self.ports) <= index:
                self.ports.append(harness.free_port())
            return str(int(self.ports[index]))

        return re.sub(r"\bPORT(\d*)\b", port, re.sub(r"\bDIR\b", lambda _: self.directory, text))

    def write_config(self, text):
        """The whole settings file, for the next reload; PORT and DIR are filled in. A reload sees the old or the new one."""
        with open(self.config + ".new", "w", encoding="utf-8", newline="") as file:
            file.write(self.fill_in(text))
        os.replace(self.config + ".new", self.config)

    def wait_started(self, count=1):
        """Waits until the daemon is ready, for the `count`th time, or has ended. Returns whether it is ready."""
        def is_ready():
            return len(self.notify.values("READY")) >= count

        wait_until(lambda: is_ready() or self.process.poll() is not None, lambda: f"READY=1, stderr:\n{self.log()}")
        return is_ready()

    def wait_ready(self, count=1):
        if not self.wait_started(count):
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
        harness.running.discard(self)
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
        report = harness.SANITIZER_REPORT.search(log)
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
                print(f"# stderr of the daemon:\n{harness.indent(self.log()[-6000:])}", flush=True)
        finally:
            self.close()

    # -- what it uses --

    @property
    def port(self):
        return int(self.ports[0])

    def path(self, name):
        return os.path.join(self.directory, name)

    def descriptors(self):
        """How many are open: the fewest of some moments, as a message to the service manager takes one for a moment."""
        counts = []
        for _ in range(5):
            counts.append(len(os.listdir(f"/proc/{self.pid}/fd")))
            time.sleep(0.01)
        return min(counts)

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def cpu_seconds(self):
        """CPU time of all threads, those that have ended included."""
        fields = harness.stat_fields(self.pid)
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
        shown = sockets("-Hltne")
        found = re.findall(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) .*\bino:(\d+)\b", shown, re.MULTILINE)
        return sorted((host.strip("[]").replace("*", "::"), int(port)) for host, port, inode in found if inode in inodes)

    def established(self):
        """How many connections to its ports the kernel holds, accepted or not."""
        ports = " or ".join(f"sport = :{int(port)}" for port in self.ports)
        return sockets("-Htn", "state", "established", f"( {ports} )").count("\n")

    # -- its clients --

    def connect(self, index=0, address="127.0.0.1", timeout=None, source=None):
        """A blocking socket to PORT (PORTindex), from `source` if given, that fails rather than waiting for ever."""
        client = socket.create_connection((address, int(self.ports[index])), patience() if timeout is None else timeout,
                                          source_address=socket.getaddrinfo(source, 0)[0][4] if source else None)
        self.clients.append(client)
        return client

    def connect_small(self, index=0):
        """A client whose kernel takes little, so that the rest of a long answer stays with the daemon."""
        client = socket.socket()
        self.clients.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(patience())
        client.connect(("127.0.0.1", int(self.ports[index])))
        return client

    def connect_many(self, count, *place, **how):
        return [self.connect(*place, **how) for _ in range(count)]

    def connect_path(self, name="socket"):
        """The same to DIR/NAME, or to another path."""
        client = harness.connect_path(self.path(name))
        self.clients.append(client)
        return client

    def exchange(self, data, index=0, address="127.0.0.1", timeout=None):
        """Sends `data`, half-closes, and returns all that comes back until the other side's end."""
        with self.connect(index, address, timeout) as client:
            return harness.exchange(client, data)


def sockets(*arguments):
    """What ss(8) says."""
    return subprocess.run([harness.needs("ss"), *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True).stdout


def clean_environment(faults, extra):
    """The environment of a daemon: nothing of who runs the tests, and these faults."""
    environment = dict(os.environ)
    for name in ("FAULTS", "FAULTS_FILE", "FDSTORE", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
                 "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        environment.pop(name, None)
    if faults is not None:
        environment["FAULTS"] = faults
    return {**environment, **extra}


def run_daemon(*arguments, environment=None, timeout=None, faults=None, cwd="/", wrapper=()):
    """Runs the daemon to its end, as for --help or -t: a CompletedProcess with texts."""
    program = harness.TCPECHOD if faults is None else harness.TCPECHOD_FAULTS
    command = [*wrapper, "setpriv", "--pdeathsig", "KILL", "--", program, *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                            env=clean_environment(faults, environment or {}), cwd=cwd,
                            timeout=patience() if timeout is None else timeout, check=False)
    if harness.SANITIZER_REPORT.search(result.stderr):
        raise AssertionError(f"a sanitizer reports:\n{result.stderr[:12000]}")
    return result


class TestCase(harness.TestCase):
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
