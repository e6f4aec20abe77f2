#!/usr/bin/env python3
"""Each service byte for byte: with the clients that people use, beside inetd's own, with every option that a listener has,
and what the log tells about it."""

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import harness

MIB = 1 << 20
CLIENTS = ("socat", "ncat", "nc")

PRINTABLE = bytes(range(32, 127))
CHARGEN_LINE = 74

# "connection 7 from 127.0.0.1:40000 closed: reset, echo on 127.0.0.1:7007, worker 1, 5 bytes in, 4 out, 0.000123 s"
CLOSED = re.compile(
    r"^\S+Z (?P<level>\w+): connection (?P<id>\d+) from (?P<client>\S+) closed: (?P<reason>\w+)(?:: (?P<error>[^,]+))?, "
    r"(?P<service>\w+) on (?P<listener>\S+), worker (?P<worker>\d+), (?P<read>\d+) bytes in, (?P<sent>\d+) out, "
    r"(?P<seconds>\d+\.\d{6}) s$", re.MULTILINE)


def listener(service, port="PORT", **options):
    """One entry of the list of listeners."""
    text = "".join(f" {name} = {value};" for name, value in options.items())
    return f'{{ address = "127.0.0.1"; port = {port}; service = "{service}";{text} }}'


def quoted(data):
    """A string as the settings file has it."""
    return '"' + "".join(chr(byte) if byte in PRINTABLE and byte not in b'"\\' else f"\\x{byte:02x}" for byte in data) + '"'


def excerpt(data):
    """What trace shows of a read or a write: at most 64 bytes."""
    named = {10: "\\n", 13: "\\r", 9: "\\t", 92: "\\\\", 34: '\\"'}
    text = "".join(named.get(byte) or (chr(byte) if byte in PRINTABLE else f"\\x{byte:02x}") for byte in data[:64])
    return text + ("..." if len(data) > 64 else "")


def chargen(length):
    """RFC 864's recommended pattern."""
    ring = PRINTABLE * 2
    lines = length // CHARGEN_LINE + 1
    return b"".join(ring[n % 95 : n % 95 + 72] + b"\r\n" for n in range(lines))[:length]


def capitals(data):
    return bytes(byte - 32 if 97 <= byte <= 122 else byte for byte in data)


def wait_closed(daemon, count=1):
    """The messages about closed connections, once there are so many."""
    found = []

    def seen():
        found[:] = CLOSED.finditer(daemon.log())
        return len(found) >= count

    harness.wait_until(seen, lambda: f"{count} closed connections in the log:\n{daemon.log()[-4000:]}")
    return found


def reset(client):
    """Leaves with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def assert_silent(client, seconds=0.3):
    """Nothing comes, not even an end."""
    client.settimeout(seconds)
    try:
        got = client.recv(100)
    except socket.timeout:
        client.settimeout(harness.patience())
        return
    raise AssertionError(f"{got!r} came where nothing should")


@contextlib.contextmanager
def frozen(daemon):
    """What clients do in the block lies ready when the daemon goes on."""
    daemon.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


def wait_taken(client):
    """Until the daemon's kernel has all that was sent."""

    def unsent():
        return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]

    harness.wait_until(lambda: unsent() == 0, lambda: f"{unsent()} bytes to arrive")


# ---- with independent clients ----


class Clients(harness.TestCase):
    """socat, ncat and nc get what section 3 promises."""

    def each(self, entry, data, wanted, settings=""):
        """`wanted` is the answer to `data`, or a function that judges it. Returns the messages about the connections."""
        with harness.Daemon(entry, settings) as daemon:
            for client in CLIENTS:
                with self.subTest(client=client):
                    answer = harness.run_client(client, daemon.port, data)
                    if callable(wanted):
                        wanted(answer)
                    else:
                        harness.assert_same(answer, wanted)
            return wait_closed(daemon, len(CLIENTS))

    def test_echo(self):
        data = bytes(range(256)) * 5000
        for fact in self.each(listener("echo"), data, data):
            self.assertEqual((fact["reason"], fact["read"], fact["sent"]), ("client_closed", "1280000", "1280000"))

    def test_upper(self):
        data = bytes(range(256)) * 1000 + "\u00fcber stra\u00dfe \u0105\u017c \U0001f600 end\n".encode()
        self.each(listener("upper"), data, capitals(data))
        # UTF-8 stays valid.
        self.assertEqual(capitals("stra\u00dfe".encode()).decode(), "STRA\u00dfE")

    def test_discard(self):
        for fact in self.each(listener("discard"), harness.pattern(3 * MIB), b""):
            self.assertEqual((fact["reason"], fact["read"], fact["sent"]), ("client_closed", str(3 * MIB), "0"))

    def test_discard_of_64_mib(self):
        size = harness.scale(64 * MIB, 8 * MIB)
        with harness.Daemon(listener("discard")) as daemon:
            command = ["sh", "-c", f"head -c {size} /dev/zero | socat -t30 - TCP:127.0.0.1:{daemon.port}"]
            harness.needs("socat")
            result = subprocess.run(command, capture_output=True, check=True, timeout=harness.patience(60))
            self.assertEqual(result.stdout, b"")
            self.assertEqual(wait_closed(daemon)[0]["read"], str(size))

    def test_chargen(self):
        size = 200_000
        commands = {
            "socat": ["socat", "-u", "TCP:127.0.0.1:{}", "-"],
            "ncat": ["ncat", "--recv-only", "127.0.0.1", "{}"],
            "nc": ["nc.openbsd", "-d", "127.0.0.1", "{}"],
        }
        with harness.Daemon(listener("chargen")) as daemon:
            for number, (client, command) in enumerate(commands.items()):
                harness.needs(command[0])
                with self.subTest(client=client):
                    process = subprocess.Popen([part.format(daemon.port) for part in command], stdin=subprocess.DEVNULL,
                                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                    try:
                        harness.assert_same(process.stdout.read(size), chargen(size))
                    finally:
                        process.kill()
                        process.wait()
                        process.stdout.close()
                    fact = wait_closed(daemon, number + 1)[-1]
                    self.assertIn(fact["reason"], ("reset", "client_closed"))
                    self.assertEqual(fact["level"], "info")
                    self.assertGreaterEqual(int(fact["sent"]), size)

    def test_daytime(self):
        def judge(answer):
            self.assertRegex(answer, rb"\A[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\r\n\Z")
            said = time.mktime(time.strptime(answer.decode().strip()))
            self.assertLess(abs(time.time() - said), harness.patience())

        for fact in self.each(listener("daytime"), b"", judge):
            self.assertEqual((fact["reason"], fact["sent"]), ("served", "26"))

    def test_time(self):
        def judge(answer):
            self.assertEqual(len(answer), 4)
            said = struct.unpack(">I", answer)[0] - 2208988800
            self.assertLess(abs(time.time() - said), harness.patience())

        self.each(listener("time"), b"", judge)

    def test_greet(self):
        text = b'come in\n"quoted" \\ and\ttabs \x01\xff\n'
        for fact in self.each(listener("greet", text=quoted(text)), b"", text):
            self.assertEqual((fact["reason"], fact["sent"]), ("served", str(len(text))))

    def test_reply(self):
        text = b"220 noted\r\n"
        for fact in self.each(listener("reply", text=quoted(text)), b"anything\n", text):
            self.assertEqual((fact["reason"], fact["read"], fact["sent"]), ("served", "9", str(len(text))))

    def test_reply_to_a_client_that_says_nothing(self):
        self.each(listener("reply", text='"x"'), b"", b"", 'log = { level = "debug"; };')

    def test_end_word(self):
        data = b"one\nend\ntwo\n"
        for fact in self.each(listener("upper", end_word='"end"'), data, b"ONE\nEND\n"):
            self.assertEqual((fact["reason"], fact["sent"]), ("end_word", "8"))

    def test_service_that_has_said_all_to_a_client_that_sends(self):
        """The client's bytes are thrown away; closing over them would make the kernel send RST."""
        for service, wanted in (("greet", b"hello"), ("time", None), ("daytime", None)):
            text = {"text": '"hello"'} if service == "greet" else {}
            with self.subTest(service=service), harness.Daemon(listener(service, **text)) as daemon:
                with frozen(daemon):
                    client = daemon.connect()
                    client.sendall(bytes(30000))
                with client:
                    answer = harness.receive_all(client)
                    if wanted:
                        self.assertEqual(answer, wanted)
                    self.assertTrue(answer)
                    client.sendall(bytes(30000))
                    client.sendall(b"x")
                self.assertEqual(wait_closed(daemon)[0]["reason"], "served")


# ---- beside inetd ----


class Inetd:
    """Debian's openbsd-inetd with its internal services on 127.0.0.1, in the network namespace that is in force."""

    PORTS = {"echo": 7, "discard": 9, "chargen": 19, "daytime": 13, "time": 37}

    def __init__(self, environment):
        path = harness.needs_inetd()
        self.config = tempfile.NamedTemporaryFile("w", prefix="tcpechod-inetd-", suffix=".conf")
        for service in self.PORTS:
            self.config.write(f"127.0.0.1:{service} stream tcp nowait root internal\n")
        self.config.flush()
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", path, "-i", "-R", "0", self.config.name],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=environment)

    def wait_ready(self):
        for service, port in self.PORTS.items():

            def accepts(port=port):
                if self.process.poll() is not None:
                    raise AssertionError(f"inetd ended with {self.process.returncode}")
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            harness.wait_until(accepts, f"inetd's {service}; /etc/services has to name it")

    def __enter__(self):
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(harness.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.config.close()


class BesideInetd(harness.TestCase):
    """The same ports, 127.0.0.1 is inetd's and 127.0.0.2 ours: a client sees no difference."""

    @classmethod
    def setUpClass(cls):
        # A zone with minutes, so that local time is told from UTC, and both tell the same.
        zone = dict(os.environ, TZ="XYZ-5:45")
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        stack.enter_context(harness.network_namespace())
        stack.enter_context(Inetd(zone))
        entries = ",".join(f'{{ address = "127.0.0.2"; port = {port}; service = "{service}"; }}'
                           for service, port in Inetd.PORTS.items())
        cls.daemon = stack.enter_context(harness.Daemon(entries, environment={"TZ": "XYZ-5:45"}))

    def connect(self, address, service):
        return socket.create_connection((address, Inetd.PORTS[service]), harness.patience())

    def ask(self, address, service, data=b""):
        with self.connect(address, service) as client:
            return harness.exchange(client, data)

    def ask_with(self, client, address, service, data=b""):
        return harness.run_client(client, Inetd.PORTS[service], data, host=address)

    def test_echo(self):
        data = harness.pattern(MIB)
        for client in CLIENTS:
            with self.subTest(client=client):
                theirs, ours = (self.ask_with(client, address, "echo", data) for address in ("127.0.0.1", "127.0.0.2"))
                harness.assert_same(theirs, data, "inetd's echo")
                harness.assert_same(ours, theirs)

    def test_discard(self):
        data = harness.pattern(MIB)
        for client in CLIENTS:
            with self.subTest(client=client):
                theirs, ours = (self.ask_with(client, address, "discard", data) for address in ("127.0.0.1", "127.0.0.2"))
                self.assertEqual((theirs, ours), (b"", b""))

    def test_chargen(self):
        size = 1 * MIB + 17
        with self.connect("127.0.0.1", "chargen") as theirs, self.connect("127.0.0.2", "chargen") as ours:
            wanted = harness.receive_exactly(theirs, size)
            harness.assert_same(harness.receive_exactly(ours, size), wanted)
            harness.assert_same(wanted, chargen(size), "inetd's chargen")

    def test_daytime(self):
        for client in (None, *CLIENTS):
            with self.subTest(client=client):

                def ask(address, client=client):
                    return self.ask_with(client, address, "daytime") if client else self.ask(address, "daytime")

                def around():
                    """inetd's answer between two of ours that are equal: no second began in between."""
                    before, theirs, after = ask("127.0.0.2"), ask("127.0.0.1"), ask("127.0.0.2")
                    return (theirs, before) if before == after else None

                theirs, ours = harness.wait_until(around, "two answers within one second")
                self.assertEqual(ours, theirs)

    def test_time(self):
        for client in (None, *CLIENTS):
            with self.subTest(client=client):

                def ask(address, client=client):
                    answer = self.ask_with(client, address, "time") if client else self.ask(address, "time")
                    self.assertEqual(len(answer), 4)
                    return struct.unpack(">I", answer)[0]

                before, theirs, after = ask("127.0.0.2"), ask("127.0.0.1"), ask("127.0.0.2")
                self.assertLessEqual(before, theirs)
                self.assertLessEqual(theirs, after)

    def test_speaks_without_being_asked(self):
        """daytime and time close by themselves: the client sees the end although it has not half-closed."""
        for service, length in (("daytime", 26), ("time", 4)):
            for address in ("127.0.0.1", "127.0.0.2"):
                with self.subTest(service=service, address=address), self.connect(address, service) as client:
                    self.assertEqual(len(harness.receive_all(client)), length)


# ---- greeting ----


class Greeting(harness.TestCase):
    TEXT = b"hello\n"

    def with_greeting(self, service, **options):
        return harness.Daemon(listener(service, greeting=quoted(self.TEXT), **options))

    def test_before_anything_else(self):
        data = harness.pattern(100_000)
        upper = capitals(data)
        for service, options, wanted in (("echo", {}, data), ("upper", {}, upper), ("discard", {}, b""),
                                         ("greet", {"text": '"text"'}, b"text"), ("reply", {"text": '"text"'}, b"text")):
            with self.subTest(service=service), self.with_greeting(service, **options) as daemon:
                for client in CLIENTS:
                    harness.assert_same(harness.run_client(client, daemon.port, data), self.TEXT + wanted, client)

    def test_before_services_of_the_clock(self):
        for service, length in (("daytime", 26), ("time", 4)):
            with self.subTest(service=service), self.with_greeting(service) as daemon:
                answer = daemon.exchange(b"")
                self.assertTrue(answer.startswith(self.TEXT), answer)
                self.assertEqual(len(answer), len(self.TEXT) + length)

    def test_before_chargen(self):
        with self.with_greeting("chargen") as daemon, daemon.connect() as client:
            harness.assert_same(harness.receive_exactly(client, len(self.TEXT) + 10_000), self.TEXT + chargen(10_000))

    def test_before_the_client_speaks(self):
        for service in ("echo", "upper", "discard", "reply"):
            options = {"text": '"text"'} if service == "reply" else {}
            with self.subTest(service=service), self.with_greeting(service, **options) as daemon:
                with daemon.connect() as client:
                    self.assertEqual(harness.receive_exactly(client, len(self.TEXT)), self.TEXT)
                    assert_silent(client)

    def test_when_the_client_spoke_first(self):
        with self.with_greeting("upper", end_word='"end"') as daemon:
            with frozen(daemon):
                client = daemon.connect()
                client.sendall(b"one\nend\ntwo\n")
            with client:
                self.assertEqual(harness.receive_all(client), self.TEXT + b"ONE\nEND\n")

    def test_long(self):
        """The longest that the settings take, much longer than unsent_limit, to a client that takes its time."""
        text = harness.pattern(65536).replace(b"\0", b"0")
        for service, options in (("echo", {"greeting": quoted(text)}), ("greet", {"text": quoted(text)}),
                                 ("greet", {"greeting": quoted(text), "text": quoted(text[::-1])})):
            wanted = text + (text[::-1] if len(options) == 2 else b"")
            with self.subTest(service=service, options=len(options)):
                with harness.Daemon(listener(service, **options), "unsent_limit = 1024;") as daemon:
                    harness.assert_same(daemon.exchange(b""), wanted)
                    with socket.socket() as client:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                        client.settimeout(harness.patience())
                        client.connect(("127.0.0.1", daemon.port))
                        time.sleep(0.2)
                        harness.assert_same(harness.receive_exactly(client, len(wanted)), wanted)


# ---- reply and chargen ----


class Pace(harness.TestCase):
    def test_reply_waits_for_the_first_bytes(self):
        with harness.Daemon(listener("reply", text='"noted\\n"')) as daemon, daemon.connect() as client:
            assert_silent(client)
            client.sendall(b"x")
            self.assertEqual(harness.receive_all(client), b"noted\n")
            fact = wait_closed(daemon)  # not before the client's FIN, or the time for it
            self.assertEqual(fact[0]["reason"], "served")

    def test_reply_answers_once(self):
        with harness.Daemon(listener("reply", text='"noted\\n"')) as daemon:
            with frozen(daemon):
                client = daemon.connect()
                for _ in range(10):
                    client.sendall(b"request\n" * 100)
            with client:
                self.assertEqual(harness.receive_all(client), b"noted\n")

    def test_chargen_stops_for_a_client_that_does_not_read(self):
        with harness.Daemon(listener("chargen"), "write_timeout = 0.0;") as daemon, daemon.connect() as client:
            position = harness.receive_exactly(client, 1000)
            time.sleep(1)  # the kernel's buffers fill up
            cpu = daemon.cpu_seconds()
            time.sleep(1)
            self.assertLess(daemon.cpu_seconds() - cpu, 0.5, "nothing is made for nobody")
            size = harness.scale(32 * MIB, 16 * MIB)
            harness.assert_same(position + harness.receive_exactly(client, size), chargen(size + 1000))

    def test_chargen_throws_away_what_it_gets(self):
        with harness.Daemon(listener("chargen")) as daemon, daemon.connect() as client:
            failures = []

            def send():
                try:
                    client.sendall(bytes(8 * MIB))
                except OSError as error:
                    failures.append(error)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            size = 4 * MIB
            got = [harness.receive_exactly(client, size)]
            while sender.is_alive():
                got.append(client.recv(262144))
            self.assertEqual(failures, [])
            answer = b"".join(got)
            harness.assert_same(answer, chargen(len(answer)))

    def test_chargen_to_clients_that_leave(self):
        with harness.Daemon(listener("chargen"), "log = { rate = 0; };") as daemon:
            descriptors = daemon.descriptors()
            for number in range(50):
                client = daemon.connect()
                harness.receive_exactly(client, 1000 * number + 1)
                if number % 2:
                    reset(client)
                else:
                    client.close()
            facts = wait_closed(daemon, 50)
            self.assertLessEqual({fact["reason"] for fact in facts}, {"reset", "client_closed"})
            self.assertEqual({fact["level"] for fact in facts}, {"info"})
            harness.wait_until(lambda: daemon.descriptors() == descriptors, "the descriptors to be closed")

    def test_chargen_to_a_client_that_half_closes(self):
        """It goes on: a client that says nothing more may well want to hear."""
        with harness.Daemon(listener("chargen")) as daemon, daemon.connect() as client:
            client.shutdown(socket.SHUT_WR)
            size = 4 * MIB
            harness.assert_same(harness.receive_exactly(client, size), chargen(size))


# ---- end_word ----


class EndWord(harness.TestCase):
    """The client never half-closes here, but for the tests that say so: it is the daemon that ends the connection."""

    def start(self, service="echo", word=b"end", settings="", **options):
        return harness.Daemon(listener(service, end_word=quoted(word), **options), settings)

    def ends(self, daemon, pieces, wanted, pause=0.0):
        """These pieces, sent one after another, are answered with `wanted` and a FIN."""
        with daemon.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                client.sendall(piece)
                if pause:
                    time.sleep(pause)
            harness.assert_same(harness.receive_all(client), wanted)

    def goes_on(self, daemon, data, answer):
        """Every byte is answered, and so is what comes next; then the end word ends it."""
        with daemon.connect() as client:
            try:
                client.sendall(data)
                harness.assert_same(harness.receive_exactly(client, len(answer)), answer)
                client.sendall(b"\nend\n")
                harness.assert_same(harness.receive_all(client).upper(), b"\nEND\n")
            except (AssertionError, OSError) as error:
                raise AssertionError(f"behind {data!r}: {error}") from None

    def test_whole(self):
        with self.start() as daemon:
            self.ends(daemon, [b"end\n"], b"end\n")
            self.ends(daemon, [b"one\ntwo\nend\n"], b"one\ntwo\nend\n")
            self.ends(daemon, [b"\n\n\nend\n"], b"\n\n\nend\n")
            for fact in wait_closed(daemon, 3):
                self.assertEqual((fact["reason"], fact["level"], fact["read"]), ("end_word", "info", fact["sent"]))

    def test_crlf(self):
        with self.start() as daemon:
            self.ends(daemon, [b"one\r\nend\r\n"], b"one\r\nend\r\n")
            self.ends(daemon, [b"end\r", b"\n"], b"end\r\n", pause=0.05)

    def test_single_bytes(self):
        for service in ("echo", "upper"):
            with self.subTest(service=service), self.start(service) as daemon:
                data = b"one\nend\r\n"
                wanted = capitals(data) if service == "upper" else data
                with daemon.connect() as client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for number, byte in enumerate(data):
                        client.sendall(bytes((byte,)))
                        # Answered before the next is sent: each is a read of its own.
                        self.assertEqual(harness.receive_exactly(client, 1), wanted[number : number + 1])
                    self.assertEqual(harness.receive_all(client), b"")

    def test_twice_in_one_packet(self):
        with self.start() as daemon:
            self.ends(daemon, [b"end\nend\n"], b"end\n")
            self.ends(daemon, [b"a\nend\r\nb\nend\r\nc\n"], b"a\nend\r\n")

    def test_part_of_a_longer_word(self):
        lines = [b"ending", b"bend", b"end ", b" end", b"endend", b"e", b"en", b"en\rd", b"end\r\r", b"end\r ", b"\rend",
                 b"END", b"End", b"end.", b"end\0", b"\0end", b"eend", b"enend", b"the end", b""]
        for service in ("echo", "upper"):
            with self.subTest(service=service), self.start(service) as daemon:
                for line in lines:
                    for data in (line + b"\n", line + b"\r\n"):
                        self.goes_on(daemon, data, capitals(data) if service == "upper" else data)
                data = b"\n".join(lines) + b"\n"
                self.goes_on(daemon, data, capitals(data) if service == "upper" else data)

    def test_begun_in_one_piece_and_broken_in_the_next(self):
        with self.start() as daemon:
            for first, second in ((b"en", b"\nd\n"), (b"end", b"s\n"), (b"end\r", b"\r\n"), (b"end\r", b"x\n"), (b"xen", b"d\n")):
                with self.subTest(first=first, second=second), daemon.connect() as client:
                    for piece in (first, second, b"go on"):
                        client.sendall(piece)
                        self.assertEqual(harness.receive_exactly(client, len(piece)), piece)

    def test_without_its_newline(self):
        with self.start() as daemon:
            for data in (b"end", b"end\r"):
                self.assertEqual(daemon.exchange(data), data)
            self.assertEqual({fact["reason"] for fact in wait_closed(daemon, 2)}, {"client_closed"})

    def test_upper_compares_what_the_client_wrote(self):
        with self.start("upper") as daemon:
            self.ends(daemon, [b"End\nEND\nend\nmore\n"], b"END\nEND\nEND\n")
        with self.start("upper", b"END") as daemon:
            self.ends(daemon, [b"End\nend\nEND\nmore\n"], b"END\nEND\nEND\n")

    def test_words_of_other_kinds(self):
        for word in (b"x", b"two words", b".", "\u00e4nde".encode(), b"e" * 255):
            with self.subTest(word=word), self.start("echo", word) as daemon:
                data = word[:-1] + b"\n" + word + word + b"\n" + word + b"\nrest"
                self.ends(daemon, [data], data[: -len(b"rest")])

    def test_across_the_edge_of_a_read(self):
        """With unsent_limit = 1024 each read ends at a multiple of 1024; all has arrived before the first."""
        with self.start("upper", settings="unsent_limit = 1024; workers = 1;", trace="true") as daemon:
            for ending in (b"\nend\n", b"\nend\r\n"):
                for before in range(len(ending) + 1):
                    data = (b"filler " * 500)[: 2048 - before] + ending
                    mark = len(daemon.log())
                    with frozen(daemon):
                        client = daemon.connect()
                        client.sendall(data + b"more\nend\n")
                        wait_taken(client)
                    with client:
                        harness.assert_same(harness.receive_all(client), capitals(data), f"{ending} {before} bytes before the edge")
                    line = harness.wait_until(lambda: CLOSED.search(daemon.log(), mark), "the end in the log")
                    self.assertEqual(line["reason"], "end_word")
                    reads = re.findall(r" sent (\d+) bytes: ", daemon.log()[mark:])
                    self.assertEqual(reads[:2], ["1024", "1024"], "where the reads ended")

    def test_across_the_edge_of_the_scratch_buffer(self):
        """262144 bytes and more lie ready, which the kernel allows once the connection has proved fast."""
        edge = 262144
        ending = b"\nend\n"
        with self.start("echo", trace="true", settings="log = { rate = 0; };") as daemon:
            full = 0
            for before in range(len(ending) + 1):
                with daemon.connect() as client:
                    warm = b"x" * (4 * MIB) + b"\n"
                    sender = threading.Thread(target=client.sendall, args=(warm,), daemon=True)
                    sender.start()
                    harness.assert_same(harness.receive_exactly(client, len(warm)), warm)
                    sender.join()
                    data = b"y" * (edge - before) + ending
                    client.settimeout(harness.patience())
                    mark = len(daemon.log())
                    with frozen(daemon):
                        client.sendall(data + b"more\nend\n")
                        with contextlib.suppress(AssertionError):  # it may not fit; the next read takes it
                            wait_taken_soon(client)
                    harness.assert_same(harness.receive_all(client), data)
                    full += f" sent {edge} bytes: " in daemon.log()[mark:]
            print(f"# {full} of {len(ending) + 1} reads filled the scratch buffer", flush=True)

    def test_in_the_middle_of_much(self):
        """It is found wherever reads happen to end."""
        size = harness.scale(3 * MIB, MIB)
        head = (b"a line of text that is not it\n" * (size // 30 + 1))[:size] + b"\n"
        data = head + b"end\r\n"
        with self.start("upper") as daemon, daemon.connect() as client:
            sent = threading.Thread(target=self._send_quietly, args=(client, data + b"tail\n" * 50_000), daemon=True)
            sent.start()
            harness.assert_same(harness.receive_all(client), capitals(data))
            client.close()
            sent.join(harness.patience())

    @staticmethod
    def _send_quietly(client, data):
        with contextlib.suppress(OSError):
            client.sendall(data)

    def test_client_that_keeps_sending(self):
        """What follows is not answered; the client reads the answer and a FIN, no RST, while it goes on."""
        with self.start() as daemon, daemon.connect() as client:
            client.sendall(b"one\nend\nmore\n")
            end = time.monotonic() + 0.5
            sent = 0
            while time.monotonic() < end:
                client.sendall(b"and more\n" * 1000)
                sent += 9000
                time.sleep(0.01)
            self.assertEqual(harness.receive_all(client), b"one\nend\n")
            client.sendall(b"still\n")
            client.shutdown(socket.SHUT_WR)
            fact = wait_closed(daemon)[0]
            self.assertEqual((fact["reason"], fact["sent"]), ("end_word", "8"))
            self.assertEqual(int(fact["read"]), 13 + sent + 6)

    def test_client_that_never_leaves(self):
        """It is not waited for without end."""
        with self.start() as daemon, daemon.connect() as client:
            client.sendall(b"end\n")
            self.assertEqual(harness.receive_all(client), b"end\n")
            self.assertEqual(wait_closed(daemon)[0]["reason"], "end_word")

    def test_answer_larger_than_the_buffers(self):
        """The end word is behind more than the client takes at once: all of it arrives, then the FIN."""
        data = b"z" * harness.scale(8 * MIB, 2 * MIB) + b"\nend\n"
        with self.start() as daemon, daemon.connect() as client:
            sender = threading.Thread(target=self._send_quietly, args=(client, data), daemon=True)
            sender.start()
            time.sleep(0.5)
            harness.assert_same(harness.receive_all(client), data)
            sender.join(harness.patience())


def wait_taken_soon(client):
    """As far as the receiver's buffer goes."""

    def unsent():
        return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]

    harness.wait_until(lambda: unsent() == 0, "the bytes to arrive", 1)


# ---- trace ----


class Trace(harness.TestCase):
    LINE = re.compile(r'^\S+Z info: connection (\d+) from (\S+) (sent|was sent) (\d+) bytes: "(.*)"$', re.MULTILINE)

    def trace_of(self, data, service="echo", settings=""):
        """The lines about one client that sends `data` at once, as (direction, length, excerpt), and its address."""
        with harness.Daemon(listener(service, trace="true"), settings) as daemon:
            with daemon.connect() as client:
                address = "%s:%d" % client.getsockname()
                client.sendall(data)
                if service != "discard":
                    harness.receive_exactly(client, len(data))
            wait_closed(daemon)
            lines = self.LINE.findall(daemon.log())
            for line in lines:
                self.assertEqual(line[1], address)
            return [(line[2], int(line[3]), line[4]) for line in lines]

    def test_each_read_and_write(self):
        self.assertEqual(self.trace_of(b"hello\n"), [("sent", 6, "hello\\n"), ("was sent", 6, "hello\\n")])
        self.assertEqual(self.trace_of(b"hello\r\n", "upper"), [("sent", 7, "hello\\r\\n"), ("was sent", 7, "HELLO\\r\\n")])
        self.assertEqual(self.trace_of(b"hello", "discard"), [("sent", 5, "hello")])

    def test_at_most_64_bytes(self):
        for length in (63, 64, 65, 1000):
            data = harness.pattern(length)[::-1]
            self.assertEqual(self.trace_of(data), [(direction, length, excerpt(data)) for direction in ("sent", "was sent")])

    def test_every_byte_is_safe(self):
        for start in range(0, 256, 64):
            data = bytes(range(start, start + 64))
            lines = self.trace_of(data)
            self.assertEqual(lines, [(direction, 64, excerpt(data)) for direction in ("sent", "was sent")])
            self.assertTrue(lines[0][2].isascii() and lines[0][2].isprintable(), lines[0])

    def test_greeting_and_text(self):
        with harness.Daemon(listener("greet", trace="true", greeting='"hi\\n"', text='"text"')) as daemon:
            self.assertEqual(daemon.exchange(b""), b"hi\ntext")
            wait_closed(daemon)
            self.assertEqual([line[2:] for line in self.LINE.findall(daemon.log())],
                             [("was sent", "3", "hi\\n"), ("was sent", "4", "text")])

    def test_only_where_it_is_set(self):
        entries = listener("echo", trace="true") + "," + listener("echo", "PORT1") + "," + listener("echo", "PORT2", trace="false")
        with harness.Daemon(entries) as daemon:
            for index in range(3):
                self.assertEqual(daemon.exchange(b"x%d" % index, index), b"x%d" % index)
            wait_closed(daemon, 3)
            self.assertEqual({line[4] for line in self.LINE.findall(daemon.log())}, {"x0"})

    def test_rate(self):
        """log.rate bounds the messages; each one held back is counted, and the count is logged."""
        rate, messages = 20, 1000
        with harness.Daemon(listener("echo", trace="true"), f"log = {{ rate = {rate}; }};") as daemon:
            start = time.monotonic()
            with daemon.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for number in range(messages):
                    message = b"%06d" % number
                    client.sendall(message)
                    self.assertEqual(harness.receive_exactly(client, 6), message)
            seconds = time.monotonic() - start + 2  # the first and the last may be parts
            made = 2 * messages + 1  # reads, writes, and the end

            def accounted():
                shown = len(self.LINE.findall(daemon.log())) + len(CLOSED.findall(daemon.log()))
                held = re.findall(rf"(\d+) messages? held back by log\.rate = {rate} a second$", daemon.log(), re.MULTILINE)
                return shown, sum(map(int, held))

            harness.wait_until(lambda: sum(accounted()) == made, lambda: f"{made} messages shown or counted, saw {accounted()}")
            shown, held = accounted()
            self.assertLessEqual(shown, rate * seconds)
            self.assertGreaterEqual(shown, rate)
            self.assertGreater(held, 0)


# ---- timeouts ----


class IdleTimeout(harness.TestCase):
    def test_global_and_of_a_listener(self):
        entries = ", ".join((listener("echo"), listener("echo", "PORT1", idle_timeout="0.0"),
                             listener("upper", "PORT2", idle_timeout="1.0")))
        with harness.Daemon(entries, "idle_timeout = 0.3;") as daemon:
            start = time.monotonic()
            with daemon.connect(0) as short, daemon.connect(1) as never, daemon.connect(2) as longer:
                self.assertEqual(harness.receive_all(short), b"")
                self.assertGreaterEqual(time.monotonic() - start, 0.29)
                short.close()
                self.assertEqual(harness.receive_all(longer), b"")
                self.assertGreaterEqual(time.monotonic() - start, 0.99)
                longer.close()
                assert_silent(never)
                never.sendall(b"x")
                self.assertEqual(never.recv(1), b"x")
                facts = wait_closed(daemon, 2)
                self.assertEqual([fact["reason"] for fact in facts], ["idle_timeout"] * 2)
                self.assertEqual([fact["service"] for fact in facts], ["echo", "upper"])

    def test_never_anywhere(self):
        with harness.Daemon(listener("echo", idle_timeout="0.3") + "," + listener("echo", "PORT1"), "idle_timeout = 0.0;") as daemon:
            with daemon.connect(1) as never, daemon.connect(0) as short:
                self.assertEqual(harness.receive_all(short), b"")
                assert_silent(never)

    def keep_awake(self, service):
        timeout = harness.patience(1.5)
        with harness.Daemon(listener(service), f"idle_timeout = {timeout};") as daemon, daemon.connect() as client:
            start = time.monotonic()
            while time.monotonic() - start < 2 * timeout:
                client.sendall(b"x")
                if service == "echo":
                    self.assertEqual(client.recv(1), b"x", "still open")
                time.sleep(timeout / 10)
            last = time.monotonic()
            self.assertEqual(client.recv(1), b"")
            self.assertGreaterEqual(time.monotonic() - last, 0.5 * timeout)
            client.close()
            self.assertEqual(wait_closed(daemon)[0]["reason"], "idle_timeout")

    def test_each_byte_starts_it_again(self):
        self.keep_awake("echo")

    def test_each_byte_of_the_client_counts(self):
        """Although none goes back."""
        self.keep_awake("discard")

    def test_bytes_to_the_client_count(self):
        """chargen's client sends nothing, and is not idle while it reads."""
        with harness.Daemon(listener("chargen"), "idle_timeout = 1.0;") as daemon, daemon.connect() as client:
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                self.assertTrue(client.recv(65536))

    def test_of_services_that_wait(self):
        for service in ("discard", "reply"):
            options = {"text": '"x"'} if service == "reply" else {}
            with self.subTest(service=service), harness.Daemon(listener(service, idle_timeout="0.3", **options)) as daemon:
                with daemon.connect() as client:
                    self.assertEqual(harness.receive_all(client), b"")
                self.assertEqual(wait_closed(daemon)[0]["reason"], "idle_timeout")


# ---- what the log tells ----


class Log(harness.TestCase):
    DEBUG = 'log = { level = "debug"; };'

    def one(self, daemon, reason, read=None, sent=None, service="echo", level="info"):
        """The only closed connection, whose facts have to be these."""
        facts = wait_closed(daemon)
        self.assertEqual(len(facts), 1, daemon.log())
        fact = facts[0]
        self.assertEqual((fact["reason"], fact["service"], fact["level"]), (reason, service, level))
        if read is not None:
            self.assertEqual(int(fact["read"]), read)
        if sent is not None:
            self.assertEqual(int(fact["sent"]), sent)
        self.assertEqual(fact["listener"], f"127.0.0.1:{daemon.port}")
        self.assertEqual(fact["error"] is not None, reason == "error")
        return fact

    def test_client_closed(self):
        with harness.Daemon(listener("echo"), "workers = 1;") as daemon:
            start = time.monotonic()
            with daemon.connect() as client:
                address = "%s:%d" % client.getsockname()
                client.sendall(b"hello")
                harness.receive_exactly(client, 5)
                time.sleep(0.2)
            fact = self.one(daemon, "client_closed", 5, 5)
            self.assertEqual((fact["client"], fact["worker"]), (address, "1"))
            self.assertGreaterEqual(float(fact["seconds"]), 0.2)
            self.assertLessEqual(float(fact["seconds"]), time.monotonic() - start)

    def test_end_word(self):
        with harness.Daemon(listener("upper", end_word='"end"')) as daemon:
            self.assertEqual(daemon.exchange(b"a\nend\nb\n"), b"A\nEND\n")
            self.one(daemon, "end_word", sent=6, service="upper")

    def test_served(self):
        with harness.Daemon(listener("time")) as daemon:
            self.assertEqual(len(daemon.exchange(b"")), 4)
            self.one(daemon, "served", 0, 4, "time")

    def test_idle_timeout(self):
        with harness.Daemon(listener("echo"), "idle_timeout = 0.3;") as daemon:
            with daemon.connect() as client:
                client.sendall(b"hello")
                self.assertEqual(harness.receive_all(client), b"hello")
            fact = self.one(daemon, "idle_timeout", 5, 5)
            self.assertGreaterEqual(float(fact["seconds"]), 0.3)

    def test_write_timeout(self):
        with harness.Daemon(listener("chargen"), "write_timeout = 0.5;") as daemon, daemon.connect() as client:
            fact = self.one(daemon, "write_timeout", 0, service="chargen")
            self.assertGreater(int(fact["sent"]), 10_000)
            self.assertGreaterEqual(float(fact["seconds"]), 0.5)
            # What the kernel had for it is gone with a RST, not a FIN that would look like a whole answer.
            with self.assertRaises(ConnectionResetError):
                harness.receive_all(client)

    def test_write_timeout_on_a_path(self):
        """Where TCP has no timeout of its own to help; the idle timeout is not what counts."""
        with harness.Daemon('{ path = "DIR/s"; service = "chargen"; }', "write_timeout = 0.5; idle_timeout = 0.2;") as daemon:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(harness.patience())
                client.connect(daemon.path("s"))
                fact = wait_closed(daemon)[0]
                self.assertEqual((fact["reason"], fact["read"]), ("write_timeout", "0"))
                self.assertGreaterEqual(float(fact["seconds"]), 0.5)

    def test_write_timeout_of_bytes_in_the_kernel(self):
        """All is answered, and the kernel cannot pass it on: the daemon itself holds nothing."""
        with harness.Daemon(listener("echo"), "write_timeout = 0.5;") as daemon, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(harness.patience())
            client.connect(("127.0.0.1", daemon.port))
            client.sendall(bytes(200_000))
            self.one(daemon, "write_timeout", 200_000, 200_000)

    def test_reset(self):
        with harness.Daemon(listener("echo")) as daemon:
            client = daemon.connect()
            client.sendall(b"hello")
            harness.receive_exactly(client, 5)
            reset(client)
            self.one(daemon, "reset", 5, 5)

    def test_error_of_a_read(self):
        with harness.Daemon(listener("echo"), faults="recv@worker:EIO:2") as daemon, daemon.connect() as client:
            client.sendall(b"hello")
            harness.receive_exactly(client, 5)
            client.sendall(b"more")
            fact = self.one(daemon, "error", 5, 5)
            self.assertEqual(fact["error"], "Input/output error")

    def test_error_of_a_write(self):
        with harness.Daemon(listener("echo"), faults="send@worker:EIO:1") as daemon, daemon.connect() as client:
            client.sendall(b"hello")
            fact = self.one(daemon, "error", 5, 0)
            self.assertEqual(fact["error"], "Input/output error")
            daemon.faults.disarm()
            self.assertEqual(daemon.exchange(b"still here"), b"still here")

    def test_error_when_memory_is_short(self):
        """What the client does not take at once cannot be kept."""
        with harness.Daemon(listener("echo"), faults="") as daemon, daemon.connect() as client:
            client.sendall(b"hello")
            harness.receive_exactly(client, 5)
            daemon.faults.arm("send@worker:short=3:1,malloc@worker:ENOMEM:1")
            client.sendall(b"more")
            fact = self.one(daemon, "error", 9, 8)
            self.assertEqual(fact["error"], "Cannot allocate memory")
            daemon.faults.disarm()
            self.assertEqual(daemon.exchange(b"still here"), b"still here")

    def test_short_writes_lose_nothing(self):
        data = harness.pattern(20_000)
        with harness.Daemon(listener("upper"), "log = { rate = 0; };", faults="send@worker:short=7,recv@worker:short=5") as daemon:
            harness.assert_same(daemon.exchange(data), capitals(data))

    def test_probes_are_for_debugging(self):
        """Connected and left without a byte, by FIN or RST, also when a greeting was said to it: not at info."""
        for level in ("info", "debug"):
            entries = listener("echo") + "," + listener("upper", "PORT1", greeting='"hello\\n"')
            with self.subTest(level=level), harness.Daemon(entries, f'log = {{ level = "{level}"; }};') as daemon:
                for leave in (socket.socket.close, reset):
                    for index in range(2):
                        client = daemon.connect(index)
                        if index == 1:
                            harness.receive_exactly(client, 6)
                        leave(client)
                self.assertEqual(daemon.exchange(b"x"), b"x")
                facts = wait_closed(daemon, 5 if level == "debug" else 1)
                probes = [fact for fact in facts if fact["read"] == "0"]
                self.assertEqual(len(facts) - len(probes), 1)
                self.assertEqual(len(probes), 4 if level == "debug" else 0)
                for fact in probes:
                    self.assertEqual(fact["level"], "debug")
                    self.assertIn(fact["reason"], ("client_closed", "reset"))

    def test_probes_of_services_that_speak(self):
        """Whoever has left before the daemon looks takes nothing, whatever it says, and on every kind of socket."""
        names = ("greet", "daytime", "time", "chargen", "reply", "echo", "discard")
        text = {"greet": {"text": '"hello\\n"'}, "reply": {"text": '"hello\\n"'}}
        entries = [listener(name, f"PORT{number or ''}", **text.get(name, {})) for number, name in enumerate(names)]
        entries += [f'{{ path = "DIR/{name}"; service = "{name}";{" text = %s;" % text[name]["text"] if name in text else ""} }}'
                    for name in names]
        entries.append(listener("daytime", f"PORT{len(names)}", greeting='"hello\\n"'))
        with harness.Daemon(", ".join(entries), 'log = { level = "debug"; rate = 0; };') as daemon:
            count = 0
            for leave in (socket.socket.close, reset):
                for number in range(len(names) + 1):
                    # Stopped, so that the daemon finds the client gone.
                    with frozen(daemon):
                        leave(daemon.connect(number))
                    count += 1
                    wait_closed(daemon, count)
                for name in names:
                    with frozen(daemon):
                        client = socket.socket(socket.AF_UNIX)
                        client.connect(daemon.path(name))
                        leave(client)
                    count += 1
                    wait_closed(daemon, count)
            for fact in wait_closed(daemon, count):
                self.assertEqual(fact["level"], "debug", fact.group())

    def test_clients_served_are_no_probes(self):
        """daytime's clients send nothing, and yet they were served; and so is who closes its sending side first, or
        leaves with unread what its kernel has taken."""
        with harness.Daemon(listener("daytime")) as daemon:
            daemon.exchange(b"")
            self.one(daemon, "served", 0, 26, "daytime")
        with harness.Daemon(listener("daytime")) as daemon:
            with frozen(daemon):
                client = daemon.connect()
                client.shutdown(socket.SHUT_WR)
            self.assertEqual(len(harness.receive_all(client)), 26)
            client.close()
            self.one(daemon, "served", 0, 26, "daytime")
        for service, reason in (("daytime", "served"), ("chargen", "reset")):
            with harness.Daemon(listener(service)) as daemon:
                client = daemon.connect()
                select.select([client], [], [], harness.patience())
                client.close()
                self.one(daemon, reason, 0, None, service)

    def test_accepted_at_debug(self):
        with harness.Daemon(listener("echo"), self.DEBUG) as daemon:
            with daemon.connect() as client:
                address = "%s:%d" % client.getsockname()
                client.sendall(b"x")
                client.recv(1)
            line = daemon.wait_log(r"Z debug: connection (\d+) from (\S+): echo on 127\.0\.0\.1:(\d+), worker \d+$")
            self.assertEqual(line.group(2, 3), (address, str(daemon.port)))
            self.assertEqual(wait_closed(daemon)[0]["id"], line.group(1))

    def test_ids_are_unique(self):
        with harness.Daemon(listener("echo"), "workers = 3; log = { rate = 0; };") as daemon:
            for _ in range(60):
                daemon.exchange(b"x")
            facts = wait_closed(daemon, 60)
            self.assertEqual(len({fact["id"] for fact in facts}), 60)

    def test_addresses(self):
        for detail, wanted in (("full", r"127\.0\.0\.1:\d+"), ("prefix", r"127\.0\.0\.0/24"), ("none", "-")):
            settings = f'log = {{ level = "debug"; addresses = "{detail}"; }};'
            with self.subTest(detail=detail), harness.Daemon(listener("echo", trace="true"), settings) as daemon:
                with daemon.connect() as client:
                    port = client.getsockname()[1]
                    client.sendall(b"x")
                    client.recv(1)
                wait_closed(daemon)
                clients = re.findall(r"connection \d+ from (\S+?):? (?:echo|closed|sent|was sent)", daemon.log())
                self.assertEqual(len(clients), 4, daemon.log())
                for client in clients:
                    self.assertRegex(client, rf"\A{wanted}\Z")
                if detail != "full":
                    self.assertNotRegex(daemon.log(), rf":{port}\b")

    def test_addresses_of_ipv6(self):
        harness.needs_ipv6()
        for detail, wanted in (("full", r"\[::1\]:\d+"), ("prefix", r"::/48"), ("none", "-")):
            entry = '{ address = "::1"; port = PORT; service = "echo"; }'
            with self.subTest(detail=detail), harness.Daemon(entry, f'log = {{ addresses = "{detail}"; }};') as daemon:
                self.assertEqual(daemon.exchange(b"x", address="::1"), b"x")
                fact = wait_closed(daemon)[0]
                self.assertRegex(fact["client"], rf"\A{wanted}\Z")
                self.assertEqual(fact["listener"], f"[::1]:{daemon.port}")

    def test_addresses_of_a_path(self):
        with harness.Daemon('{ path = "DIR/echo.sock"; service = "echo"; }') as daemon:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(harness.patience())
                client.connect(daemon.path("echo.sock"))
                self.assertEqual(harness.exchange(client, b"hello"), b"hello")
            fact = wait_closed(daemon)[0]
            self.assertEqual((fact["client"], fact["listener"]), ("unix", daemon.path("echo.sock")))

    def test_no_connections(self):
        settings = 'log = { level = "debug"; connections = false; };'
        with harness.Daemon(listener("echo"), settings) as daemon:
            for _ in range(5):
                self.assertEqual(daemon.exchange(b"x"), b"x")
            daemon.connect().close()
            harness.wait_until(self._all_closed(daemon, 6), "the counters to say 6 closed")
            self.assertNotIn("connection 1 ", daemon.log())
            self.assertEqual(daemon.count_log("closed: "), 0)
            self.assertEqual(daemon.count_log("ready: "), 1)

    @staticmethod
    def _all_closed(daemon, count):
        def seen():
            daemon.send_signal(signal.SIGUSR1)
            time.sleep(0.05)
            return re.search(rf"counters: 0 connections, 0 queued, {count} accepted, {count} closed", daemon.log())

        return seen

    def test_counters_tell_the_same(self):
        """SIGUSR1's sums are those of the messages."""
        entries = listener("echo", end_word='"end"') + "," + listener("time", "PORT1")
        with harness.Daemon(entries, 'workers = 2; log = { rate = 0; level = "debug"; };') as daemon:
            for _ in range(3):
                daemon.exchange(b"12345")
            for _ in range(2):
                daemon.exchange(b"end\n")
            daemon.exchange(b"", 1)
            facts = wait_closed(daemon, 6)
            read, sent = (sum(int(fact[name]) for fact in facts) for name in ("read", "sent"))
            self.assertEqual((read, sent), (15 + 8, 15 + 8 + 4))
            daemon.send_signal(signal.SIGUSR1)
            line = daemon.wait_log(r"counters: 0 connections.*$").group(0)
            self.assertIn(", 6 closed (client_closed 3, end_word 2, served 1)", line)
            self.assertIn(f", {read} bytes in, {sent} out", line)


if __name__ == "__main__":
    harness.main()
