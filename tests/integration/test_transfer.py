#!/usr/bin/env python3
"""Bulk: what goes in comes out, whatever the size, the client and its pace; what a client costs that is idle, or does
not read, or is greedy; and how clients are spread over the workers."""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import harness

MIB = 1 << 20

# What each client sends in the tests that take a file; less under a sanitizer.
FILE_SIZE = harness.scale(64 * MIB, 16 * MIB)

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "upper"; }
"""
QUIET = "log = { rate = 0; };"
SERVICES = ("echo", "upper")  # PORT and PORT1

CLOSED = re.compile(r"closed: (\w+), .* worker (\d+), (\d+) bytes in, (\d+) out, (\d+\.\d+) s$", re.MULTILINE)


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


def fact_of(daemon, count=1):
    """The messages about closed connections, once there are so many: [(reason, worker, in, out)]."""
    found = []

    def seen():
        found[:] = CLOSED.findall(daemon.log())
        return len(found) >= count

    harness.wait_until(seen, lambda: f"{count} messages about closed connections, saw {len(found)}")
    return [(reason, int(worker), int(read), int(sent)) for reason, worker, read, sent, _ in found]


class WholeFile(harness.TestCase):
    """A random file through programs that people use, half-closed behind its last byte, comes back identical."""

    def check(self, client, slow=False):
        with harness.Daemon(LISTENERS, QUIET) as daemon:
            for index, service in enumerate(SERVICES):
                with self.subTest(service=service):
                    command = harness.CLIENTS[client]("127.0.0.1", int(daemon.ports[index]))
                    run_transfers([Transfer(command, Files.wanted[service], slow)], 120)
            self.assertEqual(sorted(fact_of(daemon, 2)), [("client_closed", worker, FILE_SIZE, FILE_SIZE)
                                                          for worker in sorted(fact[1] for fact in fact_of(daemon, 2))])

    def test_socat(self):
        self.check("socat")

    def test_ncat(self):
        self.check("ncat")

    def test_nc(self):
        self.check("nc")

    def test_socat_with_a_slow_reader(self):
        self.check("socat", slow=True)

    def test_ncat_with_a_slow_reader(self):
        self.check("ncat", slow=True)

    def test_ipv6(self):
        harness.needs_ipv6()
        with harness.Daemon('{ address = "::1"; port = PORT; service = "echo"; }', QUIET) as daemon:
            for client in ("socat", "ncat", "nc"):
                with self.subTest(client=client):
                    run_transfers([Transfer(harness.CLIENTS[client]("::1", daemon.port), Files.sent)], 120)

    def test_unix_socket(self):
        with harness.Daemon('{ path = "DIR/echo.sock"; service = "echo"; }, { path = "DIR/upper.sock"; service = "upper"; }',
                            QUIET) as daemon:
            for service in SERVICES:
                path = daemon.path(service + ".sock")
                for command in (["socat", "-t30", "-", f"UNIX-CONNECT:{path}"], ["ncat", "-U", path],
                                ["nc.openbsd", "-N", "-U", path]):
                    with self.subTest(service=service, client=command[0]):
                        run_transfers([Transfer(command, Files.wanted[service])], 120)

    def test_smallest_unsent_limit(self):
        with harness.Daemon(LISTENERS, QUIET + "unsent_limit = 1024;") as daemon:
            run_transfers([Transfer(harness.CLIENTS["socat"]("127.0.0.1", daemon.port), Files.sent)], 240)

    def test_200_clients_on_2_workers(self):
        """All are connected before the daemon takes the first, so that they are at it at once."""
        clients = harness.scale(200, 48)  # two minutes more with a sanitizer
        with harness.Daemon(LISTENERS, "workers = 2; " + QUIET) as daemon:
            daemon.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            transfers = []
            try:
                for number in range(clients):
                    index = number % 2
                    command = harness.CLIENTS[("socat", "ncat")[number // 2 % 2]]("127.0.0.1", int(daemon.ports[index]))
                    transfers.append(Transfer(command, Files.wanted[SERVICES[index]]))
                harness.wait_until(lambda: established(daemon) == clients,
                                   lambda: f"{clients} connections, saw {established(daemon)}")
            except BaseException:
                for transfer in transfers:
                    transfer.close()
                raise
            finally:
                daemon.send_signal(signal.SIGCONT)
            daemon.send_signal(signal.SIGUSR1)
            run_transfers(transfers, 400)
            diagnose(f"{clients} clients x {FILE_SIZE // MIB} MiB: {time.monotonic() - started:.1f} s, "
                     f"{daemon.cpu_seconds():.1f} s of CPU time in the daemon")
            facts = fact_of(daemon, clients)
            self.assertEqual({fact[0] for fact in facts}, {"client_closed"})
            self.assertEqual({fact[2:] for fact in facts}, {(FILE_SIZE, FILE_SIZE)})
            # Not by halves: some may be done before the last is taken, on a machine that has 200 other processes to run.
            for worker in (1, 2):
                self.assertGreater(sum(fact[1] == worker for fact in facts), clients // 4, "spread evenly")


def established(daemon):
    """How many connections to its ports the kernel holds, accepted or not."""
    ports = {f"{int(port):04X}" for port in daemon.ports}
    count = 0
    with open(f"/proc/{daemon.pid}/net/tcp", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            count += fields[3] == "01" and fields[1].split(":")[1] in ports
    return count


# ---- clients with odd manners ----


def reset(client):
    """Leaves with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def send_while_reading(client, data, read):
    """Sends and half-closes in a thread while read() takes the answer; returns what that returns."""
    failures = []

    def send():
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    answer = read()
    sender.join(harness.patience())
    if failures:
        raise failures[0]
    return answer


class OddClients(harness.TestCase):
    def test_small_receive_buffer_and_pauses(self):
        data = harness.pattern(harness.scale(8 * MIB, MIB))
        with harness.Daemon(LISTENERS) as daemon, socket.socket() as client:
            client.settimeout(harness.patience())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            client.connect(("127.0.0.1", daemon.port))

            def read():
                chunks = []
                while not chunks or chunks[-1]:
                    chunks.append(client.recv(7919))
                    if len(chunks) % 100 == 1:
                        time.sleep(0.01)
                return b"".join(chunks)

            harness.assert_same(send_while_reading(client, data, read), data)

    def test_reader_that_starts_late(self):
        """All is sent, as far as it goes, before the first byte is read; then every byte is there."""
        data = harness.pattern(harness.scale(32 * MIB, 8 * MIB))
        with harness.Daemon(LISTENERS) as daemon, daemon.connect(1) as client:

            def read():
                time.sleep(1)
                return harness.receive_all(client)

            harness.assert_same(send_while_reading(client, data, read), data.upper())

    def test_reader_that_starts_behind_its_own_fin(self):
        data = harness.pattern(60000)  # fits into any buffer
        with harness.Daemon(LISTENERS) as daemon, daemon.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            harness.wait_until(lambda: CLOSED.search(daemon.log()), "the connection's end in the log")
            harness.assert_same(harness.receive_all(client), data)

    def test_one_byte_at_a_time(self):
        data = harness.pattern(3000)
        with harness.Daemon(LISTENERS) as daemon, daemon.connect(1) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def send():
                for byte in data:
                    client.sendall(bytes((byte,)))
                client.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            harness.assert_same(harness.receive_all(client), data.upper())
            sender.join(harness.patience())

    def test_ping_pong(self):
        with harness.Daemon(LISTENERS) as daemon, daemon.connect() as client:
            for number in range(1, 500):
                message = harness.pattern(number)
                client.sendall(message)
                harness.assert_same(harness.receive_exactly(client, number), message)

    def test_half_close_with_nothing_sent(self):
        with harness.Daemon(LISTENERS) as daemon:
            for index in range(2):
                self.assertEqual(daemon.exchange(b"", index), b"")

    def test_fin_at_once(self):
        """Data and FIN are there before the daemon has even accepted."""
        data = harness.pattern(4096)
        with harness.Daemon(LISTENERS) as daemon:
            daemon.send_signal(signal.SIGSTOP)
            try:
                clients = [daemon.connect() for _ in range(50)]
                for client in clients:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
            finally:
                daemon.send_signal(signal.SIGCONT)
            for client in clients:
                with client:
                    harness.assert_same(harness.receive_all(client), data)

    def test_leaving_in_the_middle(self):
        """Clients go with RST or without reading, before, while and after they are answered: nothing of them stays, and the
        others do not notice."""
        data = harness.pattern(8 * MIB)
        with harness.Daemon(LISTENERS, "workers = 2; " + QUIET) as daemon:
            daemon.exchange(b"x")
            harness.wait_until(lambda: established(daemon) == 0, "the first connection to end")
            descriptors = daemon.descriptors()
            answers = []
            witness = threading.Thread(target=lambda: answers.append(daemon.exchange(data, timeout=harness.patience(60))))
            witness.start()
            for number in range(harness.scale(300, 100)):
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
                    reset(client)
                else:
                    client.close()  # with unread bytes: a RST too, but later
            witness.join(harness.patience(60))
            self.assertEqual(len(answers), 1, "the witness got an answer")
            harness.assert_same(answers[0], data)
            harness.wait_until(lambda: daemon.descriptors() == descriptors,
                               lambda: f"{descriptors} descriptors, saw {daemon.descriptors()}")
            reasons = {fact[0] for fact in fact_of(daemon, harness.scale(150, 50))}
            self.assertLessEqual(reasons, {"reset", "client_closed"})
            self.assertIn("reset", reasons)
            self.assertEqual(daemon.exchange(b"still here"), b"still here")


# ---- what idle clients cost ----


class Crowd:
    """Idle clients, all open until the block ends."""

    def __init__(self, daemon, index=0):
        self.daemon = daemon
        self.index = index
        self.clients = []

    def grow(self, count, pause=0.0, message=b""):
        while len(self.clients) < count:
            client = self.daemon.connect(self.index)
            self.clients.append(client)
            if message:
                client.sendall(message)
                harness.assert_same(harness.receive_exactly(client, len(message)), message)
            if pause:
                time.sleep(pause)

    def check(self):
        """Every one of them is served."""
        for number, client in enumerate(self.clients):
            client.sendall(struct.pack(">I", number))
        for number, client in enumerate(self.clients):
            harness.assert_same(harness.receive_exactly(client, 4), struct.pack(">I", number))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def connections_of_workers(daemon):
    """What SIGUSR1 says: the connections of each worker, by its number."""
    mark = len(daemon.log())
    workers = daemon.threads_wanted
    daemon.send_signal(signal.SIGUSR1)

    def seen():
        found = dict(re.findall(r"counters: worker (\d+): (\d+) connections?$", daemon.log()[mark:], re.MULTILINE))
        return {int(worker): int(count) for worker, count in found.items()} if len(found) == workers else None

    return harness.wait_until(seen, "the counters of every worker")


def counters(daemon):
    """What SIGUSR1 says of the whole: (bytes in, bytes out)."""
    mark = len(daemon.log())
    daemon.send_signal(signal.SIGUSR1)
    match = harness.wait_until(lambda: re.search(r"counters: .* (\d+) bytes in, (\d+) out,", daemon.log()[mark:]),
                               "the counters")
    return int(match.group(1)), int(match.group(2))


def start_workers(workers, settings="", listeners=LISTENERS, **options):
    daemon = harness.Daemon(listeners, f"workers = {workers}; {settings}", **options)
    daemon.threads_wanted = workers
    return daemon


def pss(daemon):
    """The process's share of the memory it uses, in bytes."""
    with open(f"/proc/{daemon.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no Pss in smaps_rollup")


class Idle(harness.TestCase):
    def test_new_client_beside_5000_idle_ones(self):
        idle = harness.scale(5000, 2000)
        harness.raise_nofile(idle + 500)

        def median_of_new_clients(daemon):
            times = []
            for _ in range(101):
                start = time.monotonic()
                with daemon.connect() as client:
                    client.sendall(b"hello")
                    harness.assert_same(harness.receive_exactly(client, 5), b"hello")
                times.append(time.monotonic() - start)
            return statistics.median(times)

        with start_workers(2, QUIET) as daemon, Crowd(daemon) as crowd:
            alone = median_of_new_clients(daemon)
            crowd.grow(idle)
            beside = median_of_new_clients(daemon)
            diagnose(f"a new client's first answer: {alone * 1e6:.0f} us alone, {beside * 1e6:.0f} us beside {idle} idle ones")
            self.assertLess(beside, 10 * alone)
            cpu = daemon.cpu_seconds()
            time.sleep(1)
            spent = daemon.cpu_seconds() - cpu
            self.assertLess(spent, 0.5, "idle clients cost no CPU time")
            self.assertEqual(daemon.threads(), 4 if not harness.sanitized() else daemon.threads(), "main, log, 2 workers")
            counts = connections_of_workers(daemon)
            self.assertEqual(sum(counts.values()), idle)
            self.assertLessEqual(max(counts.values()), 1.1 * min(counts.values()))
            crowd.check()

    def test_spread_of_slow_arrivals(self):
        for workers in (2, 4):
            with self.subTest(workers=workers), start_workers(workers) as daemon, Crowd(daemon) as crowd:
                crowd.grow(160, pause=0.01)
                counts = connections_of_workers(daemon)
                self.assertEqual(sum(counts.values()), 160)
                self.assertLessEqual(max(counts.values()), 1.1 * min(counts.values()), counts)
                crowd.check()

    def test_spread_when_clients_leave(self):
        """Most clients of one worker leave: newcomers go where there is room, and not just in turns."""
        with start_workers(2, 'log = { rate = 0; level = "debug"; };') as daemon, Crowd(daemon) as crowd:
            crowd.grow(200, pause=0.002)
            crowd.check()
            worker_of = dict(re.findall(r"connection \d+ from (\S+): echo on \S+, worker (\d+)$", daemon.log(), re.MULTILINE))
            leaving = [client for client in crowd.clients if worker_of["%s:%d" % client.getsockname()] == "1"][:80]
            self.assertEqual(len(leaving), 80, "they were spread")
            for client in leaving:
                client.close()
                crowd.clients.remove(client)
            harness.wait_until(lambda: daemon.count_log(" closed: ") == 80, "the daemon to notice")
            self.assertEqual(connections_of_workers(daemon), {1: 20, 2: 100})
            crowd.grow(200, pause=0.002)
            counts = connections_of_workers(daemon)
            self.assertEqual(sum(counts.values()), 200)
            self.assertLessEqual(max(counts.values()), 1.1 * min(counts.values()), counts)
            crowd.check()

    def slope(self, message):
        few, many = 1000, 9000
        harness.raise_nofile(many + 500)
        with start_workers(2, QUIET) as daemon, Crowd(daemon) as crowd:
            crowd.grow(few, message=message)
            harness.wait_until(lambda: sum(connections_of_workers(daemon).values()) == few, "the first clients")
            time.sleep(0.2)
            before = pss(daemon)
            crowd.grow(many, message=message)
            harness.wait_until(lambda: sum(connections_of_workers(daemon).values()) == many, "the others")
            time.sleep(0.2)
            cost = (pss(daemon) - before) / (many - few)
            crowd.check()
            return cost

    def test_memory_of_an_idle_client(self):
        harness.needs_unsanitized("memory")
        silent = self.slope(b"")
        spoken = self.slope(harness.pattern(3000))
        diagnose(f"memory of an idle connection: {silent:.0f} bytes, {spoken:.0f} bytes when it has been answered before")
        self.assertLess(silent, 250)
        self.assertLess(spoken, 250)


# ---- clients that do not read ----


def send_until_stuck(clients, limit, quiet=0.5):
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
        with start_workers(2, f"unsent_limit = {unsent_limit}; write_timeout = {write_timeout}; {QUIET}") as daemon:
            # The scratch buffers and the allocator's arenas are there before the count begins.
            with Crowd(daemon) as crowd:
                crowd.grow(8)
                for client in crowd.clients:
                    harness.assert_same(harness.exchange(client, harness.pattern(4 * MIB)), harness.pattern(4 * MIB))
            harness.wait_until(lambda: established(daemon) == 0, "the first clients to end")
            before = pss(daemon)
            with Crowd(daemon) as crowd:
                crowd.grow(clients)
                sent = send_until_stuck(crowd.clients, 1024 * MIB)
                grown = pss(daemon) - before
                self.assertLess(max(sent), 1024 * MIB, "a client that does not read is not read from")
                diagnose(f"{clients} clients that sent {min(sent) / MIB:.1f} to {max(sent) / MIB:.1f} MiB and read nothing: "
                         f"the daemon grew by {grown / clients / 1024:.0f} KiB each")
                if not harness.sanitized():
                    # A page or two around each, and one megabyte for what the allocator keeps.
                    self.assertLess(grown, clients * (unsent_limit + 8192) + MIB)

                # Others are served meanwhile.
                self.assertEqual(daemon.exchange(b"still here"), b"still here")

                def dropped():
                    return [fact for fact in fact_of(daemon, 8) if fact[0] == "write_timeout"]

                harness.wait_until(lambda: len(dropped()) == clients, lambda: f"{clients} x write_timeout, saw {dropped()}",
                                   harness.patience(write_timeout + harness.PATIENCE))
                for _, _, read, written in dropped():
                    self.assertLessEqual(written, read)
                    self.assertLessEqual(read - written, unsent_limit, "no more was read than may be unsent")
                # Whatever the kernel still had for the client is gone, and the client hears of it.
                for client in crowd.clients:
                    client.setblocking(True)
                    client.settimeout(harness.patience())
                    with self.assertRaises((ConnectionResetError, BrokenPipeError)):
                        while True:
                            client.sendall(b"x")
                            time.sleep(0.01)
            self.assertEqual(established(daemon), 0)
            if not harness.sanitized():
                # The allocator keeps what lies below something that is still in use; the next clients get it. What is
                # lost for good is for the leak sanitizer to find.
                kept = max(clients * (unsent_limit + 8192), MIB)
                harness.wait_until(lambda: pss(daemon) - before < kept, lambda: f"memory given back, {pss(daemon) - before} kept")
            self.assertEqual(daemon.exchange(b"still here"), b"still here")

    def test_one_client_of_a_gigabyte(self):
        self.check(1, 262144, 3)

    def test_many_clients(self):
        self.check(24, 65536, 5)

    def test_slow_is_not_stuck(self):
        """A client that takes a little now and then outlives write_timeout: it counts from the last byte taken."""
        with harness.Daemon(LISTENERS, "write_timeout = 2.0; " + QUIET) as daemon, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(harness.patience())
            client.connect(("127.0.0.1", daemon.port))
            data = harness.pattern(24 * MIB)

            def read():
                chunks = []
                end = time.monotonic() + 5
                while not chunks or chunks[-1]:
                    chunks.append(client.recv(262144))
                    if time.monotonic() < end:
                        time.sleep(0.1)
                return b"".join(chunks)

            harness.assert_same(send_while_reading(client, data, read), data)
            self.assertEqual(fact_of(daemon)[0][0], "client_closed")


# ---- fairness ----


class PingPong:
    """Small clients, each of which sends as soon as it has its answer."""

    MESSAGE = b"ping-pong of 32 bytes, no more.\n"

    def __init__(self, crowd):
        self.sent_at = {}
        self.poll = select.epoll()
        self.clients = {client.fileno(): client for client in crowd.clients}
        for number, client in self.clients.items():
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.poll.register(number, select.EPOLLIN)

    def median(self, rounds):
        """The median time of an answer while each client asks so often, in seconds."""
        times = []
        left = dict.fromkeys(self.clients, rounds)
        for number, client in self.clients.items():
            self.sent_at[number] = time.perf_counter()
            client.send(self.MESSAGE)
        while left:
            events = self.poll.poll(harness.patience())
            if not events:
                raise AssertionError("the small clients get no answer")
            for number, _ in events:
                client = self.clients[number]
                harness.assert_same(client.recv(len(self.MESSAGE)), self.MESSAGE)
                now = time.perf_counter()
                times.append(now - self.sent_at[number])
                left[number] -= 1
                if left[number] == 0:
                    del left[number]
                    continue
                self.sent_at[number] = time.perf_counter()
                client.send(self.MESSAGE)
        return statistics.median(times)


class Fairness(harness.TestCase):
    # As fast as can be: one process sends, another has the kernel throw away what comes (tcp(7), MSG_TRUNC).
    GREEDY = """if True:
        import ctypes, os, signal, socket, sys
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        if os.fork() == 0:
            libc = ctypes.CDLL(None)
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            while libc.recv(client.fileno(), None, 1 << 20, socket.MSG_TRUNC) > 0:
                pass
        else:
            data = bytes(1 << 20)
            while True:
                client.sendall(data)
        """

    @staticmethod
    def wait_moving(daemon):
        """Until the greedy one is at it."""
        before = counters(daemon)[1]
        harness.wait_until(lambda: counters(daemon)[1] > before + MIB, "the greedy one to start")

    def test_small_clients_beside_a_greedy_one(self):
        """One worker serves them all. The greedy one is stopped and continued, so that both times come from one run."""
        rounds = harness.scale(100, 30)
        with start_workers(1, "write_timeout = 0.0; " + QUIET) as daemon, Crowd(daemon) as crowd:
            crowd.grow(100)
            small = PingPong(crowd)
            small.median(rounds)  # warm
            greedy = subprocess.Popen([sys.executable, "-c", self.GREEDY, str(daemon.port)], stdin=subprocess.DEVNULL,
                                      start_new_session=True)
            try:
                alone, beside, speed = [], [], []
                self.wait_moving(daemon)
                for _ in range(50):
                    if len(beside) == 5:
                        break
                    os.killpg(greedy.pid, signal.SIGSTOP)
                    time.sleep(0.1)
                    without = small.median(rounds)
                    os.killpg(greedy.pid, signal.SIGCONT)
                    self.wait_moving(daemon)
                    before, start = counters(daemon), time.monotonic()
                    with_it = small.median(rounds)
                    moved, seconds = counters(daemon)[1] - before[1], time.monotonic() - start
                    # On a busy machine it may have had no CPU all the while, and then this says nothing.
                    if moved > 30 * 100 * rounds * len(PingPong.MESSAGE):
                        alone.append(without)
                        beside.append(with_it)
                        speed.append(moved / seconds)
                self.assertEqual(len(beside), 5, "the greedy one is greedy")
                ratio = statistics.median(beside) / statistics.median(alone)
                diagnose(f"100 small clients: median {statistics.median(alone) * 1e6:.0f} us alone, "
                         f"{statistics.median(beside) * 1e6:.0f} us beside one at {statistics.median(speed) / MIB:.0f} MiB/s ({ratio:.1f} times)")
                self.assertLess(ratio, 10)
            finally:
                os.killpg(greedy.pid, signal.SIGKILL)
                greedy.wait()
                small.poll.close()


if __name__ == "__main__":
    harness.main()
