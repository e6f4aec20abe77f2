"""Full, in every way that the daemon can be, under both overload policies: who waits or is refused, why, where it is
told, that nothing spins meanwhile, and that service resumes by itself."""

import contextlib
import re
import resource
import select
import signal
import socket
import subprocess
import time

import harness

ECHO = '{ address = "127.0.0.1"; port = PORT; service = "echo"; }'
LOG = 'log = { level = "debug"; rate = 0; };'

# How long silence is watched before it counts as one.
A_WHILE = 0.25


def connect(daemon, source=None, index=0, address="127.0.0.1"):
    """A client that comes from `source`."""
    return socket.create_connection((address, int(daemon.ports[index])), harness.patience(),
                                    source_address=socket.getaddrinfo(source, 0)[0][4] if source else None)


def connect_all(stack, daemon, count, **where):
    return [stack.enter_context(connect(daemon, **where)) for _ in range(count)]


def ping(client, text=b"ping"):
    client.sendall(text)
    return harness.receive_exactly(client, len(text)) == text


def is_silent(client):
    return not select.select([client], [], [], A_WHILE)[0]


def refused(client):
    """Whether the daemon closes without a word; waits for that."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


class Overload(harness.TestCase):
    def assert_counted(self, daemon, name, count):
        """`name` is "refused (denied" or "waits (queue_full": in SIGUSR1's line, and in STATUS as soon as it comes."""
        found = r"\d+" if count is None else str(count)
        pattern = re.escape(name.split("(")[0]) + r"\([^)]*\b" + re.escape(name.split("(")[1]) + " " + found + r"\b"
        before = daemon.count_log(r"counters: \d+ connections?\b")
        daemon.send_signal(signal.SIGUSR1)
        daemon.wait_log(r"counters: \d+ connections?\b", before + 1)
        counters = re.findall(r"counters: (\d+ connections?\b.*)", daemon.log())[-1]
        self.assertRegex(counters, pattern)
        daemon.notify.wait("STATUS", pattern)

    def assert_quiet(self, daemon):
        """The daemon does not spin: far less than a tenth of a CPU."""
        if harness.sanitized():
            return
        time.sleep(0.1)
        before, start = daemon.cpu_seconds(), time.monotonic()
        time.sleep(1)
        share = (daemon.cpu_seconds() - before) / (time.monotonic() - start)
        self.assertLess(share, 0.1, "CPU time while nothing can be done")

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

    SETTINGS = f'workers = 1; queue_depth = 1; {LOG}'

    def test_wait(self):
        with harness.Daemon(settings=self.SETTINGS, faults="") as daemon, contextlib.ExitStack() as stack:
            with held_worker(daemon):
                clients = connect_all(stack, daemon, 5)
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
        with harness.Daemon(settings=self.SETTINGS + 'overload = "refuse";', faults="") as daemon, \
                contextlib.ExitStack() as stack:
            with held_worker(daemon):
                queued, *others = connect_all(stack, daemon, 5)
                for client in others:
                    self.assertTrue(refused(client))
                self.assert_refusal_is_logged(daemon, "queue_full", 4)
                self.assert_counted(daemon, "refused (queue_full", 4)
                self.assertTrue(is_silent(queued))
                self.assert_quiet(daemon)
            self.assertTrue(ping(queued))
            self.assertEqual(daemon.exchange(b"again"), b"again")

    def test_a_burst_through_a_queue_of_one(self):
        """Under `wait` nobody is lost, whatever the timing."""
        count = harness.scale(1000, 200)
        harness.raise_nofile(count + 200)
        with harness.Daemon(settings='workers = 2; queue_depth = 1; log = { level = "notice"; };') as daemon, \
                contextlib.ExitStack() as stack:
            clients = []
            for _ in range(count):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", daemon.port))
                clients.append(client)
            for number, client in enumerate(clients):
                client.settimeout(harness.patience())
                select.select([], [client], [], harness.patience())
                client.sendall(b"%8d" % number)
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_exactly(client, 8), b"%8d" % number)


class MaxConnections(Overload):
    def test_wait(self):
        with harness.Daemon(settings=f"max_connections = 2; {LOG}") as daemon, contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, 5)
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
        with harness.Daemon(settings=f'max_connections = 2; overload = "refuse"; {LOG}') as daemon, \
                contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, 2)
            self.assertTrue(all(ping(client) for client in clients))
            for _ in range(3):
                self.assertTrue(refused(stack.enter_context(daemon.connect())))
            self.assert_refusal_is_logged(daemon, "max_connections", 3)
            self.assert_counted(daemon, "refused (max_connections", 3)
            self.assert_quiet(daemon)
            clients[0].close()
            daemon.wait_log("connection 1 .*closed: client_closed")
            self.assertTrue(ping(stack.enter_context(daemon.connect())))

    def test_the_log_tells_a_stretch_once(self):
        """A thousand arrivals at a full daemon are one message, not a thousand."""
        with harness.Daemon(settings=f"max_connections = 1; {LOG}") as daemon:
            with contextlib.ExitStack() as stack:
                clients = connect_all(stack, daemon, 40)
                for client in clients:
                    client.sendall(b"x")
                for client in clients:
                    self.assertEqual(client.recv(1), b"x")
                    client.close()
            self.assertLess(daemon.count_log("no room for new clients"), 10)

    def test_a_reload_makes_room(self):
        with harness.Daemon(settings=f"max_connections = 1; {LOG}") as daemon, contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, 3)
            for client in clients:
                client.sendall(b"x")
            self.assertEqual(clients[0].recv(1), b"x")
            self.assertTrue(is_silent(clients[1]))
            daemon.write_config(f"listeners = ( {ECHO} ); max_connections = 2; {LOG}")
            daemon.send_signal(signal.SIGHUP)
            self.assertEqual(clients[1].recv(1), b"x")
            self.assertTrue(is_silent(clients[2]))
            # Who waits when the policy changes is refused.
            daemon.write_config(f'listeners = ( {ECHO} ); max_connections = 2; overload = "refuse"; {LOG}')
            daemon.send_signal(signal.SIGHUP)
            self.assertTrue(refused(clients[2]))
            self.assert_refusal_is_logged(daemon, "max_connections")


    def calls_per_client(self, count):
        """How often the main thread changes what it polls for each client that comes in when another leaves, with
        `count` listeners."""
        others = "".join('{ address = "127.0.0.1"; port = 0; }, ' for _ in range(count - 1))
        clients_count = 100
        with harness.Daemon(others + ECHO, f"max_connections = 1; {LOG}", faults="") as daemon, \
                contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, clients_count + 1)
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


class PerSource(Overload):
    def check(self, policy):
        """No policy lets others wait behind one greedy source: it is refused under both."""
        with harness.Daemon(settings=f'max_connections_per_source = 2; overload = "{policy}"; {LOG}') as daemon, \
                contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, 2)
            self.assertTrue(all(ping(client) for client in clients))
            for _ in range(2):
                self.assertTrue(refused(stack.enter_context(daemon.connect())))
            self.assert_refusal_is_logged(daemon, "per_source", 2)
            self.assert_counted(daemon, "refused (per_source", 2)
            self.assert_quiet(daemon)
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.0.2"))), "another source")
            clients[0].close()
            daemon.wait_log("connection 1 .*closed: client_closed")
            self.assertTrue(ping(stack.enter_context(daemon.connect())), "the same source, when it has closed one")
            self.assertTrue(refused(stack.enter_context(daemon.connect())))

    def test_wait(self):
        self.check("wait")

    def test_refuse(self):
        self.check("refuse")

    def test_all_listeners_count_together(self):
        listeners = ECHO + ', { address = "127.0.0.1"; port = PORT1; service = "upper"; }'
        with harness.Daemon(listeners, f"max_connections_per_source = 2; {LOG}") as daemon, \
                contextlib.ExitStack() as stack:
            self.assertTrue(ping(stack.enter_context(connect(daemon))))
            self.assertTrue(ping(stack.enter_context(connect(daemon, index=1)), b"PING"))
            self.assertTrue(refused(stack.enter_context(connect(daemon))))
            self.assertTrue(refused(stack.enter_context(connect(daemon, index=1))))

    def test_a_listener_with_a_limit_of_its_own_counts_for_itself(self):
        listeners = ECHO + ', { address = "127.0.0.1"; port = PORT1; service = "echo"; max_connections_per_source = 1; }'
        with harness.Daemon(listeners, f"max_connections_per_source = 2; {LOG}") as daemon, \
                contextlib.ExitStack() as stack:
            for index, count in ((1, 1), (0, 2)):
                for _ in range(count):
                    self.assertTrue(ping(stack.enter_context(connect(daemon, index=index))))
                self.assertTrue(refused(stack.enter_context(connect(daemon, index=index))))
            daemon.wait_log(rf"refused on 127\.0\.0\.1:{daemon.ports[1]}: per_source")

    def test_a_listener_without_limit(self):
        listeners = ECHO + ', { address = "127.0.0.1"; port = PORT1; service = "echo"; max_connections_per_source = 0; }'
        with harness.Daemon(listeners, f"max_connections_per_source = 1; {LOG}") as daemon, \
                contextlib.ExitStack() as stack:
            for _ in range(5):
                self.assertTrue(ping(stack.enter_context(connect(daemon, index=1))))
            self.assertTrue(ping(stack.enter_context(connect(daemon))))
            self.assertTrue(refused(stack.enter_context(connect(daemon))))

    def test_source_prefix_v4(self):
        with harness.Daemon(settings=f"max_connections_per_source = 1; source_prefix_v4 = 24; {LOG}") as daemon, \
                contextlib.ExitStack() as stack:
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.0.1"))))
            self.assertTrue(refused(stack.enter_context(connect(daemon, "127.0.0.200"))))
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.1.1"))))

    def test_source_prefix_v6(self):
        harness.needs_ipv6()
        with harness.network_namespace():
            for address in ("fd00:0:0:1::1", "fd00:0:0:1::2", "fd00:0:0:2::1"):
                subprocess.run([harness.needs("ip"), "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
            listener = '{ address = "::"; port = PORT; service = "echo"; }'
            with harness.Daemon(listener, f"max_connections_per_source = 1; {LOG}") as daemon, \
                    contextlib.ExitStack() as stack:
                where = {"address": "::1"}
                self.assertTrue(ping(stack.enter_context(connect(daemon, "fd00:0:0:1::1", **where))))
                self.assertTrue(refused(stack.enter_context(connect(daemon, "fd00:0:0:1::2", **where))))
                self.assertTrue(ping(stack.enter_context(connect(daemon, "fd00:0:0:2::1", **where))))
                self.assert_refusal_is_logged(daemon, "per_source", client=r"\[fd00:0:0:1::2\]:\d+")

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
            listener = '{ address = "::"; port = PORT; service = "echo"; }'
            with harness.Daemon(listener, f"max_connections_per_source = 1; {LOG}") as daemon, \
                    contextlib.ExitStack() as stack:
                for link, server in (("link1", "fe80::1:1"), ("link2", "fe80::2:1")):
                    where = {"address": f"{server}%{link}"}
                    for source in (f"fe80::aaaa%{link}", f"fe80::bbbb%{link}"):
                        self.assertTrue(ping(stack.enter_context(connect(daemon, source, **where))), source)
                        self.assertTrue(refused(stack.enter_context(connect(daemon, source, **where))), source)
                        self.assert_refusal_is_logged(daemon, "per_source", client=rf"\[{source}\]:\d+")

    def test_a_limit_that_a_reload_sets_knows_who_is_there(self):
        with harness.Daemon(settings=LOG) as daemon, contextlib.ExitStack() as stack:
            clients = connect_all(stack, daemon, 3)
            self.assertTrue(all(ping(client) for client in clients))
            daemon.write_config(f"listeners = ( {ECHO} ); max_connections_per_source = 2; {LOG}")
            daemon.send_signal(signal.SIGHUP)
            daemon.wait_log("reloaded")
            self.assertTrue(refused(stack.enter_context(daemon.connect())))
            self.assertTrue(all(ping(client) for client in clients), "who is there stays")


class Denied(Overload):
    def check(self, policy):
        with harness.Daemon(settings=f'deny = [ "127.0.0.2" ]; overload = "{policy}"; {LOG}') as daemon, \
                contextlib.ExitStack() as stack:
            self.assertTrue(refused(stack.enter_context(connect(daemon, "127.0.0.2"))))
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.0.3"))))
            self.assert_refusal_is_logged(daemon, "denied", client=r"127\.0\.0\.2:\d+")
            self.assert_counted(daemon, "refused (denied", 1)
            self.assert_quiet(daemon)

    def test_wait(self):
        self.check("wait")

    def test_refuse(self):
        self.check("refuse")

    def test_deny_wins_over_allow(self):
        settings = f'allow = [ "127.0.0.0/30", "127.0.0.64" ]; deny = [ "127.0.0.2/31" ]; {LOG}'
        with harness.Daemon(settings=settings) as daemon, contextlib.ExitStack() as stack:
            for source, welcome in (("127.0.0.1", True), ("127.0.0.2", False), ("127.0.0.3", False), ("127.0.0.4", False),
                                    ("127.0.0.64", True), ("127.0.0.65", False)):
                with self.subTest(source=source):
                    client = stack.enter_context(connect(daemon, source))
                    self.assertTrue(ping(client) if welcome else refused(client))

    def test_a_listener_overrides_the_lists(self):
        listeners = ECHO + ', { address = "127.0.0.1"; port = PORT1; allow = [ "127.0.0.2" ]; deny = [ ]; }'
        settings = f'allow = [ "127.0.0.1" ]; deny = [ "127.0.0.2" ]; {LOG}'
        with harness.Daemon(listeners, settings) as daemon, contextlib.ExitStack() as stack:
            for index, source, welcome in ((0, "127.0.0.1", True), (0, "127.0.0.2", False), (1, "127.0.0.1", False),
                                           (1, "127.0.0.2", True)):
                with self.subTest(index=index, source=source):
                    client = stack.enter_context(connect(daemon, source, index))
                    self.assertTrue(ping(client) if welcome else refused(client))

    def test_ipv4_lists_hold_on_every_address(self):
        """Clients of "*" come as ::ffff:127.0.0.2, and are 127.0.0.2 to every rule and in the log."""
        listener = '{ address = "*"; port = PORT; service = "echo"; }'
        settings = f'deny = [ "127.0.0.2" ]; max_connections_per_source = 1; {LOG}'
        with harness.Daemon(listener, settings) as daemon, contextlib.ExitStack() as stack:
            self.assertTrue(refused(stack.enter_context(connect(daemon, "127.0.0.2"))))
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.0.3"))))
            self.assertTrue(refused(stack.enter_context(connect(daemon, "127.0.0.3"))))
            self.assertTrue(ping(stack.enter_context(connect(daemon, "127.0.0.4"))))
            self.assert_refusal_is_logged(daemon, "denied", client=r"127\.0\.0\.2:\d+")
            self.assert_refusal_is_logged(daemon, "per_source", client=r"127\.0\.0\.3:\d+")

    def test_ipv6_lists(self):
        harness.needs_ipv6()
        listeners = '{ address = "*"; port = PORT; deny = [ "::1" ]; }, { address = "::1"; port = PORT1; deny = [ "::/0" ]; }'
        with harness.Daemon(listeners, LOG) as daemon, contextlib.ExitStack() as stack:
            self.assertTrue(refused(stack.enter_context(connect(daemon, address="::1"))))
            self.assertTrue(refused(stack.enter_context(connect(daemon, address="::1", index=1))))
            self.assertTrue(ping(stack.enter_context(connect(daemon))), "IPv4 is no part of ::/0")
            self.assert_refusal_is_logged(daemon, "denied", 2, client=r"\[::1\]:\d+")

    def test_being_denied_comes_before_being_full(self):
        """Who is not welcome does not take the place of somebody who waits, and is told apart in the log."""
        with harness.Daemon(settings=f'deny = [ "127.0.0.2" ]; max_connections = 1; overload = "refuse"; {LOG}') as daemon, \
                contextlib.ExitStack() as stack:
            self.assertTrue(ping(stack.enter_context(daemon.connect())))
            self.assertTrue(refused(stack.enter_context(connect(daemon, "127.0.0.2"))))
            self.assert_refusal_is_logged(daemon, "denied", client=r"127\.0\.0\.2:\d+")


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
        with harness.Daemon(settings=LOG) as daemon, contextlib.ExitStack() as stack:
            with self.none_left(daemon):
                clients = connect_all(stack, daemon, 5)
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
            self.assertLess(daemon.count_log("no room for new clients"), 10)

    def test_refuse(self):
        with harness.Daemon(settings=LOG + 'overload = "refuse";') as daemon, contextlib.ExitStack() as stack:
            with self.none_left(daemon):
                clients = connect_all(stack, daemon, 2)
                self.assertTrue(all(ping(client) for client in clients))
                for _ in range(3):
                    self.assertTrue(refused(stack.enter_context(daemon.connect())))
                self.assert_refusal_is_logged(daemon, "descriptor_limit", 3)
                self.assert_counted(daemon, "refused (descriptor_limit", 3)
                self.assert_quiet(daemon)
                clients[0].close()
                daemon.wait_log("connection 1 .*closed: client_closed")
                self.assertTrue(ping(stack.enter_context(daemon.connect())))
            self.assertTrue(ping(stack.enter_context(daemon.connect())))

    def test_refuse_without_the_spare_descriptor(self):
        """The whole system may be out of descriptors: nothing can be accepted, and nobody spins over it."""
        with harness.Daemon(settings=LOG + 'overload = "refuse";', faults="") as daemon, contextlib.ExitStack() as stack:
            daemon.faults.arm("accept4:ENFILE,open:ENFILE")
            client = stack.enter_context(daemon.connect())
            client.sendall(b"x")
            self.assert_waiting_is_logged(daemon, "descriptor_limit")
            self.assert_quiet(daemon)
            daemon.faults.disarm()
            self.assertEqual(client.recv(1), b"x")
            # The spare one is back, too.
            with self.none_left(daemon):
                connect_all(stack, daemon, 2)
                self.assertTrue(refused(stack.enter_context(daemon.connect())))

    def test_the_limit_at_start_is_what_it_holds(self):
        for policy in ("wait", "refuse"):
            with self.subTest(policy=policy), contextlib.ExitStack() as stack:
                settings = f'workers = 2; max_connections = 1000; overload = "{policy}"; {LOG}'
                daemon = stack.enter_context(harness.Daemon(settings=settings, nofile=60))
                room = int(daemon.wait_log(r"ready: .*room for (\d+) connections").group(1))
                self.assertGreater(room, 0)
                self.assertLess(room, 60)
                daemon.wait_log(rf"warning: max_connections = 1000, but the descriptor limit leaves room for {room}\b")
                clients = connect_all(stack, daemon, room + 1)
                for client in clients[:room]:
                    self.assertTrue(ping(client))
                if policy == "wait":
                    clients[room].sendall(b"x")
                    self.assert_waiting_is_logged(daemon, "descriptor_limit")
                    self.assertTrue(is_silent(clients[room]))
                    clients[0].close()
                    self.assertEqual(clients[room].recv(1), b"x")
                else:
                    self.assertTrue(refused(clients[room]))
                    self.assert_refusal_is_logged(daemon, "descriptor_limit")

    def test_as_many_clients_as_the_limit_allows(self):
        limit = harness.scale(20000, 2000)
        harness.raise_nofile(limit)
        settings = 'max_connections = 1000000; overload = "refuse"; log = { level = "notice"; connections = false; };'
        with harness.Daemon(settings=settings, nofile=limit) as daemon, contextlib.ExitStack() as stack:
            room = int(daemon.wait_log(r"warning: max_connections = 1000000, but the descriptor limit leaves room for (\d+)")
                       .group(1))
            count = min(room, limit - 100)
            self.assertGreaterEqual(count, limit - 100)
            clients = []
            for number in range(count):
                # From several sources: one has not enough ports when those of other tests are in TIME_WAIT.
                clients.append(stack.enter_context(connect(daemon, f"127.0.{1 + number % 8}.1")))
            for number, client in enumerate(clients):
                client.sendall(b"%8d" % number)
            for number, client in enumerate(clients):
                self.assertEqual(harness.receive_exactly(client, 8), b"%8d" % number)
            daemon.notify.wait("STATUS", rf"^{count} connections")
            self.assert_quiet(daemon)


class Resumes(Overload):
    def test_after_all_reasons_at_once(self):
        """Clients of all kinds come and go at a daemon that is always full; whoever is welcome is served in the end."""
        settings = 'max_connections = 3; queue_depth = 1; deny = [ "127.0.0.9" ]; max_connections_per_source = 2;' + LOG
        with harness.Daemon(settings=settings) as daemon:
            deadline = time.monotonic() + harness.patience()
            served = denied = 0
            for number in range(harness.scale(300, 100)):
                source = f"127.0.0.{1 + number % 9}"
                with connect(daemon, source) as client:
                    if source == "127.0.0.9":
                        self.assertTrue(refused(client))
                        denied += 1
                    else:
                        self.assertTrue(ping(client))
                        served += 1
                self.assertLess(time.monotonic(), deadline)
            self.assertGreater(served, denied)
            daemon.notify.wait("STATUS", rf"^0 connections, 0 queued, {served} accepted, {denied} refused \(denied {denied}\)")

    def test_a_unix_client_has_no_source(self):
        """Clients of a path have no address: no list and no limit by source keeps them out, other limits do."""
        listener = '{ path = "DIR/echo"; service = "echo"; }'
        settings = f'max_connections_per_source = 1; allow = [ "10.0.0.0/8" ]; max_connections = 3; overload = "refuse"; {LOG}'
        with harness.Daemon(listener, settings) as daemon, contextlib.ExitStack() as stack:
            clients = []
            for _ in range(4):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(harness.patience())
                client.connect(daemon.path("echo"))
                clients.append(client)
            self.assertTrue(all(ping(client) for client in clients[:3]))
            self.assertTrue(refused(clients[3]))
            daemon.wait_log(r"refused on .*/echo: max_connections$")


if __name__ == "__main__":
    harness.main()
