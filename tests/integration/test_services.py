#!/usr/bin/env python3
"""Each service byte for byte: with the clients that people use, beside inetd's own, with every option that a listener has,
and what the log tells about it."""

import contextlib
import os
import re
import select
import socket
import struct
import subprocess
import tempfile
import time

import daemons
import harness
from daemons import DEBUG, LOG, listener
from harness import assert_same, receive_all, receive_exactly

MIB = 1 << 20
CLIENTS = ("socat", "ncat", "nc")
PRINTABLE = bytes(range(32, 127))
CHARGEN_LINE = 74
GREETING = b"hello\n"


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


def is_daytime(answer):
    return (re.fullmatch(rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\r\n", answer) and
            abs(time.time() - time.mktime(time.strptime(answer.decode().strip()))) < harness.patience())


def is_time(answer):
    return len(answer) == 4 and abs(time.time() - struct.unpack(">I", answer)[0] + 2208988800) < harness.patience()


class TestCase(daemons.TestCase):
    def assert_closed(self, daemon, reason, read=None, sent=None, count=1, **facts):
        """So many connections were closed, and the log has these facts about each of them. Returns the first."""
        found = daemon.wait_closed(count)
        self.assertEqual(len(found), count, daemon.log())
        facts["reason"] = reason
        facts.update({name: str(value) for name, value in (("bytes_in", read), ("bytes_out", sent)) if value is not None})
        for fact in found:
            self.assertEqual({name: fact[name] for name in facts}, facts, fact.group())
            self.assertEqual(fact["error"] is not None, reason == "error")
        return found[0]


# ---- with independent clients ----


class Clients(TestCase):
    """socat, ncat and nc get what SERVICES of tcpechod(8) promises, with and without a greeting, and the log tells it."""

    def test_answers(self):
        every_byte = bytes(range(256)) * 1000
        utf8 = "\u00fcber stra\u00dfe \u0105\u017c \U0001f600 end\n".encode()
        text = b'come in\n"quoted" \\ and\ttabs \x01\xff\n'
        bulk = harness.pattern(MIB)
        for service, options, data, wanted, reason, read in (
                ("echo", {}, every_byte, every_byte, "client_closed", len(every_byte)),
                ("upper", {}, every_byte, capitals(every_byte), "client_closed", len(every_byte)),
                # UTF-8 stays valid.
                ("upper", {}, utf8, "\u00fcBER STRA\u00dfE \u0105\u017c \U0001f600 END\n".encode(), "client_closed",
                 len(utf8)),
                ("upper", {"end_word": "end"}, b"one\nend\ntwo\n", b"ONE\nEND\n", "end_word", None),
                ("discard", {}, bulk, b"", "client_closed", len(bulk)),
                ("daytime", {}, b"", is_daytime, "served", 0),
                ("time", {}, b"", is_time, "served", 0),
                ("greet", {"text": text}, b"", text, "served", 0),
                ("reply", {"text": text}, b"anything\n", text, "served", 9),
                ("reply", {"text": text}, b"", b"", "client_closed", 0)):
            for greeting in ({}, {"greeting": GREETING}):
                with self.subTest(service=service, **options, **greeting), \
                        daemons.Daemon(listener(service, **options, **greeting), DEBUG) as daemon:
                    for client in CLIENTS:
                        answer = harness.run_client(client, daemon.port, data)
                        if greeting:
                            self.assertEqual(answer[: len(GREETING)], GREETING)
                            answer = answer[len(GREETING):]
                        if callable(wanted):
                            self.assertTrue(wanted(answer), answer)
                        else:
                            assert_same(answer, wanted, client)
                    self.assert_closed(daemon, reason, read, len(answer) + len(greeting and GREETING), len(CLIENTS),
                                       service=service)

    def test_chargen(self):
        size = 200_000
        for name, command in (("socat", ["socat", "-u", "TCP:127.0.0.1:{}", "-"]),
                              ("ncat", ["ncat", "--recv-only", "127.0.0.1", "{}"]),
                              ("nc", ["nc.openbsd", "-d", "127.0.0.1", "{}"])):
            harness.needs(command[0])
            with self.subTest(client=name), daemons.Daemon(listener("chargen", greeting=GREETING)) as daemon:
                process = subprocess.Popen([part.format(daemon.port) for part in command], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                with process:
                    assert_same(process.stdout.read(size), GREETING + chargen(size - len(GREETING)))
                    process.kill()
                fact = daemon.wait_closed()[0]
                self.assertIn(fact["reason"], ("reset", "client_closed"))
                self.assertEqual(fact["level"], "info")
                self.assertGreaterEqual(int(fact["bytes_out"]), size)

    def test_service_that_has_said_all_to_a_client_that_sends(self):
        """The client's bytes are thrown away; closing over them would make the kernel send RST."""
        for service, options in (("greet", {"text": "hello"}), ("time", {}), ("daytime", {})):
            with self.subTest(service=service), daemons.Daemon(listener(service, **options)) as daemon:
                with harness.Frozen(daemon.pid):
                    client = daemon.connect()
                    client.sendall(bytes(30000))
                with client:
                    answer = receive_all(client)
                    self.assertEqual(answer, b"hello" if options else answer)
                    self.assertTrue(answer)
                    client.sendall(bytes(30000))
                    client.sendall(b"x")
                self.assert_closed(daemon, "served")


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

    def accepts(self):
        if self.process.poll() is not None:
            raise AssertionError(f"inetd ended with {self.process.returncode}")
        for port in self.PORTS.values():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True

    def __enter__(self):
        try:
            harness.wait_until(self.accepts, "inetd's services; /etc/services has to name them")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(harness.PATIENCE)
        self.config.close()


class BesideInetd(daemons.TestCase):
    """The same ports, 127.0.0.1 is inetd's and 127.0.0.2 ours: a client sees no difference."""

    @classmethod
    def setUpClass(cls):
        # A zone with minutes, so that local time is told from UTC, and both tell the same.
        zone = {"TZ": "XYZ-5:45"}
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        stack.enter_context(harness.network_namespace())
        stack.enter_context(Inetd(dict(os.environ, **zone)))
        entries = ",".join(listener(service, port, address="127.0.0.2") for service, port in Inetd.PORTS.items())
        cls.daemon = stack.enter_context(daemons.Daemon(entries, environment=zone))

    def ask(self, whose, service, data=b"", receive=receive_all):
        address = {"theirs": "127.0.0.1", "ours": "127.0.0.2"}[whose]
        with socket.create_connection((address, Inetd.PORTS[service]), harness.patience()) as client:
            return harness.exchange(client, data, receive) if data else receive(client)

    def test_echo_and_discard(self):
        data = harness.pattern(MIB)
        for service in ("echo", "discard"):
            theirs, ours = (self.ask(whose, service, data) for whose in ("theirs", "ours"))
            assert_same(theirs, data if service == "echo" else b"", "inetd's answer")
            assert_same(ours, theirs)

    def test_chargen(self):
        size = 100_000
        theirs, ours = (self.ask(whose, "chargen", receive=lambda client: receive_exactly(client, size))
                        for whose in ("theirs", "ours"))
        assert_same(theirs, chargen(size), "inetd's chargen")
        assert_same(ours, theirs)

    def test_daytime_and_time(self):
        """Both speak without being asked, and close: these clients do not half-close."""
        for service, length in (("daytime", 26), ("time", 4)):

            def around():
                """inetd's answer between two of ours that are equal. Where a second has just begun they may differ: time(2)
                is as late as the kernel's last tick."""
                before, theirs, after = (self.ask(whose, service) for whose in ("ours", "theirs", "ours"))
                return before if before == theirs == after else None

            self.assertEqual(len(harness.wait_until(around, "equal answers within one second")), length)


# ---- greeting ----


class Greeting(daemons.TestCase):
    def test_before_the_client_speaks(self):
        for service, options in (("echo", {}), ("upper", {}), ("discard", {}), ("reply", {"text": "text"})):
            with self.subTest(service=service), \
                    daemons.Daemon(listener(service, greeting=GREETING, **options)) as daemon, daemon.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                self.assertTrue(harness.is_silent(client))

    def test_when_the_client_spoke_first(self):
        with daemons.Daemon(listener("upper", greeting=GREETING, end_word="end")) as daemon:
            with harness.Frozen(daemon.pid):
                client = daemon.connect()
                client.sendall(b"one\nend\ntwo\n")
            self.assertEqual(receive_all(client), GREETING + b"ONE\nEND\n")

    def test_long(self):
        """The longest that the settings take, much longer than unsent_limit, to a client that takes its time."""
        text = harness.pattern(65536).replace(b"\0", b"0")
        for service, options, wanted in (("echo", {"greeting": text}, text), ("greet", {"text": text}, text),
                                         ("greet", {"greeting": text, "text": text[::-1]}, text + text[::-1])):
            with self.subTest(service=service, options=len(options)), \
                    daemons.Daemon(listener(service, **options), "unsent_limit = 1024;") as daemon:
                assert_same(daemon.exchange(b""), wanted)
                with socket.socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    client.settimeout(harness.patience())
                    client.connect(("127.0.0.1", daemon.port))
                    harness.wait_until(lambda: daemon.counters()[0].startswith("1 connection"), "the client to be served")
                    assert_same(receive_exactly(client, len(wanted)), wanted)


# ---- reply and chargen ----


class Pace(TestCase):
    def test_reply_answers_once_and_not_before_the_first_bytes(self):
        with daemons.Daemon(listener("reply", text="noted\n")) as daemon:
            with daemon.connect() as client:
                self.assertTrue(harness.is_silent(client))
                client.sendall(b"x")
                self.assertEqual(receive_all(client), b"noted\n")
            self.assert_closed(daemon, "served")
            with harness.Frozen(daemon.pid):
                client = daemon.connect()
                for _ in range(10):
                    client.sendall(b"request\n" * 100)
            self.assertEqual(receive_all(client), b"noted\n")

    def test_chargen_stops_for_a_client_that_does_not_read(self):
        with daemons.Daemon(listener("chargen"), "write_timeout = 0.0;") as daemon, daemon.connect() as client:
            position = receive_exactly(client, 1000)
            harness.wait_until(lambda: daemon.counters()[0] == daemon.counters()[0], "the kernel's buffers to be full")
            cpu = daemon.cpu_seconds()
            time.sleep(0.5)
            self.assertLess(daemon.cpu_seconds() - cpu, 0.25, "nothing is made for nobody")
            size = 16 * MIB
            assert_same(position + receive_exactly(client, size), chargen(size + 1000))

    def test_chargen_throws_away_what_it_gets(self):
        with daemons.Daemon(listener("chargen")) as daemon, daemon.connect() as client:
            with harness.Sender(client, bytes(2 * MIB)) as sender:
                got = [receive_exactly(client, MIB)]
                while sender.thread.is_alive():
                    got.append(client.recv(262144))
            self.assertIsNone(sender.failure)
            # It goes on after the half-close: a client that says nothing more may well want to hear.
            got.append(receive_exactly(client, 4 * MIB))
            answer = b"".join(got)
            assert_same(answer, chargen(len(answer)))

    def test_chargen_to_clients_that_leave(self):
        with daemons.Daemon(listener("chargen"), LOG) as daemon:
            descriptors = daemon.descriptors()
            for number in range(50):
                client = daemon.connect()
                receive_exactly(client, 1000 * number + 1)
                (harness.reset if number % 2 else socket.socket.close)(client)
            facts = daemon.wait_closed(50)
            self.assertLessEqual({fact["reason"] for fact in facts}, {"reset", "client_closed"})
            self.assertEqual({fact["level"] for fact in facts}, {"info"})
            harness.wait_until(lambda: daemon.descriptors() == descriptors, "the descriptors to be closed")


# ---- end_word ----


class EndWord(TestCase):
    """The client never half-closes here, but for the tests that say so: it is the daemon that ends the connection."""

    def ends(self, daemon, pieces, wanted):
        """These pieces, each of which is read before the next is sent, are answered with `wanted` and a FIN."""
        with daemon.connect() as client:
            for piece in pieces[:-1]:
                harness.ping(client, piece)
                wanted = wanted[len(piece):]
            client.sendall(pieces[-1])
            assert_same(receive_all(client), wanted)

    def test_ends(self):
        words = [b"x", b"two words", b".", "\u00e4nde".encode(), b"e" * 255]
        for service, word, pieces, wanted in (
                ("echo", b"end", [b"end\n"], b"end\n"),
                ("echo", b"end", [b"one\ntwo\nend\n"], b"one\ntwo\nend\n"),
                ("echo", b"end", [b"\n\n\nend\n"], b"\n\n\nend\n"),
                ("echo", b"end", [b"one\r\nend\r\n"], b"one\r\nend\r\n"),
                ("echo", b"end", [b"end\r", b"\n"], b"end\r\n"),
                ("echo", b"end", [b"end\nend\n"], b"end\n"),
                ("echo", b"end", [b"a\nend\r\nb\nend\r\nc\n"], b"a\nend\r\n"),
                # What the client wrote counts.
                ("upper", b"end", [b"End\nEND\nend\nmore\n"], b"END\nEND\nEND\n"),
                ("upper", b"END", [b"End\nend\nEND\nmore\n"], b"END\nEND\nEND\n"),
                *(("echo", word, [word[:-1] + b"\n" + word + word + b"\n" + word + b"\nrest"],
                   word[:-1] + b"\n" + word + word + b"\n" + word + b"\n") for word in words)):
            with self.subTest(service=service, word=word, pieces=pieces), \
                    daemons.Daemon(listener(service, end_word=word)) as daemon:
                self.ends(daemon, pieces, wanted)
                self.assert_closed(daemon, "end_word", sent=len(wanted), level="info")

    def test_single_bytes(self):
        for service in ("echo", "upper"):
            with self.subTest(service=service), daemons.Daemon(listener(service, end_word="end")) as daemon:
                with daemon.connect() as client:
                    for byte in b"one\nend\r\n":
                        # Answered before the next is sent: each is a read of its own.
                        harness.ping(client, bytes((byte,)), capitals(bytes((byte,))) if service == "upper" else None)
                    self.assertEqual(receive_all(client), b"")

    def test_other_words(self):
        """Every byte is answered, and so is what comes next; then the end word ends it."""
        lines = [b"ending", b"bend", b"end ", b" end", b"endend", b"e", b"en", b"en\rd", b"end\r\r", b"end\r ", b"\rend",
                 b"END", b"End", b"end.", b"end\0", b"\0end", b"eend", b"enend", b"the end", b""]
        for service in ("echo", "upper"):
            with self.subTest(service=service), daemons.Daemon(listener(service, end_word="end")) as daemon:
                for data in [line + ending for line in lines for ending in (b"\n", b"\r\n")] + [b"\n".join(lines) + b"\n"]:
                    try:
                        with daemon.connect() as client:
                            harness.ping(client, data, capitals(data) if service == "upper" else None)
                            client.sendall(b"\nend\n")
                            assert_same(receive_all(client).upper(), b"\nEND\n")
                    except (AssertionError, OSError) as error:
                        raise AssertionError(f"after {data!r}: {error}") from None

    def test_begun_in_one_piece_and_broken_in_the_next(self):
        with daemons.Daemon(listener(end_word="end")) as daemon:
            for first, second in ((b"en", b"\nd\n"), (b"end", b"s\n"), (b"end\r", b"\r\n"), (b"end\r", b"x\n"),
                                  (b"xen", b"d\n")):
                with self.subTest(first=first, second=second), daemon.connect() as client:
                    for piece in (first, second, b"go on"):
                        harness.ping(client, piece)

    def test_without_its_newline(self):
        with daemons.Daemon(listener(end_word="end")) as daemon:
            for data in (b"end", b"end\r"):
                self.assertEqual(daemon.exchange(data), data)
            self.assert_closed(daemon, "client_closed", count=2)

    def test_across_the_edge_of_a_read(self):
        """With unsent_limit = 1024 each read ends at a multiple of 1024; all has arrived before the first."""
        with daemons.Daemon(listener("upper", end_word="end", trace=True),
                            "unsent_limit = 1024; workers = 1;" + LOG) as daemon:
            for count, (ending, before) in enumerate((ending, before) for ending in (b"\nend\n", b"\nend\r\n")
                                                     for before in range(len(ending) + 1)):
                data = (b"filler " * 500)[: 2048 - before] + ending
                mark = len(daemon.log())
                with harness.Frozen(daemon.pid):
                    client = daemon.connect()
                    client.sendall(data + b"more\nend\n")
                    harness.wait_arrived(client)
                with client:
                    assert_same(receive_all(client), capitals(data), f"{ending} {before} bytes before the edge")
                self.assertEqual(daemon.wait_closed(count + 1)[-1]["reason"], "end_word")
                self.assertEqual(re.findall(r" sent (\d+) bytes: ", daemon.log()[mark:])[:2], ["1024", "1024"],
                                 "where the reads ended")

    def test_across_the_edge_of_the_scratch_buffer(self):
        """262144 bytes and more lie ready, which the kernel allows once the connection has proved fast."""
        edge = 262144
        ending = b"\nend\n"
        with daemons.Daemon(listener(end_word="end", trace=True), LOG) as daemon:
            full = 0
            for before in range(len(ending) + 1):
                with daemon.connect() as client:
                    warm = b"x" * (4 * MIB) + b"\n"
                    with harness.Sender(client, warm, half_close=False):
                        assert_same(receive_exactly(client, len(warm)), warm)
                    data = b"y" * (edge - before) + ending
                    mark = len(daemon.log())
                    with harness.Frozen(daemon.pid):
                        client.sendall(data + b"more\nend\n")
                        with contextlib.suppress(AssertionError):  # it may not fit; the next read takes it
                            harness.wait_arrived(client, 0.2)
                    assert_same(receive_all(client), data)
                    full += f" sent {edge} bytes: " in daemon.log()[mark:]
            print(f"# {full} of {len(ending) + 1} reads filled the scratch buffer", flush=True)

    def test_in_the_middle_of_much(self):
        """It is found wherever reads happen to end."""
        data = b"a line of text that is not it\n" * (MIB // 30) + b"end\r\n"
        with daemons.Daemon(listener("upper", end_word="end")) as daemon, daemon.connect() as client, \
                harness.Sender(client, data + b"tail\n" * 50_000):
            assert_same(receive_all(client), capitals(data))

    def test_answer_larger_than_the_buffers(self):
        """The end word comes after more than the client takes at once: all of it arrives, then the FIN."""
        with daemons.Daemon(listener(end_word="end")) as daemon, daemon.connect() as client:
            sent = harness.fill(client)
            tail = b"z" * 1000 + b"\nend\n"
            with harness.Sender(client, tail):
                answer = receive_all(client)
            self.assertEqual((len(answer), answer[sent:]), (sent + len(tail), tail))

    def test_client_that_keeps_sending(self):
        """What follows is not answered; the client reads the answer and a FIN, no RST, while it goes on."""
        with daemons.Daemon(listener(end_word="end")) as daemon, daemon.connect() as client:
            client.sendall(b"one\nend\nmore\n")
            sent = 0
            for _ in range(20):
                client.sendall(b"and more\n" * 1000)
                sent += 9000
                time.sleep(0.01)
            self.assertEqual(receive_all(client), b"one\nend\n")
            client.sendall(b"still\n")
            client.shutdown(socket.SHUT_WR)
            self.assert_closed(daemon, "end_word", 13 + sent + 6, 8)

    def test_client_that_never_leaves(self):
        """It is not waited for without end."""
        with daemons.Daemon(listener(end_word="end")) as daemon, daemon.connect() as client:
            client.sendall(b"end\n")
            self.assertEqual(receive_all(client), b"end\n")
            self.assert_closed(daemon, "end_word")


# ---- trace ----


class Trace(TestCase):
    LINE = re.compile(r'^\S+Z info: connection (\d+) from (\S+) (sent|was sent) (\d+) bytes: "(.*)"$', re.MULTILINE)

    def test_each_read_and_write(self):
        both = ("sent", "was sent")
        rows = [("echo", b"hello\n", [("sent", "6", "hello\\n"), ("was sent", "6", "hello\\n")]),
                ("upper", b"hello\r\n", [("sent", "7", "hello\\r\\n"), ("was sent", "7", "HELLO\\r\\n")]),
                ("discard", b"hello", [("sent", "5", "hello")])]
        for length in (63, 64, 65, 1000):  # at most 64 bytes are shown
            data = harness.pattern(length)[::-1]
            rows.append(("echo", data, [(direction, str(length), excerpt(data)) for direction in both]))
        for start in range(0, 256, 64):  # nothing of a client forges a line of the log, or reaches the terminal
            data = bytes(range(start, start + 64))
            rows.append(("echo", data, [(direction, "64", excerpt(data)) for direction in both]))
        for service, data, wanted in rows:
            with self.subTest(service=service, data=data), daemons.Daemon(listener(service, trace=True)) as daemon:
                with daemon.connect() as client:
                    address = "%s:%d" % client.getsockname()
                    client.sendall(data)
                    if service != "discard":
                        receive_exactly(client, len(data))
                daemon.wait_closed()
                lines = self.LINE.findall(daemon.log())
                self.assertEqual([line[2:] for line in lines], wanted)
                self.assertEqual({line[1] for line in lines}, {address})
                self.assertNotRegex(daemon.log(), "[^\n -~]")

    def test_greeting_and_text(self):
        with daemons.Daemon(listener("greet", trace=True, greeting="hi\n", text="text")) as daemon:
            self.assertEqual(daemon.exchange(b""), b"hi\ntext")
            daemon.wait_closed()
            self.assertEqual([line[2:] for line in self.LINE.findall(daemon.log())],
                             [("was sent", "3", "hi\\n"), ("was sent", "4", "text")])

    def test_only_where_it_is_set(self):
        entries = ", ".join([listener(trace=True), listener(port="PORT1"), listener(port="PORT2", trace=False)])
        with daemons.Daemon(entries) as daemon:
            for index in range(3):
                self.assertEqual(daemon.exchange(b"x%d" % index, index), b"x%d" % index)
            daemon.wait_closed(3)
            self.assertEqual({line[4] for line in self.LINE.findall(daemon.log())}, {"x0"})

    def test_rate(self):
        """log.rate bounds the messages; each one held back is counted, and the count is logged."""
        rate, messages = 20, 1000
        with daemons.Daemon(listener(trace=True), f"log = {{ rate = {rate}; }};") as daemon:
            start = time.monotonic()
            with daemon.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for number in range(messages):
                    harness.ping(client, b"%06d" % number)
            seconds = time.monotonic() - start + 2  # the first and the last may be parts
            made = 2 * messages + 1  # reads, writes, and the end

            def accounted():
                shown = len(self.LINE.findall(daemon.log())) + len(daemon.closed())
                held = re.findall(rf"notice: (\d+) messages? held back by log\.rate = {rate} a second$", daemon.log(),
                                  re.MULTILINE)
                return shown, sum(map(int, held))

            harness.wait_until(lambda: sum(accounted()) == made,
                               lambda: f"{made} messages shown or counted, saw {accounted()}")
            shown, held = accounted()
            self.assertLessEqual(shown, rate * seconds)
            self.assertGreaterEqual(shown, rate)
            self.assertGreater(held, 0)


# ---- timeouts ----


class IdleTimeout(TestCase):
    def test_global_and_of_a_listener(self):
        entries = ", ".join((listener(), listener(port="PORT1", idle_timeout=0.0),
                             listener("upper", "PORT2", idle_timeout=0.6),
                             listener("discard", "PORT3"), listener("reply", "PORT4", text="x")))
        with daemons.Daemon(entries, "idle_timeout = 0.3;") as daemon:
            start = time.monotonic()
            short, never, longer, *waiting = (daemon.connect(index) for index in range(5))
            for client in (short, *waiting):
                self.assertEqual(receive_all(client), b"")
                self.assertGreaterEqual(time.monotonic() - start, 0.29)
                client.close()
            self.assertEqual(receive_all(longer), b"")
            self.assertGreaterEqual(time.monotonic() - start, 0.59)
            longer.close()
            self.assertTrue(harness.is_silent(never))
            harness.ping(never)
            facts = daemon.wait_closed(4)
            self.assertEqual({fact["reason"] for fact in facts}, {"idle_timeout"})
            self.assertEqual(facts[-1]["service"], "upper")
            self.reload(daemon, daemons.config_text(entries, "idle_timeout = 0.0;"))
            self.assertTrue(harness.is_silent(daemon.connect(), 0.5), "never anywhere")

    def test_each_byte_of_the_client_counts(self):
        """Although none goes back."""
        timeout = harness.patience(0.5)
        for service in ("echo", "discard"):
            with self.subTest(service=service), \
                    daemons.Daemon(listener(service), f"idle_timeout = {timeout};") as daemon, daemon.connect() as client:
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
                self.assert_closed(daemon, "idle_timeout")

    def test_bytes_to_the_client_count(self):
        """chargen's client sends nothing, and is not idle while it reads."""
        with daemons.Daemon(listener("chargen"), "idle_timeout = 0.4;") as daemon, daemon.connect() as client:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                self.assertTrue(client.recv(65536))


# ---- what the log tells: test_log.py has every reason, with its facts ----


class Log(TestCase):
    def test_duration_and_worker(self):
        with daemons.Daemon(settings="workers = 1;") as daemon:
            start = time.monotonic()
            with daemon.connect() as client:
                harness.ping(client, b"hello")
                time.sleep(0.2)
            fact = self.assert_closed(daemon, "client_closed", 5, 5, worker="1")
            self.assertTrue(0.2 <= float(fact["seconds"]) <= time.monotonic() - start)

    def test_write_timeout(self):
        """On TCP, where a RST follows and no FIN that would look like a whole answer; on a path, where TCP has no timeout of
        its own to help and the idle timeout is not what counts; and where all is answered and the daemon holds nothing."""
        with daemons.Daemon(listener("chargen") + ", " + listener("chargen", path="DIR/socket", idle_timeout=0.2) + ", " +
                            listener("echo", "PORT1"), "write_timeout = 0.5;") as daemon:
            clients = [daemon.connect(), daemon.connect_path(), socket.socket()]
            with clients[2] as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(harness.patience())
                client.connect(("127.0.0.1", int(daemon.ports[1])))
                client.sendall(bytes(200_000))
                facts = {fact["listener"]: fact for fact in daemon.wait_closed(3)}
            for fact in facts.values():
                self.assertEqual(fact["reason"], "write_timeout")
                self.assertGreaterEqual(float(fact["seconds"]), 0.5)
                self.assertGreater(int(fact["bytes_out"]), 10_000)
            self.assertEqual(facts[f"127.0.0.1:{int(daemon.ports[1])}"].group("bytes_in", "bytes_out"),
                             ("200000", "200000"))
            with self.assertRaises(ConnectionResetError):
                receive_all(clients[0])

    def test_error(self):
        """Of a read, of a write, and when memory is short: what the client does not take at once cannot be kept."""
        for rules, read, sent, error in (("recv@worker:EIO", 5, 5, "Input/output error"),
                                         ("send@worker:EIO", 9, 5, "Input/output error"),
                                         ("send@worker:short=3:1,malloc@worker:ENOMEM:1", 9, 8, "Cannot allocate memory")):
            with self.subTest(rules), daemons.Daemon(faults="") as daemon, daemon.connect() as client:
                harness.ping(client, b"hello")
                daemon.faults.arm(rules)
                client.sendall(b"more")
                self.assertEqual(self.assert_closed(daemon, "error", read, sent)["error"], error)
                daemon.faults.disarm()
                self.assertEqual(daemon.exchange(b"still here"), b"still here")

    def test_probes_are_for_debugging(self):
        """Connected and left without a byte, by FIN or RST, also when a greeting was said to it: not at info."""
        for level, count in (("info", 1), ("debug", 5)):
            entries = listener() + "," + listener("upper", "PORT1", greeting=GREETING)
            with self.subTest(level=level), daemons.Daemon(entries, f'log = {{ level = "{level}"; }};') as daemon:
                for leave in (socket.socket.close, harness.reset):
                    for index in range(2):
                        client = daemon.connect(index)
                        if index == 1:
                            receive_exactly(client, 6)
                        leave(client)
                daemon.notify.wait("STATUS", "^0 connections, 0 queued, 4 accepted")
                self.assertEqual(daemon.exchange(b"x"), b"x")
                probes = [fact for fact in daemon.wait_closed(count) if fact["bytes_in"] == "0"]
                self.assertEqual(len(probes), count - 1)
                self.assertLessEqual({(fact["level"], fact["reason"]) for fact in probes},
                                     {("debug", "client_closed"), ("debug", "reset")})

    def test_probes_of_services_that_speak(self):
        """Whoever has left before the daemon looks takes nothing, whatever it says, and on every kind of socket."""
        names = ("greet", "daytime", "time", "chargen", "reply", "echo", "discard")
        options = {"greet": {"text": "hello\n"}, "reply": {"text": "hello\n"}}
        entries = [listener(name, f"PORT{number}", **options.get(name, {})) for number, name in enumerate(names)]
        entries += [listener(name, path=f"DIR/{name}", **options.get(name, {})) for name in names]
        entries.append(listener("daytime", f"PORT{len(names)}", greeting=GREETING))
        with daemons.Daemon(", ".join(entries).replace("PORT0", "PORT"), DEBUG) as daemon:
            leave = [lambda client=connect, place=place, how=how: how(client(daemon, place))
                     for how in (socket.socket.close, harness.reset)
                     for connect,
                     places in ((daemons.Daemon.connect, range(len(names) + 1)), (daemons.Daemon.connect_path, names))
                     for place in places]
            for count, each in enumerate(leave):
                with harness.Frozen(daemon.pid):  # so that the daemon finds the client gone
                    each()
                self.assertEqual(daemon.wait_closed(count + 1)[-1]["level"], "debug", daemon.log()[-300:])

    def test_clients_served_are_no_probes(self):
        """daytime's clients send nothing, and yet they were served; and so is who closes its sending side first, or
        leaves with unread what its kernel has taken."""

        def half_closed(daemon):
            with harness.Frozen(daemon.pid):
                client = daemon.connect()
                client.shutdown(socket.SHUT_WR)
            self.assertEqual(len(receive_all(client)), 26)
            client.close()

        def leaves_unread(daemon):
            client = daemon.connect()
            select.select([client], [], [], harness.patience())
            client.close()

        for service, come, reason in (("daytime", lambda daemon: daemon.exchange(b""), "served"),
                                      ("daytime", half_closed, "served"),
                                      ("daytime", leaves_unread, "served"), ("chargen", leaves_unread, "reset")):
            with self.subTest(service=service, reason=reason), daemons.Daemon(listener(service)) as daemon:
                come(daemon)
                self.assert_closed(daemon, reason, 0, 26 if service == "daytime" else None, level="info")

    def test_ids(self):
        """Those of the arrival are those of the end, and unique."""
        with daemons.Daemon(settings="workers = 3;" + DEBUG) as daemon:
            for _ in range(60):
                daemon.exchange(b"x")
            facts = [fact.group("id", "client") for fact in daemon.wait_closed(60)]
            accepted = re.findall(r"Z debug: connection (\d+) from (\S+): echo on 127\.0\.0\.1:\d+, worker \d+$",
                                  daemon.log(), re.MULTILINE)
            self.assertEqual(sorted(accepted), sorted(facts))
            self.assertEqual(len({number for number, _ in facts}), 60)

    def test_addresses_of_a_path(self):
        with daemons.Daemon(listener(path="DIR/echo.sock")) as daemon:
            self.assertEqual(harness.exchange_path(daemon.path("echo.sock"), b"hello"), b"hello")
            self.assert_closed(daemon, "client_closed", client="unix", listener=daemon.path("echo.sock"))

    def test_counters_tell_the_same(self):
        """SIGUSR1's sums are those of the messages."""
        entries = listener(end_word="end") + "," + listener("time", "PORT1")
        with daemons.Daemon(entries, "workers = 2; " + DEBUG) as daemon:
            for data, index in ((b"12345", 0), (b"12345", 0), (b"12345", 0), (b"end\n", 0), (b"end\n", 0), (b"", 1)):
                daemon.exchange(data, index)
            facts = daemon.wait_closed(6)
            read, sent = (sum(int(fact[name]) for fact in facts) for name in ("bytes_in", "bytes_out"))
            self.assertEqual((read, sent), (15 + 8, 15 + 8 + 4))
            line = daemon.counters()[0]
            self.assertIn(", 6 closed (client_closed 3, end_word 2, served 1)", line)
            self.assertIn(f", {read} bytes in, {sent} out", line)


if __name__ == "__main__":
    harness.main(jobs=4)
