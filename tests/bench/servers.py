"""The servers that are compared: how each is started, and what CPU time it has taken."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

HOST = "127.0.0.1"
CPUCLOCK_SCHED = 2
TICK_NSEC = 10**9 // os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server that does not start, or whose answers were not right, which says nothing about speed."""

    def __init__(self, server, problem):
        super().__init__(problem)
        self.server = server


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def process_clock(pid):
    """The clock of another process, as clock_getcpuclockid(3) names it: its threads, those that have ended too."""
    return (~pid << 3) | CPUCLOCK_SCHED


def stat(pid):
    """The fields of proc(5)'s stat after the name; [0] is the state."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def family(pid):
    """The process and its living descendants."""
    members = [pid]
    for parent in members:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as children:
                    members += [int(child) for child in children.read().split()]
    return members


def cpu_nsec(pid):
    """What the process, and all that it has started, have taken. Children that are gone are counted in ticks; those who
    are about to go are waited for, as who goes meanwhile would be counted twice or not at all."""
    until = time.monotonic() + 5
    while len(family(pid)) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns(process_clock(member))
            total += (int(stat(member)[13]) + int(stat(member)[14])) * TICK_NSEC
    return total


class Server:
    """One way to answer. `command` has {port} and {directory} where these belong; `settings` makes the text of
    {directory}/{port}.conf from the ports."""

    def __init__(self, name, command, kind, settings=None):
        self.name, self.command, self.kind, self.settings = name, command, kind, settings

    @contextlib.contextmanager
    def running(self, directory):
        ports = {"port": free_port(), "other": free_port(), "directory": directory}
        if self.settings:
            with open("{directory}/{port}.conf".format(**ports), "w", encoding="ascii") as file:
                file.write(self.settings(ports))
        # Not a pipe: what a server says there must not be able to stop it.
        with open("{directory}/{port}.errors".format(**ports), "w", encoding="utf-8") as errors:
            process = subprocess.Popen([part.format(**ports) for part in self.command], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        try:
            yield Running(self, process, ports, errors.name)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Running:
    def __init__(self, server, process, ports, errors):
        self.name, self.pid, self.port, self.upper_port = server.name, process.pid, ports["port"], ports["other"]
        for port in [self.port] + ([self.upper_port] if server.settings else []):
            self.wait_for(process, port, errors)

    def wait_for(self, process, port, errors):
        until = time.monotonic() + 10
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 5):
                return
            time.sleep(0.01)
        with open(errors, encoding="utf-8", errors="replace") as file:
            raise Failed(self.name, f"no answer at port {port}: {file.read(4096).strip()}")

    def cpu_nsec(self):
        return cpu_nsec(self.pid)


DAEMON_SETTINGS = """\
workers = %d;
busy_poll_usec = %d;
idle_timeout = 0;
max_connections = 19500;
backlog = 4096;
log = { connections = false; };
listeners = (
    { address = "127.0.0.1"; port = %s; service = "echo"; },
    { address = "127.0.0.1"; port = %s; service = "upper"; }
);
"""


def daemon(command, name, workers, busy_poll_usec=0):
    return Server(name, [*command, "--config", "{directory}/{port}.conf"], "ours",
                  lambda ports: DAEMON_SETTINGS % (workers, busy_poll_usec, ports["port"], ports["other"]))


# It leaves messages without an answer now and then.
MAY_FAIL = {"ncat"}

PEERS = {"libevent", "libuv", "threads", "processes", "go", "socat", "ncat", "inetd"}


def peers(directory):
    """Those that this machine has."""

    def built(name, *arguments):
        path = os.path.join(directory, name)
        return [path, *arguments, "{port}"] if os.path.exists(path) else None

    table = [
        ("libevent", built("peer-libevent"), "loop"),
        ("libuv", built("peer-libuv"), "loop"),
        ("threads", built("peer-blocking", "threads"), "parallel"),
        ("processes", built("peer-blocking", "processes"), "parallel"),
        ("go", built("peer-go"), "parallel"),
        ("socat", installed("socat", "TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=4096", "PIPE"),
         "parallel"),
        ("ncat", installed("ncat", "--listen", "--keep-open", "--max-conns", "10000", "--exec", "/bin/cat", HOST,
                           "{port}"), "parallel"),
        ("inetd", inetd_command(), "parallel"),
    ]
    return [Server(name, command, kind) for name, command, kind in table if command]


def hand_over(tools, how):
    """The least that an echo server does, with a thread that accepts and without."""
    return Server(f"{how}, one thread serves", [tools + "/hand_over", how, "{port}"], "loop")


def installed(program, *arguments):
    return [program, *arguments] if shutil.which(program) else None


def inetd_command():
    """Its echo has the port that /etc/services says: another one, in a namespace of mounts."""
    if not shutil.which("inetd") or os.geteuid() != 0:
        return None
    return ["unshare", "--mount", "sh", "-c",
            'printf "echo {port}/tcp\\n" > "$0.services" && mount --bind "$0.services" /etc/services &&'
            ' echo "127.0.0.1:echo stream tcp nowait.1000000 root internal" > "$0" && exec inetd -i "$0"',
            "{directory}/{port}.inetd"]
