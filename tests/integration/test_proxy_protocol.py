#!/usr/bin/env python3
"""proxy_protocol: clients are who a header says, however it comes; whatever is no header is refused, and costs nothing."""

import json
import random
import signal
import socket
import struct
import time

import daemons
import harness
import test_handover
import traffic
from daemons import DEBUG, LOG, QUIET, config_text, listener
from harness import is_refused, is_silent, ping, receive_exactly

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20

CLIENT, PORT = "203.0.113.7", 50312
V1 = f"PROXY TCP4 {CLIENT} 192.0.2.2 {PORT} 7\r\n".encode()
FFFF = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def v2(command=PROXY, family=TCP4, addresses=None, tlvs=b"", length=None, checksum=None):
    """`checksum`: what is added to the right one, if there is to be any."""
    if addresses is None:
        addresses = {TCP4: inet(), UDP4: inet(), TCP6: inet6(), UNIX: unix(), UNSPEC: b""}[family]
    begin = SIGNATURE + bytes([command, family])
    rest = addresses + tlvs
    if checksum is None:
        return begin + struct.pack("!H", len(rest) if length is None else length) + rest
    whole = begin + struct.pack("!H", len(rest) + 7) + rest + tlv(CRC32C, bytes(4))
    return whole[:-4] + struct.pack("!I", (crc32c(whole) + checksum) % (1 << 32))


def inet(client=CLIENT, port=PORT):
    return socket.inet_aton(client) + socket.inet_aton("192.0.2.2") + struct.pack("!HH", port, 7)


def inet6(client="2001:db8::7", port=PORT):
    return (socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
            + struct.pack("!HH", port, 7))


def unix(client=b"/run/client"):
    return client.ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")


def ssl(*parts, client=7, verify=0):
    return tlv(SSL, struct.pack("!BI", client, verify) + b"".join(parts))


# Each with the client that the log names then; None: it is the proxy itself.
HEADERS = [
    (V1, f"{CLIENT}:{PORT}"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 50312 7\r\n", "[2001:db8::7]:50312"),
    (f"PROXY TCP6 {FFFF} {FFFF} 65535 65535\r\n".encode(), f"[{FFFF}]:65535"),
    (b"PROXY UNKNOWN\r\n", None),
    (f"PROXY UNKNOWN {FFFF} {FFFF} 65535 65535\r\n".encode(), None),
    (v2(), f"{CLIENT}:{PORT}"),
    (v2(family=UDP4), f"{CLIENT}:{PORT}"),
    (v2(family=TCP6, tlvs=tlv(AUTHORITY, b"localhost") + tlv(0xee, b"\0"), checksum=0), "[2001:db8::7]:50312"),
    (v2(family=UNIX), 'unix:"/run/client"'),
    (v2(family=UNIX, addresses=unix(b"\0one\"\xff\n")), r'unix:"@one\"\xff\n"'),
    (v2(family=UNIX, addresses=unix(b"")), "unix"),
    (v2(family=UNSPEC), None),
    (v2(family=UNSPEC, tlvs=tlv(AUTHORITY, b"localhost"), checksum=0), None),
    (v2(addresses=inet("224.0.0.1")), f"224.0.0.1:{PORT}"),
    (v2(LOCAL, UNSPEC), None),
    (v2(LOCAL, TCP4, tlvs=b"whatever"), None),
    (v2(tlvs=tlv(ALPN, b"h2") + tlv(UNIQUE_ID, bytes(range(128))) + ssl(tlv(0x21, b"TLSv1.3"))), f"{CLIENT}:{PORT}"),
]

# What the log says of each.
NONE, PROTOCOL, LONG, CRLF = ("no PROXY protocol header", "neither TCP4, TCP6 nor UNKNOWN", "a line of more than 107 bytes",
                              "a line that does not end with CR LF")
SOURCE, DESTINATION = "a bad source address", "a bad destination address"
FROM, TO = "a bad source port", "a bad destination port"
TLV, TLS = "a TLV that ends after the header", "an SSL TLV whose parts are longer than itself"
MALFORMED = [
    (b"hello, this is no header\n", NONE), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NONE), (b"\x16\x03\x01\x02\0\x01", NONE),
    (b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", NONE), (b"PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n", NONE),
    (b" PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", NONE), (b"\r\n\r\n\0\r\nQUIT\r", NONE), (b"\r\n\r\n\0\r\nquit\n", NONE),
    (b"\0" * 16, NONE), (b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", PROTOCOL), (b"PROXY UDP4 192.0.2.1 ", PROTOCOL),
    (b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", PROTOCOL), (b"PROXY UNKNOWNX\r\n", PROTOCOL), (b"PROXY \r\n123456789", PROTOCOL),
    (b"PROXY UNKNOWN " + b"x" * 100, LONG), (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", CRLF),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx", CRLF), (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", TO),
    (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", SOURCE), (b"PROXY TCP4 192.0.2 192.0.2.2 10 20\r\n", SOURCE),
    (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", SOURCE), (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", SOURCE),
    (b"PROXY TCP4 localhost localhost 1 2\r\n", SOURCE), (b"PROXY TCP4 192.0.2.1 192.0.2.2.3 1 2\r\n", DESTINATION),
    (b"PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n", SOURCE), (b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", DESTINATION),
    (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", SOURCE), (b"PROXY TCP6 2001:db8::g 2001:db8::2 1 2\r\n", SOURCE),
    (b"PROXY TCP6 ::1::2 ::1 1000 2000\r\n", SOURCE), (b"PROXY TCP6 fe80::1%lo ::1 1000 2000\r\n", SOURCE),
    (b"PROXY TCP6 ::1 [::1] 10000 20000\r\n", DESTINATION),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", FROM), (b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", FROM),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", FROM), (b"PROXY TCP4 192.0.2.1 192.0.2.2 0x1 2\r\n", FROM),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", TO), (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", TO),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", FROM), (b"PROXY TCP4 192.0.2.1 192.0.2.2 123456 2\r\n", FROM),
    (v2(command=0x11), "a version other than 2 after its signature"), (v2(command=0x31), "a version other than 2 after"),
    (v2(command=0x22), "neither LOCAL nor PROXY"), (v2(family=0x41, addresses=inet()), "an unknown address family"),
    (v2(family=0x13, addresses=inet()), "an unknown transport protocol"),
    (v2(length=11), "a header that is too short for its addresses"), (v2(length=0), "a header that is too short for its addr"),
    (v2(family=TCP6, addresses=inet()), "a header that is too short for"), (v2(family=UNIX, addresses=inet6()), "a header that"),
    (v2(tlvs=b"\x02"), TLV), (v2(tlvs=b"\x02\0\x02x"), TLV), (v2(tlvs=tlv(NOOP, b"x") + b"\x04\xff\xff"), TLV),
    (v2(tlvs=tlv(SSL, b"\1\0\0\0")), TLS), (v2(tlvs=ssl(b"\x21\0\x09TLSv1.3")), TLS),
    (v2(tlvs=tlv(UNIQUE_ID, bytes(129))), "a unique id of more than 128 bytes"),
    (v2(family=UNSPEC, tlvs=b"\x02"), TLV), (v2(family=UNSPEC, checksum=1), "a wrong checksum"),
    (v2(checksum=1), "a wrong checksum"), (v2(family=TCP6, checksum=0xff000000), "a wrong checksum"),
    (v2(tlvs=tlv(CRC32C, bytes(3))), "a checksum that is not 4 bytes long"),
    (v2(tlvs=tlv(CRC32C, bytes(4)), checksum=0), "two checksums"),
]


def behind_proxy(service="echo", port="PORT", **options):
    return listener(service, port, proxy_protocol=True, **options)


def address_of(client):
    return "{}:{}".format(*client.getsockname()) if client.family == socket.AF_INET else "unix"


class TestCase(daemons.TestCase):
    def assert_at_rest(self, daemon, descriptors):
        """Nobody is left, and nothing of them."""
        harness.wait_until(lambda: daemon.counters()[0].startswith("0 connections, 0 queued"), "no connections")
        harness.wait_until(lambda: daemon.descriptors() == descriptors, "the descriptors of before")

    def assert_refused(self, daemon, client, reason, count=1):
        """Without a byte of answer."""
        self.assertTrue(is_refused(client))
        client.close()
        return daemon.wait_log(rf"notice: client .* refused on \S+: {reason}$", count)


class Headers(TestCase):
    """Whatever is one."""

    def exchange_cut(self, client, header, cut):
        whole = header + b"hello"
        client.sendall(whole[:cut])
        if client.family == socket.AF_INET:
            harness.wait_arrived(client)
        client.sendall(whole[cut:])
        self.assertEqual(receive_exactly(client, 5), b"hello")
        ping(client, b"and on")

    def test_no_client_leaves_a_field_without_room(self):
        """However it has called its socket: each of the bytes is four characters, and comes twice."""
        settings = 'workers = 1; log = { level = "debug"; rate = 0; format = "json"; };'
        with daemons.Daemon(behind_proxy(path="DIR/" + 50 * "L", trace=True), settings) as daemon:
            for name in (108 * b"\xff", b"\0" + 107 * b"\x01", 54 * b'"\\', 108 * b"/"):
                with daemon.connect_path(50 * "L") as client:
                    client.sendall(v2(family=UNIX, addresses=unix(name)) + 256 * b"\xfe")
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(harness.receive_all(client), 256 * b"\xfe")
            daemon.wait_log(" closed: client_closed", 4)
            events = [json.loads(line) for line in daemon.log().splitlines()]
            events = [event for event in events if "TCPECHOD_CONNECTION" in event]
            self.assertGreater(len(events), 12)
            for event in events:
                wanted = {"CLIENT", "PROXY", "LISTENER", "SERVICE", "WORKER"}
                if " closed: " in event["MESSAGE"]:
                    wanted |= {"BYTES_IN", "BYTES_OUT", "DURATION_USEC", "REASON"}
                self.assertFalse({f"TCPECHOD_{name}" for name in wanted} - event.keys(), event)
                self.assertLessEqual(len(event["TCPECHOD_CLIENT"]), len('unix:"@..."') + 108)

    def test_cut_at_every_byte(self):
        """And with data right after. The client in the log is whom it names, and the bytes are those after it."""
        with daemons.Daemon(f"{behind_proxy()}, {behind_proxy(path='DIR/socket')}", LOG) as daemon:
            descriptors = daemon.descriptors()
            for number, (header, named) in enumerate(HEADERS):
                connect = daemon.connect_path if number % 3 == 2 else daemon.connect
                before, peers = len(daemon.closed()), []
                for cut in range(0, len(header) + 4, harness.scale(1, 5)):
                    with self.subTest(header=header, cut=cut), connect() as client:
                        peers.append(address_of(client))
                        self.exchange_cut(client, header, cut)
                told = {(closed["client"], closed["proxy"], closed["reason"], closed["bytes_in"], closed["bytes_out"])
                        for closed in daemon.wait_closed(before + len(peers))[before:]}
                self.assertEqual(told, {(named or peer, peer if named else None, "client_closed", "11", "11") for peer in peers})
            self.assert_at_rest(daemon, descriptors)

    def test_greatest_length(self):
        """65,551 bytes, in one piece and in many, with much data after it."""
        header = v2(tlvs=tlv(NOOP, bytes(60000)) + tlv(NOOP, bytes(65535 - 12 - 7 - 60000 - 6)), checksum=0)
        self.assertEqual(len(header), 65551)
        data = harness.pattern(1 << 20)
        with daemons.Daemon(behind_proxy(), LOG) as daemon:
            for piece in (len(header), 10000, 300):
                with daemon.connect() as client:
                    for at in range(0, len(header), piece):
                        client.sendall(header[at : at + piece])
                    harness.assert_same(harness.exchange(client, data), data)
            for closed in daemon.wait_closed(3):
                self.assertEqual((closed["client"], int(closed["bytes_in"])), (f"{CLIENT}:{PORT}", len(data)))

    def test_every_service(self):
        services = {"upper": b"X", "discard": b"", "daytime": None, "time": None, "greet": b"hi", "reply": b"hi"}
        listeners = [behind_proxy(name, f"PORT{i}", greeting="hello ", **({"text": "hi"} if answer == b"hi" else {}))
                     for i, (name, answer) in enumerate(services.items())]
        with daemons.Daemon(", ".join(listeners), LOG) as daemon:
            for index, answer in enumerate(services.values()):
                client = daemon.connect(index)
                client.sendall(V1[:20])
                self.assertTrue(is_silent(client, 0.05), "it speaks to somebody unknown")
                got = harness.exchange(client, V1[20:] + b"x")
                self.assertEqual(got[:6], b"hello ")
                self.assertTrue(answer is None or got[6:] == answer, got)

    def test_misbehaving_listener(self):
        """Its faults begin after the header."""
        with daemons.Daemon(behind_proxy(limit=5, end="reset", accept_delay=0.2), LOG) as daemon, daemon.connect() as client:
            client.sendall(V1 + b"0123456789")
            self.assertEqual(receive_exactly(client, 5), b"01234")
            with self.assertRaises(ConnectionResetError):
                client.recv(1)
            self.assertEqual(daemon.wait_closed()[0]["error"], "limit")

    def test_no_header_is_due(self):
        """There it is data."""
        with daemons.Daemon(f"{listener()}, {behind_proxy(port='PORT1')}", LOG) as daemon:
            for header, _ in HEADERS:
                self.assertEqual(daemon.exchange(header), header)
                self.assertEqual(daemon.exchange(V1 + header, 1), header, "a second one is data as well")
            self.assertEqual({closed["proxy"] for closed in daemon.wait_closed(2 * len(HEADERS))
                              if closed["listener"].endswith(f":{daemon.port}")}, {None})


class Refused(TestCase):
    """Whatever is none."""

    def test_malformed(self):
        """Each is told, closes without a byte of answer, and leaves its place: there are but three."""
        self.assertGreater(len(MALFORMED), 40)
        settings = LOG + 'max_connections = 3; overload = "refuse";'
        with daemons.Daemon(f"{behind_proxy()}, {behind_proxy(path='DIR/socket')}", settings) as daemon:
            descriptors = daemon.descriptors()
            for number, (bad, why) in enumerate(MALFORMED):
                with self.subTest(bad=bad):
                    client = daemon.connect_path() if number % 4 == 3 else daemon.connect()
                    peer = address_of(client)
                    client.sendall(bad + 30 * b"data")
                    self.assertTrue(is_refused(client))
                    line = daemon.wait_log(r"notice: client (\S+) refused on \S+: bad_proxy_header: (.*)$", number + 1)
                    self.assertEqual((line.group(1), line.group(2)[: len(why)]), (peer, why))
                    client.close()
            counters = daemon.counters()[0]
            self.assertIn(f"{len(MALFORMED)} refused (bad_proxy_header {len(MALFORMED)})", counters)
            self.assertIn(", 0 closed", counters)
            daemon.notify.wait("STATUS", rf"{len(MALFORMED)} refused \(bad_proxy_header {len(MALFORMED)}\)")
            for client in [daemon.connect() for _ in range(3)]:
                ping(client, V1 + b"x", b"x")
                client.close()
            self.assert_at_rest(daemon, descriptors)

    def test_fields(self):
        """A worker's refusal says which, and the connection; the acceptor's has come to neither."""
        listeners = f"{behind_proxy(deny=[CLIENT])}, {behind_proxy(port='PORT1', proxy_from=['192.0.2.1'])}"
        with daemons.Daemon(listeners, 'workers = 1; log = { format = "json"; };') as daemon:
            for index, sent in ((0, V1), (0, b"nonsense"), (1, b"")):
                with daemon.connect(index) as client:
                    client.sendall(sent)
                    self.assertTrue(is_refused(client))
            daemon.wait_log(" refused on ", 3)
            events = [json.loads(line) for line in daemon.log().splitlines()]
            told = [[event.get(f"TCPECHOD_{name}") for name in ("REASON", "CONNECTION", "WORKER")] for event in events
                    if "TCPECHOD_REASON" in event]
            self.assertCountEqual(told, [["denied", 1, 1], ["bad_proxy_header", 2, 1], ["denied", None, None]])

    def test_cut_short(self):
        with daemons.Daemon(behind_proxy(), LOG) as daemon:
            descriptors = daemon.descriptors()
            cuts = range(1, len(V1), 7)
            for number, cut in enumerate(cuts):
                client = daemon.connect()
                client.sendall(V1[:cut])
                harness.wait_arrived(client)
                if number % 2:
                    harness.reset(client)
                else:
                    client.shutdown(socket.SHUT_WR)
                    self.assertTrue(is_refused(client))
            daemon.wait_log("bad_proxy_header: a header that is cut short$", len(cuts))
            for client in daemon.clients:
                client.close()
            self.assert_at_rest(daemon, descriptors)

    def test_late(self):
        """Nothing, a part, and a byte now and then: the time is that of the whole header. Nobody else waits for them."""
        with daemons.Daemon(f"{behind_proxy(proxy_timeout=0.5)}, {listener('upper', 'PORT1')}", LOG + "workers = 1;") as daemon:
            descriptors = daemon.descriptors()
            other = daemon.connect(1)
            slow = daemon.connect_many(30)
            begin = time.monotonic()
            for number, client in enumerate(slow[10:]):
                client.sendall(V1[: number + 1])
            for byte in range(20, 24):
                slow[-1].sendall(V1[byte : byte + 1])
                asked = time.monotonic()
                ping(other, b"x", b"X")
                self.assertLess(time.monotonic() - asked, 0.2)
                time.sleep(0.1)
            for client in slow:
                self.assertTrue(is_refused(client))
            self.assertLess(time.monotonic() - begin, harness.scale(3, 30))
            daemon.wait_log("bad_proxy_header: no whole header within proxy_timeout$", len(slow))
            for client in daemon.clients:
                client.close()
            self.assert_at_rest(daemon, descriptors)

    def test_memory(self):
        """It is what has come, and not what a length promises, that costs."""
        harness.needs_unsanitized("memory")
        harness.raise_nofile(4096)
        header = v2(tlvs=tlv(NOOP, bytes(65535 - 12 - 3)))
        with daemons.Daemon(behind_proxy(proxy_timeout=3600.0), QUIET, nofile=4096) as daemon:
            descriptors, before = daemon.descriptors(), daemon.rss()
            clients = daemon.connect_many(1000)
            for client in clients:
                client.sendall(header[:16])
                harness.wait_arrived(client)
            self.assertLess(daemon.rss() - before, 1000 * 1024)
            for client in clients[:100]:
                client.sendall(header[16:-1])
                harness.wait_arrived(client)
            self.assertLess(daemon.rss() - before, 1000 * 1024 + 100 * 2 * len(header))
            for client in clients[:10]:
                ping(client, header[-1:] + b"x", b"x")
            for client in clients:
                client.close()
            harness.wait_until(lambda: daemon.descriptors() == descriptors, "nobody to be left")

    def test_frozen_daemon_drops_nobody(self):
        with daemons.Daemon(behind_proxy(proxy_timeout=2.0), LOG) as daemon:
            clients = daemon.connect_many(20)
            for client in clients[:10]:
                client.sendall(V1[:9])
            with harness.Frozen(daemon.pid):
                for client in clients[:10]:
                    client.sendall(V1[9:] + b"x")
                for client in clients[10:]:
                    client.sendall(V1 + b"x")
                time.sleep(2.5)
            for client in clients:
                self.assertEqual(receive_exactly(client, 1), b"x")

    def test_stop(self):
        """It waits for no header, and answers who was known in time."""
        with daemons.Daemon(behind_proxy(proxy_timeout=3600.0), LOG + "drain_timeout = 60;") as daemon:
            half, silent, known = daemon.connect_many(3)
            half.sendall(V1[:9])
            known.sendall(V1 + b"x")
            self.assertEqual(known.recv(1), b"x")
            daemon.send_signal(signal.SIGTERM)
            self.assertTrue(is_refused(half) and is_refused(silent))
            self.assertEqual(known.recv(1), b"")
            known.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual({closed["reason"] for closed in daemon.wait_closed(3)}, {"drained"})


class Probes(TestCase):
    """A load balancer looks whether somebody is there."""

    def test_health_checks(self):
        with daemons.Daemon(behind_proxy("upper", greeting="hello"), DEBUG) as daemon:
            descriptors = daemon.descriptors()
            for bytes_sent in (b"", v2(LOCAL, UNSPEC), v2(LOCAL, TCP4), b"PROXY UNKNOWN\r\n", v2(family=UNSPEC)):
                for leave in (harness.reset, socket.socket.close):
                    client = daemon.connect()
                    client.sendall(bytes_sent)
                    if bytes_sent:
                        self.assertEqual(receive_exactly(client, 5), b"hello")
                    leave(client)
            told = [(closed["level"], closed["client"], closed["proxy"]) for closed in daemon.wait_closed(10)]
            self.assertEqual({level for level, *_ in told}, {"debug"}, daemon.log())
            self.assertEqual({proxy for *_, proxy in told}, {None})
            self.assertEqual(daemon.count_log("refused on"), 0)
            self.assert_at_rest(daemon, descriptors)

    def test_health_checks_that_look_at_an_answer(self):
        listeners = f"{behind_proxy()}, {behind_proxy('daytime', port='PORT1')}"
        with daemons.Daemon(listeners, DEBUG) as daemon:
            for header in (v2(LOCAL, UNSPEC), b"PROXY UNKNOWN\r\n"):
                with daemon.connect() as client:
                    ping(client, header + b"x", b"x")
                with daemon.connect(1) as client:
                    client.sendall(header)
                    self.assertTrue(harness.receive_all(client))
            # Who sends something may be a client at the proxy's Unix socket, and with UNKNOWN anybody.
            closed = sorted(daemon.wait_closed(4), key=lambda each: int(each["id"]))
            self.assertEqual([each["level"] for each in closed], ["info", "debug", "info", "info"])

    def test_no_list_and_no_limit_keeps_the_proxy_out(self):
        listeners = behind_proxy(deny=["127.0.0.0/8"], max_connections_per_source=1)
        with daemons.Daemon(listeners, LOG) as daemon:
            for header in 3 * [v2(LOCAL, UNSPEC), b"PROXY UNKNOWN\r\n", v2(family=UNIX)]:
                ping(daemon.connect(), header + b"x", b"x")


class Admission(TestCase):
    """By the header, as the acceptor's by the peer."""

    def test_proxy_from(self):
        with daemons.Daemon(behind_proxy(proxy_from=["127.0.0.2", "127.1.0.0/16"]), LOG) as daemon:
            descriptors = daemon.descriptors()
            for number, source in enumerate(("127.0.0.1", "127.0.0.3")):
                line = self.assert_refused(daemon, daemon.connect(source=source), "denied", number + 1)
                self.assertIn(f"client {source}:", line.group())
            for source in ("127.0.0.2", "127.1.2.3"):
                with daemon.connect(source=source) as client:
                    ping(client, V1 + b"x", b"x")
            self.assert_at_rest(daemon, descriptors)

    def test_lists(self):
        lists = {"allow": ["203.0.113.0/24", "2001:db8::/32"], "deny": ["203.0.113.66", "2001:db8:bad::/48"]}
        expected = {"203.0.113.7": True, "203.0.113.66": False, "127.0.0.1": False, "2001:db8::1": True,
                    "2001:db8:bad::1": False, "2001:db9::1": False, "::ffff:203.0.113.7": True}
        with daemons.Daemon(f"{behind_proxy(**lists)}, {behind_proxy(path='DIR/socket', **lists)}", LOG) as daemon:
            descriptors = daemon.descriptors()
            refused = 0
            for connect in (daemon.connect, daemon.connect_path):
                for client_address, is_welcome in expected.items():
                    header = v2(family=TCP6, addresses=inet6(client_address)) if ":" in client_address else \
                        f"PROXY TCP4 {client_address} 192.0.2.2 5 7\r\n".encode()
                    with self.subTest(client=client_address), connect() as client:
                        client.sendall(header + b"x")
                        if is_welcome:
                            self.assertEqual(client.recv(1), b"x")
                            continue
                        refused += 1
                        me = address_of(client)
                        line = self.assert_refused(daemon, client, "denied", refused)
                        self.assertRegex(line.group(), rf"client \S*{client_address}\S* via {me} refused")
            self.assertIn(f"{refused} refused (denied {refused})", daemon.counters()[0])
            self.assert_at_rest(daemon, descriptors)

    def test_global_lists_and_limit(self):
        """Those of the whole daemon, at a path as well: a client counts wherever it comes in."""
        settings = LOG + 'deny = ["198.51.100.0/24"]; max_connections_per_source = 2; source_prefix_v4 = 24;'
        with daemons.Daemon(f"{behind_proxy()}, {behind_proxy(path='DIR/socket')}", settings) as daemon:
            descriptors = daemon.descriptors()
            denied = daemon.connect_path()
            denied.sendall(v2(addresses=inet("198.51.100.1")))
            self.assert_refused(daemon, denied, "denied")
            for _ in range(3):
                first, second = daemon.connect(), daemon.connect_path()
                ping(first, v2(addresses=inet("203.0.113.1")) + b"x", b"x")
                ping(second, v2(addresses=inet("203.0.113.200")) + b"x", b"x")
                for number in range(3):
                    third = daemon.connect()
                    third.sendall(V1 + b"x")
                    self.assert_refused(daemon, third, "per_source")
                other = daemon.connect()
                ping(other, v2(addresses=inet("203.0.114.1")) + b"x", b"x")
                for client in (first, second, other):
                    client.close()
                self.assert_at_rest(daemon, descriptors)

    def test_limit_holds_under_load(self):
        """Many workers ask at once."""
        with daemons.Daemon(behind_proxy(max_connections_per_source=5), LOG + "workers = 4;") as daemon:
            descriptors = daemon.descriptors()
            for _ in range(harness.scale(10, 2)):
                clients = daemon.connect_many(60)
                for client in clients:
                    client.sendall(V1 + b"x")
                answers = [b"" if is_refused(client) else b"x" for client in clients]
                self.assertEqual(answers.count(b"x"), 5)
                for client in clients:
                    client.close()
                self.assert_at_rest(daemon, descriptors)

    def test_reload(self):
        """What is due was said by the settings at the accept."""
        with daemons.Daemon(behind_proxy(proxy_timeout=3600.0), LOG) as daemon:
            before = daemon.connect()
            before.sendall(V1[:9])
            harness.wait_arrived(before)
            self.reload(daemon, config_text(listener(deny=[f"{CLIENT}/32"]), LOG))
            ping(daemon.connect(), b"PROXY")
            ping(before, V1[9:] + b"x", b"x")
            self.reload(daemon, config_text(behind_proxy(deny=[f"{CLIENT}/32"]), LOG))
            after = daemon.connect()
            after.sendall(V1)
            self.assert_refused(daemon, after, "denied")
            ping(before)


class Carried:
    """A hand-over."""

    def test_traffic(self):
        """By proxies that are slow to say who it is, and by others."""
        chance = random.Random(14)

        def connect():
            client, header = daemon.connect(), chance.choice(HEADERS)[0]
            cut = chance.randrange(len(header))
            client.sendall(header[:cut])
            time.sleep(chance.choice((0, 0, 0.003)))
            client.sendall(header[cut:])
            return client

        with self.daemon(behind_proxy(), LOG) as daemon:
            with traffic.Traffic(connect, newcomers=4) as clients:
                for _ in range(harness.scale(8, 3)):
                    clients.pass_by(10)
                    self.restart(daemon)
                clients.pass_by()
            self.assertEqual(daemon.count_log("(warning|error): |refused on"), 0, daemon.log()[-3000:])
            self.assertEqual(daemon.count_log(r"closed: (drained|error|not_resumed|reset|\w+_timeout)"), 0)

    def test_half_a_header(self):
        """Of each length, over two restarts; and who they are then is known to the third."""
        with self.daemon(f"{behind_proxy(proxy_timeout=3600.0)}, {behind_proxy(path='DIR/socket', proxy_timeout=3600.0)}",
                         LOG) as daemon:
            waiting = []
            for number, (header, named) in enumerate(HEADERS):
                for cut in range(0, len(header), harness.scale(9, 40)):
                    client = daemon.connect_path() if number % 3 == 2 else daemon.connect()
                    client.sendall(header[:cut])
                    waiting.append((client, header[cut:], named))
            for _ in range(2):
                self.restart(daemon)
            for client, rest, _ in waiting:
                ping(client, rest + b"hello", b"hello")
            self.restart(daemon)
            for client, *_ in waiting:
                ping(client)
                client.close()
            told = {(closed["client"], closed["proxy"], closed["reason"], closed["bytes_in"])
                    for closed in daemon.wait_closed(len(waiting))}
            self.assertEqual({client for client, proxy, *_ in told if proxy}, {named for *_, named in waiting if named})
            self.assertEqual({(reason, count) for *_, reason, count in told}, {("client_closed", "6")})

    def test_time_goes_on(self):
        with self.daemon(behind_proxy(proxy_timeout=2.0), LOG) as daemon:
            begin = time.monotonic()
            client = daemon.connect()
            client.sendall(V1[:9])
            for _ in range(2):
                self.restart(daemon)
            self.assertTrue(is_refused(client))
            self.assertLess(time.monotonic() - begin, harness.scale(3.5, 30))
            daemon.wait_log("bad_proxy_header: no whole header within proxy_timeout$")

    def test_sources_count_on(self):
        """Whom a header names, and not the proxies."""
        with self.daemon(behind_proxy(max_connections_per_source=2, proxy_timeout=3600.0), LOG) as daemon:
            clients = daemon.connect_many(8)
            for client in clients[:2]:
                ping(client, V1 + b"x", b"x")
            for client in clients[2:6]:
                ping(client, v2(LOCAL, UNSPEC) + b"x", b"x")
            for client in clients[6:]:
                client.sendall(V1[:5])
            self.restart(daemon)
            for client in clients[6:]:
                client.sendall(V1[5:])
                self.assertTrue(is_refused(client))
            daemon.wait_log(rf"client {CLIENT}:{PORT} via \S+ refused on \S+: per_source$", 2)
            clients[0].close()
            daemon.wait_closed()
            ping(daemon.connect(), V1 + b"x", b"x")

    def test_listener_gone(self):
        """A header is not waited for where nobody comes any more."""
        with self.daemon(f"{behind_proxy(proxy_timeout=3600.0)}, {listener('upper', 'PORT1')}", LOG) as daemon:
            client = daemon.connect()
            client.sendall(V1[:9])
            harness.wait_arrived(client)
            daemon.write_config(config_text(listener("upper", "PORT1"), LOG))
            self.restart(daemon)
            self.assertTrue(is_refused(client))
            self.assertEqual(daemon.wait_closed()[0]["reason"], "drained")


class CarriedInPlace(test_handover.InPlace, Carried, TestCase):
    pass


class CarriedByStore(test_handover.ByStore, Carried, TestCase):
    pass


if __name__ == "__main__":
    harness.main(jobs=4)
