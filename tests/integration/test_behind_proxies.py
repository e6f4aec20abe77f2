#!/usr/bin/env python3
"""The daemon behind HAProxy, nginx's stream module and stunnel, in a network of the test's own: the client in the log is
the real one, and what admits and limits clients looks at it."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import unittest

import daemons
import harness
from daemons import DEBUG, LOG, listener
from harness import is_refused, ping

# Of clients; the proxy has the others of the loopback network.
HERE, THERE, HERE6, THERE6 = "127.0.0.7", "127.0.1.7", "2001:db8::7", "2001:db8:1::7"
FRONT, TLS_FRONT = 8007, 8443

NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"

HAPROXY = """
global
    stats socket DIR/haproxy.ctl
    log stdout format raw local0
defaults
    mode tcp
    log global
    log-format "%ci:%cp %ID"
    unique-id-format %ci:%cp_%Ts_%rt
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 10s
listen front
    bind 127.0.0.1:{front}
    bind ::1:{front} v6only
    bind DIR/front
    {tls}
    server one {server} {options}
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid DIR/nginx.pid;
error_log stderr;
events {{ }}
stream {{
    server {{
        listen 127.0.0.1:{front};
        listen [::1]:{front};
        listen unix:DIR/front;
        proxy_pass {server};
        proxy_protocol on;
    }}
}}
"""

STUNNEL = """
foreground = yes
pid =
syslog = no
[v4]
accept = 127.0.0.1:{front}
connect = {server}
cert = DIR/cert
protocol = proxy
[v6]
accept = ::1:{front}
connect = {server}
cert = DIR/cert
protocol = proxy
"""


def behind_proxy(**options):
    """Nobody but the proxy may connect, and everything must come from it."""
    return ", ".join((listener(proxy_protocol=True, proxy_from=["127.0.0.1/32"], **options),
                      listener(path="DIR/socket", proxy_protocol=True, **options)))


@contextlib.contextmanager
def network():
    with harness.network_namespace():
        harness.needs_ipv6()
        for address in (HERE6, THERE6):
            subprocess.run([harness.needs("ip"), "address", "add", address, "dev", "lo", "nodad"], check=True)
        yield


def make_certificate(daemon):
    """The key as well, in one file."""
    subprocess.run([harness.needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "1", "-subj", "/CN=front.example", "-keyout", daemon.path("cert"), "-out", daemon.path("public")],
                   check=True, capture_output=True)
    with open(daemon.path("public"), encoding="ascii") as public, open(daemon.path("cert"), "a", encoding="ascii") as cert:
        cert.write(public.read())


def listens():
    """At both addresses."""
    return daemons.sockets("-Hltn").count(f":{FRONT} ") >= 2


def ask_haproxy(daemon, question):
    """None: it does not answer yet."""
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        with harness.connect_path(daemon.path("haproxy.ctl")) as control:
            control.sendall(f"{question}\n".encode())
            return harness.receive_all(control).decode()
    return None


@contextlib.contextmanager
def running(daemon, command, config, is_ready):
    """A proxy with this configuration, whose file's name ends the command, from when it is ready to the end."""
    path = daemon.path("proxy.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(daemon.fill_in(config))
    with open(daemon.path("proxy.log"), "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command, path], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, cwd=daemon.directory)
        try:
            harness.wait_until(lambda: process.poll() is not None or is_ready(), "the proxy")
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(f"{command[0]} ended with {process.returncode}:\n{log.read()}")
            yield process
        finally:
            process.kill()
            process.wait()


def haproxy(daemon, options, server=None, tls=False):
    certificate = ""
    if tls:
        make_certificate(daemon)
        certificate = f"bind 127.0.0.1:{TLS_FRONT} ssl crt DIR/cert alpn h2,http/1.1"
    return running(daemon, [harness.needs("haproxy"), "-db", "-f"],
                   HAPROXY.format(front=FRONT, options=options, server=server or f"127.0.0.1:{daemon.port}", tls=certificate),
                   lambda: ask_haproxy(daemon, "show info"))


def nginx(daemon, server=None):
    program = harness.needs("nginx")
    if not os.path.exists(NGINX_STREAM):
        raise unittest.SkipTest("libnginx-mod-stream is not installed")
    return running(daemon, [program, "-p", daemon.directory, "-e", "stderr", "-c"],
                   NGINX.format(module=NGINX_STREAM, front=FRONT, server=server or f"127.0.0.1:{daemon.port}"), listens)


def stunnel(daemon):
    program = harness.needs("stunnel")
    make_certificate(daemon)
    return running(daemon, [program], STUNNEL.format(front=FRONT, server=f"127.0.0.1:{daemon.port}"), listens)


def connect(daemon, source=HERE, port=FRONT):
    client = socket.create_connection(("::1" if ":" in source else "127.0.0.1", port), harness.patience(), (source, 0))
    daemon.clients.append(client)
    return client


def connect_tls(daemon, source=HERE, port=FRONT, name="front.example"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    client = context.wrap_socket(connect(daemon, source, port), server_hostname=name)
    daemon.clients.append(client)
    return client


def name_of(client):
    address, port = client.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Named(daemons.TestCase):
    """As the log has them."""

    def assert_named(self, daemon, client, via=r"127\.0\.0\.1:\d+"):
        ping(client, b"hello")
        name = name_of(client)
        client.close()
        line = daemon.wait_log(rf"connection \d+ from {re.escape(name)} via (\S+) closed: (\w+), .* (\d+) bytes in, (\d+) out")
        self.assertRegex(line.group(1), via)
        self.assertEqual((line.group(2), line.group(3), line.group(4)), ("client_closed", "5", "5"))

    def assert_itself(self, daemon, client, peer=r"127\.0\.0\.1:\d+"):
        """A client without an address: the proxy is all that is known."""
        before = daemon.count_log(rf"connection \d+ from {peer} closed: client_closed, .* 5 bytes in")
        ping(client, b"hello")
        client.close()
        daemon.wait_log(rf"connection \d+ from {peer} closed: client_closed, .* 5 bytes in", before + 1)

    def assert_all_named(self, daemon, via=r"127\.0\.0\.1:\d+"):
        for source in (HERE, THERE, HERE6, THERE6):
            self.assert_named(daemon, connect(daemon, source), via)

    def test_haproxy(self):
        for options in ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,authority,ssl,crc32c"):
            with self.subTest(options=options), network(), daemons.Daemon(behind_proxy(), LOG) as daemon:
                with haproxy(daemon, options):
                    self.assert_all_named(daemon)
                    self.assert_itself(daemon, daemon.connect_path("front"))
                self.assertEqual(daemon.count_log("refused on"), 0, daemon.log())

    def test_haproxy_to_a_path(self):
        for options in ("send-proxy", "send-proxy-v2"):
            with self.subTest(options=options), network(), daemons.Daemon(behind_proxy(), LOG) as daemon:
                with haproxy(daemon, options, server=f"unix@{daemon.path('socket')}"):
                    self.assert_all_named(daemon, "unix")
                    self.assert_itself(daemon, daemon.connect_path("front"), "unix")

    def test_haproxy_of_tls(self):
        """With all that it can say of it, and a checksum over that."""
        options = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"
        with network(), daemons.Daemon(behind_proxy(), LOG) as daemon, haproxy(daemon, options, tls=True):
            for name in ("front.example", 60 * "a." + "example"):
                self.assert_named(daemon, connect_tls(daemon, port=TLS_FRONT, name=name))

    def test_nginx(self):
        with network(), daemons.Daemon(behind_proxy(), LOG) as daemon, nginx(daemon):
            self.assert_all_named(daemon)
            self.assert_itself(daemon, daemon.connect_path("front"))

    def test_nginx_to_a_path(self):
        with network(), daemons.Daemon(behind_proxy(), LOG) as daemon, nginx(daemon, f"unix:{daemon.path('socket')}"):
            self.assert_all_named(daemon, "unix")

    def test_stunnel(self):
        with network(), daemons.Daemon(behind_proxy(), LOG) as daemon, stunnel(daemon):
            for source in (HERE, THERE, HERE6):
                self.assert_named(daemon, connect_tls(daemon, source))


class Shown(daemons.TestCase):
    """As whoami has them."""

    TLVS = "send-proxy-v2 proxy-v2-options unique-id,authority,ssl,cert-cn,crc32c"

    def read(self, daemon, name):
        with open(daemon.path(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def whoami(self, client):
        with client:
            return json.loads(harness.receive_all(client))

    def assert_shown(self, said, client, command="proxy"):
        """By the client's own account."""
        self.assertEqual((said["client"]["address"], said["client"]["port"]), client)
        self.assertEqual((said["proxy"]["address"], said["proxy"]["command"]), ("127.0.0.1", command))

    def test_each(self):
        for name, proxy in (("send-proxy", lambda daemon: haproxy(daemon, "send-proxy")),
                            ("TLVs", lambda daemon: haproxy(daemon, self.TLVS)), ("nginx", nginx)):
            with self.subTest(proxy=name), network(), daemons.Daemon(behind_proxy(service="whoami"), LOG) as daemon:
                with proxy(daemon):
                    for source in (HERE, THERE, HERE6, THERE6):
                        client = connect(daemon, source)
                        me = client.getsockname()[:2]
                        self.assert_shown(self.whoami(client), me)

    def test_stunnel(self):
        with network(), daemons.Daemon(behind_proxy(service="whoami"), LOG) as daemon, stunnel(daemon):
            for source in (HERE, HERE6):
                client = connect_tls(daemon, source)
                me = client.getsockname()[:2]
                self.assert_shown(self.whoami(client), me)

    def test_what_haproxy_says(self):
        """Of TLS and of itself, in the same words as in its log."""
        with network(), daemons.Daemon(behind_proxy(service="whoami"), LOG) as daemon, haproxy(daemon, self.TLVS, tls=True):
            client = connect_tls(daemon, port=TLS_FRONT)
            me = client.getsockname()
            said = self.whoami(client)
            self.assert_shown(said, me)
            proxy = said["proxy"]
            self.assertEqual((proxy["version"], proxy["authority"], proxy["checksum"]), (2, "front.example", True))
            self.assertEqual((proxy["alpn"], proxy["tls"]["version"]), ("http/1.1", "TLSv1.3"))
            self.assertEqual((proxy["destination"]["address"], proxy["destination"]["port"]), ("127.0.0.1", TLS_FRONT))
            told = f"{me[0]}:{me[1]} {proxy['unique_id']}\n"
            harness.wait_until(lambda: told in self.read(daemon, "proxy.log"), f"{told} in HAProxy's log")

    def test_health_check(self):
        """The proxy asks for itself."""
        checks = "send-proxy-v2 check inter 50ms check-send-proxy"
        with network(), daemons.Daemon(behind_proxy(service="whoami", trace=True), DEBUG) as daemon, haproxy(daemon, checks):
            said = daemon.wait_log(r'was sent \d+ bytes: "(.*)"$').group(1)
            self.assertRegex(said, r"client\W+address\W+127\.0\.0\.1\W")


class Admitted(daemons.TestCase):
    """By their own addresses, not by the proxy's."""

    # Each with how clients connect to it.
    PROXIES = {"send-proxy": (lambda daemon: haproxy(daemon, "send-proxy"), connect),
               "send-proxy-v2": (lambda daemon: haproxy(daemon, "send-proxy-v2"), connect),
               "nginx": (nginx, connect), "stunnel": (stunnel, connect_tls)}

    def behind_each(self, check, **options):
        for name, (proxy, enter) in self.PROXIES.items():
            with self.subTest(proxy=name), network(), daemons.Daemon(behind_proxy(**options), LOG) as daemon, proxy(daemon):
                check(daemon, enter)

    def assert_refused(self, daemon, client, reason):
        self.assertTrue(is_refused(client))
        daemon.wait_log(rf"notice: client {re.escape(name_of(client))} via 127\.0\.0\.1:\d+ refused on \S+: {reason}$")

    def check_lists(self, daemon, enter):
        for source, is_welcome in ((HERE, True), (THERE, False), (HERE6, True), (THERE6, False)):
            client = enter(daemon, source)
            if is_welcome:
                ping(client)
            else:
                self.assert_refused(daemon, client, "denied")

    def test_allow_and_deny(self):
        self.behind_each(self.check_lists, allow=["127.0.0.0/16", "2001:db8::/48"], deny=["127.0.1.0/24"])

    def check_limit(self, daemon, enter):
        for source in (HERE, THERE, HERE6):
            first, second = enter(daemon, source), enter(daemon, source)
            ping(first)
            ping(second)
            self.assert_refused(daemon, enter(daemon, source), "per_source")
            name = name_of(first)
            first.close()
            daemon.wait_log(rf"from {re.escape(name)} via \S+ closed: ")
            ping(enter(daemon, source))
            ping(second)

    def test_limit_of_a_source(self):
        self.behind_each(self.check_limit, max_connections_per_source=2)

    def test_nobody_past_the_proxy(self):
        with network(), daemons.Daemon(behind_proxy(), LOG) as daemon, haproxy(daemon, "send-proxy-v2"):
            stranger = daemon.connect(source=HERE)
            self.assertTrue(is_refused(stranger))
            daemon.wait_log(rf"client {re.escape(name_of(stranger))} refused on \S+: denied$")


class Checked(daemons.TestCase):
    """HAProxy's checks are probes."""

    def state(self, daemon):
        """What HAProxy makes of them."""
        rows = [line.split(",") for line in ask_haproxy(daemon, "show stat").splitlines()]
        return next(row[17] for row in rows if row[:2] == ["front", "one"])

    def test_checks(self):
        checks = "check inter 50ms fall 1 rise 2"
        for options in (f"send-proxy-v2 {checks}", f"send-proxy-v2 {checks} check-send-proxy", f"send-proxy {checks}"):
            # With version 1 they are HAProxy's as a client, which may not be kept out; with LOCAL no list does.
            listed = {"allow": ["127.0.0.1"]} if "send-proxy-v2" not in options else {"deny": ["127.0.0.1"]}
            with self.subTest(options=options), network(), daemons.Daemon(behind_proxy(**listed), DEBUG) as daemon:
                with haproxy(daemon, options):
                    harness.wait_until(lambda: len(daemon.closed()) >= 5, lambda: f"checks in the log:\n{daemon.log()}")
                    self.assertEqual(self.state(daemon), "UP")
                    self.assertEqual(daemon.count_log("refused on"), 0, daemon.log())
                levels = {(closed["level"], closed["client"].partition(":")[0]) for closed in daemon.closed()[:5]}
                self.assertEqual(levels, {("debug", "127.0.0.1")}, daemon.log())
                self.assertEqual(daemon.count_log("bad_proxy_header"), 0, daemon.log())


if __name__ == "__main__":
    harness.main()
