"""systemctl restart, an upgrade and a crash under traffic: what a client sees of them is a pause.

    TCPECHOD_RESTARTS=1000 TCPECHOD_CLIENTS=500 python3 tests/system/test_restart.py Traffic
    TCPECHOD_IDLE=15000 TCPECHOD_REPEATED=20 python3 tests/system/test_restart.py Many

do the same for longer and with more clients, and print what those have seen.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import time

import machine
import traffic
from machine import harness

HANDOVER = "9fea9f2f868b42a380bbe3ac44b16dfb"

RESTARTS = int(os.environ.get("TCPECHOD_RESTARTS", "20"))
CLIENTS = int(os.environ.get("TCPECHOD_CLIENTS", "150"))
IDLE = int(os.environ.get("TCPECHOD_IDLE", "2000"))
REPEATED = int(os.environ.get("TCPECHOD_REPEATED", "2"))
# The others are of tcpecho --bench, which needs no thread for each.
MIXED = 56

ECHO, UPPER, DISCARD, CHARGEN, WORD, GONE = 7, 7008, 9, 19, 8007, 8008

SETTINGS = """listeners = (
  { address = "127.0.0.1"; port = 7; service = "echo"; },
  { address = "127.0.0.1"; port = 7008; service = "upper"; },
  { address = "127.0.0.1"; port = 9; service = "discard"; },
  { address = "127.0.0.1"; port = 19; service = "chargen"; },
  { address = "127.0.0.1"; port = 8007; service = "echo"; end_word = "goodbye"; greeting = "hello\\n"; }%s
);
log = { connections = false; };
%s"""
EXTRA = ', { address = "127.0.0.1"; port = 8008; service = "echo"; }'


# ---- clients, each of which knows every byte that it has to get ----


class Chargen(traffic.Client):
    LINES = b"".join(bytes(32 + (start + column) % 95 for column in range(72)) + b"\r\n" for start in range(95))

    def work(self):
        got = 0
        while not self.stopping.is_set():
            data = self.socket.recv(1 << 16)
            if not data:
                raise AssertionError(f"ended after {got} bytes")
            at = got % len(self.LINES)
            expected = (self.LINES * (2 + len(data) // len(self.LINES)))[at : at + len(data)]
            harness.assert_same(data, expected, f"chargen at {got}")
            got += len(data)
            self.rounds += 1
            self.rest()


class Upper(traffic.Client):
    """A message in two pieces with a pause between them."""

    def work(self):
        while not self.stopping.is_set():
            message = b"message %12d\n" % self.rounds
            self.socket.sendall(message[:9])
            time.sleep(random.uniform(0.01, 0.1))
            self.socket.sendall(message[9:])
            harness.assert_same(harness.receive_exactly(self.socket, len(message)), message.upper())
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class Discard(traffic.Client):
    """Sends all the time."""

    def work(self):
        while not self.stopping.is_set():
            self.socket.sendall(traffic.STREAM[: traffic.CHUNK])
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class OneAfterTheOther(traffic.Client):
    """A new connection each time."""

    def work(self):
        self.socket.close()
        while not self.stopping.is_set():
            with self.connect() as client:
                client.settimeout(harness.patience())
                self.talk(client)
            self.rounds += 1
            self.rest()


class EndWord(OneAfterTheOther):
    """The word comes in two pieces, and what comes after it is not answered."""

    def talk(self, client):
        client.sendall(b"something\ngood")
        time.sleep(random.uniform(0.02, 0.2))
        client.sendall(b"bye\nnot answered\n")
        harness.assert_same(harness.receive_all(client), b"hello\nsomething\ngoodbye\n")


class HalfClosed(OneAfterTheOther):
    """Has said all that it has to say before it begins to read."""

    def __init__(self, connect, pause):
        super().__init__(connect, pause)
        self.message = traffic.STREAM[:300000]

    def talk(self, client):
        client.sendall(self.message)
        client.shutdown(socket.SHUT_WR)
        time.sleep(random.uniform(0.02, 0.2))
        harness.assert_same(harness.receive_all(client), self.message)


class Unread(OneAfterTheOther):
    """Leaves so many answers unread that the daemon has to keep some."""

    def talk(self, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        sent = harness.fill(client, len(traffic.STREAM), quiet=random.uniform(0.05, 0.2))
        client.setblocking(True)
        client.settimeout(harness.patience())
        harness.assert_same(harness.receive_exactly(client, sent), traffic.STREAM[:sent])


KINDS = [(Upper, UPPER), (Chargen, CHARGEN), (Discard, DISCARD), (traffic.Bulk, ECHO), (traffic.Newcomers, ECHO),
         (EndWord, WORD), (HalfClosed, ECHO), (Unread, ECHO)]


@contextlib.contextmanager
def all_kinds(count=len(KINDS)):
    """So many clients, some of each kind; at the end each has to have had all that it is owed."""
    clients = []
    for index in range(count):
        kind, port = KINDS[index % len(KINDS)]
        clients.append(kind(lambda port=port: machine.Machine.connect(port), 0.02))
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        failures = []
        for client in clients:
            try:
                client.finish()
            except AssertionError as error:
                failures.append(str(error))
    if failures:
        raise AssertionError("\n".join(failures))


def pass_by(clients, rounds=3):
    """Waits until each has had so many more answers, or has failed."""
    targets = [(client, client.rounds + rounds) for client in clients]
    harness.wait_until(lambda: all(client.rounds >= target or client.failure for client, target in targets),
                       "answers to every client")


class Restart(machine.TestCase):
    def start(self, more="", settings=""):
        self.machine.write(machine.CONF, SETTINGS % (more, settings))
        self.machine.systemctl("start", "tcpechod")

    def restart(self, times=1):
        self.machine.run("sh", "-c", f"for i in $(seq {times}); do systemctl restart tcpechod || exit 1; done",
                         timeout=60 + times)

    def said(self, pattern):
        """The last message about hand-overs that matches."""
        return self.machine.wait_journal(pattern, f"MESSAGE_ID={HANDOVER}")["MESSAGE"]

    def counters(self):
        self.machine.mark()
        self.machine.systemctl("kill", "--signal=USR1", "tcpechod")
        return self.machine.wait_journal("^counters: .*accepted")["MESSAGE"]


class Traffic(Restart):
    def test_many_restarts(self):
        self.start()
        others = max(CLIENTS - MIXED, 1)
        bench = self.client("--bench", "--messages=1000000000", f"--connections={others}", f"--rate={5 * others}", "--json",
                            "--wait=60")
        watch = self.client("--watch", "--json", "--gap=10", "--wait=60")
        with all_kinds(MIXED) as clients:
            pass_by(clients, 2)
            begin = time.monotonic()
            self.restart(RESTARTS)
            seconds = time.monotonic() - begin
            pass_by(clients, 2)
        figures, seen = self.end(bench), self.end(watch)
        self.assertEqual(self.machine.journal("PRIORITY=4"), [], "a warning")
        print(f"# {RESTARTS} restarts in {seconds:.1f} s; {figures['connected']} connections of a load test: "
              f"{figures['messages']} messages, p99.9 {figures['latency_p99_9_ns'] / 1e6:.1f} ms, "
              f"max {figures['latency_max_ns'] / 1e6:.1f} ms, broken {figures['broken']}, wrong {figures['wrong']}; "
              f"outage probe: longest gap {seen['longest_gap_s'] * 1e3:.1f} ms, broken {seen['broken']}, "
              f"refused {seen['refused']}", flush=True)

    def client(self, *arguments):
        return self.machine.start("tcpecho", *arguments, "127.0.0.1", str(ECHO), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(self, process):
        """What a client of ours that runs until Ctrl-C prints then. It is a child of what has entered the machine."""
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, output + errors)
        return json.loads(output)

    def test_clients_that_people_have(self):
        """64 MiB through each, while the service is restarted all the time."""
        self.start()
        restarts = self.machine.start("sh", "-c", "until [ -e /run/enough ]; do systemctl restart tcpechod || exit 1; "
                                                  "sleep 0.2; done; rm /run/enough")
        data = harness.pattern(64 << 20)
        for name in ("socat", "ncat", "nc"):
            with self.subTest(name):
                harness.assert_same(harness.run_client(name, ECHO, data), data)
        self.machine.write("/run/enough", "")
        self.assertEqual(restarts.wait(harness.patience()), 0, "a restart has failed")
        self.assertEqual(self.machine.journal("PRIORITY=4"), [], "a warning")

    def test_an_upgrade_of_the_package(self):
        self.machine.run("rm", "-f", "/var/lib/man-db/auto-update")  # which takes its time
        self.start()
        old = self.machine.show("MainPID")
        with all_kinds() as clients:
            pass_by(clients)
            self.machine.install(machine.package("9:9.9"), "-o", "Dpkg::Options::=--force-confold")
            pass_by(clients)
        self.assertNotEqual(self.machine.show("MainPID"), old)
        self.assertRegex(self.said("of the process before"), r"^\d+ listeners and \d+ connections of the process before go on$")


class Many(Restart):
    def test_idle_connections_counters_and_ids(self):
        harness.raise_nofile(IDLE + 1000)
        self.start(settings="idle_timeout = 3600.0;")
        clients = [self.machine.connect(ECHO) for _ in range(IDLE)]
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        for number, client in enumerate(clients):
            harness.assert_same(harness.receive_exactly(client, len(b"%d\n" % number)), b"%d\n" % number)
        before = self.counters()
        self.assertTrue(before.startswith(f"counters: {IDLE} connections, 0 queued, {IDLE} accepted, "), before)
        with self.machine.connect(ECHO) as probe:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for how, command in (("systemctl restart", ("systemctl", "restart", "tcpechod")),
                                 ("in place", ("sh", "-c", "systemctl kill --signal=USR2 tcpechod; sleep 0.5"))):
                pauses = []
                for _ in range(REPEATED):
                    self.machine.mark()
                    restart = self.machine.start(*command)
                    pauses.append(1e3 * self.longest_answer(probe, restart))
                    self.assertEqual(restart.wait(), 0)
                    self.said(f"^5 listeners and {IDLE + 1} connections of the process before go on$")
                print(f"# {how}, {IDLE} connections: one that talks waited {min(pauses):.1f} to {max(pauses):.1f} ms, "
                      f"median {statistics.median(pauses):.1f}", flush=True)
        for number, client in enumerate(clients):
            harness.ping(client, b"again %d\n" % number)
        sums = re.compile(r"(\d+) accepted, (\d+) closed.* (\d+) bytes in, (\d+) out")
        harness.wait_until(lambda: sums.search(self.counters()).group(2) == "1", self.counters)
        old, new = (list(map(int, sums.search(line).groups())) for line in (before, self.counters()))
        self.assertEqual(new[0], old[0] + 1)
        self.assertGreater(new[2], old[2])
        self.assertEqual(new[2], new[3])
        for client in clients:
            client.close()

    @staticmethod
    def longest_answer(client, process):
        longest = 0.0
        while process.poll() is None:
            start = time.monotonic()
            harness.ping(client, b"how long?\n")
            longest = max(longest, time.monotonic() - start)
        return longest

    def test_timeouts_go_on(self):
        self.start(settings="idle_timeout = 4.0;\n")
        start = time.monotonic()
        with self.machine.connect(ECHO) as client:
            harness.ping(client)
            for _ in range(3):
                time.sleep(1)
                self.restart()
            self.assertEqual(client.recv(1), b"")
            # Counted anew at each restart it would be 7 seconds and more.
            self.assertGreater(time.monotonic() - start, 3.9)
        self.assertIn("idle_timeout 1", self.counters())


class Settings(Restart):
    def test_listeners_that_go_come_and_stay(self):
        self.start(EXTRA)
        with self.machine.connect(GONE) as leaving, self.machine.connect(ECHO) as staying:
            harness.ping(leaving)
            harness.ping(staying)
            changed = SETTINGS % (', { address = "127.0.0.1"; port = 8009; service = "upper"; }', "")
            self.machine.write(machine.CONF, changed.replace('port = 7; service = "echo"', 'port = 7; service = "upper"'))
            self.restart()
            self.assertEqual(leaving.recv(1), b"")
            harness.ping(staying, b"as before\n")
            self.assertEqual(self.machine.exchange(ECHO, b"new\n"), b"NEW\n")
            self.assertEqual(self.machine.exchange(8009, b"new\n"), b"NEW\n")
            with self.assertRaises(ConnectionRefusedError):
                self.machine.connect(GONE)
            leaving.close()
            harness.wait_until(lambda: "drained 1" in self.counters(), self.counters)

    def test_mistakes(self):
        """It cannot start again: who is there gets what he is owed, and an end."""
        self.start()
        with self.machine.connect(ECHO) as client:
            harness.ping(client)
            self.machine.write(machine.CONF, "idle_timout = 3;\n")
            self.assertNotEqual(self.machine.systemctl("restart", "tcpechod", check=False).returncode, 0)
            self.assertEqual(client.recv(1), b"")
        self.assertRegex(self.said("^not handed over"), "its settings have errors; the connections are finished")
        self.assertEqual(self.machine.show("ExecMainStatus"), "78")

    def test_a_port_that_is_taken(self):
        self.start()
        with socket.create_server(("127.0.0.1", 8009)), all_kinds() as clients:
            pass_by(clients)
            self.machine.write(machine.CONF, SETTINGS % (', { address = "127.0.0.1"; port = 8009; }', ""))
            self.restart()
            pass_by(clients)
            self.assertRegex(self.machine.status(), r"(?m)^ *Status: .*127\.0\.0\.1:8009")
            self.said("listeners of the process before stay")
        self.machine.systemctl("reload", "tcpechod")
        self.assertEqual(self.machine.exchange(8009, b"hi\n"), b"hi\n")


class Failures(Restart):
    """What cannot be handed over is finished, and nobody who comes meanwhile is refused."""

    def assert_finished(self, why, rest=", and the listeners go on"):
        with self.machine.connect(ECHO) as client, machine.Newcomers(ECHO) as newcomers:
            harness.ping(client)
            harness.wait_until(lambda: newcomers.served > 3 or newcomers.failures, "clients that are served")
            client.sendall(b"the last words\n")
            self.machine.systemctl("restart", "tcpechod")
            self.assertEqual(harness.receive_all(client), b"the last words\n")
            served = newcomers.served
            harness.wait_until(lambda: newcomers.served > served + 3 or newcomers.failures, "clients that are served")
        self.assertRegex(self.said("^not handed over"), f"{why}.*; the connections are finished{rest}$")
        return newcomers.failures

    def test_calls_that_fail(self):
        for rules, why in (("memfd_create:EPERM", "cannot write the state: Operation not permitted"),
                           ("sendmsg:ETOOMANYREFS", "cannot queue the connections: Too many references"),
                           ("socketpair:EMFILE:2", "cannot queue the connections: Too many open files"),
                           ("sd_notify_barrier:ETIMEDOUT", "the service manager does not answer: Connection timed out")):
            with self.subTest(rules):
                self.machine.reset()
                # Of the first process only: the rules are in its environment, and the next one has others.
                self.machine.use_faults(rules)
                self.start()
                self.assertEqual(self.assert_finished(why), [])

    def test_a_store_without_room(self):
        """For the queue of connections, and at all; the listeners come first."""
        for room, rest in ((0, ""), (7, ", and the listeners go on")):
            with self.subTest(room):
                self.machine.reset()
                self.machine.drop_in(f"[Service]\nFileDescriptorStoreMax={room}\n")
                self.start()
                refused = self.assert_finished("descriptor.* \\(FileDescriptorStoreMax=\\): No space left on device", rest)
                self.assertTrue(not rest or not refused, refused)

    def test_killed_while_it_hands_over(self):
        self.machine.use_faults("sd_notify_barrier:sleep=600000:1")
        self.start()
        with machine.Newcomers(ECHO) as newcomers:
            harness.wait_until(lambda: newcomers.served > 3 or newcomers.failures, "clients that are served")
            restart = self.machine.start("systemctl", "restart", "tcpechod")
            harness.wait_until(lambda: self.machine.show("ActiveState") == "deactivating", self.machine.status)
            self.machine.systemctl("kill", "--signal=KILL", "tcpechod")
            self.assertEqual(restart.wait(harness.patience()), 0)
            served = newcomers.served
            harness.wait_until(lambda: newcomers.served > served + 3 or newcomers.failures, "clients that are served")
        # Who was waiting for an answer may have lost it with the process; nobody is refused.
        self.assertEqual([failure for failure in newcomers.failures if "refused" in failure.lower()], [])
        self.said("of the process before go on")


class Ends(Restart):
    def test_a_stop_closes(self):
        self.start()
        with self.machine.connect(ECHO) as client:
            harness.ping(client)
            self.machine.systemctl("stop", "tcpechod")
            self.assertEqual(client.recv(1), b"")
        with self.assertRaises(ConnectionRefusedError):
            self.machine.connect(ECHO)
        self.machine.systemctl("start", "tcpechod")
        self.assertEqual(self.machine.exchange(ECHO, b"hi\n"), b"hi\n")
        self.assertEqual(self.machine.journal(f"MESSAGE_ID={HANDOVER}"), [])

    def test_killed(self):
        """The listeners go on, and who comes meanwhile waits."""
        self.start()
        old = self.machine.show("MainPID")
        lost = self.machine.connect(ECHO)
        harness.ping(lost)
        self.machine.systemctl("kill", "--signal=KILL", "tcpechod")
        with lost, self.machine.connect(ECHO) as waiting:
            waiting.sendall(b"is anybody there?\n")
            harness.assert_same(harness.receive_exactly(waiting, 18), b"is anybody there?\n")
            with self.assertRaises(ConnectionResetError):
                while lost.recv(1):
                    pass
                raise ConnectionResetError  # a FIN, as nothing was unread
        self.assertNotEqual(self.machine.show("MainPID"), old)
        self.assertRegex(self.said("without a hand-over"), "^5 listeners and 0 connections of the process before go on; it has "
                         "ended without a hand-over, and its connections with it$")

    def test_signal_without_a_restart(self):
        """Nobody has asked for one, and it is one all the same."""
        self.start()
        with self.machine.connect(ECHO) as client:
            harness.ping(client)
            self.machine.systemctl("kill", "--signal=RTMIN+1", "tcpechod")
            self.said("1 connection of the process before go")
            harness.ping(client, b"still here\n")
        harness.wait_until(lambda: self.machine.show("ActiveState") == "active", self.machine.status)

    def test_in_place(self):
        """The same process goes on, in the sandbox as outside of it, and can be restarted."""
        self.start()
        pid = self.machine.show("MainPID")
        with self.machine.connect(ECHO) as client:
            harness.ping(client)
            for number in range(5):  # the signal is for all of the control group, also for what is run to check the file
                self.machine.mark()
                self.machine.systemctl("kill", "--signal=USR2", "tcpechod")
                self.said("1 connection of the process before go")
                harness.ping(client, b"still here %d\n" % number)
            self.assertEqual(self.machine.show("MainPID"), pid)
            self.machine.mark()
            self.restart()
            self.said("1 connection of the process before go")
            harness.ping(client, b"and here\n")


if __name__ == "__main__":
    harness.main()
