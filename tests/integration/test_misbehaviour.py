#!/usr/bin/env python3
"""Listeners that misbehave on purpose: what a client gets of each fault, in bytes, and in packets where these say more."""

import contextlib
import random
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time

import client
import daemons
import harness
from daemons import DEBUG, LOG, config_text, listener

FIN, SYN, RST, ACK = 1, 2, 4, 16
ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35

MESSAGE = b"0123456789"
STREAM = random.Random(13).randbytes(20000)

# Longer than any test takes.
AGES = 3600.0


def assert_rests(test, daemon):
    """It waits, and does not turn for nothing."""
    cpu = daemon.cpu_seconds()
    time.sleep(0.5)
    test.assertLess(daemon.cpu_seconds() - cpu, 0.25)


class Segment:
    """What a TCP header says, and when the kernel saw it, in seconds."""

    def __init__(self, when, packet):
        header = packet[(packet[0] & 15) * 4:]
        self.when = when
        self.source, self.target = struct.unpack("!HH", header[:4])
        self.flags = header[13]
        self.window, = struct.unpack("!H", header[14:16])
        self.payload = packet[(packet[0] & 15) * 4 + (header[12] >> 4) * 4 : struct.unpack("!H", packet[2:4])[0]]


class Wire:
    """The packets of the loopback interface, in a network of the test's own."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(("lo", ETH_P_IP))
        self.socket.setblocking(False)
        self.seen = []
        harness.wait_until(self.is_stamped, "the kernel to stamp packets")

    def receive(self):
        """(when, packet, place) of each one since."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, place = self.socket.recvmsg(65536, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
                yield seconds + nanoseconds / 1e9, packet, place

    def is_stamped(self):
        """It begins a while after it was asked to, and until then says when a packet was read."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"", ("127.0.0.1", 9))
        sent = time.time()
        time.sleep(0.002)
        return max((when for when, *_ in self.receive()), default=sent + 1) <= sent

    def look(self):
        self.seen += [Segment(when, packet) for when, packet, place in self.receive()
                      if place[2] != PACKET_OUTGOING and packet[9] == socket.IPPROTO_TCP]
        return self.seen

    def said_by(self, port):
        return [segment for segment in self.look() if segment.source == port]

    def said_to(self, port):
        return [segment for segment in self.look() if segment.target == port]

    def data(self, port):
        return [segment for segment in self.said_by(port) if segment.payload]

    def wait_flag(self, port, flag):
        return harness.wait_until(lambda: [s for s in self.said_by(port) if s.flags & flag], f"flag {flag}")[0]

    def has_flag(self, port, flag):
        return any(segment.flags & flag for segment in self.said_by(port))


class OnTheWire(harness.TestCase):
    def setUp(self):
        self.enterContext(harness.network_namespace())
        self.wire = Wire()
        self.addCleanup(self.wire.socket.close)

    def serve(self, service="echo", **options):
        return self.enterContext(daemons.Daemon(listener(service, **options), LOG))

    def pings(self, daemon, count):
        """How long each answer took."""
        peer = daemon.connect()
        for _ in range(count):
            harness.ping(peer, MESSAGE)
        asked = [segment.when for segment in self.wire.said_to(daemon.port) if segment.payload]
        answered = [segment.when for segment in self.wire.data(daemon.port)]
        self.assertEqual((len(asked), len(answered)), (count, count))
        return [after - before for before, after in zip(asked, answered)]

    def test_delay_is_never_short(self):
        for delay in (0.001, 0.0205, 0.3):
            with self.subTest(delay=delay):
                self.assertGreaterEqual(min(self.pings(self.serve(delay=delay), 5)), delay)
                self.wire.seen.clear()

    def test_jitter_is_to_both_sides(self):
        took = self.pings(self.serve(delay=0.06, jitter=0.06, seed=1), 40)
        self.assertGreaterEqual(sum(seconds < 0.06 for seconds in took), 5, took)
        self.assertGreaterEqual(sum(seconds > 0.06 for seconds in took), 5, took)

    def test_end_is_delayed_too(self):
        daemon = self.serve(delay=0.2)
        peer = daemon.connect()
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(harness.receive_all(peer), b"")
        asked = next(segment for segment in self.wire.said_to(daemon.port) if segment.flags & FIN)
        self.assertGreaterEqual(self.wire.wait_flag(daemon.port, FIN).when - asked.when, 0.2)

    def test_close_is_delayed(self):
        daemon = self.serve(close_delay=0.2)
        peer = daemon.connect()
        harness.ping(peer, MESSAGE)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(harness.receive_all(peer), b"")
        asked = next(segment for segment in self.wire.said_to(daemon.port) if segment.flags & FIN)
        self.assertGreaterEqual(self.wire.wait_flag(daemon.port, FIN).when - asked.when, 0.2)

    def test_slices_are_segments(self):
        daemon = self.serve(slice=4)
        peer = daemon.connect()
        for _ in range(20):
            harness.ping(peer, MESSAGE)
        self.assertEqual([segment.payload for segment in self.wire.data(daemon.port)], [b"0123", b"4567", b"89"] * 20)

    def test_slices_are_apart(self):
        daemon = self.serve(slice=4, slice_delay=0.03)
        peer = daemon.connect()
        harness.ping(peer, MESSAGE)
        harness.ping(peer, MESSAGE)
        sent = self.wire.data(daemon.port)
        self.assertEqual([segment.payload for segment in sent], [b"0123", b"4567", b"89"] * 2)
        # The daemon's clock ticks in microseconds, and it looks at it before it sends.
        self.assertGreater(min(b.when - a.when for a, b in zip(sent, sent[1:])), 0.029)

    def test_rate_is_not_exceeded(self):
        daemon = self.serve(rate="256k")
        size = 128 << 10
        self.assertEqual(daemon.exchange(bytes(size)), bytes(size))
        sent = self.wire.data(daemon.port)
        self.assertGreater(sent[-1].when - sent[0].when, 0.45)
        self.assertGreater(len(sent), 20)

    def test_accept_delay(self):
        daemon = self.serve(accept_delay=0.2, greeting="hello ")
        peer = daemon.connect()
        peer.sendall(b"world")
        self.assertEqual(harness.receive_exactly(peer, 11), b"hello world")
        opened = next(segment for segment in self.wire.said_by(daemon.port) if segment.flags & SYN)
        self.assertGreaterEqual(self.wire.data(daemon.port)[0].when - opened.when, 0.2)

    def end(self, how, setting):
        """A connection that has ended so, after MESSAGE; nothing has been said after it."""
        daemon = self.serve(end=how, idle_timeout=0, **setting)
        peer = daemon.connect()
        peer.sendall(MESSAGE + b"and more")
        self.assertEqual(harness.receive_exactly(peer, len(MESSAGE)), MESSAGE)
        return daemon, peer

    SETTINGS = ({"limit": 10}, {"after": 0.3, "rate": 1000, "slice": 10, "slice_delay": AGES})

    def test_close_is_a_fin(self):
        for setting in self.SETTINGS:
            with self.subTest(setting=setting):
                daemon, peer = self.end("close", setting)
                self.assertEqual(peer.recv(1), b"")
                self.assertFalse(self.wire.has_flag(daemon.port, RST))
                peer.close()
                daemon.wait_log(f"closed: fault: {next(iter(setting))}, echo")

    def test_reset_is_a_rst(self):
        for setting in self.SETTINGS:
            with self.subTest(setting=setting):
                daemon, peer = self.end("reset", setting)
                self.assertRaises(ConnectionResetError, peer.recv, 1)
                self.assertFalse(self.wire.has_flag(daemon.port, FIN))
                daemon.wait_log(f"closed: fault: {next(iter(setting))}, echo")

    def test_half_close_goes_on_reading(self):
        for setting in self.SETTINGS:
            with self.subTest(setting=setting):
                daemon, peer = self.end("half_close", setting)
                self.assertEqual(peer.recv(1), b"")
                time.sleep(2.5)  # a close lingers for less
                for _ in range(5):
                    peer.sendall(bytes(1000))
                peer.close()
                self.assertEqual(int(daemon.wait_closed()[0]["bytes_in"]), 5018)
                self.assertFalse(self.wire.has_flag(daemon.port, RST))

    def test_hang_is_silence(self):
        for setting in self.SETTINGS:
            with self.subTest(setting=setting):
                daemon, peer = self.end("hang", setting)
                self.assertTrue(harness.is_silent(peer, 2.5))
                peer.sendall(bytes(5000))
                self.assertTrue(harness.is_silent(peer, 0.5))
                self.assertFalse(self.wire.has_flag(daemon.port, FIN | RST))
                peer.shutdown(socket.SHUT_WR)
                self.assertEqual(peer.recv(1), b"")
                daemon.wait_log(f"closed: fault: {next(iter(setting))}, echo")

    def test_deaf_closes_the_window(self):
        daemon = self.serve(deaf=True)
        peer = daemon.connect()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sent = harness.fill(peer, 64 << 20)
        self.assertLess(sent, 64 << 20)
        harness.wait_until(lambda: self.wire.said_by(daemon.port)[-1].window == 0, "a window of 0")
        harness.reset(peer)
        self.assertEqual(int(daemon.wait_closed()[0]["bytes_in"]), 0)


class Faults(daemons.TestCase):
    def test_silent_reads(self):
        with daemons.Daemon(listener(silent=True, greeting="hello"), LOG) as daemon:
            peer = daemon.connect()
            peer.sendall(bytes(4 << 20))
            self.assertTrue(harness.is_silent(peer))
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(peer.recv(1), b"")
            self.assertEqual(daemon.wait_closed()[0].group("reason", "bytes_in", "bytes_out"),
                             ("client_closed", str(4 << 20), "0"))

    def test_services_that_speak(self):
        rows = ", ".join((listener("chargen", limit=1000), listener("daytime", "PORT1", delay=0.1),
                          listener("greet", "PORT2", text="hello world", slice=3, corrupt=0.0, repeat=1.0),
                          listener("chargen", "PORT3", silent=True, after=0.2), listener("chargen", "PORT4", deaf=True)))
        with daemons.Daemon(rows, LOG) as daemon:
            self.assertEqual(len(harness.receive_all(daemon.connect())), 1000)
            self.assertRegex(harness.receive_all(daemon.connect(1)), rb"\A\w{3} \w{3} .*\n\Z")
            self.assertEqual(harness.receive_all(daemon.connect(2)), b"helhello lo worworldld")
            self.assertEqual(harness.receive_all(daemon.connect(3)), b"")
            self.assertLess(harness.fill(daemon.connect(4), 64 << 20), 64 << 20)
            self.assertGreater(len(harness.receive_exactly(daemon.connect(4), 1 << 20)), 0)

    def test_path(self):
        for how in ("close", "reset", "half_close", "hang"):
            with self.subTest(end=how), daemons.Daemon(listener(path="DIR/socket", limit=5, end=how, delay=0.05),
                                                       LOG) as daemon:
                peer = daemon.connect_path()
                peer.sendall(MESSAGE)
                self.assertEqual(harness.receive_exactly(peer, 5), MESSAGE[:5])
                if how == "hang":
                    self.assertTrue(harness.is_silent(peer))
                else:
                    self.assertEqual(peer.recv(1), b"")
                peer.close()
                daemon.wait_log("closed: fault: limit, echo")

    def test_client_that_leaves_is_seen(self):
        """While its answer is held, while nobody reads, and while somebody hangs."""
        rows = ", ".join((listener(delay=AGES), listener(port="PORT1", deaf=True, after=AGES),
                          listener(port="PORT2", accept_delay=AGES), listener(port="PORT3", limit=1, end="hang"),
                          listener(path="DIR/socket", delay=AGES)))
        with daemons.Daemon(rows, LOG + "idle_timeout = 0;") as daemon:
            for index in range(4):
                peer = daemon.connect(index)
                peer.sendall(MESSAGE)
                self.assertTrue(harness.is_silent(peer, 0.05) or index == 3)
                harness.reset(peer)
                daemon.wait_closed(index + 1)
            peer = daemon.connect_path()
            peer.sendall(MESSAGE)
            self.assertTrue(harness.is_silent(peer, 0.05))
            peer.close()
            self.assertEqual([each["reason"] for each in daemon.wait_closed(5)],
                             ["reset", "reset", "reset", "fault", "reset"])
            assert_rests(self, daemon)

    def test_probe_is_a_probe(self):
        faults = ({"delay": AGES}, {"deaf": True}, {"silent": True}, {"accept_delay": AGES}, {"rate": 1}, {"limit": 1})
        rows = ", ".join(listener(port=f"PORT{index}", **fault) for index, fault in enumerate(faults))
        # Of a delay the end is held as well, and nobody waits for that here.
        with daemons.Daemon(rows, DEBUG) as daemon:
            for index in range(1, len(faults)):
                daemon.connect(index).close()
            daemon.wait_log("debug: connection [0-9]+ from .* closed: client_closed", len(faults) - 1)
            self.assertEqual(daemon.count_log("info: connection"), 0)

    def test_idle_timeout_ends_what_stays(self):
        rows = ", ".join(listener(port=f"PORT{index}", idle_timeout=0.2, **fault) for index, fault in enumerate((
            {"deaf": True}, {"silent": True}, {"limit": 1, "end": "hang"}, {"limit": 1, "end": "half_close"})))
        with daemons.Daemon(rows, LOG) as daemon:
            peers = [daemon.connect(index) for index in range(4)]
            for peer in peers:
                peer.sendall(b"x")
            reasons = {each["listener"].rpartition(":")[2]: each["reason"] for each in daemon.wait_closed(4)}
            self.assertEqual([reasons[str(int(port))] for port in daemon.ports],
                             ["idle_timeout", "idle_timeout", "fault", "fault"])

    def test_what_stays_rests(self):
        """After the end also when the time of another end has come."""
        rows = ", ".join(listener(port=f"PORT{index}", limit=1, after=0.2, idle_timeout=0, end=end)
                         for index, end in enumerate(("hang", "half_close", "close")))
        with daemons.Daemon(rows, LOG) as daemon:
            for index in range(3):
                peer = daemon.connect(index)
                peer.sendall(MESSAGE)
                self.assertEqual(peer.recv(10), MESSAGE[:1])
            time.sleep(0.3)
            assert_rests(self, daemon)

    def test_ends_at_a_path(self):
        """A Unix socket has no RST: who is to be reset sees an end."""
        for end in ("close", "reset", "half_close", "hang"):
            rows = f"{listener()}, {listener(path='DIR/socket', limit=5, end=end)}"
            with self.subTest(end=end), daemons.Daemon(rows, LOG + "idle_timeout = 0;") as daemon:
                peer = daemon.connect_path()
                peer.sendall(MESSAGE)
                self.assertEqual(harness.receive_exactly(peer, 5), MESSAGE[:5])
                if end == "hang":
                    self.assertTrue(harness.is_silent(peer, 2.5))
                else:
                    self.assertEqual(peer.recv(1), b"")
                if end == "half_close":
                    time.sleep(2.5)
                if end in ("hang", "half_close"):
                    peer.sendall(MESSAGE)
                    self.assertEqual(daemon.count_log("closed: fault"), 0)
                peer.close()
                daemon.wait_log("closed: fault: limit, echo")

    def test_no_timeout_of_what_is_held(self):
        with daemons.Daemon(listener(delay=1.0), LOG + "idle_timeout = 0.1; write_timeout = 0.1;") as daemon:
            harness.ping(daemon.connect(), MESSAGE)

    def test_what_is_held_is_bounded(self):
        with daemons.Daemon(listener(delay=AGES, repeat=0.5), LOG + "unsent_limit = 65536;") as daemon:
            peers = daemon.connect_many(8)
            for peer in peers:
                self.assertLess(harness.fill(peer, 64 << 20), 64 << 20)
            for peer in peers:
                harness.reset(peer)
            for each in daemon.wait_closed(8):
                self.assertLessEqual(int(each["bytes_in"]), 65536)

    def test_counted(self):
        with daemons.Daemon(listener(limit=1), LOG) as daemon:
            for _ in range(3):
                self.assertEqual(daemon.exchange(MESSAGE), MESSAGE[:1])
            daemon.wait_closed(3)
            self.assertIn("fault 3", daemon.counters()[0])

    def test_delays_are_not_added(self):
        """Many at a time, of many connections: all are over in about the time of one."""
        with daemons.Daemon(listener(delay=0.5), LOG) as daemon:
            peers = daemon.connect_many(100)
            start = time.monotonic()
            for peer in peers:
                for _ in range(3):
                    peer.sendall(MESSAGE)
            for peer in peers:
                self.assertEqual(harness.receive_exactly(peer, 30), MESSAGE * 3)
            self.assertGreaterEqual(time.monotonic() - start, 0.5)
            self.assertLess(time.monotonic() - start, harness.patience())  # and not 150 seconds

    def test_stop_cuts_faults_short(self):
        rows = ", ".join(listener(port=f"PORT{index}", **fault) for index, fault in enumerate((
            {"delay": AGES}, {"rate": 1}, {"slice": 1, "slice_delay": AGES}, {"accept_delay": AGES},
            {"delay": AGES, "corrupt": 0.3, "repeat": 0.5, "seed": 5}, {"deaf": True}, {"silent": True},
            {"limit": 3, "end": "hang"}, {"limit": 3, "end": "half_close"}, {"after": AGES, "end": "reset"})))
        with daemons.Daemon(rows, LOG) as daemon:
            peers = [daemon.connect(index) for index in range(10)]
            for peer in peers:
                peer.sendall(MESSAGE * 20)
            read = {index: harness.receive_exactly(peers[index], 3) for index in (7, 8)}
            read[9] = harness.receive_exactly(peers[9], 200)
            daemon.send_signal(signal.SIGTERM)
            answers = [read.get(index, b"") + harness.receive_all(peer) for index, peer in enumerate(peers)]
            for peer in peers:
                peer.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(answers[:4], [MESSAGE * 20] * 4)
            self.assertGreater(len(answers[4]), 200)
            self.assertEqual(answers[5:], [b"", b"", b"012", b"012", MESSAGE * 20])

    def test_reload_is_for_new_connections(self):
        with daemons.Daemon(listener(delay=AGES, seed=1), LOG) as daemon:
            before = daemon.connect()
            before.sendall(MESSAGE)
            self.assertTrue(harness.is_silent(before))
            self.reload(daemon, config_text(listener(limit=5, seed=1), LOG))
            daemon.wait_log(r"notice: misbehaving on purpose: echo on \S+: limit = 5$")
            self.assertEqual(daemon.exchange(MESSAGE), MESSAGE[:5])
            self.reload(daemon, config_text(listener(), LOG))
            self.assertEqual(daemon.exchange(MESSAGE), MESSAGE)
            self.assertTrue(harness.is_silent(before))
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(harness.receive_exactly(before, 10), MESSAGE)
            before.close()
            self.assertEqual(daemon.wait(), 0)


class Chance(daemons.TestCase):
    """The same seed, the same order of connections: the same faults."""

    FAULTS = {"corrupt": 0.01, "lose": 0.1, "repeat": 0.1, "toxicity": 0.7, "jitter": 0.001, "delay": 0.001}

    @contextlib.contextmanager
    def alone(self, *arguments):
        """A daemon without a service manager, which restarts in place."""
        with daemons.Daemon(*arguments, wrapper=("env", "-u", "NOTIFY_SOCKET"), ready=False) as daemon:
            daemon.wait_log("notice: ready")
            yield daemon

    def hand_over(self, daemon):
        daemon.send_signal(signal.SIGUSR2)
        daemon.wait_log("notice: ready", 2)

    def answers(self, workers, count, seed=0, arrange=random.Random(1), during=None, **faults):
        """Of so many connections, who speak in any order and in pieces of any size, and the seed in the log."""
        harness.raise_nofile(2 * count + 200)
        with self.alone(listener(seed=seed, **(faults or self.FAULTS)), f"workers = {workers};") as daemon:
            peers = daemon.connect_many(count)
            places = [0] * count
            ready = list(range(count))
            while ready:
                index = arrange.choice(ready)
                place = places[index]
                places[index] += arrange.randint(1, 700)
                peers[index].sendall(STREAM[place : min(places[index], 2000)])
                if places[index] >= 2000:
                    peers[index].shutdown(socket.SHUT_WR)
                    ready.remove(index)
                if during and len(ready) == count // 2:
                    during, run = None, during
                    run(daemon)
            return ([harness.receive_all(peer) for peer in peers],
                    int(daemon.wait_log(r"misbehaving on purpose: .*, seed = (\d+)").group(1)))

    def test_same_on_one_worker_and_on_four(self):
        count = harness.scale(1000)
        one, seed = self.answers(1, count, 77)
        self.assertEqual(seed, 77)
        self.assertEqual(self.answers(4, count, 77)[0], one)
        other = self.answers(4, count, 78)[0]
        spared = sum(answer == STREAM[:2000] for answer in one)
        self.assertGreater(spared, count * 0.2)
        self.assertLess(spared, count * 0.4)
        self.assertLess(sum(a == b for a, b in zip(one, other)), count * 0.2)
        spoiled = [answer for answer in one if answer != STREAM[:2000]]
        self.assertEqual(len(set(spoiled)), len(spoiled))

    def test_drawn_seed_can_be_set(self):
        answers, seed = self.answers(2, 50)
        self.assertEqual(self.answers(2, 50, seed)[0], answers)
        again, other = self.answers(2, 50)
        self.assertNotEqual(other, seed)
        self.assertNotEqual(again, answers)

    def test_seed_is_logged_at_every_level(self):
        with daemons.Daemon(listener(corrupt=0.5), 'log = { level = "error"; };') as daemon:
            daemon.wait_log(r"misbehaving on purpose: echo on \S+: corrupt = 0.5, seed = \d+ \(drawn\)$")

    def test_nothing_is_drawn_where_nothing_is_left_to_chance(self):
        for level, count in (("notice", 1), ("error", 0)):
            with daemons.Daemon(listener(delay=0.1, limit=7), f'log = {{ level = "{level}"; }};') as daemon:
                daemon.exchange(b"x")
                self.assertEqual(daemon.count_log(r"misbehaving on purpose: echo on \S+: delay = 0.1, limit = 7$"), count)

    def test_reload_goes_on(self):
        """The seed that was drawn stays, and so do the numbers, unless something is set anew."""
        with daemons.Daemon(listener(corrupt=0.5), LOG) as daemon:
            first = [daemon.exchange(STREAM[:500]) for _ in range(3)]
            self.reload(daemon)
            self.assertNotIn(daemon.exchange(STREAM[:500]), first)
            self.assertEqual(daemon.count_log("misbehaving"), 1)
            seed = re.search(r"seed = (\d+)", daemon.log()).group(1)
            self.reload(daemon, config_text(listener(corrupt=0.5, seed=int(seed)), LOG))
            fifth = daemon.exchange(STREAM[:500])
            self.assertNotIn(fifth, first)
            self.reload(daemon, config_text(listener(corrupt=0.5, seed=int(seed), slice=64), LOG))
            self.assertEqual([daemon.exchange(STREAM[:500]) for _ in range(3)], first)

    def test_hand_over(self):
        """A restart in place, in the middle of it all: not another byte, and none too early."""
        faults = {**self.FAULTS, "delay": 1.0, "jitter": 0.5, "slice": 50, "rate": 5000, "limit": 2050}

        whole, _ = self.answers(2, 40, 9, **faults)
        self.assertEqual(self.answers(2, 40, 9, during=self.hand_over, **faults)[0], whole)

    def test_hand_over_of_what_stays(self):
        rows = ", ".join((listener(limit=5, end="hang"), listener(port="PORT1", deaf=True),
                          listener(port="PORT2", delay=1.0), listener(port="PORT3", limit=5, end="half_close"),
                          listener(port="PORT4", corrupt=0.5, seed=3)))
        with self.alone(rows, LOG) as daemon:
            first = daemon.exchange(STREAM[:100], 4)
            peers = [daemon.connect(index) for index in range(4)]
            start = time.monotonic()
            for peer in peers:
                peer.sendall(MESSAGE)
            for index in (0, 3):
                self.assertEqual(harness.receive_exactly(peers[index], 5), MESSAGE[:5])
            self.hand_over(daemon)
            second = daemon.exchange(STREAM[:100], 4)
            self.assertEqual(harness.receive_exactly(peers[2], 10), MESSAGE)
            self.assertGreaterEqual(time.monotonic() - start, 1.0)
            self.assertTrue(harness.is_silent(peers[0]) and harness.is_silent(peers[1]))
            assert_rests(self, daemon)
            self.assertEqual(peers[3].recv(1), b"")
            peers[3].sendall(MESSAGE)
            self.assertEqual(daemon.count_log("closed: fault"), 0)
            peers[0].close()
            daemon.wait_log("closed: fault: limit")
        with daemons.Daemon(listener(corrupt=0.5, seed=3), LOG) as daemon:
            self.assertEqual([daemon.exchange(STREAM[:100]) for _ in range(2)], [first, second])


class Named(harness.TestCase):
    """tcpecho calls each fault by its name and its offset: the same connection, seen by a plain client, says which."""

    def check(self, found, pattern, **faults):
        """`found` tells the offset, and how many bytes, from the whole answer."""
        for seed in range(1, 9):
            with daemons.Daemon(listener(seed=seed, **faults), LOG) as daemon:
                answer = daemon.exchange(STREAM)
            with daemons.Daemon(listener(seed=seed, **faults), LOG) as daemon, tempfile.TemporaryFile() as file:
                file.write(STREAM)
                file.seek(0)
                result = client.run("--expect", "echo", "127.0.0.1", daemon.port, stdin=file, stdout=subprocess.DEVNULL)
            with self.subTest(seed=seed):
                self.assertNotEqual(answer, STREAM)
                offset, length = found(answer)
                self.assertEqual(result.status, client.WRONG, result.stderr)
                self.assertRegex(result.stderr, rf": byte {offset}: {pattern.format(length)}")

    @staticmethod
    def first_difference(answer):
        return next(place for place, (a, b) in enumerate(zip(answer, STREAM)) if a != b)

    def test_corrupt(self):
        def found(answer):
            place = self.first_difference(answer)
            return place, rf"\({answer[place]:#04x}, not {STREAM[place]:#04x}\)"

        self.check(found, "1 byte changed {}", corrupt=0.0005)

    def test_lose(self):
        def found(answer):
            place = self.first_difference(answer)
            lost = place // 64 * 64
            pieces = next(n for n in range(1, 99) if STREAM[lost + 64 * n :][:64] == answer[lost:][:64])
            return place, 64 * pieces

        self.check(found, "{} bytes missing", lose=0.05)

    def test_repeat(self):
        def found(answer):
            place = self.first_difference(answer)
            again = place // 100 * 100
            self.assertEqual(answer[again : again + 100], answer[again - 100 : again])
            return place, 100

        self.check(found, "{} bytes repeated", repeat=0.05, slice=100)


class Many(harness.TestCase):
    def test_thousands_of_delayed_connections(self):
        """They cost timers, and healthy clients of the same workers are served meanwhile."""
        count = harness.scale(10000, 1000)
        harness.raise_nofile(count + 500)
        rows = ", ".join((listener(delay=5.0, seed=1), listener(port="PORT1")))
        with daemons.Daemon(rows, "log = { connections = false; }; workers = 2;", nofile=count + 500) as daemon:
            delayed = daemon.connect_many(count)
            healthy = daemon.connect_many(20, 1)
            before, threads = daemon.rss(), daemon.threads()
            start = time.monotonic()
            for peer in delayed:
                peer.sendall(MESSAGE)
            rounds = 0
            while time.monotonic() - start < 2.0:
                for peer in healthy:
                    harness.ping(peer, MESSAGE)
                rounds += 1
            self.assertGreater(rounds, 10)
            if not harness.sanitized():
                self.assertLess(daemon.rss() - before, count * 1024)
            self.assertEqual(daemon.threads(), threads)
            for peer in delayed:
                self.assertEqual(harness.receive_exactly(peer, 10), MESSAGE)
            self.assertGreaterEqual(time.monotonic() - start, 5.0)


if __name__ == "__main__":
    harness.main(jobs=4)
