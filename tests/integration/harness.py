"""What the integration tests share: waiting, networks, what talks to sockets, and a runner that prints TAP.

    import daemons
    import harness

    class Echo(harness.TestCase):
        def test_returns_bytes(self):
            with daemons.Daemon('{ address = "127.0.0.1"; port = PORT; service = "echo"; }') as daemon:
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
import termios
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TCPECHOD = os.environ.get("TCPECHOD") or os.path.join(ROOT, "build", "tcpechod")
TCPECHOD_FAULTS = os.environ.get("TCPECHOD_FAULTS") or os.path.join(ROOT, "build", "tests", "support", "tcpechod-faults")
os.environ.setdefault("LSAN_OPTIONS", "print_suppressions=0:suppressions="
                      + os.path.join(ROOT, "tests", "support", "leaks.txt"))

# Long enough for a loaded machine; a test that waits this long has failed.
PATIENCE = 20.0

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


def wait_arrived(client, timeout=None):
    """Until the daemon's kernel has all that was sent."""

    def unsent():
        return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]

    wait_until(lambda: unsent() == 0, lambda: f"{unsent()} bytes to arrive", timeout)


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


# ---- test cases, and what they have started ----

running = set()


@atexit.register
def kill_all():
    for daemon in list(running):
        daemon.kill()


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def assert_names(self, file, written, wanted):
        """A file, or part of it, names all that is wanted, and nothing else."""
        written, wanted = collections.Counter(list(written)), collections.Counter(list(wanted))
        if written != wanted:
            self.fail(f"{file}: add {[*(wanted - written).elements()]}, take out {[*(written - wanted).elements()]}")


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
