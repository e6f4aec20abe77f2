"""Socket activation: sockets that the service manager passes serve the listeners at their addresses, stay its own, and
lose nobody over a restart; what cannot be served is named."""

import contextlib
import os
import re
import signal
import socket
import stat
import tempfile
import threading
import unittest

import daemons
import harness
from daemons import CANNOT_LISTEN, ECHO, LOG, QUIET, SYSTEM_ERROR, config_text, listener

NAME = "tcpechod.socket"

def activated(passed, listeners=None, settings=LOG, names=None, **how):
    """A daemon that gets these sockets, as NAME each if `names` says nothing else."""
    return daemons.Daemon(listeners, settings, passed=list(zip(names or [NAME] * len(passed), passed)), **how)


def listening(address="127.0.0.1", family=socket.AF_INET, v6_only=False, port=0):
    """As systemd makes them, with the same backlog for the next daemon as for this one."""
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
    server.bind((address, port))
    server.listen(1000)
    return server


def port_of(server):
    return server.getsockname()[1]


def row(server, service="echo", address="127.0.0.1"):
    return listener(service, port_of(server), address=address)


def connect(server, address="127.0.0.1"):
    return socket.create_connection((address, port_of(server)), harness.patience())


class TestCase(daemons.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def listening(self, *arguments, **options):
        return self.stack.enter_context(listening(*arguments, **options))

    def directory(self):
        path = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpechod-test-"))
        os.chmod(path, 0o755)
        return path

    def listening_at(self, path):
        server = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen(1000)
        return server

    def connect_to(self, path):
        return self.stack.enter_context(harness.connect_path(path))

    def assert_served(self, client, data=b"hello", answer=None):
        with client:
            self.assertEqual(harness.exchange(client, data), data if answer is None else answer)


class Matched(TestCase):
    """The first client comes before there is a daemon, and gets its answer."""

    def serves(self, server, entry, where, connect_first):
        first = connect_first()
        first.sendall(b"first")
        with activated([server], entry) as daemon:
            self.assertEqual(harness.receive_exactly(first, 5), b"first")
            self.assert_served(first)
            self.assert_served(connect_first())
            daemon.wait_log(f"info: listening: echo on {re.escape(where)}, passed by the service manager as {NAME}$")
            self.assertEqual(daemon.count_log("warning|error"), 0)

    def test_addresses(self):
        harness.needs_ipv6()
        four, six = socket.AF_INET, socket.AF_INET6
        for bound, family, v6_only, address, name, clients in (
                ("127.0.0.1", four, False, "127.0.0.1", "127.0.0.1", ("127.0.0.1",)),
                ("::1", six, False, "::1", "[::1]", ("::1",)),
                ("::", six, False, "*", "*", ("127.0.0.1", "::1")), ("::", six, True, "::", "[::]", ("::1",))):
            server = self.listening(bound, family, v6_only)
            for client in clients:
                with self.subTest(address=address, client=client):
                    self.serves(server, row(server, address=address), f"{name}:{port_of(server)}",
                                lambda: connect(server, client))

    def test_path(self):
        path = self.directory() + "/echo"
        server = self.listening_at(path)
        self.serves(server, listener(path=path), path, lambda: self.connect_to(path))

    def test_some_passed_and_some_opened(self):
        servers = [self.listening() for _ in range(2)]
        listeners = ", ".join([ECHO, row(servers[1], "upper"), row(servers[0])])
        with activated(servers, listeners, names=["one", "two"]) as daemon:
            self.assertEqual(daemon.exchange(b"own"), b"own")
            self.assert_served(connect(servers[0]), b"one")
            self.assert_served(connect(servers[1]), b"two", b"TWO")
            daemon.wait_log(f"listening: upper on 127.0.0.1:{port_of(servers[1])}, passed by the service manager as two$")
            daemon.wait_log(f"listening: echo on 127.0.0.1:{port_of(servers[0])}, passed by the service manager as one$")
            daemon.wait_log(f"listening: echo on 127.0.0.1:{daemon.port}$")

    def test_listeners_of_the_command_line(self):
        server = self.listening()
        with activated([server], arguments=["-l", f"upper@127.0.0.1:{port_of(server)}"]):
            self.assert_served(connect(server), b"x", b"X")

    def test_built_in_listeners(self):
        if os.path.exists("/etc/tcpechod.conf"):
            self.skipTest("/etc/tcpechod.conf is there")
        with harness.network_namespace():
            server = self.listening(port=7008)
            with activated([server], config=None) as daemon:
                daemon.wait_log("listening: upper on 127.0.0.1:7008, passed by the service manager")
                self.assert_served(connect(server), b"x", b"X")

    def test_those_of_another_process_are_left_alone(self):
        """LISTEN_PID is that of a parent which did not take them out of its environment."""
        server = self.listening()
        with activated([server], ECHO, environment={"LISTEN_PID": "1"}) as daemon:
            self.assertEqual(daemon.exchange(b"x"), b"x")

    def test_descriptors_count_as_those_of_listeners(self):
        servers = [self.listening() for _ in range(3)]
        own = ", ".join(listener(port=f"PORT{i}") for i in range(3))

        def figures(daemon):
            return daemon.wait_log("ready: 3 listeners, .*, room for (.*)$").group(1), daemon.descriptors()

        with activated(servers, ", ".join(map(row, servers)), nofile=100) as daemon:
            passed = figures(daemon)
        with daemons.Daemon(own, LOG, nofile=100) as daemon:
            self.assertEqual(figures(daemon), passed)

    def test_systemd_socket_activate(self):
        tool = harness.needs("systemd-socket-activate")
        with contextlib.closing(harness.free_port()) as port:
            wrapper = [tool, "-l", f"127.0.0.1:{int(port)}", f"--fdname={NAME}", "-E", "NOTIFY_SOCKET"]
            with daemons.Daemon(listener("upper", int(port)), LOG, wrapper=wrapper, ready=False) as daemon:
                daemon.wait_log(f"Listening on 127.0.0.1:{int(port)}")
                self.assert_served(socket.create_connection(("127.0.0.1", int(port)), harness.patience()), b"first",
                                   b"FIRST")
                daemon.wait_ready()
                daemon.wait_log(f"listening: upper on 127.0.0.1:{int(port)}, passed by the service manager as {NAME}$")


IPPROTO_MPTCP = 262
LACKS = r"(?m)notice: .* goes on without .*TCP_USER_TIMEOUT.*, which this kind of socket does not have$"


def mptcp():
    """A listening socket of Multipath TCP (RFC 8684), as SocketProtocol=mptcp makes it."""
    try:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        raise unittest.SkipTest(f"no Multipath TCP here ({error.strerror})") from None
    server.bind(("127.0.0.1", 0))
    server.listen(1000)
    return server


class OtherKinds(TestCase):
    """What is not quite TCP as we open it ourselves."""

    def check(self, daemon, server, family=socket.AF_INET, protocol=0):
        data = harness.pattern(1 << 20)
        with socket.socket(family, socket.SOCK_STREAM, protocol) as client:
            client.settimeout(harness.patience())
            client.connect(server.getsockname()[:2])
            harness.assert_same(harness.exchange(client, data), data)
        daemon.wait_log("closed: client_closed, ")

    def test_mptcp(self):
        """Options that it does not have are left out, and that is said once."""
        server = self.stack.enter_context(mptcp())
        with activated([server], row(server)) as daemon:
            self.check(daemon, server, protocol=IPPROTO_MPTCP)
            self.check(daemon, server)
            self.reload(daemon)
            self.check(daemon, server)
            self.assertEqual(daemon.count_log(LACKS), 1, daemon.log())
            self.assertEqual(daemon.count_log("(warning|error): "), 0)

    def test_mptcp_clients_that_time_out(self):
        server = self.stack.enter_context(mptcp())
        with activated([server], row(server),
                       LOG + "idle_timeout = 0.2; write_timeout = 0.2; unsent_limit = 4096;") as daemon, \
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as client:
            client.settimeout(harness.patience())
            client.connect(server.getsockname())
            self.assertEqual(client.recv(1), b"")
            daemon.wait_log("closed: idle_timeout, ")

    def test_options_that_a_socket_does_not_have(self):
        """On any kernel: the same with calls that fail."""
        for error in ("ENOPROTOOPT", "EOPNOTSUPP"):
            server = self.listening()
            with self.subTest(error), activated([server], row(server), faults=f"setsockopt@main:{error}:1-5") as daemon:
                self.check(daemon, server)
                self.assertEqual(daemon.count_log(LACKS), 1, daemon.log())

    def test_another_network(self):
        """The clients come from the network of the socket, which is not that of the daemon."""
        with harness.network_namespace():
            server = self.listening()
            nearby = [self.stack.enter_context(connect(server)) for _ in range(3)]
        with activated([server], row(server)) as daemon:
            for client in nearby:
                self.assertEqual(harness.exchange(client, b"hello"), b"hello")
            self.assertEqual(daemon.count_log("(warning|error): "), 0)

    def test_other_protocols_are_refused_by_name(self):
        """SCTP is a stream, but it cannot be half-closed."""
        for name, family, protocol, address, message in (
                ("vsock", socket.AF_VSOCK, 0, (socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY),
                 "is a socket of another family than IPv4, IPv6 and Unix"),
                ("SCTP", socket.AF_INET, socket.IPPROTO_SCTP, ("127.0.0.1", 0),
                 "is a socket of another protocol than TCP and MPTCP")):
            with self.subTest(name):
                try:
                    server = self.stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
                    server.bind(address)
                    server.listen()
                except OSError as error:
                    raise unittest.SkipTest(f"no {name} here ({error.strerror})") from None
                with activated([server], ready=False) as daemon:
                    self.assert_ended(daemon, CANNOT_LISTEN, message)


class Refused(TestCase):
    def test_no_listener_for_them(self):
        """Each is named, with the listeners that there are."""
        servers = [self.listening() for _ in range(3)]
        with activated(servers, f"{row(servers[1])}, {ECHO}", names=["a.socket", "b.socket", "c.socket"],
                       ready=False) as daemon:
            have = f"the settings, which have echo on 127.0.0.1:{port_of(servers[1])}, echo on 127.0.0.1:{daemon.port}$"
            self.assert_ended(daemon, CANNOT_LISTEN, *(
                f"cannot listen: socket 127.0.0.1:{port_of(servers[i])}, passed by the service manager as {name}, has no "
                f"listener; take its ListenStream= out of the socket unit, or add a listener to {have}"
                for i, name in ((0, "a.socket"), (2, "c.socket"))))
            self.assertEqual(daemon.count_log("listening:|b.socket"), 0)

    def assert_has_no_listener(self, server, entry, where):
        with activated([server], entry, ready=False) as daemon:
            self.assert_ended(daemon, CANNOT_LISTEN, f"cannot listen: socket {re.escape(where)}, passed by the service "
                                                    f"manager as {NAME}, has no listener; .*echo on ")

    def test_similar_addresses(self):
        harness.needs_ipv6()
        both = self.listening("::", socket.AF_INET6)
        for address in ("::", "0.0.0.0", "127.0.0.1", "::1"):
            with self.subTest(address):
                self.assert_has_no_listener(both, row(both, address=address), f"*:{port_of(both)}")
        six = self.listening("::", socket.AF_INET6, v6_only=True)
        self.assert_has_no_listener(six, row(six, address="*"), f"[::]:{port_of(six)}")
        four = self.listening("0.0.0.0")
        self.assert_has_no_listener(four, row(four, address="*"), f"0.0.0.0:{port_of(four)}")

    def test_port_0_is_none_of_them(self):
        server = self.listening()
        self.assert_has_no_listener(server, listener(port=0), f"127.0.0.1:{port_of(server)}")

    def test_what_is_no_listening_stream_socket(self):
        server = self.listening()
        one, other = socket.socketpair()
        with tempfile.TemporaryFile() as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, one, other:
            datagram.bind(("127.0.0.1", 0))
            with activated([file, server, datagram, one], row(server), names=["f", "s", "d", "c"], ready=False) as daemon:
                self.assert_ended(daemon, CANNOT_LISTEN,
                                 "descriptor 3, passed by the service manager as f, is a file; ",
                                 "descriptor 5, passed by the service manager as d, is a datagram socket; ",
                                 "descriptor 6, passed by the service manager as c, is a socket that does not listen .*; "
                                 "the socket unit must have ListenStream= with an address or a path, Accept=no,")
                self.assertEqual(daemon.count_log("as s,"), 0)

    def test_environment_that_is_wrong(self):
        server = self.listening()
        for environment in ({"LISTEN_FDS": "many"}, {"LISTEN_FDS": "-1"}, {"LISTEN_PID": "me"},
                            {"LISTEN_FDNAMES": "one:two"}):
            with self.subTest(environment), activated([server], row(server), environment=environment,
                                                      ready=False) as daemon:
                self.assert_ended(daemon, SYSTEM_ERROR, "cannot take the passed sockets: LISTEN_PID, LISTEN_FDS or "
                                                       "LISTEN_FDNAMES in the environment is malformed")

    def test_descriptors_that_are_not_open(self):
        server = self.listening()
        with activated([server], row(server), environment={"LISTEN_FDS": "3"}, names=["a", "b", "c"],
                       ready=False) as daemon:
            self.assert_ended(daemon, SYSTEM_ERROR, "cannot take the passed sockets: fewer descriptors are open than")

    def test_failing_calls(self):
        server = self.listening()
        for rules, status, message in (
                ("sd_listen_fds_with_names:ENOMEM", SYSTEM_ERROR, "cannot take the passed sockets: Cannot allocate memory"),
                ("getsockname:ENOBUFS:1", SYSTEM_ERROR, f"descriptor 3, passed .* as {NAME}: No buffer space available"),
                ("getsockopt:EPERM:1", CANNOT_LISTEN, f"descriptor 3, passed .* as {NAME}: Operation not permitted"),
                ("setsockopt:EDOM:1", CANNOT_LISTEN, "cannot listen: echo on .*: Numerical argument out of domain"),
                ("listen:EADDRINUSE:1", CANNOT_LISTEN, "cannot listen: echo on .*: Address already in use")):
            with self.subTest(rules), activated([server], row(server), faults=rules, ready=False) as daemon:
                self.assert_ended(daemon, status, message)
        with activated([server], row(server)):
            self.assert_served(connect(server))


class Reload(TestCase):
    def test_stays(self):
        server = self.listening()
        with activated([server], row(server)) as daemon, connect(server) as old:
            harness.ping(old)
            self.reload(daemon, config_text(f"{row(server, 'upper')}, {ECHO}", LOG))
            self.assert_served(connect(server), b"x", b"X")
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.assert_served(old, b"as before")
            self.reload(daemon, config_text(row(server), LOG))
            self.assert_served(connect(server), b"x")
            self.assertEqual(daemon.listening(), [server.getsockname()])

    def test_not_without_a_listener_for_it(self):
        """Clients would wait in its backlog for ever."""
        server = self.listening()
        path = self.directory() + "/echo"
        at_path = listener(path=path)
        with activated([server, self.listening_at(path)], f"{row(server)}, {at_path}", names=["tcp", "unix"]) as daemon:
            before = daemon.listening(), daemon.descriptors()
            for listeners, missing in (([ECHO, at_path], [f"127.0.0.1:{port_of(server)}, .* tcp"]),
                                       ([row(server, address="*"), at_path], [f"127.0.0.1:{port_of(server)}, .* tcp"]),
                                       ([row(server)], [f"{path}, .* unix"]),
                                       ([ECHO], [f"127.0.0.1:{port_of(server)}, .* tcp", f"{path}, .* unix"])):
                with self.subTest(listeners):
                    counts = [daemon.count_log(f"error: cannot listen: socket {where}, has no listener") for where in missing]
                    self.reload(daemon, config_text(", ".join(listeners), LOG), failing=True)
                    for where, count in zip(missing, counts):
                        daemon.wait_log(f"error: cannot listen: socket {where}, has no listener; take its ListenStream= "
                                        "out of the socket unit, or add a listener to the settings, which have echo on",
                                        count + 1)
            self.assertEqual(daemon.count_log("another process"), 0)
            self.assertEqual((daemon.listening(), daemon.descriptors()), before)
            self.assert_served(connect(server))
            self.assert_served(self.connect_to(path))
            self.reload(daemon, config_text(f"{row(server, 'upper')}, {at_path}", LOG))

    def test_path_that_others_have_taken_away(self):
        """It is the socket unit's business; ours is the socket."""
        path = self.directory() + "/echo"
        at_path = listener(path=path, mode="0600")
        with activated([self.listening_at(path)], at_path) as daemon:
            os.rename(path, path + ".moved")
            self.reload(daemon)
            self.assert_served(self.connect_to(path + ".moved"))


class Restart(TestCase):
    """What waits in the backlog at a stop belongs to the next daemon."""

    def test_stop_leaves_the_backlog(self):
        server = self.listening()
        count = 100
        with activated([server], row(server), faults="") as daemon:
            daemon.hold_main_loop()
            waiting = [self.stack.enter_context(connect(server)) for _ in range(count)]
            for number, client in enumerate(waiting):
                client.sendall(b"client %d" % number)
            # One turn has both: the signal, and at most a batch of them.
            daemon.send_signal(signal.SIGTERM)
            daemon.faults.disarm()
            self.assertEqual(daemon.wait(), 0)
            daemon.wait_log("notice: stopped: every connection was finished")
            self.assertEqual(daemon.count_log("closed: reset| refused on "), 0)
            self.assertLess(daemon.count_log("closed: drained"), count)
        late = self.stack.enter_context(connect(server))
        late.sendall(b"client late")
        with activated([server], row(server)):
            self.assertEqual(harness.receive_exactly(late, 11), b"client late")
            for number, client in enumerate(waiting):
                harness.assert_same(harness.receive_exactly(client, len(b"client %d" % number)), b"client %d" % number)

    def test_nobody_is_refused_or_reset(self):
        """Clients come all the time; daemons come and go. Who was accepted and had not sent anything when a stop began has
        an end without an answer, and comes again."""
        server = self.listening()
        done = threading.Event()
        failures, answered, unanswered = [], [], []
        turns = harness.scale(6, 4)

        def come():
            number = 0
            while not done.is_set() and not failures:
                number += 1
                message = b"message %d" % number
                try:
                    with connect(server) as client:
                        client.sendall(message)
                        client.shutdown(socket.SHUT_WR)
                        answer = harness.receive_all(client)
                        if answer:
                            harness.assert_same(answer, message)
                        (answered if answer else unanswered).append(number)
                except (OSError, AssertionError) as error:
                    failures.append(error)

        newcomers = [threading.Thread(target=come, daemon=True) for _ in range(4)]
        try:
            for turn in range(turns):
                with activated([server], row(server), QUIET):
                    if turn == 0:
                        for newcomer in newcomers:
                            newcomer.start()
                    before = len(answered)
                    harness.wait_until(lambda: len(answered) > before + 20 or failures, "clients that are served")
            with activated([server], row(server), QUIET):
                done.set()
                for newcomer in newcomers:
                    newcomer.join(harness.patience())
        finally:
            done.set()
        self.assertEqual(failures, [])
        self.assertLessEqual(len(unanswered), turns * len(newcomers), "one of each for a stop")

    def test_path_stays_as_it_is(self):
        path = self.directory() + "/echo"
        server = self.listening_at(path)
        os.chmod(path, 0o604)
        inode = os.stat(path).st_ino
        at_path = listener(path=path, mode="0660")
        for _ in range(2):
            waiting = self.connect_to(path)
            with activated([server], at_path) as daemon:
                self.assert_served(waiting)
                self.reload(daemon)
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o604)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o604)
            self.assertEqual(os.stat(path).st_ino, inode)


if __name__ == "__main__":
    harness.main(jobs=4)
