"""A booted systemd for the tests of the package: tests/system/boot, and what is done in it.

    import machine

    class Service(machine.TestCase):
        def test_answers(self):
            self.machine.systemctl("start", "tcpechod")
            self.assertEqual(self.machine.exchange(7, b"hi\\n"), b"hi\\n")

The tests of a file share a machine, on which the package is installed; each finds its units stopped and without
drop-ins, and its settings as they were installed. This process is in the machine's network: sockets made here are
clients of the daemon in it.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

import daemons  # noqa: E402
import harness  # noqa: E402

CONF = "/etc/tcpechod.conf"
# MESSAGE_IDs of the catalog.
CANNOT_LISTEN = "1080276ad938445b986d118c4e11256b"
STUCK = "8c3f6f0e5ad94a0f9a4fca1f2f6f3c55"
MISTAKE = "5bc74c30c1844a8e9ddd8a4af76c7db9"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Where the package is kept from one run to the next.
BUILD = os.environ.get("TCPECHOD_SYSTEM_BUILD") or os.path.join(harness.ROOT, "build", "tests", "system")

# A boot takes seconds; a machine that takes as long has failed.
BOOT_TIME = 120


# ---- the package ----


def _is_source(directory, name):
    path = os.path.join(directory, name)
    if os.path.basename(directory) == "debian" and (name in ("tcpechod", "tmp", "files", "debhelper-build-stamp")
                                                    or name.endswith(".substvars") or ".debhelper" in name):
        return False
    return name not in (".git", "__pycache__") and not os.path.isdir(os.path.join(path, "meson-private"))


def _ignored(directory, names):
    return [name for name in names if not _is_source(directory, name)]


def _source_files():
    for directory, directories, files in os.walk(harness.ROOT):
        directories[:] = sorted(name for name in directories if _is_source(directory, name))
        for name in sorted(files):
            if _is_source(directory, name):
                yield os.path.join(directory, name)


def _fingerprint():
    digest = hashlib.sha256()
    for path in _source_files():
        if os.path.relpath(path, harness.ROOT).split(os.sep)[0] in ("tests", ".ci"):
            continue  # the package is built without them
        with open(path, "rb") as file:
            digest.update(f"{path}\0{os.stat(path).st_mode:o}\0".encode() + file.read() + b"\0")
    return digest.hexdigest()[:16]


# All that the tests run here; what they run in the machine is on the host, too.
TOOLS = ("systemd-nspawn", "dbus-daemon", "findmnt", "setpriv", "nsenter", "unshare", "dpkg-buildpackage", "dh", "nc",
         "man")


def needs_all():
    """Skips the tests of a host that cannot run them, before anything is built or started."""
    harness.needs_root()
    for tool in TOOLS:
        harness.needs(tool)
    result = subprocess.run(["dpkg-checkbuilddeps"], cwd=harness.ROOT, env=dict(os.environ, LC_ALL="C.UTF-8", PATH=PATH),
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            check=False)
    if result.returncode != 0:
        raise unittest.SkipTest(f"the package cannot be built: {result.stderr.strip()}")


def package(version=None):
    """The path of the package, built by dpkg-buildpackage unless that of these sources is there already; with `version`,
    the next one: the same, but that its control file has that version, and its settings file another comment."""
    kept = os.path.join(BUILD, f"package-{_fingerprint()}")
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other tests need it, too
        if not os.path.isdir(kept):
            _build_package(kept)
        found = [name for name in os.listdir(kept) if re.fullmatch(r"tcpechod_.*\.deb", name)]
        if len(found) != 1:
            raise AssertionError(f"dpkg-buildpackage made {found}")
        path = os.path.join(kept, found[0])
        if not version:
            return path
        newer = os.path.join(kept, f"next_{version.replace(':', '%3a')}.deb")
        if not os.path.exists(newer):
            _make_newer(path, newer, version)
        return newer


def _build_package(kept):
    with tempfile.TemporaryDirectory(prefix="tcpechod-package-") as work:
        source = os.path.join(work, "tcpechod")
        shutil.copytree(harness.ROOT, source, symlinks=True, ignore=_ignored)
        # The tests of the sources run elsewhere. PATH without whatever Python the caller prefers.
        environment = dict(os.environ, DEB_BUILD_OPTIONS="nocheck", PATH=PATH, LC_ALL="C.UTF-8")
        for name in ("CC", "CFLAGS", "LDFLAGS", "MESON_TESTTHREADS"):
            environment.pop(name, None)
        _run(["dpkg-buildpackage", "-b", "-us", "-uc"], cwd=source, env=environment)
        for old in os.listdir(BUILD):
            if old.startswith("package-"):
                shutil.rmtree(os.path.join(BUILD, old))
        os.makedirs(kept + ".new", exist_ok=True)
        for name in os.listdir(work):
            if name.endswith((".deb", ".changes", ".buildinfo")):
                shutil.copy(os.path.join(work, name), kept + ".new")
        os.rename(kept + ".new", kept)


def _make_newer(package_path, newer, version):
    with tempfile.TemporaryDirectory(prefix="tcpechod-package-") as work:
        root = os.path.join(work, "root")
        _run(["dpkg-deb", "--raw-extract", package_path, root])
        control = os.path.join(root, "DEBIAN", "control")
        with open(control, encoding="utf-8") as file:
            text = file.read()
        with open(control, "w", encoding="utf-8") as file:
            file.write(re.sub(r"^Version: .*", f"Version: {version}", text, flags=re.MULTILINE))
        with open(root + CONF, "a", encoding="utf-8") as file:
            file.write(f"# As of {version}.\n")
        _run(["dpkg-deb", "--root-owner-group", "--build", root, newer + ".new"])
        os.rename(newer + ".new", newer)


def _run(command, **how):
    result = subprocess.run(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                            check=False, **how)
    if result.returncode != 0:
        raise AssertionError(f"{command[0]} failed:\n{result.stdout[-6000:]}")


# ---- clients, from within the machine's network ----


class Newcomers:
    """Clients one after the other, from a thread of their own; each has to be served. `place` is for `connect`, which is
    Machine.connect unless said otherwise."""

    def __init__(self, *place, connect=None):
        self.connect = functools.partial(connect or Machine.connect, *place)
        self.served = 0
        self.failures = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._come, daemon=True)

    def _come(self):
        while not self.stopping.is_set():
            message = b"client %d\n" % self.served
            try:
                with self.connect() as client:
                    answer = harness.exchange(client, message)
                # A stop owes no answer to bytes that arrive after it on a connection that was there before; who has no
                # answer comes again.
                if answer:
                    harness.assert_same(answer, message)
                    self.served += 1
            except (OSError, AssertionError) as error:
                self.failures.append(f"after {self.served} that were served: {error!r}")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(harness.patience())


# ---- the machine ----


class CommandFailed(AssertionError):
    pass


class Machine:
    """A booted system. close() ends it, and so does the end of this process."""

    def __init__(self):
        self.name = f"tcpechod-{os.getpid()}-{os.urandom(3).hex()}"
        self.directory = tempfile.mkdtemp(prefix="tcpechod-machine-")
        self.notify = daemons.NotifySocket(os.path.join(self.directory, "notify"))
        self.console = open(os.path.join(self.directory, "console"), "w+b")
        self.process = None
        self.network = None
        self.since = 0.0
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    # -- its life --

    def _boot(self):
        # A session of its own: it clears up when this process is killed with its group.
        self.process = subprocess.Popen([os.path.join(HERE, "boot"), self.name], stdin=subprocess.PIPE,
                                        stdout=self.console, stderr=self.console, start_new_session=True,
                                        env={"PATH": PATH, "LC_ALL": "C.UTF-8", "NOTIFY_SOCKET": self.notify.path})
        harness.wait_until(lambda: self.notify.values("READY") or self.process.poll() is not None,
                           lambda: f"systemd to boot; console:\n{self.read_console()[-4000:]}", BOOT_TIME)
        if not self.notify.values("READY"):
            lines = self.read_console().strip().splitlines() or ["no reason given"]
            raise unittest.SkipTest(f"cannot boot systemd in a container: {lines[-1]}")
        self.leader = self._find_leader()
        self.mark()

    def _find_leader(self):
        """The container's process 1 by its number here; systemd-nspawn knows the one in its own namespace."""
        known = self.notify.last("X_NSPAWN_LEADER_PID")
        for name in os.listdir("/proc"):
            if name.isdigit() and self._is_ours(int(name)):
                with contextlib.suppress(OSError), open(f"/proc/{name}/status", encoding="ascii", errors="replace") as file:
                    if re.search(rf"^NSpid:.*\s{known}\s1$", file.read(), re.MULTILINE):
                        return int(name)
        raise AssertionError(f"no process 1 in the container:\n{self.read_console()[-4000:]}")

    def _is_ours(self, pid):
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
                return f"/{self.name}/" in file.read()
        except OSError:
            return False

    def close(self):
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.notify.close()
        self.console.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def read_console(self):
        with open(self.console.name, encoding="utf-8", errors="replace") as file:
            return re.sub(r"\x1b\[[0-9;]*m|\r", "", file.read())

    # -- commands and files --

    def start(self, *command, **options):
        """A Popen of a command in the machine."""
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", "nsenter", "--target", str(self.leader), "--all",
                                 "--root", "--wd", *command],
                                env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TERM": "dumb", "HOME": "/root",
                                     "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
                                text=True, errors="replace", **options)

    def run(self, *command, check=True, stdin=None, timeout=60):
        """Runs a command in the machine: a CompletedProcess whose stdout has stderr, too."""
        process = self.start(*command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            try:
                output, _ = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{' '.join(command)}: not done after {timeout} s") from None
        result = subprocess.CompletedProcess(command, process.returncode, output)
        if check and result.returncode != 0:
            raise CommandFailed(f"{' '.join(command)} ended with {result.returncode}:\n{output}")
        return result

    def systemctl(self, *arguments, check=True, timeout=60):
        return self.run("systemctl", *arguments, check=check, timeout=timeout)

    def path(self, path):
        """A file of the machine as this process sees it."""
        return f"/proc/{self.leader}/root{path}"

    def read(self, path):
        with open(self.path(path), encoding="utf-8") as file:
            return file.read()

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(path), mode)

    def copy_in(self, source, path):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        shutil.copy(source, self.path(path))

    # -- units --

    def drop_in(self, text, unit="tcpechod.service", name="test.conf"):
        self.write(f"/etc/systemd/system/{unit}.d/{name}", text)
        self.systemctl("daemon-reload")

    def use_faults(self, rules):
        """The service runs the fault-injecting build with these rules (tests/support/faults.h)."""
        self.copy_in(harness.TCPECHOD_FAULTS, "/usr/sbin/tcpechod-faults")
        self.drop_in(f'[Service]\nExecStart=\nExecStart=/usr/sbin/tcpechod-faults\nEnvironment="FAULTS={rules}"\n',
                     name="faults.conf")

    def processes(self, name):
        """The numbers here of the machine's processes with this name."""
        found = []
        for pid in os.listdir("/proc"):
            if pid.isdigit() and self._is_ours(int(pid)):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    if file.read().rstrip("\n") == name:
                        found.append(int(pid))
        return found

    def show(self, name, unit="tcpechod.service"):
        """The value of a unit's property."""
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def main_pid(self, unit="tcpechod.service"):
        """The number of a unit's process here, not in the machine."""
        inside = self.show("MainPID", unit)
        for name in os.listdir("/proc"):
            if name.isdigit() and self._is_ours(int(name)):
                with contextlib.suppress(OSError), open(f"/proc/{name}/status", encoding="ascii", errors="replace") as file:
                    if re.search(rf"^NSpid:.*\s{inside}$", file.read(), re.MULTILINE):
                        return int(name)
        raise AssertionError(f"{unit} has no process: {self.status(unit)}")

    def status(self, unit="tcpechod.service"):
        """What systemctl status shows, all lines whole."""
        return self.systemctl("status", "--full", "--no-pager", unit, check=False).stdout

    # -- the journal --

    def written(self):
        """What has been written over the host's files: {path: what it is now}."""
        with open(f"/proc/{self.leader}/status", encoding="ascii", errors="replace") as file:
            manager = re.search(r"^PPid:\s+(\d+)$", file.read(), re.MULTILINE).group(1)
        top = f"/proc/{manager}/root/mnt/above"
        found = {}
        for directory, directories, files in os.walk(top):
            for name in directories + files:
                path = os.path.join(directory, name)
                info = os.lstat(path)
                content = ""
                if stat.S_ISREG(info.st_mode):
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                elif stat.S_ISLNK(info.st_mode):
                    content = os.readlink(path)
                found[path[len(top):]] = (stat.filemode(info.st_mode), info.st_uid, info.st_gid, content)
        return found

    def mark(self):
        """The journal begins here, as journal() and journalctl() see it."""
        self.run("journalctl", "--sync")
        self.since = time.time()

    def journalctl(self, *arguments, check=True):
        """journalctl's output since the last mark()."""
        self.run("journalctl", "--sync")
        # Not by a cursor: with other matches, systemd 252 skips an entry after one that does not match.
        return self.run("journalctl", "--no-pager", "--quiet", f"--since=@{self.since:.6f}", *arguments, check=check).stdout

    def journal(self, *matches, unit="tcpechod.service"):
        """Entries of a unit as dictionaries."""
        return [json.loads(line) for line in self.journalctl("-o", "json", "--all", "-u", unit, *matches).splitlines()]

    def wait_journal(self, pattern, *matches, count=1, unit="tcpechod.service", timeout=None):
        """Waits for `count` entries whose MESSAGE matches; returns the last."""

        def seen():
            found = [entry for entry in self.journal(*matches, unit=unit)
                     if re.search(pattern, str(entry.get("MESSAGE")))]
            return found if len(found) >= count else None

        return harness.wait_until(seen, lambda: f"/{pattern}/ in the journal:\n{self.journalctl('-u', unit)}", timeout)[-1]

    # -- its network, and clients in it --

    @contextlib.contextmanager
    def inside_network(self):
        """This thread, and those that it starts, in the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as outside, \
                open(f"/proc/{self.leader}/ns/net", "rb") as inside:
            if libc.setns(inside.fileno(), harness.CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(outside.fileno(), harness.CLONE_NEWNET) != 0:
                    os._exit(1)  # every later test would run in the wrong network

    @staticmethod
    def connect(port, address="127.0.0.1", timeout=None):
        return socket.create_connection((address, port), harness.patience() if timeout is None else timeout)

    def exchange(self, port, data, address="127.0.0.1", timeout=None):
        with self.connect(port, address, timeout) as client:
            return harness.exchange(client, data)

    def connect_path(self, path):
        return harness.connect_path(self.path(path))

    def exchange_path(self, path, data):
        return harness.exchange_path(self.path(path), data)

    def client_that_does_not_read(self, port):
        """A connection to an echo with more answers than fit anywhere, so that a stop has to wait for it; and how many
        bytes were sent, of traffic.STREAM."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        sent = harness.fill(client, 64 << 20)
        if sent >= 64 << 20:
            raise AssertionError("64 MiB went into a connection that nobody reads")
        return client, sent

    # -- the package in it --

    def install(self, path, *options):
        """apt-get install, of a file and without a network: what the package needs is on the host."""
        inside = f"/tmp/{os.path.basename(path)}"
        self.copy_in(path, inside)
        try:
            return self.run("apt-get", "install", "--yes", "--no-install-recommends", *options, inside, timeout=120)
        finally:
            os.unlink(self.path(inside))

    def reset(self):
        """Units as installed, stopped, and forgotten; settings as installed."""
        units = "/etc/systemd/system"
        self.run("sh", "-c", f"""systemctl kill --signal=SIGCONT tcpechod.service
            systemctl stop tcpechod.socket tcpechod.service
            rm -rf {units}/tcpechod*.d
            cp /root/tcpechod.conf {CONF}
            systemctl daemon-reload
            systemctl reset-failed""", check=False)
        self.mark()


@functools.lru_cache(None)
def shared():
    """The machine with the package that the tests of a file share; this thread is in its network from now on."""
    needs_all()
    built = package()
    machine = Machine()
    atexit.register(machine.close)
    # Without its triggers: man-db's takes seconds, and whether apt-get installs it is for test_package.py.
    machine.copy_in(built, "/tmp/tcpechod.deb")
    machine.run("sh", "-c", "dpkg --no-triggers --install /tmp/tcpechod.deb && journalctl --update-catalog", timeout=120)
    shutil.copy(machine.path(CONF), machine.path("/root/tcpechod.conf"))
    network = contextlib.ExitStack()
    network.enter_context(machine.inside_network())
    atexit.register(network.close)
    return machine


class TestCase(harness.TestCase):
    """Tests that share a machine with the package on it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine = shared()

    def setUp(self):
        super().setUp()
        self.machine.reset()
        self.addCleanup(self._tell)

    def _tell(self):
        """The daemon's side of a test that failed."""
        outcome = getattr(self._outcome, "result", None)
        if outcome is not None and getattr(outcome, "trouble", None):
            print(f"# the journal of the unit:\n{harness.indent(self.machine.journalctl('-u', 'tcpechod')[-6000:])}",
                  flush=True)
