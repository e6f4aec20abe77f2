#!/usr/bin/env python3
"""Bulk: what goes in comes out, whatever the size, the client and its pace; what a client costs that is idle, or does
not read, or is greedy; and how clients are spread over the workers."""

import contextlib
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import daemons
import harness
from daemons import DEBUG, ECHO, LOG, UPPER, listener
from harness import assert_same, exchange, receive_all, receive_exactly

MIB = 1 << 20

# What each client sends in the tests that take a file: more than all buffers hold.
FILE_SIZE = harness.scale(16 * MIB, 8 * MIB)

LISTENERS = f"{ECHO}, {UPPER}"
SERVICES = ("echo", "upper")  # PORT and PORT1


class Files:
    """One random file, and what `tr` makes of it."""

    directory = None
    sent = None
    wanted = {}


def setUpModule():
    Files.directory = tempfile.mkdtemp(prefix="tcpechod-transfer-")
    Files.sent = os.path.join(Files.directory, "sent")
    with open(Files.sent, "wb") as file:
        for _ in range(FILE_SIZE // MIB):
            file.write(os.urandom(MIB))
    upper = os.path.join(Files.directory, "upper")
    with open(Files.sent, "rb") as source, open(upper, "wb") as target:
        subprocess.run(["tr", "a-z", "A-Z"], stdin=source, stdout=target, check=True, env=dict(os.environ, LC_ALL="C"))
    Files.wanted = {"echo": Files.sent, "upper": upper}


def tearDownModule():
    shutil.rmtree(Files.directory, ignore_errors=True)


def diagnose(text):
    print(f"# {text}", flush=True)


# ---- clients that are programs ----


class Transfer:
    """A program that sends a file and half-closes; what it gets back is compared as it comes, and not stored."""

    def __init__(self, command, wanted, slow=False):
        harness.needs(command[0])
        self.name = " ".join(command)
        self.slow = slow
        with open(Files.sent, "rb") as source:
            self.client = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.compare = subprocess.Popen(["cmp", "-", wanted], stdin=subprocess.PIPE if slow else self.client.stdout,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not slow:
            self.client.stdout.close()

    def _pass_on_slowly(self):
        """Reads as a slow disk or terminal would: now and then, and not at all for a while."""
        total = 0
        while True:
            chunk = os.read(self.client.stdout.fileno(), 65536)
            if not chunk:
                break
            with contextlib.suppress(BrokenPipeError):
                self.compare.stdin.write(chunk)
            if total // (2 * MIB) != (total + len(chunk)) // (2 * MIB):
                time.sleep(0.5 if total < 2 * MIB else 0.03)
            total += len(chunk)
        with contextlib.suppress(BrokenPipeError):
            self.compare.stdin.close()

    def finish(self, deadline):
        """Waits for both programs. Returns what is wrong, or None."""
        if self.slow:
            self._pass_on_slowly()
        try:
            status = self.client.wait(max(0.1, deadline - time.monotonic()))
            difference = self.compare.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return f"{self.name} did not end"
        if status != 0:
            return f"{self.name} ended with {status}: {self.client.stderr.read().decode(errors='replace').strip()}"
        if difference != 0:
            return f"{self.name} got something else: {self.compare.stdout.read().decode(errors='replace').strip()}"
        return None

    def close(self):
        for process in (self.client, self.compare):
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()


def run_transfers(transfers, timeout):
    """Waits for all of them and fails with the first few that went wrong."""
    deadline = time.monotonic() + harness.patience(timeout)
    try:
        wrong = [trouble for trouble in (transfer.finish(deadline) for transfer in transfers) if trouble]
    finally:
        for transfer in transfers:
            transfer.close()
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(transfers)} transfers: " + "; ".join(wrong[:3]))


class WholeFile(harness.TestCase):
    """A random file through programs that people use, half-closed after its last byte, comes back identical."""

    def assert_all_closed(self, daemon, count):
        facts = daemon.wait_closed(count)
        self.assertEqual({fact.group("reason", "bytes_in", "bytes_out") for fact in facts},
                         {("client_closed", str(FILE_SIZE), str(FILE_SIZE))})
        return facts

    def test_programs(self):
        paths = ", ".join(listener(service, path=f"DIR/{service}.sock") for service in SERVICES)
        with daemons.Daemon(f"{LISTENERS}, {paths}", LOG) as daemon:
            commands = [(name, command("127.0.0.1", int(daemon.ports[index])), service, slow)
                        for slow in (False, True) for name, command in harness.CLIENTS.items()
                        for index, service in enumerate(SERVICES) if not (slow and name == "nc")]
            for service in SERVICES:
                path = daemon.path(service + ".sock")
                commands += [("socat on a path", ["socat", "-t30", "-", f"UNIX-CONNECT:{path}"], service, False),
                             ("ncat on a path", ["ncat", "-U", path], service, False),
                             ("nc on a path", ["nc.openbsd", "-N", "-U", path], service, False)]
            for name, command, service, slow in commands:
                with self.subTest(client=name, service=service, slow=slow):
                    run_transfers([Transfer(command, Files.wanted[service], slow)], 120)
            self.assert_all_closed(daemon, len(commands))

    def test_ipv6(self):
        harness.needs_ipv6()
        with daemons.Daemon(listener(address="::1")) as daemon:
            for client in harness.CLIENTS:
                with self.subTest(client=client):
                    run_transfers([Transfer(harness.CLIENTS[client]("::1", daemon.port), Files.sent)], 120)

    def test_smallest_unsent_limit(self):
        with daemons.Daemon(settings="unsent_limit = 1024;") as daemon:
            run_transfers([Transfer(harness.CLIENTS["socat"]("127.0.0.1", daemon.port), Files.sent)], 240)

    def test_many_clients_on_2_workers(self):
        """All are connected before the daemon takes the first, so that they are at it at once."""
        clients = harness.scale(64, 24)
        with daemons.Daemon(LISTENERS, "workers = 2; " + LOG) as daemon, contextlib.ExitStack() as stack:
            started = time.monotonic()
            transfers = []
            with harness.Frozen(daemon.pid):
                for number in range(clients):
                    index = number % 2
                    command = harness.CLIENTS[("socat", "ncat")[number // 2 % 2]]("127.0.0.1", int(daemon.ports[index]))
                    transfers.append(Transfer(command, Files.wanted[SERVICES[index]]))
                    stack.callback(transfers[-1].close)
                harness.wait_until(lambda: daemon.established() == clients,
                                   lambda: f"{clients} connections, saw {daemon.established()}")
            run_transfers(transfers, 400)
            diagnose(f"{clients} clients x {FILE_SIZE // MIB} MiB: {time.monotonic() - started:.1f} s, "
                     f"{daemon.cpu_seconds():.1f} s of CPU time in the daemon")
            workers = [fact["worker"] for fact in self.assert_all_closed(daemon, clients)]
            # Not by halves: some may be done before the last is taken, on a machine that has many other processes to run.
            for worker in ("1", "2"):
                self.assertGreater(workers.count(worker), clients // 4, "spread evenly")


# ---- clients with odd manners ----


class OddClients(harness.TestCase):
    def test_reading(self):
        """Slowly and with a small buffer; not before all is sent that goes; not before the daemon has closed; byte by byte."""

        def with_pauses(client):
            chunks = []
            while not chunks or chunks[-1]:
                chunks.append(client.recv(7919))
                if len(chunks) % 100 == 1:
                    time.sleep(0.01)
            return b"".join(chunks)

        def late(client):
            harness.wait_until(lambda: daemon.counters() == daemon.counters(), "nothing to move any more")
            return receive_all(client)

        def after_the_end(client):
            daemon.wait_closed()
            return receive_all(client)

        for read, buffer, size in ((with_pauses, 16384, 2 * MIB), (late, None, 16 * MIB), (after_the_end, None, 60000),
                                   (receive_all, None, 0)):
            for index, service in enumerate(SERVICES):
                data = harness.pattern(size)
                with self.subTest(read=read.__name__, service=service), daemons.Daemon(LISTENERS) as daemon, \
                        socket.socket() as client:
                    client.settimeout(harness.patience())
                    if buffer:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                    client.connect(("127.0.0.1", int(daemon.ports[index])))
                    assert_same(exchange(client, data, read), data.upper() if index else data)

    def test_small_messages(self):
        """Many of them under way, a byte each; or one at a time, of every length."""
        data = harness.pattern(3000)
        with daemons.Daemon(LISTENERS) as daemon:
            with daemon.connect(1) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in data:
                    client.sendall(bytes((byte,)))
                assert_same(receive_exactly(client, len(data)), data.upper())
            with daemon.connect() as client:
                for number in range(1, 500):
                    harness.ping(client, harness.pattern(number))

    def test_fin_at_once(self):
        """Data and FIN are there before the daemon has even accepted."""
        data = harness.pattern(4096)
        with daemons.Daemon(LISTENERS) as daemon:
            with harness.Frozen(daemon.pid):
                clients = daemon.connect_many(50)
                for client in clients:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
            for client in clients:
                assert_same(receive_all(client), data)

    def test_leaving_in_the_middle(self):
        """Clients go with RST or without reading, before, while and after they are answered: nothing of them stays, and the
        others do not notice."""
        data = harness.pattern(8 * MIB)
        with daemons.Daemon(LISTENERS, "workers = 2; " + LOG) as daemon:
            daemon.exchange(b"x")
            harness.wait_until(lambda: daemon.established() == 0, "the first connection to end")
            descriptors = daemon.descriptors()
            count = harness.scale(150, 50)
            with daemon.connect() as witness, harness.Sender(witness, data) as sender:
                for number in range(count):
                    client = daemon.connect(number % 2)
                    if number % 3 != 0:
                        client.setblocking(False)
                        with contextlib.suppress(BlockingIOError):
                            while True:  # until nothing more fits
                                client.send(data[:MIB])
                        if number % 4 == 1:
                            client.settimeout(harness.patience())
                            client.recv(1000)
                    if number % 2 == 0:
                        harness.reset(client)
                    else:
                        client.close()  # with unread bytes: a RST too, but later
                assert_same(receive_all(witness), data)
            self.assertIsNone(sender.failure)
            harness.wait_until(lambda: daemon.descriptors() == descriptors,
                               lambda: f"{descriptors} descriptors, saw {daemon.descriptors()}")
            reasons = {fact["reason"] for fact in daemon.wait_closed(count // 2)}
            self.assertLessEqual(reasons, {"reset", "client_closed"})
            self.assertIn("reset", reasons)
            self.assertEqual(daemon.exchange(b"still here"), b"still here")


# ---- what idle clients cost ----


class Crowd:
    """Idle clients, all open until the block ends."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.clients = []

    def grow(self, count, pause=0.0, message=b""):
        while len(self.clients) < count:
            client = self.daemon.connect()
            self.clients.append(client)
            if message:
                harness.ping(client, message)
            time.sleep(pause)

    def check(self):
        """Every one of them is served."""
        for number, client in enumerate(self.clients):
            client.sendall(struct.pack(">I", number))
        for number, client in enumerate(self.clients):
            assert_same(receive_exactly(client, 4), struct.pack(">I", number))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def bytes_out(daemon):
    return int(re.search(r" (\d+) out,", daemon.counters()[0]).group(1))


def start_workers(workers, settings=LOG):
    return daemons.Daemon(LISTENERS, f"workers = {workers}; {settings}")


def own_memory(daemon):
    """What the process alone uses, in bytes: its share of what others use as well changes when they come and go."""
    with open(f"/proc/{daemon.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty in smaps_rollup")


class Idle(harness.TestCase):
    def assert_spread(self, daemon, total):
        counts = daemon.counters()[1]
        self.assertEqual(sum(counts), total)
        self.assertLessEqual(max(counts), 1.1 * min(counts), counts)

    def test_new_client_beside_5000_idle_ones(self):
        idle = harness.scale(5000, 2000)
        harness.raise_nofile(idle + 500)

        def cost_of_a_new_client(daemon):
            before = daemon.cpu_seconds()
            for _ in range(200):
                with daemon.connect() as client:
                    harness.ping(client, b"hello")
            return (daemon.cpu_seconds() - before) / 200

        with start_workers(2) as daemon, Crowd(daemon) as crowd:
            alone = cost_of_a_new_client(daemon)
            crowd.grow(idle)
            beside = cost_of_a_new_client(daemon)
            diagnose(f"CPU time of a new client: {alone * 1e6:.0f} us alone, {beside * 1e6:.0f} us beside {idle} idle ones")
            self.assertLess(beside, 10 * alone)
            cpu = daemon.cpu_seconds()
            time.sleep(0.5)
            self.assertLess(daemon.cpu_seconds() - cpu, 0.25, "idle clients cost no CPU time")
            self.assertEqual(daemon.threads(), 4 if not harness.sanitized() else daemon.threads(), "main, log, 2 workers")
            self.assert_spread(daemon, idle)
            crowd.check()

    def test_spread_of_slow_arrivals(self):
        for workers in (2, 4):
            with self.subTest(workers=workers), start_workers(workers) as daemon, Crowd(daemon) as crowd:
                crowd.grow(80, pause=0.005)
                self.assert_spread(daemon, 80)
                crowd.check()

    def test_spread_when_clients_leave(self):
        """Most clients of one worker leave: newcomers go where there is room, and not just in turns."""
        with start_workers(2, DEBUG) as daemon, Crowd(daemon) as crowd:
            crowd.grow(200, pause=0.002)
            crowd.check()
            worker_of = dict(re.findall(r"connection \d+ from (\S+): echo on \S+, worker (\d+)$", daemon.log(),
                                        re.MULTILINE))
            leaving = [client for client in crowd.clients if worker_of["%s:%d" % client.getsockname()] == "1"][:80]
            self.assertEqual(len(leaving), 80, "they were spread")
            for client in leaving:
                client.close()
                crowd.clients.remove(client)
            daemon.wait_closed(80)
            self.assertEqual(daemon.counters()[1], [20, 100])
            crowd.grow(200, pause=0.002)
            self.assert_spread(daemon, 200)
            crowd.check()

    def slope(self, message):
        few, many = 1000, 6000
        harness.raise_nofile(many + 500)
        with start_workers(2) as daemon, Crowd(daemon) as crowd:
            used = []
            for count in (few, many):
                crowd.grow(count, message=message)
                harness.wait_until(lambda total=count: sum(daemon.counters()[1]) == total, "the clients")
                used.append(own_memory(daemon))
            crowd.check()
            return (used[1] - used[0]) / (many - few)

    def test_memory_of_an_idle_client(self):
        harness.needs_unsanitized("memory")
        silent = self.slope(b"")
        spoken = self.slope(harness.pattern(3000))
        diagnose(f"memory of an idle connection: {silent:.0f} bytes, {spoken:.0f} bytes when it has been answered before")
        self.assertLess(silent, 250)
        self.assertLess(spoken, 250)


# ---- clients that do not read ----


def send_until_stuck(clients, limit, quiet=0.3):
    """Each sends without reading, until nothing more is taken for a while or one has sent `limit`. Returns how much went of
    each."""
    chunk = bytes(range(256)) * 4096
    sent = dict.fromkeys(clients, 0)
    for client in clients:
        client.setblocking(False)
    while max(sent.values()) < limit:
        writable = select.select([], clients, [], quiet)[1]
        if not writable:
            break
        for client in writable:
            with contextlib.suppress(BlockingIOError):
                sent[client] += client.send(chunk[: limit - sent[client]])
    return list(sent.values())


class NotReading(harness.TestCase):
    def check(self, clients, unsent_limit, write_timeout):
        """They send as much as is taken and read nothing."""
        with start_workers(2, f"unsent_limit = {unsent_limit}; write_timeout = {write_timeout}; {LOG}") as daemon:
            # The scratch buffers and the allocator's arenas are there before the count begins.
            with Crowd(daemon) as crowd:
                crowd.grow(8)
                for client in crowd.clients:
                    assert_same(exchange(client, harness.pattern(4 * MIB)), harness.pattern(4 * MIB))
            harness.wait_until(lambda: daemon.established() == 0, "the first clients to end")
            before = own_memory(daemon)
            with Crowd(daemon) as crowd:
                crowd.grow(clients)
                sent = send_until_stuck(crowd.clients, 1024 * MIB)
                grown = own_memory(daemon) - before
                self.assertLess(max(sent), 1024 * MIB, "a client that does not read is not read from")
                diagnose(f"{clients} clients that sent {min(sent) / MIB:.1f} to {max(sent) / MIB:.1f} MiB and read nothing: "
                         f"the daemon grew by {grown / clients / 1024:.0f} KiB each")
                if not harness.sanitized():
                    # A page or two around each, and one megabyte for what the allocator keeps.
                    self.assertLess(grown, clients * (unsent_limit + 8192) + MIB)

                # Others are served meanwhile.
                self.assertEqual(daemon.exchange(b"still here"), b"still here")

                def dropped():
                    return [fact for fact in daemon.closed() if fact["reason"] == "write_timeout"]

                harness.wait_until(lambda: len(dropped()) == clients, lambda: f"{clients} x write_timeout, saw {dropped()}")
                for fact in dropped():
                    read, written = int(fact["bytes_in"]), int(fact["bytes_out"])
                    self.assertTrue(0 <= read - written <= unsent_limit, "no more was read than may be unsent")
                # Whatever the kernel still had for the client is gone, and the client hears of it.
                for client in crowd.clients:
                    client.settimeout(harness.patience())
                    with self.assertRaises((ConnectionResetError, BrokenPipeError)):
                        while True:
                            client.sendall(b"x")
                            time.sleep(0.01)
            self.assertEqual(daemon.established(), 0)
            if not harness.sanitized():
                # The allocator keeps what lies below something that is still in use; the next clients get it. What is
                # lost for good is for the leak sanitizer to find.
                kept = max(clients * (unsent_limit + 8192), MIB)
                harness.wait_until(lambda: own_memory(daemon) - before < kept,
                                   lambda: f"memory given back, {own_memory(daemon) - before} kept")
            self.assertEqual(daemon.exchange(b"still here"), b"still here")

    def test_one_client_of_a_gigabyte(self):
        self.check(1, 262144, 1.5 if not harness.sanitized() else 3)

    def test_many_clients(self):
        self.check(24, 65536, 2.0 if not harness.sanitized() else 5)


# ---- fairness ----


class Fairness(harness.TestCase):
    READ = re.compile(r'connection (\d+) from \S+ sent (\d+) bytes: "(.*)"$', re.MULTILINE)

    def test_small_clients_beside_a_greedy_one(self):
        """One worker serves them all. While it is stopped, the greedy one sends what the kernel takes, and then the others
        ask: each of them has its turn before much is read of the greedy one."""
        with daemons.Daemon(listener(trace=True), "workers = 1; " + LOG) as daemon, Crowd(daemon) as crowd:
            greedy = daemon.connect()
            crowd.grow(100, message=b"small")
            with harness.Sender(greedy, bytes(16 * MIB), half_close=False):  # so that the kernel gives it large buffers
                receive_exactly(greedy, 16 * MIB)
            harness.ping(greedy, b"ready")
            with harness.Frozen(daemon.pid):
                size = harness.fill(greedy)
                for client in crowd.clients:
                    client.sendall(b"small")
            for client in crowd.clients:
                assert_same(receive_exactly(client, 5), b"small")
            receive_exactly(greedy, size)
            daemon.wait_log(r'\d sent 5 bytes: "small"$', 200)
            reads = [match.groups() for match in self.READ.finditer(daemon.log())]
            reads = reads[reads.index(("1", "5", "ready")) + 1:]
            others = [at for at, (_, _, text) in enumerate(reads) if text == "small"]
            before = sum(int(length) for number, length, _ in reads[: others[-1]] if number == "1")
            diagnose(f"{before >> 10} of {size >> 10} KiB of the greedy one were read before the last of 100 small ones")
            self.assertGreater(size, 2 * MIB)
            self.assertLess(before, MIB)


if __name__ == "__main__":
    harness.main(jobs=2)
