"""Full, in every way that the daemon can be, under both overload policies: who waits or is refused, why, where it is
told, that nothing spins meanwhile, and that service resumes by itself."""

import contextlib
import re
import resource
import select
import socket
import subprocess
import time

import daemons
import harness
from daemons import DEBUG, ECHO, config_text, listener
from harness import is_refused, is_silent, ping

POLICIES = ("wait", "refuse")


def ping_all(clients):
    for client in clients:
        ping(client)


class Overload(daemons.TestCase):
    def assert_counted(self, daemon, name, count):
        """`name` is "refused (denied" or "waits (queue_full": in SIGUSR1's line, and in STATUS as soon as it comes."""
        found = r"\d+" if count is None else str(count)
        pattern = re.escape(name.split("(")[0]) + r"\([^)]*\b" + re.escape(name.split("(")[1]) + " " + found + r"\b"
        self.assertRegex(daemon.counters()[0], pattern)
        daemon.notify.wait("STATUS", pattern)

    def assert_quiet(self, daemon):
        """The daemon does not spin: far less than a tenth of a CPU."""
        if harness.sanitized():
            return
        before, start = daemon.cpu_seconds(), time.monotonic()
        time.sleep(0.5)
        share = (daemon.cpu_seconds() - before) / (time.monotonic() - start)
        self.assertLess(share, 0.1, "CPU time while nothing can be done")

    def assert_waits_are_told_once_a_second(self, daemon, start):
        self.assertLessEqual(daemon.count_log("no room for new clients"), 1 + time.monotonic() - start)

    def assert_waiting_is_logged(self, daemon, reason):
        daemon.wait_log(rf"notice: no room for new clients: {reason} \(\d+ connections?, \d+ of them queued\)")

    def assert_refusal_is_logged(self, daemon, reason, count=1, client=r"127\.0\.0\.1:\d+"):
        daemon.wait_log(rf"notice: client {client} refused on .*: {reason}$", count)


@contextlib.contextmanager
def held_worker(daemon):
    """Keeps the only worker from its queue: it sleeps ahead of its next epoll_wait."""
    with daemon.connect() as prod:
        ping(prod)
        daemon.faults.arm("epoll_wait@worker:sleep=600000")
        prod.sendall(b"prod")  # answered or not: the worker may be on its way to the next wait
        daemon.faults.wait_hits()
        yield
        daemon.faults.disarm()


class QueueFull(Overload):
    """The queue is full when its worker is held up, and holds as many as queue_depth."""

    SETTINGS = f'workers = 1; queue_depth = 1; {DEBUG}'

    def test_wait(self):
        with daemons.Daemon(settings=self.SETTINGS, faults="") as daemon:
            with held_worker(daemon):
                clients = daemon.connect_many(5)
                for number, client in enumerate(clients):
                    client.sendall(b"client %d" % number)
                self.assert_waiting_is_logged(daemon, "queue_full")
                self.assertTrue(is_silent(clients[4]))
                self.assert_counted(daemon, "waits (queue_full", None)
                daemon.notify.wait("STATUS", r"\b1 queued\b")
                self.assert_quiet(daemon)
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_exactly(client, 8), b"client %d" % number)
            self.assertEqual(daemon.count_log(" refused on "), 0)

    def test_refuse(self):
        with daemons.Daemon(settings=self.SETTINGS + 'overload = "refuse";', faults="") as daemon:
            with held_worker(daemon):
                queued, *others = daemon.connect_many(5)
                for client in others:
                    self.assertTrue(is_refused(client))
                self.assert_refusal_is_logged(daemon, "queue_full", 4)
                self.assert_counted(daemon, "refused (queue_full", 4)
                self.assertTrue(is_silent(queued))
                self.assert_quiet(daemon)
            ping(queued)
            self.assertEqual(daemon.exchange(b"again"), b"again")

    def test_a_burst_through_a_queue_of_one(self):
        """Under `wait` nobody is lost, whatever the timing."""
        count = harness.scale(1000, 200)
        harness.raise_nofile(count + 200)
        with daemons.Daemon(settings='workers = 2; queue_depth = 1; log = { level = "notice"; };') as daemon:
            clients = []
            for _ in range(count):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", daemon.port))
                clients.append(client)
                daemon.clients.append(client)
            for number, client in enumerate(clients):
                client.settimeout(harness.patience())
                select.select([], [client], [], harness.patience())
                client.sendall(b"%8d" % number)
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_exactly(client, 8), b"%8d" % number)


class MaxConnections(Overload):
    def test_wait(self):
        with daemons.Daemon(settings=f"max_connections = 2; {DEBUG}") as daemon:
            clients = daemon.connect_many(5)
            for client in clients:
                client.sendall(b"x")
            for client in clients[:2]:
                self.assertEqual(client.recv(1), b"x")
            self.assert_waiting_is_logged(daemon, "max_connections")
            self.assertTrue(is_silent(clients[2]))
            self.assert_counted(daemon, "waits (max_connections", None)
            self.assert_quiet(daemon)
            # One leaves, one comes in; each time.
            for leaves, comes in zip(clients, clients[2:]):
                leaves.close()
                self.assertEqual(comes.recv(1), b"x")
            self.assertEqual(daemon.count_log(" refused on "), 0)

    def test_refuse(self):
        with daemons.Daemon(settings=f'max_connections = 2; overload = "refuse"; {DEBUG}') as daemon:
            clients = daemon.connect_many(2)
            ping_all(clients)
            for _ in range(3):
                self.assertTrue(is_refused(daemon.connect()))
            self.assert_refusal_is_logged(daemon, "max_connections", 3)
            self.assert_counted(daemon, "refused (max_connections", 3)
            self.assert_quiet(daemon)
            clients[0].close()
            daemon.wait_log("connection 1 .*closed: client_closed")
            ping(daemon.connect())

    def test_the_log_tells_a_stretch_once(self):
        """A thousand arrivals at a full daemon are one message, not a thousand."""
        with daemons.Daemon(settings=f"max_connections = 1; {DEBUG}") as daemon:
            start = time.monotonic()
            clients = daemon.connect_many(40)
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                self.assertEqual(client.recv(1), b"x")
                client.close()
            self.assert_waits_are_told_once_a_second(daemon, start)

    def test_a_reload_makes_room(self):
        with daemons.Daemon(settings=f"max_connections = 1; {DEBUG}") as daemon:
            clients = daemon.connect_many(3)
            for client in clients:
                client.sendall(b"x")
            self.assertEqual(clients[0].recv(1), b"x")
            self.assertTrue(is_silent(clients[1]))
            self.reload(daemon, config_text(settings=f"max_connections = 2; {DEBUG}"))
            self.assertEqual(clients[1].recv(1), b"x")
            self.assertTrue(is_silent(clients[2]))
            # Who waits when the policy changes is refused.
            self.reload(daemon, config_text(settings=f'max_connections = 2; overload = "refuse"; {DEBUG}'))
            self.assertTrue(is_refused(clients[2]))
            self.assert_refusal_is_logged(daemon, "max_connections")


    def calls_per_client(self, count):
        """How often the main thread changes what it polls for each client that comes in when another leaves, with
        `count` listeners."""
        others = f"{listener(port=0)}, " * (count - 1)
        clients_count = 100
        with daemons.Daemon(others + ECHO, f"max_connections = 1; {DEBUG}", faults="") as daemon:
            clients = daemon.connect_many(clients_count + 1)
            for client in clients:
                client.sendall(b"x")
            self.assertEqual(clients[0].recv(1), b"x")
            self.assert_waiting_is_logged(daemon, "max_connections")
            daemon.faults.arm("epoll_ctl@main:count")
            for leaves, comes in zip(clients, clients[1:]):
                leaves.close()
                self.assertEqual(comes.recv(1), b"x")
            return daemon.faults.hits() / clients_count

    def test_a_vacancy_costs_no_more_with_many_listeners(self):
        few, many = self.calls_per_client(1), self.calls_per_client(300)
        self.assertLessEqual(few, 2)
        self.assertLessEqual(many, 2)


class Refused(Overload):
    """Who is refused under both policies: no policy lets others wait for one greedy source, or for who is not welcome."""

    def test_per_source(self):
        for policy in POLICIES:
            with self.subTest(policy), \
                    daemons.Daemon(settings=f'max_connections_per_source = 2; overload = "{policy}"; {DEBUG}') as daemon:
                clients = daemon.connect_many(2)
                ping_all(clients)
                for _ in range(2):
                    self.assertTrue(is_refused(daemon.connect()))
                self.assert_refusal_is_logged(daemon, "per_source", 2)
                self.assert_counted(daemon, "refused (per_source", 2)
                self.assert_quiet(daemon)
                ping(daemon.connect(source="127.0.0.2"))
                clients[0].close()
                daemon.wait_log("connection 1 .*closed: client_closed")
                ping(daemon.connect())  # the same source, when it has closed one
                self.assertTrue(is_refused(daemon.connect()))

    def test_denied(self):
        for policy in POLICIES:
            with self.subTest(policy), \
                    daemons.Daemon(settings=f'deny = [ "127.0.0.2" ]; overload = "{policy}"; {DEBUG}') as daemon:
                self.assertTrue(is_refused(daemon.connect(source="127.0.0.2")))
                ping(daemon.connect(source="127.0.0.3"))
                self.assert_refusal_is_logged(daemon, "denied", client=r"127\.0\.0\.2:\d+")
                self.assert_counted(daemon, "refused (denied", 1)
                self.assert_quiet(daemon)

    def check(self, listeners, settings, arrivals):
        """Each comes from an address to the listener of this number, and is answered or refused for this reason."""
        with daemons.Daemon(listeners, settings + DEBUG) as daemon:
            for source, index, reason in arrivals:
                with self.subTest(settings, source=source, index=index):
                    server = source if source == "::1" else "::1" if source.startswith("fd00:") else "127.0.0.1"
                    client = daemon.connect(index, server, source=source)
                    if not reason:
                        ping(client)
                        continue
                    self.assertTrue(is_refused(client))
                    host, port = client.getsockname()[:2]
                    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                    self.assert_refusal_is_logged(daemon, reason, client=re.escape(name))

    def test_who_is_meant(self):
        one, other = "127.0.0.1", "127.0.0.2"
        for listeners, settings, arrivals in (
                # All listeners count together,
                (f"{ECHO}, {listener(port='PORT1')}", "max_connections_per_source = 2; ",
                 [(one, 0, ""), (one, 1, ""), (one, 0, "per_source"), (one, 1, "per_source")]),
                # and one with a limit of its own counts for itself; 0 is none.
                (f"{ECHO}, {listener(port='PORT1', max_connections_per_source=1)}", "max_connections_per_source = 2; ",
                 [(one, 1, ""), (one, 1, "per_source"), (one, 0, ""), (one, 0, ""), (one, 0, "per_source")]),
                (f"{ECHO}, {listener(port='PORT1', max_connections_per_source=0)}", "max_connections_per_source = 1; ",
                 [(one, 1, "")] * 5 + [(one, 0, ""), (one, 0, "per_source")]),
                (ECHO, "max_connections_per_source = 1; source_prefix_v4 = 24; ",
                 [(one, 0, ""), ("127.0.0.200", 0, "per_source"), ("127.0.1.1", 0, "")]),
                # deny wins over allow, and a listener's lists over both.
                (ECHO, 'allow = [ "127.0.0.0/30", "127.0.0.64" ]; deny = [ "127.0.0.2/31" ]; ',
                 [(one, 0, ""), (other, 0, "denied"), ("127.0.0.3", 0, "denied"), ("127.0.0.4", 0, "denied"),
                  ("127.0.0.64", 0, ""), ("127.0.0.65", 0, "denied")]),
                (f"{ECHO}, {listener(port='PORT1', allow=[other], deny=[])}",
                 f'allow = [ "{one}" ]; deny = [ "{other}" ]; ',
                 [(one, 0, ""), (other, 0, "denied"), (one, 1, "denied"), (other, 1, "")]),
                # Clients of "*" come as ::ffff:127.0.0.2, and are 127.0.0.2 to every rule and in the log.
                (listener(address="*"), f'deny = [ "{other}" ]; max_connections_per_source = 1; ',
                 [(other, 0, "denied"), ("127.0.0.3", 0, ""), ("127.0.0.3", 0, "per_source"), ("127.0.0.4", 0, "")]),
                # Who is not welcome does not take the place of somebody who waits, and is told apart in the log.
                (ECHO, f'deny = [ "{other}" ]; max_connections = 1; overload = "refuse"; ',
                 [(one, 0, ""), (other, 0, "denied"), (one, 0, "max_connections")])):
            self.check(listeners, settings, arrivals)

    def test_ipv6(self):
        harness.needs_ipv6()
        # IPv4 is no part of ::/0.
        self.check(f'{listener(address="*", deny=["::1"])}, {listener(address="*", port="PORT1", deny=["::/0"])}', "",
                   [("::1", 0, "denied"), ("::1", 1, "denied"), ("127.0.0.1", 0, ""), ("127.0.0.1", 1, "")])
        with harness.network_namespace():
            first, second, elsewhere = "fd00:0:0:1::1", "fd00:0:0:1::2", "fd00:0:0:2::1"
            for address in (first, second, elsewhere):
                subprocess.run([harness.needs("ip"), "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
            self.check(listener(address="::"), "max_connections_per_source = 1; ",
                       [(first, 0, ""), (second, 0, "per_source"), (elsewhere, 0, "")])

    def test_link_local_clients_are_sources_of_their_own(self):
        """The same addresses on two links: four hosts, of which none takes another's place."""
        harness.needs_ipv6()
        ip = harness.needs("ip")
        with harness.network_namespace():
            for link, server in (("link1", "fe80::1:1"), ("link2", "fe80::2:1")):
                subprocess.run([ip, "link", "add", link, "type", "veth", "peer", f"{link}-peer"], check=True)
                for end in (link, f"{link}-peer"):
                    subprocess.run([ip, "link", "set", end, "up"], check=True)
                for address in ("fe80::aaaa", "fe80::bbbb", server):
                    subprocess.run([ip, "address", "add", f"{address}/64", "dev", link, "nodad"], check=True)
            with daemons.Daemon(listener(address="::"), f"max_connections_per_source = 1; {DEBUG}") as daemon:
                for link, server in (("link1", "fe80::1:1"), ("link2", "fe80::2:1")):
                    for source in (f"fe80::aaaa%{link}", f"fe80::bbbb%{link}"):
                        ping(daemon.connect(0, f"{server}%{link}", source=source))
                        self.assertTrue(is_refused(daemon.connect(0, f"{server}%{link}", source=source)), source)
                        self.assert_refusal_is_logged(daemon, "per_source", client=rf"\[{source}\]:\d+")

    def test_a_limit_that_a_reload_sets_knows_who_is_there(self):
        with daemons.Daemon(settings=DEBUG) as daemon:
            clients = daemon.connect_many(3)
            ping_all(clients)
            self.reload(daemon, config_text(settings=f"max_connections_per_source = 2; {DEBUG}"))
            self.assertTrue(is_refused(daemon.connect()))
            ping_all(clients)  # who is there stays


class Descriptors(Overload):
    """Out of descriptors: the limit is lowered under the running daemon, whose own count of room cannot know."""

    @contextlib.contextmanager
    def none_left(self, daemon):
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        # Two more for the clients that are let in before it is full.
        full = daemon.descriptors() + 2
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (full, limits[1]))
        yield
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)

    def test_wait(self):
        with daemons.Daemon(settings=DEBUG) as daemon:
            start = time.monotonic()
            with self.none_left(daemon):
                clients = daemon.connect_many(5)
                for client in clients:
                    client.sendall(b"x")
                for client in clients[:2]:
                    self.assertEqual(client.recv(1), b"x")
                self.assert_waiting_is_logged(daemon, "descriptor_limit")
                self.assertTrue(is_silent(clients[2]))
                self.assert_counted(daemon, "waits (descriptor_limit", None)
                self.assert_quiet(daemon)
                clients[0].close()
                self.assertEqual(clients[2].recv(1), b"x")
                self.assertTrue(is_silent(clients[3]))
            for client in clients[3:]:
                self.assertEqual(client.recv(1), b"x", "resumes by itself")
            self.assert_waits_are_told_once_a_second(daemon, start)

    def test_refuse(self):
        with daemons.Daemon(settings=DEBUG + 'overload = "refuse";') as daemon:
            with self.none_left(daemon):
                clients = daemon.connect_many(2)
                ping_all(clients)
                for _ in range(3):
                    self.assertTrue(is_refused(daemon.connect()))
                self.assert_refusal_is_logged(daemon, "descriptor_limit", 3)
                self.assert_counted(daemon, "refused (descriptor_limit", 3)
                self.assert_quiet(daemon)
                clients[0].close()
                daemon.wait_log("connection 1 .*closed: client_closed")
                ping(daemon.connect())
            ping(daemon.connect())

    def test_refuse_without_the_spare_descriptor(self):
        """The whole system may be out of descriptors: nothing can be accepted, and nobody spins over it."""
        with daemons.Daemon(settings=DEBUG + 'overload = "refuse";', faults="") as daemon:
            daemon.faults.arm("accept4:ENFILE,open:ENFILE")
            client = daemon.connect()
            client.sendall(b"x")
            self.assert_waiting_is_logged(daemon, "descriptor_limit")
            self.assert_quiet(daemon)
            daemon.faults.disarm()
            self.assertEqual(client.recv(1), b"x")
            # The spare one is back, too.
            with self.none_left(daemon):
                daemon.connect_many(2)
                self.assertTrue(is_refused(daemon.connect()))

    def test_the_limit_at_start_is_what_it_holds(self):
        for policy in POLICIES:
            with self.subTest(policy=policy), daemons.Daemon(
                    settings=f'workers = 2; max_connections = 1000; overload = "{policy}"; {DEBUG}', nofile=60) as daemon:
                room = int(daemon.wait_log(r"ready: .*room for (\d+) connections").group(1))
                self.assertGreater(room, 0)
                self.assertLess(room, 60)
                daemon.wait_log(rf"warning: max_connections = 1000, but the descriptor limit leaves room for {room}\b")
                clients = daemon.connect_many(room + 1)
                for client in clients[:room]:
                    ping(client)
                if policy == "wait":
                    clients[room].sendall(b"x")
                    self.assert_waiting_is_logged(daemon, "descriptor_limit")
                    self.assertTrue(is_silent(clients[room]))
                    clients[0].close()
                    self.assertEqual(clients[room].recv(1), b"x")
                else:
                    self.assertTrue(is_refused(clients[room]))
                    self.assert_refusal_is_logged(daemon, "descriptor_limit")

    def test_as_many_clients_as_the_limit_allows(self):
        limit = harness.scale(20000, 2000)
        harness.raise_nofile(limit)
        # A queue for all: it is not the workers' turn that is limited here.
        settings = ('max_connections = 1000000; queue_depth = 65536; overload = "refuse"; '
                    'log = { level = "notice"; connections = false; };')
        with daemons.Daemon(settings=settings, nofile=limit) as daemon:
            room = int(daemon.wait_log(r"warning: max_connections = 1000000, but the descriptor limit leaves room for (\d+)")
                       .group(1))
            count = min(room, limit - 100)
            self.assertGreaterEqual(count, limit - 100)
            clients = []
            for number in range(count):
                # From several sources: one has not enough ports when those of other tests are in TIME_WAIT.
                clients.append(daemon.connect(source=f"127.0.{1 + number % 8}.1"))
            for number, client in enumerate(clients):
                client.sendall(b"%8d" % number)
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_exactly(client, 8), b"%8d" % number)
            daemon.notify.wait("STATUS", rf"^{count} connections")
            self.assert_quiet(daemon)


class Resumes(Overload):
    def test_after_all_reasons_at_once(self):
        """Clients of all kinds come and go at a daemon that is always full; whoever is welcome is served in the end."""
        settings = 'max_connections = 3; queue_depth = 1; deny = [ "127.0.0.9" ]; max_connections_per_source = 2;' + DEBUG
        with daemons.Daemon(settings=settings) as daemon:
            served = denied = 0
            for number in range(harness.scale(300, 100)):
                source = f"127.0.0.{1 + number % 9}"
                with daemon.connect(source=source) as client:
                    if source == "127.0.0.9":
                        self.assertTrue(is_refused(client))
                        denied += 1
                    else:
                        ping(client)
                        served += 1
            self.assertGreater(served, denied)
            daemon.notify.wait("STATUS",
                               rf"^0 connections, 0 queued, {served} accepted, {denied} refused \(denied {denied}\)")

    def test_a_unix_client_has_no_source(self):
        """Clients of a path have no address: no list and no limit by source keeps them out, other limits do."""
        settings = f'max_connections_per_source = 1; allow = [ "10.0.0.0/8" ]; max_connections = 3; overload = "refuse"; {DEBUG}'
        with daemons.Daemon(listener(path="DIR/echo"), settings) as daemon:
            clients = [daemon.connect_path("echo") for _ in range(4)]
            ping_all(clients[:3])
            self.assertTrue(is_refused(clients[3]))
            daemon.wait_log(r"refused on .*/echo: max_connections$")


if __name__ == "__main__":
    harness.main(jobs=4)
