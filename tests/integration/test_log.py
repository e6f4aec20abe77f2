"""The log: which facts it tells, as text and as the journal's fields, and that no sink, however stuck, costs a client
anything or keeps the daemon from its stop."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import tempfile
import threading

import daemons
import harness
from daemons import DEBUG, ECHO, listener
from harness import reset

REASONS = {"client_closed", "end_word", "served", "idle_timeout", "write_timeout", "reset", "drained", "error"}
JOURNAL = 'log = { level = "debug"; rate = 0; target = "journal"; };'

LISTENERS = ", ".join((ECHO, listener("upper", "PORT1", end_word="end"), listener("greet", "PORT2", text="hello\n"),
                       listener(port="PORT3", idle_timeout=0.2), listener(port="PORT4", deny=["0.0.0.0/0"])))


class Ends:
    """One connection of every kind of end; what the log has to tell of each, by its number."""

    SETTINGS = "write_timeout = 0.5; unsent_limit = 4096; "

    def __init__(self, daemon):
        self.facts = {}
        self.daemon = daemon
        self.add(0, b"hello", "client_closed", 5)
        self.add(1, b"one\nend\n", "end_word", 8)
        self.add(2, b"", "served", 6)
        self.add(3, b"", "idle_timeout", 0)
        self.add_reset()
        self.add_unread()
        self.add_error()
        # The last: it stays until the stop.
        self.stays = self.connect(0, "drained", "echo", 5, 5)
        harness.ping(self.stays, b"still")

    def connect(self, index, reason, service, bytes_in, bytes_out):
        client = self.daemon.connect(index)
        self.facts[len(self.facts) + 1] = {
            "client": "%s:%d" % client.getsockname(), "listener": "%s:%d" % client.getpeername(), "service": service,
            "bytes_in": bytes_in, "bytes_out": bytes_out, "reason": reason}
        return client

    def ended(self):
        number = len(self.facts)
        harness.wait_until(lambda: self.told(number), f"the end of connection {number}")

    def told(self, number):
        return self.daemon.count_log(rf"connection {number} .*closed: ")

    def add(self, index, say, reason, bytes_out):
        service = ("echo", "upper", "greet", "echo")[index]
        client = self.connect(index, reason, service, len(say), bytes_out)
        client.sendall(say)
        if reason == "client_closed":
            client.shutdown(socket.SHUT_WR)
        harness.receive_all(client)
        client.close()
        self.ended()

    def add_reset(self):
        client = self.connect(0, "reset", "echo", 1, 1)
        harness.ping(client)
        reset(client)
        self.ended()

    def add_unread(self):
        client = self.connect(0, "write_timeout", "echo", None, None)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            harness.fill(client)
        self.ended()
        client.close()

    def add_error(self):
        client = self.connect(0, "error", "echo", 0, 0)
        self.daemon.faults.arm("recv@worker:EIO")
        client.sendall(b"x")
        self.ended()
        self.daemon.faults.disarm()

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        if self.stays.recv(1) != b"":
            raise AssertionError("no end")
        self.stays.close()
        if self.daemon.wait() != 0:
            raise AssertionError(self.daemon.log())


class Text(daemons.TestCase):
    TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"

    def test_the_facts_of_every_end(self):
        with daemons.Daemon(LISTENERS, Ends.SETTINGS + DEBUG, faults="") as daemon:
            ends = Ends(daemon)
            daemon.counters()
            ends.stop()
            found = {int(match["id"]): match for match in daemon.closed()}
            self.assertEqual((found.keys(), len(daemon.closed())), (ends.facts.keys(), len(found)), daemon.log())
            for number, fact in ends.facts.items():
                with self.subTest(reason=fact["reason"]):
                    match = found[number]
                    self.assertEqual({name: match[name] for name, value in fact.items() if value is not None},
                                     {name: str(value) for name, value in fact.items() if value is not None})
                    self.assertEqual(match["level"], "info")
                    self.assertGreater(int(match["worker"]), 0)
                    self.assertLess(float(match["seconds"]), 600)
            self.assertEqual({match["reason"] for match in found.values()}, REASONS)
            daemon.wait_log(r"closed: error: Input/output error, ")
            for line in daemon.log().splitlines():
                self.assertRegex(line, rf"\A{self.TIME} (error|warning|notice|info|debug): \S.*\Z")

    def test_levels(self):
        """Each level tells what it tells and all that weighs more."""
        deny = listener(port="PORT1", deny=["0.0.0.0/0"])
        marks = [("error", "error: not reloaded"), ("warning", "warning: max_connections = "),
                 ("notice", "notice: client .* refused"), ("info", "info: connection 1 .*closed"),
                 ("debug", "debug: connection 1 from")]
        for place, (level, _) in enumerate(marks):
            settings = f'max_connections = 1000000; log = {{ level = "{level}"; rate = 0; }};'
            with self.subTest(level=level), daemons.Daemon(f"{ECHO}, {deny}", settings, nofile=1000) as daemon:
                daemon.exchange(b"x")
                self.assertTrue(harness.is_refused(daemon.connect(1)))
                self.reload(daemon, "nonsense", failing=True)
                daemon.stop()
                for other, (name, pattern) in enumerate(marks):
                    self.assertEqual(daemon.count_log(pattern) > 0, other <= place, name)

    def test_connections_false(self):
        settings = 'max_connections = 1; overload = "refuse"; log = { level = "debug"; rate = 0; connections = false; };'
        with daemons.Daemon(settings=settings) as daemon:
            with daemon.connect() as first:
                harness.ping(first)
                self.assertTrue(harness.is_refused(daemon.connect()))
            daemon.notify.wait("STATUS", r"^0 connections.*refused \(max_connections 1\)")
            daemon.stop()
            self.assertEqual(daemon.count_log("connection \\d"), 0)
            self.assertEqual(daemon.count_log("refused on .*: max_connections"), 1)

    def test_addresses(self):
        harness.needs_ipv6()
        entry = listener(address="*", deny=["127.0.0.9"], trace=True)
        for detail, v4, v6 in (("full", r"127\.1\.2\.3:\d+", r"\[::1\]:\d+"),
                               ("prefix", r"127\.1\.2\.0/24", r"::/48"), ("none", "-", "-")):
            with self.subTest(addresses=detail), \
                    daemons.Daemon(entry, f'log = {{ level = "debug"; rate = 0; addresses = "{detail}"; }};') as daemon:
                with daemon.connect(source="127.1.2.3") as client:
                    port = client.getsockname()[1]
                    self.assertEqual(harness.exchange(client, b"x"), b"x")
                daemon.wait_log("connection 1 .*closed")
                self.assertEqual(daemon.exchange(b"y", address="::1"), b"y")
                self.assertTrue(harness.is_refused(daemon.connect(source="127.0.0.9")))
                daemon.stop()
                log = daemon.log()
                self.assertRegex(log, "refused on")
                for number, wanted in ((1, v4), (2, v6)):
                    clients = re.findall(rf"connection {number} from (\S+?):? (?:echo|closed|sent|was sent)", log)
                    self.assertEqual(len(clients), 4, log)
                    for each in clients:
                        self.assertRegex(each, rf"\A{wanted}\Z")
                if detail == "full":
                    self.assertIn(f"127.1.2.3:{port} ", log)
                else:
                    for secret in ("127.1.2.3", "127.0.0.9:", str(port), "::1"):
                        self.assertNotIn(secret, log.replace(f":{daemon.port}", ""))

    def test_rate(self):
        """What the daemon itself does is told whatever log.rate says."""
        with daemons.Daemon(settings='log = { level = "info"; rate = 10; };') as daemon:
            for _ in range(100):
                daemon.exchange(b"x")
            daemon.counters()
            daemon.stop()
            told = daemon.count_log("info: connection .*closed: client_closed") + daemon.count_log("held back by log.rate")
            self.assertEqual(len(daemon.log().splitlines()) - told, daemon.count_log("listening|ready|counters|stopp"))

    def test_under_systemd_stderr_carries_the_priority(self):
        """target = "stderr" with a stderr that is journald's: <N> in front, and no time."""
        with piped('log = { level = "debug"; target = "stderr"; };', journal_stream=True) as (daemon, pipe):
            daemon.exchange(b"x")
            pipe.wait(rb"closed: client_closed")
            daemon.stop()
            for line in pipe.read_all().splitlines():
                self.assertRegex(line, rb"\A<[3-7]>\S")


class Json(daemons.TestCase):
    """log.format = "json": one object a line, with the journal's fields."""

    JSON = 'log = { level = "debug"; rate = 0; format = "json"; };'
    NUMBERS = {"PRIORITY", "TCPECHOD_CONNECTION", "TCPECHOD_WORKER", "TCPECHOD_BYTES_IN", "TCPECHOD_BYTES_OUT",
               "TCPECHOD_DURATION_USEC", "TCPECHOD_SEED", "TCPECHOD_LOST", "TCPECHOD_HELD_BACK"}
    LEVELS = {"error": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}

    def parse(self, text):
        """The objects, each with all that every one has."""
        found = []
        for line in text.splitlines():
            event = json.loads(line)
            self.assertEqual(list(event)[:4], ["time", "level", "PRIORITY", "MESSAGE"])
            self.assertRegex(event["time"], rf"\A{Text.TIME}\Z")
            self.assertEqual(event["PRIORITY"], self.LEVELS[event["level"]])
            self.assertRegex(event["MESSAGE_ID"], r"\A[0-9a-f]{32}\Z")
            for name, value in event.items():
                self.assertIs(type(value), int if name in self.NUMBERS else str, name)
            found.append(event)
        return found

    def test_the_facts_of_every_end(self):
        with daemons.Daemon(LISTENERS, Ends.SETTINGS + self.JSON, faults="") as daemon:
            ends = Ends(daemon)
            daemon.send_signal(signal.SIGUSR1)
            ends.stop()
            events = self.parse(daemon.log())
        found = {event["TCPECHOD_CONNECTION"]: event for event in events if "TCPECHOD_REASON" in event}
        self.assertEqual(found.keys(), ends.facts.keys())
        for number, fact in ends.facts.items():
            for name, value in fact.items():
                if value is not None:
                    self.assertEqual(found[number]["TCPECHOD_" + name.upper()], value, name)
            self.assertRegex(found[number]["MESSAGE"], rf"\Aconnection {number} from .* closed: {fact['reason']}")
        self.assertEqual(events[-1]["MESSAGE"], "stopped: every connection was finished")

    def test_hostile_bytes(self):
        """In what clients say, and in the paths of both ends."""
        name = 'a"\\\n\x1b[2J'
        listeners = '{ path = "DIR/a\\"\\\\\\n\\x1b[2J"; trace = true; }'
        with daemons.Daemon(listeners, self.JSON) as daemon:
            with daemon.connect_path(name) as client:
                harness.exchange(client, b'"\n\\\x00\xff}')
            daemon.wait_log("closed: client_closed")
            daemon.stop()
            events = self.parse(daemon.log())
        sent, = (event for event in events if " unix sent 6 bytes" in event["MESSAGE"])
        self.assertTrue(sent["MESSAGE"].endswith(r'"\"\n\\\x00\xff}"'), sent)
        self.assertEqual(sent["TCPECHOD_LISTENER"], daemon.path(name))

    def test_a_reload_changes_it(self):
        with daemons.Daemon(settings=DEBUG) as daemon:
            daemon.write_config(daemons.config_text(settings=self.JSON))
            daemon.send_signal(signal.SIGHUP)
            daemon.wait_log("\"reloaded ")
            text, _, rest = daemon.log().partition("{")
            self.assertRegex(text, r"notice: ready: [^{]*\Z")
            self.assertEqual(self.parse("{" + rest)[-1]["level"], "notice")

    def test_what_keeps_it_from_starting_is_text(self):
        """Editors and people read FILE:LINE: message."""
        with daemons.Daemon(settings=self.JSON + " nonsense = 1;", ready=False) as daemon:
            self.assertEqual(daemon.wait(), daemons.BAD_SETTINGS)
            self.assertRegex(daemon.log(), r'\A\S+:\d+: unknown setting "nonsense".*\n\Z')

    def test_a_pipe_that_is_full_costs_lines_and_never_halves_one(self):
        count = harness.scale(800, 800)
        with piped(self.JSON) as (daemon, pipe):
            rounds(daemon, count)
            daemon.notify.wait("STATUS", f"^0 connections, 0 queued, {count} accepted")
            pipe.wait(rb'"TCPECHOD_LOST": \d+')
            daemon.stop()
            events = self.parse(pipe.read_all().decode())
        lost = sum(event.get("TCPECHOD_LOST", 0) for event in events)
        told = sum("TCPECHOD_CONNECTION" in event for event in events)
        self.assertLessEqual(2 * count, told + lost)
        self.assertLess(told + lost, 2 * count + 20)


# ---- sinks that are stuck ----


class Pipe:
    """The reading end of the daemon's stderr; nobody reads until the test does."""

    def __init__(self, size=4096):
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, size)
        os.set_blocking(self.reader, False)
        self.text = b""

    def stream(self):
        status = os.fstat(self.writer)
        return f"{status.st_dev}:{status.st_ino}"

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reader, 65536):
                self.text += data
        return self.text

    def read_all(self):
        """After the daemon's end."""
        os.set_blocking(self.reader, True)
        return self.read()

    def wait(self, pattern):
        harness.wait_until(lambda: re.search(pattern, self.read()), lambda: f"{pattern} in {self.text[-2000:]}")

    def fill(self):
        os.set_blocking(self.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"x" * 4096)
        os.set_blocking(self.writer, True)

    def close(self):
        for name in ("writer", "reader"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


@contextlib.contextmanager
def piped(settings=DEBUG, journal_stream=False, prepare=lambda pipe: None):
    pipe = Pipe()
    try:
        prepare(pipe)
        environment = {"JOURNAL_STREAM": pipe.stream()} if journal_stream else {}
        with daemons.Daemon(settings=settings, stderr=pipe.writer, environment=environment) as daemon:
            os.close(pipe.writer)
            pipe.writer = -1
            yield daemon, pipe
    finally:
        pipe.close()


def rounds(daemon, count):
    """So many connections: a daemon that waited for its log would take longer for them than a test may."""
    for _ in range(count):
        if daemon.exchange(b"x") != b"x":
            raise AssertionError("a wrong answer")


class FullPipe(daemons.TestCase):
    COUNT = 1000

    def test_traffic_goes_on_and_the_lost_are_counted(self):
        count = harness.scale(self.COUNT, 800)
        with piped() as (daemon, pipe):
            rounds(daemon, count)
            daemon.notify.wait("STATUS", f"^0 connections, 0 queued, {count} accepted")
            pipe.wait(rb"warning: \d+ messages were lost")
            daemon.send_signal(signal.SIGUSR1)
            pipe.wait(rb"counters: .* [1-9]\d* messages lost")
            # The next that gets through, and not only the last of all.
            daemon.exchange(b"x")
            pipe.wait(rb"connection %d .*closed" % (count + 1))
            daemon.stop()
            text = pipe.read_all()
            lost = sum(int(number) for number in re.findall(rb"warning: (\d+) messages? (?:was|were) lost", text))
            told = len(re.findall(rb"(?m)(?:info|debug): connection ", text))
            self.assertGreater(lost, 0)
            # Every message is told or counted: two of each connection, and some of the daemon itself.
            self.assertLessEqual(2 * (count + 1), told + lost)
            self.assertLess(told + lost, 2 * (count + 1) + 20)
            for line in text.splitlines():
                self.assertRegex(line, rb"\A\S+Z (error|warning|notice|info|debug): ", "a line that is cut")

    def test_what_goes_on_with_a_full_pipe(self):
        """Bulk, a reload, a stop; and when the pipe was full from the start."""
        data = harness.pattern(1 << 20)
        for prepare in (lambda pipe: None, Pipe.fill):
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(number=number), piped(prepare=prepare) as (daemon, _), daemon.connect() as client:
                    rounds(daemon, 100)
                    harness.assert_same(daemon.exchange(data), data)
                    daemon.write_config(daemons.config_text(listener("upper"), DEBUG))
                    daemon.send_signal(signal.SIGHUP)
                    harness.wait_until(lambda: daemon.exchange(b"x") == b"X", "the reload")
                    harness.ping(client)
                    daemon.send_signal(number)
                    self.assertEqual(client.recv(1), b"")
                    client.close()
                    self.assertEqual(daemon.wait(), 0)

    def test_no_reader_no_room_and_no_stderr(self):
        """EPIPE, and no SIGPIPE; a full disk; a closed descriptor."""
        with piped() as (daemon, pipe):
            os.close(pipe.reader)
            pipe.reader = -1
            rounds(daemon, 100)
            daemon.stop()
        with open("/dev/full", "wb") as full, daemons.Daemon(settings=DEBUG, stderr=full) as daemon:
            rounds(daemon, 100)
            daemon.stop()
        with daemons.Daemon(settings=DEBUG, wrapper=["sh", "-c", 'exec "$@" 2>&-', "sh"]) as daemon:
            self.assertEqual(daemon.exchange(b"x" * 1000), b"x" * 1000)
            daemon.stop()

    def test_a_non_blocking_pipe(self):
        """Another process that shares it may have made it so."""
        with piped(prepare=lambda pipe: os.set_blocking(pipe.writer, False)) as (daemon, pipe):
            rounds(daemon, 100)
            daemon.exchange(b"x")
            pipe.wait(rb"connection 50 .*closed")


# ---- journald ----


class Journald:
    """A stand-in for journald, at its place in a mount namespace of the daemon's own."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "socket")
        self.socket = None
        self.messages = []
        self.condition = threading.Condition()
        self.thread = None

    def open(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)

    def read(self):
        """From now on it is a journald that is alive."""
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        while True:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(64))
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:  # a message too large for a datagram
                    fd, = struct.unpack("=i", content[:4])
                    with open(fd, "rb") as file:
                        file.seek(0)
                        data = file.read()
            if data == b"stop":
                return
            with self.condition:
                self.messages.append(self.parse(data))
                self.condition.notify_all()

    @staticmethod
    def parse(data):
        """The native protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL."""
        fields = {}
        while data:
            line, newline, rest = data.partition(b"\n")
            if not newline:
                raise AssertionError(f"no newline after {line!r}")
            name, equals, value = line.partition(b"=")
            if not equals:
                length, = struct.unpack("<Q", rest[:8])
                value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
            name = name.decode()
            if not re.fullmatch("[A-Z][A-Z0-9_]{0,63}", name):
                raise AssertionError(f"no name of a field: {name!r}")
            if name in fields:
                raise AssertionError(f"{name} comes twice")
            fields[name] = value.decode()
            data = rest
        return fields

    def all(self, **wanted):
        with self.condition:
            return [message for message in self.messages
                    if all(re.search(value, message.get(name, "")) for name, value in wanted.items())]

    def wait(self, **wanted):
        return harness.wait_until(lambda: self.all(**wanted), lambda: f"{wanted} in {self.messages[-5:]}")[-1]

    def close(self):
        if self.thread:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"stop", self.path)
            self.thread.join(5)
        if self.socket:
            self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


@contextlib.contextmanager
def journal_directory():
    """A directory, and the wrapper that shows it to the daemon as /run/systemd/journal."""
    harness.needs_root()
    with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as directory:
        script = ('mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && '
                  'exec "$@"')
        yield directory, [harness.needs("unshare"), "--mount", "sh", "-c", script, directory]


@contextlib.contextmanager
def journald(listeners=None, settings=JOURNAL, present=True, reading=True, **how):
    with journal_directory() as (directory, wrapper):
        journal = Journald(directory)
        try:
            if present:
                journal.open()
            if reading:
                journal.read()
            with daemons.Daemon(listeners, settings, wrapper=wrapper, **how) as daemon:
                yield daemon, journal
        finally:
            journal.close()


class Journal(daemons.TestCase):
    def check_common(self, message):
        self.assertRegex(message["MESSAGE_ID"], r"\A[0-9a-f]{32}\Z")
        self.assertRegex(message["PRIORITY"], r"\A[3-7]\Z")
        self.assertEqual(message["SYSLOG_IDENTIFIER"], "tcpechod")
        self.assertTrue(message["MESSAGE"])
        for name in message:
            self.assertTrue(name.startswith("TCPECHOD_") or name in ("MESSAGE", "MESSAGE_ID", "PRIORITY",
                                                                     "SYSLOG_IDENTIFIER"), name)

    def test_the_fields_of_every_end(self):
        with journald(LISTENERS, Ends.SETTINGS + JOURNAL, faults="") as (daemon, journal):
            # Ends asks the log, which is elsewhere here.
            daemon.count_log = lambda pattern: len(journal.all(MESSAGE=pattern))
            ends = Ends(daemon)
            ends.stop()
            kinds = set()
            for number, fact in ends.facts.items():
                with self.subTest(reason=fact["reason"]):
                    message, = journal.all(TCPECHOD_CONNECTION=rf"\A{number}\Z", TCPECHOD_REASON=".")
                    self.check_common(message)
                    for name, value in fact.items():
                        if value is not None:
                            self.assertEqual(message["TCPECHOD_" + name.upper()], str(value), name)
                    self.assertIn(message["TCPECHOD_WORKER"], [str(worker) for worker in range(1, 65)])
                    self.assertLess(int(message["TCPECHOD_DURATION_USEC"]), 600_000_000)
                    self.assertEqual(message["PRIORITY"], "6")
                    self.assertRegex(message["MESSAGE"], rf"^connection {number} from .* closed: {fact['reason']}")
                    kinds.add(message["MESSAGE_ID"])
                    opened, = journal.all(TCPECHOD_CONNECTION=rf"\A{number}\Z", PRIORITY="7")
                    self.check_common(opened)
                    self.assertNotEqual(opened["MESSAGE_ID"], message["MESSAGE_ID"])
                    for name in ("CLIENT", "LISTENER", "SERVICE", "WORKER"):
                        self.assertEqual(opened["TCPECHOD_" + name], message["TCPECHOD_" + name])
            self.assertEqual(len(kinds), 1, "one kind of event, one MESSAGE_ID")
            self.assertEqual(len(journal.all(TCPECHOD_REASON="write_timeout")), 1)
            # Nothing went to stderr: it is there twice otherwise.
            self.assertEqual(daemon.log(), "")

    def test_the_proxy_of_every_event(self):
        """Beside the client that it has brought, and nowhere else."""
        with journald(f"{listener(proxy_protocol=True, trace=True)}, {listener(port='PORT1')}", JOURNAL) as (daemon, journal):
            with daemon.connect() as client:
                proxy = "127.0.0.1:{}".format(client.getsockname()[1])
                harness.ping(client, b"PROXY TCP4 203.0.113.7 192.0.2.2 50312 7\r\nx", b"x")
            with daemon.connect() as stranger:
                stranger.sendall(b"hello, no header")
                self.assertTrue(harness.is_refused(stranger))
            daemon.exchange(b"x", 1)
            journal.wait(MESSAGE="^connection 1 .*closed")
            events = journal.all(TCPECHOD_CONNECTION=r"\A1\Z")
            self.assertEqual(len(events), 4, "opened, read, written, closed")
            for event in events:
                self.check_common(event)
                self.assertEqual((event["TCPECHOD_CLIENT"], event["TCPECHOD_PROXY"]), ("203.0.113.7:50312", proxy))
                self.assertIn(f"from 203.0.113.7:50312 via {proxy}", event["MESSAGE"])
            refused = journal.wait(TCPECHOD_REASON="bad_proxy_header")
            self.assertTrue(refused["MESSAGE"].endswith(": bad_proxy_header: no PROXY protocol header"), refused)
            direct = journal.wait(TCPECHOD_LISTENER=f":{int(daemon.ports[1])}", TCPECHOD_REASON="client_closed")
            for event in (refused, direct):
                self.assertNotIn("TCPECHOD_PROXY", event)

    def test_each_kind_of_event_has_its_id(self):
        with journald(LISTENERS) as (daemon, journal):
            daemon.exchange(b"x")
            self.assertTrue(harness.is_refused(daemon.connect(4)))
            daemon.send_signal(signal.SIGUSR1)
            daemon.send_signal(signal.SIGHUP)
            refused = journal.wait(TCPECHOD_REASON="denied")
            self.assertEqual(refused["TCPECHOD_LISTENER"], f"127.0.0.1:{int(daemon.ports[4])}")
            self.assertRegex(refused["TCPECHOD_CLIENT"], r"^127\.0\.0\.1:\d+$")
            listening = journal.wait(MESSAGE="^listening: upper")
            self.assertEqual((listening["TCPECHOD_LISTENER"], listening["TCPECHOD_SERVICE"]),
                             (f"127.0.0.1:{int(daemon.ports[1])}", "upper"))
            journal.wait(MESSAGE="^reloaded")
            journal.wait(MESSAGE="^connection 1 .*closed")
            daemon.stop()
            ids = {}
            for message in journal.messages:
                self.check_common(message)
                ids.setdefault(message["MESSAGE_ID"], set()).add(message["MESSAGE"].split()[0].rstrip(":"))
            self.assertEqual({frozenset(words) for words in ids.values()},
                             {frozenset(words) for words in ({"listening"}, {"ready"}, {"connection"}, {"client"},
                                                             {"counters"},
                                                             {"reloaded"}, {"stopping", "stopped"})})

    def test_auto_is_the_journal_under_systemd(self):
        with journal_directory() as (directory, wrapper):
            journal = Journald(directory)
            journal.open()
            journal.read()
            pipe = Pipe()
            try:
                for stream, there in ((pipe.stream(), True), ("1:2", False)):
                    with self.subTest(stream=stream), daemons.Daemon(wrapper=wrapper, stderr=pipe.writer,
                                                                     environment={"JOURNAL_STREAM": stream}) as daemon:
                        daemon.stop()
                        journal.wait(MESSAGE="^ready")
                        self.assertEqual(len(journal.all(MESSAGE="^ready")), 1, "the second daemon's stderr is no stream")
                        self.assertEqual(b"ready: " in pipe.read(), not there)
            finally:
                journal.close()
                pipe.close()

    def test_the_lost_and_the_held_back_are_fields(self):
        with journald(settings='log = { level = "info"; rate = 5; target = "journal"; };') as (daemon, journal):
            rounds(daemon, 50)
            held = journal.wait(TCPECHOD_HELD_BACK=".")
            self.check_common(held)
            self.assertGreater(int(held["TCPECHOD_HELD_BACK"]), 0)

    def test_frozen(self):
        """Its socket is full and nobody reads: traffic at full speed, and the lost are counted when it thaws."""
        count = harness.scale(1500, 1000)
        with journald(reading=False) as (daemon, journal):
            rounds(daemon, count)
            daemon.notify.wait("STATUS", f"^0 connections, 0 queued, {count} accepted")
            journal.read()
            lost = journal.wait(TCPECHOD_LOST=".")
            self.check_common(lost)
            self.assertRegex(lost["MESSAGE"], r"^\d+ messages were lost")
            daemon.exchange(b"x")
            journal.wait(MESSAGE=f"^connection {count + 1} .*closed")
            daemon.stop()
            lost = sum(int(message["TCPECHOD_LOST"]) for message in journal.all(TCPECHOD_LOST="."))
            told = len(journal.all(TCPECHOD_CONNECTION="."))
            self.assertLessEqual(2 * (count + 1), told + lost)
            self.assertLess(told + lost, 2 * (count + 1) + 20)

    def test_frozen_and_stopped(self):
        with journald(reading=False) as (daemon, _), daemon.connect() as client:
            rounds(daemon, 800)
            harness.ping(client)
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(client.recv(1), b"")
            client.close()
            self.assertEqual(daemon.wait(), 0)

    def test_gone(self):
        """No journald at all, from the start: stderr has what is for it, and says why; then there is one."""
        with journald(present=False, reading=False) as (daemon, journal):
            rounds(daemon, 200)
            daemon.wait_log(r"connection \d+ .*closed", 200)
            self.assertRegex(daemon.log(), r"\A\S+Z warning: the journal takes no messages "
                             r"\(/run/systemd/journal/socket: No such file or directory\): they go to standard error until it "
                             r"does\n\S+Z info: listening")
            self.assertEqual(daemon.count_log("the journal takes no messages"), 1)
            journal.open()
            journal.read()
            daemon.exchange(b"x")
            diverted = journal.wait(TCPECHOD_DIVERTED=".")
            self.assertGreaterEqual(int(diverted["TCPECHOD_DIVERTED"]), 400)
            journal.wait(MESSAGE="^connection 201 .*closed")
            self.assertEqual((daemon.count_log("connection 201 "), journal.all(TCPECHOD_LOST=".")), (0, []))

    def test_gone_with_json(self):
        """The journal's fields are its own; what goes to stderr in its place has them, too."""
        with journald(settings=JOURNAL.replace("log = {", 'log = { format = "json";'), present=False,
                      reading=False) as (daemon, journal):
            daemon.exchange(b"x")
            daemon.wait_log('"TCPECHOD_REASON": "client_closed"')
            self.assertIn("the journal takes no messages", json.loads(daemon.log().splitlines()[0])["MESSAGE"])
            journal.open()
            journal.read()
            daemon.exchange(b"x")
            closed = journal.wait(TCPECHOD_CONNECTION="2", TCPECHOD_REASON=".")
            self.assertRegex(closed["MESSAGE"], "^connection 2 from ")

    def test_gone_and_the_start_fails(self):
        """What a person sees is there once, and not once as a message and once more on stderr."""
        with daemons.Daemon() as other:
            with journal_directory() as (_, wrapper):
                with daemons.Daemon(listener(port=other.port), settings='log = { target = "journal"; };',
                                    wrapper=wrapper, ready=False) as daemon:
                    self.assertEqual(daemon.wait(), daemons.CANNOT_LISTEN)
            self.assertEqual(daemon.count_log("cannot listen: echo on"), 1)

    def test_restarted(self):
        """journald goes away and comes back, as in an upgrade: stderr has what came meanwhile, and it is counted."""
        with journald() as (daemon, journal):
            rounds(daemon, 5)
            journal.wait(MESSAGE="^connection 5 .*closed")
            journal.close()
            rounds(daemon, 50)
            daemon.notify.wait("STATUS", "^0 connections, 0 queued, 55 accepted")
            journal.open()
            journal.read()
            daemon.exchange(b"x")
            self.assertGreater(int(journal.wait(TCPECHOD_DIVERTED=".")["TCPECHOD_DIVERTED"]), 0)
            journal.wait(MESSAGE="^connection 56 .*closed")


if __name__ == "__main__":
    harness.main(jobs=4)
