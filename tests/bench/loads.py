"""What is done to a server, and what it costs."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time

from servers import HOST, Failed

PERCENTILES = ("p50", "p90", "p99", "p99.9")

NO_TIME_WAIT = struct.pack("ii", 1, 0)


class Unmeasured(Exception):
    """This machine does not let us."""


class Loads:
    def __init__(self, client, tools, seconds):
        self.client, self.tools, self.seconds = client, tools, seconds

    def bench_command(self, port, connections, size, *more, seconds=None):
        return [self.client, "--bench", "--json", "--connections", str(connections), "--size", str(size),
                *map(str, more), "--duration", str(seconds or self.seconds), HOST, str(port)]

    def bench(self, server, connections, size, *more, port=None):
        """One run of tcpecho --bench, each byte of the answers checked; with the server's CPU time for a message, without
        that for a connection."""
        port = port or server.port
        connecting, few = self.checked(server, [self.client, "--bench", "--json", "--connections", connections, "-s", size,
                                                "--messages", connections, *more, HOST, port])
        spent, result = self.checked(server, self.bench_command(port, connections, size, *more))
        messages = result["messages"]
        return {"rate": messages / result["elapsed_s"],
                "cpu": max(spent - connecting, 1) / max(messages - few["messages"], 1),
                "bytes": result["bytes"] / result["elapsed_s"],
                "latency": {name: result[f"latency_{name.replace('.', '_')}_ns"] for name in PERCENTILES},
                "client_cpu": result["client_cpu_per_message_ns"],
                "kept": 100 * messages / (messages + result["not_sent"])}

    def checked(self, server, command):
        """What the server took for it, and what the client says."""
        before = server.cpu_nsec()
        result = json.loads(run([str(part) for part in command], server))
        if not result["clean"]:
            raise Failed(server.name, f"{' '.join(command)}: not clean")
        return server.cpu_nsec() - before, result

    @contextlib.contextmanager
    def beside(self, server, connections, size):
        """The same load all the while."""
        process = subprocess.Popen(self.bench_command(server.port, connections, size, seconds=3600),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            time.sleep(0.3)
            if process.poll() is not None:
                raise Failed(server.name, process.stderr.read().decode())
            yield
            process.send_signal(signal.SIGINT)
            problem = process.stderr.read().decode()
            if process.wait() != 0:
                raise Failed(server.name, f"the load beside it: status {process.returncode}: {problem}")
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    def churn(self, server, size=64, in_flight=32, clients=1):
        command = [self.tools + "/churn", str(server.port), str(size), str(in_flight // clients), str(self.seconds)]
        before = server.cpu_nsec()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            results = [text.split() for text in pool.map(lambda _: run(command, server), range(clients))]
        spent = server.cpu_nsec() - before
        return {"rate": sum(int(done) / float(seconds) for done, seconds in results),
                "cpu": spent / sum(int(done) for done, _ in results)}

    def lone(self, server, size):
        """The round trip of one client that spins."""
        p50, p99, _ = run([self.tools + "/lone", str(server.port), str(size), str(self.seconds)], server).split()
        return {"p50": int(p50), "p99": int(p99)}

    def floor(self, size):
        """Nanoseconds of CPU time for the server's half of a message, when nobody ever waits."""
        messages, nsec = run([self.tools + "/floor", str(size), str(self.seconds)], None).split()
        return int(nsec) / int(messages)

    def syscalls(self, server, connections, size, messages):
        """System calls a message, by name."""
        command = [self.client, "--bench", "--json", "-c", str(connections), "-s", str(size), "-n", str(messages), HOST,
                   str(server.port)]
        return traced(server, lambda: json.loads(run(command, server))["messages"])

    def syscalls_of_churn(self, server, size=64, in_flight=32):
        """System calls a connection that is made, answered and closed, by name."""
        command = [self.tools + "/churn", str(server.port), str(size), str(in_flight), str(self.seconds)]
        return traced(server, lambda: int(run(command, server).split()[0]))


def traced(server, work):
    """The system calls of the server while `work` goes on, as strace counts them, divided by what it returns."""
    with tempfile.NamedTemporaryFile("r") as table:
        try:
            tracer = subprocess.Popen(["strace", "-f", "-c", "-o", table.name, "-p", str(server.pid)],
                                      stderr=subprocess.PIPE, text=True)
        except FileNotFoundError as problem:
            raise Unmeasured("strace is not installed") from problem
        greeting = tracer.stderr.readline()
        try:
            if "attached" not in greeting:
                raise Unmeasured(greeting.strip())
            done = work()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", table.read(), re.MULTILINE)
    return {name: int(calls) / done for calls, name in rows if name != "total"}


def run(command, server):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(server and server.name, f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


# ---- idle connections ----


@contextlib.contextmanager
def idle_connections(port):
    """Yields a function that opens so many in all, each of which the server has accepted and not touched."""
    clients = []

    def open_until(count):
        while len(clients) < count:
            clients.append(socket.create_connection((HOST, port), 30))
            if len(clients) % 500 == 0:
                settle(clients[-1])
        if clients:
            settle(clients[-1])

    try:
        yield open_until
    finally:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_TIME_WAIT)
            client.close()


def settle(client):
    """The last one has its answer: those before it have been accepted."""
    client.sendall(b"?")
    if client.recv(1) != b"?":
        raise Failed(None, "an idle connection was closed")


def private_dirty(pid):
    """Bytes that only this process has, and that no file backs."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"Private_Dirty: +(\d+) kB", file.read()).group(1)) * 1024


def kernel_memory():
    """Bytes of the whole kernel's slabs: sockets, files, epoll items."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"Slab: +(\d+) kB", file.read()).group(1)) * 1024


def cpus():
    return len(os.sched_getaffinity(0))
