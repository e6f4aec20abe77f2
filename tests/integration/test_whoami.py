#!/usr/bin/env python3
"""whoami: what its line says of every kind of client, beside what the client itself and ss(8) know."""

import contextlib
import datetime
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import daemons
import harness
from daemons import DEBUG, LOG, listener, sockets
from harness import receive_all, receive_exactly

LONGEST = 16384
GREETING = bytes(33 + index % 90 for index in range(65536))
PLACES = ", ".join((listener("whoami", address="*"), listener("whoami", path="DIR/socket")))


def parse(line):
    """The object, after a look at all that JSON does not say: one line of at most so many bytes, no member twice."""

    def unique(members):
        if len(dict(members)) != len(members):
            raise AssertionError(f"a member comes twice: {line}")
        return dict(members)

    text = line.decode()
    if not text.endswith("}\n") or text.count("\n") != 1 or len(line) > LONGEST:
        raise AssertionError(f"not one line: {line}")
    return json.loads(text, object_pairs_hook=unique)


def place(address):
    """As the line has what a socket says of an end."""
    if not isinstance(address, (str, bytes)):
        return {"address": address[0].removeprefix("::ffff:"), "port": address[1]}
    if isinstance(address, bytes):
        return {"abstract": address[1:].decode()}
    return {"path": address} if address else {}


def names(value):
    """The members of an object, and of those in it."""
    return {key: names(inner) for key, inner in value.items()} if isinstance(value, dict) else None


class TestCase(daemons.TestCase):
    def ask(self, client):
        """What the line says to this client, which matches what both ends know."""
        with client:
            return self.check(client, receive_all(client))

    def check(self, client, line, server=None):
        """`server`: what the client knew of it, where the kernel has forgotten it."""
        said = parse(line)
        self.assertEqual(said["client"], {**place(client.getsockname()), **self.credentials(client)})
        self.assertEqual(said["server"], place(server or client.getpeername()))
        self.assertEqual((said["service"], said["host"]), ("whoami", socket.gethostname()))
        self.assertEqual("tcp" in said, client.family != socket.AF_UNIX)
        accepted = datetime.datetime.fromisoformat(said["accepted"].replace("Z", "+00:00"))
        self.assertLess(abs(accepted.timestamp() - time.time()), harness.patience())
        return said

    @staticmethod
    def credentials(client):
        if client.family != socket.AF_UNIX:
            return {}
        return {"uid": os.geteuid(), "gid": os.getegid(), "pid": os.getpid()}


# ---- each kind of client ----


class Kinds(TestCase):
    def test_tcp(self):
        with daemons.Daemon(listener("whoami") + "," + listener("whoami", "PORT1", address="*"), DEBUG) as daemon:
            for count in range(10):
                for index in (0, 1):
                    said = self.ask(daemon.connect(index))
                    fact = daemon.wait_closed(2 * count + index + 1)[-1]
                    self.assertEqual((str(said["id"]), str(said["worker"]), said["listener"], fact["client"]),
                                     (fact["id"], fact["worker"], fact["listener"],
                                      "{address}:{port}".format(**said["client"])))
                    self.assertEqual((fact["reason"], fact["level"]), ("served", "info"))

    def test_ipv6(self):
        harness.needs_ipv6()
        with daemons.Daemon(PLACES) as daemon:
            self.assertEqual(self.ask(daemon.connect(address="::1"))["server"], {"address": "::1", "port": daemon.port})

    def test_ipv4_by_an_ipv6_socket(self):
        """::ffff:a.b.c.d at either end is shown as IPv4."""
        harness.needs_ipv6()
        with daemons.Daemon(PLACES) as daemon:
            client = socket.socket(socket.AF_INET6)
            client.settimeout(harness.patience())
            client.connect(("::ffff:127.0.0.1", daemon.port))
            self.assertEqual(self.ask(client)["client"]["address"], "127.0.0.1")

    def test_other_addresses_of_the_host(self):
        """Of a wildcard, the address that the client has reached."""
        with daemons.Daemon(PLACES) as daemon:
            said = self.ask(daemon.connect(address="127.0.0.9", source="127.0.0.8"))
            self.assertEqual((said["client"]["address"], said["server"]["address"]), ("127.0.0.8", "127.0.0.9"))

    def test_unix(self):
        """Without a name, with a path, with an abstract name; and bytes that JSON cannot hold."""
        with daemons.Daemon(PLACES) as daemon:
            for name in ("", daemon.path("client"), daemon.path('a "quoted" \\ \n path'), daemon.path("@"),
                         b"\0tcpechod-test-%d" % os.getpid(), b"\0a\0\x1b\"%d" % os.getpid()):
                with self.subTest(name=name):
                    client = socket.socket(socket.AF_UNIX)
                    client.settimeout(harness.patience())
                    if name:
                        client.bind(name)
                    client.connect(daemon.path("socket"))
                    self.ask(client)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(harness.patience())
                client.bind(b"\0\xff%d" % os.getpid())
                client.connect(daemon.path("socket"))
                self.assertEqual(parse(receive_all(client))["client"]["abstract"], f"\ufffd{os.getpid()}")

    def test_unix_of_another_user(self):
        harness.needs_root()
        command = [harness.needs("setpriv"), "--reuid", "65534", "--regid", "65533", "--clear-groups",
                   harness.needs("socat"), "-u"]
        with daemons.Daemon(PLACES) as daemon:
            os.chmod(daemon.directory, 0o755)
            process = subprocess.Popen([*command, f"UNIX-CONNECT:{daemon.path('socket')}", "-"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            said = parse(process.communicate(timeout=harness.patience())[0])
            self.assertEqual(said["client"], {"uid": 65534, "gid": 65533, "pid": process.pid})

    def test_many_at_once(self):
        """No two have an id in common, and each is told of itself."""
        with daemons.Daemon(PLACES, "workers = 3;") as daemon:
            clients = [daemon.connect() if number % 3 else daemon.connect_path()
                       for number in range(harness.scale(300, 60))]
            said = [self.ask(client) for client in clients]
            self.assertEqual(len({each["id"] for each in said}), len(clients))
            self.assertEqual({each["worker"] for each in said}, {1, 2, 3})

    def test_with_the_clients_that_people_have(self):
        with daemons.Daemon(PLACES) as daemon:
            for client in harness.CLIENTS:
                with self.subTest(client=client):
                    said = parse(harness.run_client(client, daemon.port, b"who am I?\n"))
                    self.assertEqual(said["server"], {"address": "127.0.0.1", "port": daemon.port})

    def test_jq(self):
        jq = harness.needs("jq")
        with daemons.Daemon(PLACES) as daemon:
            for client in (daemon.connect(), daemon.connect_path()):
                line = receive_all(client)
                read = subprocess.run([jq, "-e", "."], input=line, capture_output=True, check=True).stdout
                self.assertEqual(json.loads(read), parse(line))

    def test_as_the_manual_says(self):
        with open(os.path.join(harness.ROOT, "man", "tcpechod.8"), encoding="utf-8") as file:
            page = file.read()
        told = json.loads(re.search(r'^\{"id": .*?(?=^\.Ed)', page, re.MULTILINE | re.DOTALL).group())
        with daemons.Daemon(PLACES) as daemon:
            said = self.ask(daemon.connect())
        self.assertEqual(names(said), names(told))
        self.assertEqual(list(said), list(told), "the order")

    def test_log_addresses(self):
        """It tells a client about itself, and nobody else."""
        with daemons.Daemon(PLACES, 'log = { addresses = "none"; rate = 0; };') as daemon:
            self.ask(daemon.connect())


class BesideSs(TestCase):
    """With a usual MTU. Until the daemon accepts it, nothing that the kernel knows of a connection changes."""

    def compare(self, daemon, address):
        with harness.Frozen(daemon.pid):
            client = daemon.connect(address=address)
            shown = harness.wait_until(lambda: sockets("-Htin", "state", "established", f"( sport = :{daemon.port} )"),
                                       "the connection")
        said = self.ask(client)
        where = re.search(r"(\S+):(\d+) +(\S+):(\d+)", shown).groups()
        self.assertEqual([place((host.strip("[]"), int(port))) for host, port in (where[:2], where[2:])],
                         [said["server"], said["client"]])
        rtt, rttvar = (round(1000 * float(part)) for part in re.search(r"\brtt:([\d.]+)/([\d.]+)", shown).groups())
        self.assertAlmostEqual(said["tcp"]["rtt_us"], rtt, delta=1)
        self.assertAlmostEqual(said["tcp"]["rttvar_us"], rttvar, delta=1)
        self.assertEqual(said["tcp"]["mss_bytes"], int(re.search(r"\bmss:(\d+)", shown).group(1)))
        self.assertIn(said["tcp"]["congestion_control"], shown.split())
        return said["tcp"]["mss_bytes"]

    def test_the_same(self):
        harness.needs("ss")
        with harness.network_namespace():
            subprocess.run([harness.needs("ip"), "link", "set", "lo", "mtu", "1500"], check=True)
            with daemons.Daemon(listener("whoami", address="*")) as daemon:
                self.assertEqual(self.compare(daemon, "127.0.0.1"), 1448)
                self.assertEqual(self.compare(daemon, "::1"), 1428)


# ---- what clients do ----


class Behaviour(TestCase):
    def test_half_closes_at_once(self):
        with daemons.Daemon(PLACES, LOG) as daemon:
            for connect in (daemon.connect, daemon.connect_path):
                with harness.Frozen(daemon.pid):
                    client = connect()
                    server = client.getpeername()
                    client.shutdown(socket.SHUT_WR)
                self.check(client, receive_all(client), server)
            self.assertEqual({fact["reason"] for fact in daemon.wait_closed(2)}, {"served"})

    def test_sends_first(self):
        """It is thrown away, and what comes later does not cost the line."""
        with daemons.Daemon(PLACES, LOG) as daemon:
            for connect in (daemon.connect, daemon.connect_path):
                with harness.Frozen(daemon.pid):
                    client = connect()
                    client.sendall(bytes(30000))
                self.check(client, receive_all(client))
                with contextlib.suppress(OSError):  # on a machine that takes 2 seconds for this
                    client.sendall(bytes(30000))
                client.close()
            self.assertEqual({fact["reason"] for fact in daemon.wait_closed(2)}, {"served"})

    def test_never_reads(self):
        """The kernel takes the line for it; one whose buffers are full is dropped, and holds up nobody."""
        with daemons.Daemon(listener("whoami") + "," + listener("whoami", "PORT1", greeting=GREETING),
                            LOG + "write_timeout = 1; unsent_limit = 1024;") as daemon:
            silent, stuck = daemon.connect(), daemon.connect_small(1)
            daemon.wait_log("closed: write_timeout")
            self.ask(daemon.connect())
            self.check(silent, receive_all(silent))
            stuck.close()

    def test_after_a_greeting(self):
        with daemons.Daemon(listener("whoami", greeting=GREETING), "unsent_limit = 1024;") as daemon:
            client = daemon.connect_small()
            harness.assert_same(receive_exactly(client, len(GREETING)), GREETING)
            self.check(client, receive_all(client))

    def test_stop_before_the_line(self):
        with daemons.Daemon(listener("whoami", greeting=GREETING), LOG + "unsent_limit = 1024;") as daemon:
            client = daemon.connect_small()
            receive_exactly(client, 1000)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_log("notice: stopping ")
            harness.assert_same(receive_exactly(client, len(GREETING) - 1000), GREETING[1000:])
            self.check(client, receive_all(client))
            client.close()
            self.assertEqual(daemon.wait(), 0)
            self.assertEqual(daemon.wait_closed()[0]["reason"], "drained")

    def test_probes(self):
        """Who leaves before the line, or takes it."""
        with daemons.Daemon(listener("whoami"), DEBUG) as daemon:
            for count, leave in enumerate((socket.socket.close, harness.reset)):
                with harness.Frozen(daemon.pid):
                    leave(daemon.connect())
                self.assertEqual(daemon.wait_closed(count + 1)[-1]["level"], "debug")
            self.ask(daemon.connect())
            self.assertEqual(daemon.wait_closed(3)[-1]["level"], "info")

    def test_trace(self):
        with daemons.Daemon(listener("whoami", trace=True), LOG) as daemon:
            line = receive_all(daemon.connect())
            daemon.wait_log(rf'connection 1 from \S+ was sent {len(line)} bytes: "\{{\\"id\\": 1, ')


class Restarted(TestCase):
    def restart(self, daemon):
        ready = len(daemon.notify.values("READY"))
        daemon.send_signal(signal.SIGUSR2)
        daemon.wait_ready(ready + 1)

    def test_before_the_line(self):
        """It is of the same connection, and of its beginning."""
        with daemons.Daemon(listener("whoami", greeting=GREETING), LOG + "unsent_limit = 1024;") as daemon:
            client = daemon.connect_small()
            receive_exactly(client, 1000)
            time.sleep(1)
            before = time.time()
            self.restart(daemon)
            daemon.connect().close()
            harness.assert_same(receive_exactly(client, len(GREETING) - 1000), GREETING[1000:])
            said = self.check(client, receive_all(client))
            self.assertEqual(said["id"], 1)
            accepted = datetime.datetime.fromisoformat(said["accepted"].replace("Z", "+00:00"))
            self.assertLess(accepted.timestamp(), before - 0.9)

    def test_within_the_line(self):
        """What one process has made, the next one sends."""
        for place_ in ({}, {"path": "DIR/socket"}):
            with self.subTest(**place_), \
                    daemons.Daemon(listener("whoami", **place_), LOG, faults="") as daemon:
                daemon.faults.arm("send@worker:short=20:1,send@worker:EAGAIN:2-")
                client = daemon.connect_path() if place_ else daemon.connect()
                first = receive_exactly(client, 20)
                self.assertTrue(harness.is_silent(client))
                daemon.send_signal(signal.SIGUSR2)
                daemon.wait_log("of the process before go on")
                daemon.faults.disarm()
                said = self.check(client, first + receive_all(client))
                self.assertEqual(said["id"], 1)
                client.close()
                self.assertEqual(daemon.wait_closed()[0]["reason"], "served")


# ---- by a proxy ----


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def header(kind, addresses, *extensions, command=0x21):
    """Of version 2."""
    rest = addresses + b"".join(extensions)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", command, kind, len(rest)) + rest


IPV4 = bytes((203, 0, 113, 7, 198, 51, 100, 1)) + struct.pack(">HH", 4000, 443)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + IPV4[8:]
PATHS = b"/run/client".ljust(108, b"\0") + b"\0server".ljust(108, b"\0")
PROXIED = ", ".join((listener("whoami", proxy_protocol=True), listener("whoami", path="DIR/socket", proxy_protocol=True)))

# What a proxy sends, and what is said of the client, or None for the proxy itself, and of the proxy.
HEADERS = (
    (b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n", {"address": "203.0.113.7", "port": 4000},
     {"version": 1, "command": "proxy", "destination": {"address": "198.51.100.1", "port": 443}}),
    (header(0x21, IPV6), {"address": "2001:db8::7", "port": 4000},
     {"version": 2, "command": "proxy", "destination": {"address": "2001:db8::1", "port": 443}}),
    (header(0x31, PATHS), {"path": "/run/client"},
     {"version": 2, "command": "proxy", "destination": {"abstract": "server"}}),
    (header(0x31, bytes(216)), {}, {"version": 2, "command": "proxy", "destination": {}}),
    (header(0, b"", command=0x20), None, {"version": 2, "command": "local"}),
    (b"PROXY UNKNOWN\r\n", None, {"version": 1, "command": "unknown"}),
    (header(0, b"", tlv(2, b"example.com")), None, {"version": 2, "command": "unknown", "authority": "example.com"}),
    (header(0x11, IPV4, tlv(1, b"h2"), tlv(2, b"example.com"), tlv(4, b"ignored"), tlv(5, b"\0\1\xff"),
            tlv(0x20, b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, "J\u00f6rg".encode()))),
     {"address": "203.0.113.7", "port": 4000},
     {"version": 2, "command": "proxy", "destination": {"address": "198.51.100.1", "port": 443}, "alpn": "h2",
      "authority": "example.com", "unique_id_hex": "0001ff",
      "tls": {"version": "TLSv1.3", "name": "J\u00f6rg", "certificate": True, "verified": True}}),
    # Any bytes, in any length: they are shown as text, cut, and the line stays one.
    (header(0x11, IPV4, tlv(1, bytes(range(128))), tlv(2, b"\x1b]0;owned\a\"}\n\xff" + 65000 * b"x"), tlv(5, b'"}')),
     {"address": "203.0.113.7", "port": 4000},
     {"version": 2, "command": "proxy", "destination": {"address": "198.51.100.1", "port": 443},
      "alpn": bytes(range(128)).decode(), "authority": "\x1b]0;owned\a\"}\n\ufffd" + 241 * "x",
      "authority_bytes": 65014, "unique_id": '"}'}),
)


class Proxied(TestCase):
    def check_proxied(self, client, line, wanted, proxy):
        said = parse(line)
        itself = {**place(client.getsockname()), **self.credentials(client)}
        self.assertEqual(said["client"], itself if wanted is None else wanted)
        self.assertEqual(said["proxy"], {**itself, **proxy})
        self.assertEqual(said["server"], place(client.getpeername()))
        self.assertEqual("tcp" in said, client.family != socket.AF_UNIX)

    def test_every_header(self):
        with daemons.Daemon(PROXIED) as daemon:
            for sent, wanted, proxy in HEADERS:
                for connect in (daemon.connect, daemon.connect_path):
                    with self.subTest(header=sent[:50], how=connect.__name__), connect() as client:
                        client.sendall(sent + b"and data")
                        self.check_proxied(client, receive_all(client), wanted, proxy)

    def test_over_a_restart(self):
        """The header is handed over with the connection that has yet to show it."""
        with daemons.Daemon(listener("whoami", greeting=GREETING, proxy_protocol=True),
                            LOG + "unsent_limit = 1024;") as daemon:
            clients = [daemon.connect_small() for _ in HEADERS]
            for client, (sent, *_) in zip(clients, HEADERS):
                client.sendall(sent)
                receive_exactly(client, 1000)
            for _ in range(2):
                ready = len(daemon.notify.values("READY"))
                daemon.send_signal(signal.SIGUSR2)
                daemon.wait_ready(ready + 1)
            for client, (_, wanted, proxy) in zip(clients, HEADERS):
                harness.assert_same(receive_exactly(client, len(GREETING) - 1000), GREETING[1000:])
                self.check_proxied(client, receive_all(client), wanted, proxy)

    def test_header_where_none_is_due(self):
        """It is data, which is thrown away."""
        with daemons.Daemon(PLACES) as daemon, daemon.connect() as client:
            client.sendall(HEADERS[0][0])
            self.assertNotIn("proxy", self.check(client, receive_all(client)))


# ---- of a listener that misbehaves ----


class Misbehaving(TestCase):
    def test_whole(self):
        """The line as it is, when or however it comes."""
        for faults in ({"delay": 0.3}, {"delay": 0.3, "jitter": 0.2}, {"accept_delay": 0.3}, {"slice": 5},
                       {"slice": 50, "slice_delay": 0.02}, {"rate": 2000}, {"deaf": True}, {"limit": 1000},
                       {"after": 600.0}, {"corrupt": 1.0, "toxicity": 0.0}):
            with self.subTest(**faults), daemons.Daemon(listener("whoami", **faults), LOG + "unsent_limit = 1024;") as daemon:
                start = time.monotonic()
                client = daemon.connect()
                line = receive_all(client)
                self.check(client, line)
                least = faults.get("delay", faults.get("accept_delay", 0)) - faults.get("jitter", 0)
                self.assertGreaterEqual(time.monotonic() - start, least)

    def test_spoilt(self):
        for faults, is_so in (({"corrupt": 1.0}, lambda line: b"{" not in line[:1] and len(line) > 200),
                              ({"limit": 20}, lambda line: line.startswith(b'{"id": 1, "client": ') and len(line) == 20),
                              ({"repeat": 1.0, "slice": 9}, lambda line: line.startswith(b'{"id": 1,{"id": 1,')),
                              ({"lose": 1.0}, lambda line: line == b"")):
            with self.subTest(**faults), daemons.Daemon(listener("whoami", **faults), LOG + "unsent_limit = 1024;") as daemon:
                line = receive_all(daemon.connect())
                self.assertTrue(is_so(line), line)

    def test_silent(self):
        with daemons.Daemon(listener("whoami", silent=True)) as daemon:
            self.assertTrue(harness.is_silent(daemon.connect()))

    def test_stop_while_it_is_delayed(self):
        """A stop cuts the delay short."""
        with daemons.Daemon(listener("whoami", delay=600.0), LOG) as daemon:
            client = daemon.connect()
            self.assertTrue(harness.is_silent(client))
            daemon.send_signal(signal.SIGTERM)
            self.check(client, receive_all(client))
            client.close()
            self.assertEqual(daemon.wait(), 0)

    def test_restart_while_it_is_delayed(self):
        """The line is of the moment in which it was made."""
        with daemons.Daemon(listener("whoami", delay=1.5), LOG) as daemon:
            client = daemon.connect()
            daemon.send_signal(signal.SIGUSR2)
            daemon.wait_log("of the process before go on")
            self.assertEqual(self.check(client, receive_all(client))["id"], 1)


if __name__ == "__main__":
    harness.main(jobs=4)
