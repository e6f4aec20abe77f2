"""Every system call that may fail fails once, in the fault-injecting build: at the start with a message and the right
status, in service at the expense of one client at most, in a reload without any change."""

import contextlib
import signal
import time

import daemons
import harness
from daemons import BAD_SETTINGS, CANNOT_LISTEN, DEBUG, ECHO, QUIET, SYSTEM_ERROR, config_text, listener
from harness import is_refused, ping
from traffic import Traffic

MEMORY_CALLS = ("malloc", "calloc", "realloc", "reallocarray", "strdup", "strndup", "asprintf", "vasprintf")

# More calls of one kind than a start, a reload or a stop makes; that this is never reached is checked.
MANY = 400


@contextlib.contextmanager
def told(rule):
    """Says of a failure under which rule it was: one is enough, where a subtest would go on to hundreds."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{rule}: {error}") from None


class TestCase(daemons.TestCase):
    def assert_serves(self, daemon):
        self.assertEqual(daemon.exchange(b"as before"), b"as before")


class Start(TestCase):
    def assert_all_fail(self, status, rows, **how):
        for rules, message in rows:
            with self.subTest(rules), daemons.Daemon(ready=False, faults=rules, **how) as daemon:
                self.assert_ended(daemon, status, message)
                self.assertGreater(daemon.faults.hits(), 0)

    def test_each_stage(self):
        self.assert_all_fail(SYSTEM_ERROR, (
                ("pthread_create:EAGAIN:1", "cannot start the log's thread: Resource temporarily unavailable"),
                ("pthread_sigmask:EINVAL:3", "cannot start the log's thread: Invalid argument"),
                ("epoll_create1:EMFILE:1", "cannot make the main loop: Too many open files"),
                ("eventfd:ENFILE:1", "cannot make the main loop: Too many open files in system"),
                ("epoll_ctl:ENOMEM:1", "cannot make the main loop: Cannot allocate memory"),
                ("signalfd:EMFILE", "cannot receive signals: Too many open files"),
                ("epoll_ctl:ENOSPC:2", "cannot make the main loop: No space left on device"),
                ("epoll_ctl:ENOSPC:3", "cannot receive signals: No space left on device"),
                ("getrandom:ENOSYS", "cannot make the table of sources: Function not implemented"),
                ("epoll_create1:EMFILE:2", "cannot make the main loop"),
                ("epoll_create1:EMFILE:3",
                 "cannot make the workers: Too many open files; raise the descriptor limit .LimitNOFILE="),
                ("eventfd:EMFILE:3", "cannot make the workers: Too many open files"),
                ("epoll_ctl:ENOMEM:5", "cannot make the workers: Cannot allocate memory"),
                ("pthread_create:EAGAIN:2", "cannot start the workers: Resource temporarily unavailable"),
                ("pthread_create:EAGAIN:3", "cannot start the workers: Resource temporarily unavailable")),
                settings="workers = 2;")

    def test_listeners(self):
        """A shortage is the system's, whatever it was for; the rest is the address's."""
        where = r"cannot listen: echo on 127\.0\.0\.1:\d+: "
        self.assert_all_fail(SYSTEM_ERROR, (
            ("socket_inet:EMFILE", where + "Too many open files: .*LimitNOFILE="),
            ("setsockopt@main:ENOMEM:2", where + "Cannot allocate memory"),
            ("getsockname:ENOBUFS", where + "No buffer space available")), settings="workers = 1;")
        self.assert_all_fail(CANNOT_LISTEN, (
            ("setsockopt:ENOPROTOOPT:1", where + "Protocol not available"),
            ("bind:EADDRNOTAVAIL", where + "Cannot assign requested address"),
            ("listen:EADDRINUSE", where + "Address already in use"),
            ("epoll_ctl_add:ENOSPC:5", "cannot wait for clients: No space left on device")), settings="workers = 1;")
        at_path = {"listeners": listener(path="DIR/echo")}
        message = r"cannot listen: echo on .*/echo: "
        self.assert_all_fail(SYSTEM_ERROR, (("socket_unix@main:EMFILE:1", message),), **at_path)
        self.assert_all_fail(CANNOT_LISTEN, [(f"{rules}", message) for rules in (
            "bind:EACCES", "fchmod:EPERM", "listen:EADDRINUSE", "lstat:EACCES", "fcntl:ENOLCK")], **at_path)

    def test_limits(self):
        """The descriptor limit is what it is when it cannot be raised, and the daemon says so."""
        with daemons.Daemon(faults="setrlimit:EPERM", nofile=(200, 400)) as daemon:
            daemon.wait_log("warning: cannot raise the descriptor limit above 200: Operation not permitted")
            self.assertLess(int(daemon.wait_log(r"room for (\d+) connections").group(1)), 200)
            self.assert_serves(daemon)
        with daemons.Daemon(faults="getrlimit:EPERM", ready=False) as daemon:
            daemon.wait_log("warning: .*descriptor limit.*Operation not permitted")
            # It may be careful or bold without the number.
            if daemon.wait_log("ready: |error: ").group() == "error: ":
                self.assertEqual(daemon.wait(), SYSTEM_ERROR)
        with daemons.Daemon(faults="sched_getaffinity:EINVAL") as daemon:
            daemon.wait_log(r"ready: 1 listeners?, \d+ workers?")
            self.assert_serves(daemon)

    def test_notify(self):
        with daemons.Daemon(faults="sd_pid_notify_with_fds:ECONNREFUSED", ready=False) as daemon:
            daemon.wait_log("error: cannot notify the service manager .*Connection refused")
            self.assert_serves(daemon)

    # What may fail at a start, with an error that it may have.
    CALLS = [(call, "ENOMEM") for call in (*MEMORY_CALLS, "fdopen", "open_memstream", "setsockopt", "bind",
                                           "epoll_ctl")] + [
        ("open", "EMFILE"), ("fopen", "EMFILE"), ("fstat", "EIO"), ("stat", "EIO"), ("lstat", "EIO"), ("read", "EIO"),
        ("socket", "EMFILE"), ("getsockname", "ENOBUFS"), ("fchmod", "EPERM"), ("fcntl", "ENOLCK"), ("fcntl", "EBADF"),
        ("listen", "EADDRINUSE"), ("connect", "EAGAIN"), ("epoll_create1", "EMFILE"), ("eventfd", "EMFILE"),
        ("signalfd", "EMFILE"), ("pthread_create", "EAGAIN"), ("sigaction", "EINVAL"), ("getrandom", "EAGAIN"),
        ("getrlimit", "EPERM"), ("setrlimit", "EPERM"), ("sched_getaffinity", "EINVAL"), ("memfd_create", "EMFILE"),
        ("gmtime_r", "EOVERFLOW")]

    LISTENERS = ", ".join([
        ECHO, listener("upper", "PORT1", address="*", end_word="end", greeting="hello", allow=["10.0.0.0/8"]),
        listener("greet", path="DIR/echo", text="text")])

    def start_with(self, rule):
        """Returns False when there is no such call. Either the start fails and says why, or the daemon serves."""
        settings = f'workers = 2; allow = [ "127.0.0.0/8", "::1" ]; deny = [ "127.9.0.0/16" ]; {QUIET}'
        with daemons.Daemon(self.LISTENERS, settings, faults=rule, ready=False) as daemon:
            if daemon.wait_started():
                hit = daemon.faults.hits() > 0
                daemon.faults.disarm()
                self.assert_serves(daemon)
                daemon.stop()
                return hit
            self.assertIn(daemon.wait(), (CANNOT_LISTEN, SYSTEM_ERROR, BAD_SETTINGS), daemon.log())
            self.assertRegex(daemon.log(), r"[a-z]{3}.*\n")
            self.assertGreater(daemon.faults.hits(), 0)
            return True

    def sweep(self, calls):
        met = 0
        for call, error in calls:
            for number in range(1, MANY):
                with told(f"{call}:{error}:{number}"):
                    if not self.start_with(f"{call}:{error}:{number}"):
                        break
                met += 1
            else:
                self.fail(f"more than {MANY} calls of {call}")
        return met

    def test_every_allocation(self):
        self.assertGreater(self.sweep([item for item in self.CALLS if item[1] == "ENOMEM"]), 30)

    def test_every_call(self):
        self.assertGreater(self.sweep([item for item in self.CALLS if item[1] != "ENOMEM"]), 20)


class Actions(TestCase):
    """--test, --dump and --help without memory: an error is told and is the status, and there is no half of an output."""

    def test_allocations(self):
        with daemons.Daemon(Start.LISTENERS) as daemon:
            for action in ("--test", "--dump", "--help", "--version"):
                whole = daemons.run_daemon("-c", daemon.config, action, faults="").stdout
                for call in (*MEMORY_CALLS, "fflush", "open_memstream", "fopen", "open", "read", "fstat"):
                    for number in range(1, MANY):
                        page = daemons.Faults(daemon.path("page"))
                        error = "EIO" if call in ("fflush", "fopen", "open", "read", "fstat") else "ENOMEM"
                        with told(f"{action} with {call}:{error}:{number}"):
                            result = daemons.run_daemon("-c", daemon.config, action, "-p", "0",
                                                        faults=f"{call}:{error}:{number}",
                                                        environment={"FAULTS_FILE": page.path})
                            if result.returncode == 0:
                                self.assertEqual(result.stderr, "")
                                if action != "--dump":
                                    self.assertEqual(result.stdout, whole)
                            else:
                                self.assertIn(result.returncode, (64, SYSTEM_ERROR, BAD_SETTINGS))
                                self.assertRegex(result.stderr, r"[a-z]{3}.*\n")
                        if page.hits() == 0:
                            break
                    else:
                        self.fail(f"more than {MANY} calls of {call}")


class Accept(TestCase):
    def test_a_clients_own_errors_are_passed_over(self):
        for error in ("ECONNABORTED", "EPROTO", "EPERM", "EINTR", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT"):
            with self.subTest(error), daemons.Daemon(settings=DEBUG, faults=f"accept4:{error}:1-3") as daemon:
                self.assert_serves(daemon)
                self.assertEqual(daemon.faults.hits(), 3)
                self.assertEqual(daemon.count_log("warning|error"), 0)

    def test_shortage(self):
        for error in ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"):
            for policy in ("wait", "refuse"):
                with self.subTest(error=error, policy=policy), \
                        daemons.Daemon(settings=DEBUG + f'overload = "{policy}";', faults=f"accept4:{error}:1-2") as daemon:
                    self.assert_serves(daemon)
                    self.assertEqual(daemon.faults.hits(), 2)
                    daemon.wait_log("notice: no room for new clients: descriptor_limit")

    def test_others_are_told_and_tried_again(self):
        with daemons.Daemon(settings=DEBUG, faults="accept4:EINVAL:1-2") as daemon:
            self.assert_serves(daemon)
            self.assertGreaterEqual(daemon.count_log(r"warning: cannot accept on 127\.0\.0\.1:\d+: Invalid argument; will try again"), 1)

    def test_a_lasting_error_does_not_spin(self):
        with daemons.Daemon(settings=DEBUG, faults="accept4:EINVAL") as daemon, daemon.connect() as client:
            client.sendall(b"x")
            daemon.faults.wait_hits(3)
            before, start = daemon.faults.hits(), time.monotonic()
            self.assertTrue(harness.is_silent(client, 0.5))
            tries = daemon.faults.hits() - before
            self.assertLess(tries, 2 + 10 * (time.monotonic() - start), "one each tenth of a second")
            daemon.faults.disarm()
            self.assertEqual(client.recv(1), b"x")

    def test_polling_cannot_be_changed(self):
        """Neither when it is to pause, nor when it is to go on."""
        with daemons.Daemon(settings=DEBUG + "max_connections = 1;", faults="") as daemon:
            daemon.faults.arm("epoll_ctl_mod@main:ENOMEM:1-3")
            clients = daemon.connect_many(3)
            for client in clients:
                client.sendall(b"x")
            daemon.faults.wait_hits(1)
            for client in clients:
                self.assertEqual(client.recv(1), b"x")
                client.close()
            daemon.wait_log("warning: cannot accept on .*: Cannot allocate memory")

    def test_no_memory_for_the_source(self):
        with daemons.Daemon(settings=DEBUG, faults="") as daemon:
            daemon.faults.arm("malloc@main:ENOMEM")
            self.assertTrue(is_refused(daemon.connect()))
            daemon.wait_log(r"notice: client .* refused on .*: error$")
            daemon.faults.disarm()
            self.assert_serves(daemon)

    def test_no_memory_for_many_sources(self):
        """The table cannot grow, and works on."""
        with daemons.Daemon(settings=DEBUG, faults="") as daemon:
            daemon.faults.arm("calloc@main:ENOMEM")
            for number in range(200):
                ping(daemon.connect(source=f"127.0.1.{number + 1}"))
            self.assertGreater(daemon.faults.hits(), 0)


class Loops(TestCase):
    """A loop that cannot wait serves nobody: the daemon ends, and its manager starts it afresh."""

    def test_main(self):
        with daemons.Daemon(faults="") as daemon:
            daemon.faults.arm("epoll_wait@main:EBADF")
            with contextlib.suppress(OSError):
                daemon.connect().close()
            self.assertEqual(daemon.wait(), SYSTEM_ERROR)
            self.assertRegex(daemon.log(), "error: cannot wait for events: Bad file descriptor")

    def test_worker(self):
        """That waits, or looks again and again."""
        for settings in ("workers = 2;", "busy_poll_usec = 50; workers = 1;"):
            with self.subTest(settings), daemons.Daemon(settings=settings, faults="") as daemon, daemon.connect() as client:
                ping(client)
                daemon.faults.arm("epoll_wait@worker:EINVAL:1")
                with contextlib.suppress(OSError):
                    client.sendall(b"x")
                self.assertEqual(daemon.wait(), SYSTEM_ERROR)
                self.assertRegex(daemon.log(), "error: .*worker.* cannot wait for events: Invalid argument")

    def test_interrupted(self):
        with daemons.Daemon(faults="epoll_wait:EINTR:/3") as daemon, Traffic(daemon.connect) as traffic:
            traffic.pass_by()

    def test_a_signal_that_is_read_late(self):
        with daemons.Daemon(settings=DEBUG, faults="") as daemon:
            daemon.faults.arm("read@main:EAGAIN:1-3")
            daemon.send_signal(signal.SIGUSR1)
            daemon.wait_log("counters: ")
            self.assert_serves(daemon)

    def test_a_wake_that_is_read_late(self):
        with daemons.Daemon(settings=DEBUG, faults="read@worker:EAGAIN:1-5") as daemon:
            self.assert_serves(daemon)
            self.assertEqual(daemon.faults.hits(), 5)


class Connections(TestCase):
    """What goes wrong with one connection ends it with the right reason, and no other."""

    @contextlib.contextmanager
    def daemon(self, listeners=None, settings=""):
        with daemons.Daemon(listeners, f"workers = 1; {settings} {DEBUG}", faults="") as daemon:
            yield daemon

    def spoilt(self, daemon, rules, say=b"x"):
        """A client whose connection the daemon ends, whatever way it sees that."""
        with daemon.connect() as other, daemon.connect() as client:
            ping(other)
            ping(client)
            daemon.faults.arm(rules)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(say)
                harness.receive_all(client)
            daemon.faults.wait_hits()
            daemon.faults.disarm()
            self.assertEqual(harness.exchange(other, b"the other"), b"the other")

    def test_recv_and_send(self):
        for rules, reason in (("recv@worker:EIO:1", "error: Input/output error"),
                              ("recv@worker:ENOMEM:1", "error: Cannot allocate memory"),
                              ("recv@worker:ECONNRESET:1", "reset"),
                              ("recv@worker:ETIMEDOUT:1", "error: Connection timed out"),
                              ("send@worker:EIO:1", "error: Input/output error"), ("send@worker:EPIPE:1", "reset"),
                              ("send@worker:ECONNRESET:1", "reset"),
                              ("send@worker:ENOBUFS:1", "error: No buffer space available")):
            with self.subTest(rules), self.daemon() as daemon:
                self.spoilt(daemon, rules)
                daemon.wait_log(rf"connection 2 .*closed: {reason}, ")
                daemon.wait_log("connection 1 .*closed: client_closed")
                self.assert_serves(daemon)

    def test_not_yet(self):
        """EAGAIN without a cause costs time at most."""
        for rules in ("recv@worker:EAGAIN:/2", "send@worker:EAGAIN:/2", "send@worker:EAGAIN:1-5"):
            with self.subTest(rules), daemons.Daemon(settings=DEBUG, faults=rules) as daemon:
                for _ in range(10):
                    data = harness.pattern(4000)
                    harness.assert_same(daemon.exchange(data), data)
                self.assertGreater(daemon.faults.hits(), 0)

    def test_bulk(self):
        """Whatever splice(2) does, each byte comes back, or the connection is closed with the reason."""
        data = harness.pattern(1000000)
        for rules in ("splice@worker:EAGAIN:/2", "splice@worker:EAGAIN:/3", "splice@worker:short=5000:/2",
                      "splice@worker:short=7:/3", "splice@worker:EINVAL:/4", "splice@worker:ENOSYS", "splice@worker:EPERM",
                      "pipe2:EPERM"):
            with self.subTest(rules), daemons.Daemon(settings=DEBUG, faults=rules) as daemon:
                harness.assert_same(daemon.exchange(data), data)
                self.assertGreater(daemon.faults.hits(), 0)
        for rules, reason in (("splice@worker:ECONNRESET:3", "reset"), ("splice@worker:EIO:4", "error: Input/output error"),
                              ("splice@worker:EPIPE:4", "reset"),
                              ("splice@worker:short=9:/2,malloc@worker:ENOMEM", "error: Cannot allocate memory")):
            with self.subTest(rules), self.daemon() as daemon:
                self.spoilt(daemon, rules, data)
                daemon.wait_log(rf"connection 2 .*closed: {reason}, ")
                self.assert_serves(daemon)

    def test_nothing_for_a_connection(self):
        """No memory, or no place in what is polled."""
        for rules, error in (("malloc@worker:ENOMEM:1", "Cannot allocate memory"),
                             ("epoll_ctl_add@worker:ENOSPC:1", "No space left on device")):
            with self.subTest(rules), self.daemon() as daemon:
                daemon.faults.arm(rules)
                self.assertTrue(is_refused(daemon.connect()))
                daemon.wait_log(f"connection 1 .*closed: error: {error}, echo on .*, worker 1, 0 bytes in, 0 out")
                self.assert_serves(daemon)
                harness.wait_until(lambda: daemon.counters()[0].startswith("0 connections, 0 queued, 2 accepted"), "the end of both")

    def test_nothing_for_unsent_bytes(self):
        for rules in ("send@worker:short=10,malloc@worker:ENOMEM", "epoll_ctl_mod@worker:ENOMEM,send@worker:short=10"):
            with self.subTest(rules), self.daemon() as daemon:
                self.spoilt(daemon, rules, bytes(1000))
                daemon.wait_log("connection 2 .*closed: error: Cannot allocate memory, ")
                self.assert_serves(daemon)

    def test_no_memory_for_a_large_scratch_buffer(self):
        """unsent_limit above the buffer that every worker has from the start."""
        for service in ("echo", "chargen"):
            with self.subTest(service), self.daemon(listener(service), "unsent_limit = 1048576;") as daemon:
                daemon.faults.arm("malloc@worker:ENOMEM:2-")
                client = daemon.connect()
                if service == "chargen":
                    self.assertTrue(client.recv(1))  # this service makes little at a time
                    continue
                client.sendall(b"x")
                self.assertTrue(is_refused(client))
                daemon.wait_log("connection 1 .*closed: error: Cannot allocate memory, ")
                daemon.faults.disarm()
                self.assert_serves(daemon)

    def test_shutdown(self):
        """The connection is closed instead; the client has its answer all the same."""
        listeners = listener("greet", text="hello")
        for error in ("ENOTCONN", "ENOBUFS"):
            with self.subTest(error), self.daemon(listeners) as daemon:
                daemon.faults.arm(f"shutdown:{error}")
                with daemon.connect() as client:
                    self.assertEqual(harness.receive_all(client), b"hello")
                daemon.wait_log("connection 1 .*closed: served, ")
                self.assertEqual(daemon.faults.hits(), 1)

    def test_the_rest_after_the_answer(self):
        """What fails while the daemon only waits for the client's FIN changes no reason."""
        listeners = listener("greet", text="hello")
        for error in ("ECONNRESET", "EIO"):
            with self.subTest(error), self.daemon(listeners) as daemon, daemon.connect() as client:
                self.assertEqual(harness.receive_all(client), b"hello")
                daemon.faults.arm(f"recv@worker:{error}")
                client.sendall(b"x")
                daemon.wait_log("connection 1 .*closed: served, ")

    def test_the_kernels_write_timeout(self):
        """TCP_USER_TIMEOUT may come before our own timer."""
        with self.daemon(settings="write_timeout = 600.0; unsent_limit = 4096;") as daemon, daemon.connect() as client:
            harness.fill(client)
            daemon.faults.arm("send@worker:ETIMEDOUT")
            with contextlib.suppress(OSError):
                while client.recv(65536):
                    pass
            daemon.wait_log("connection 1 .*closed: write_timeout, ")

    def test_a_reset_that_cannot_be_asked_for(self):
        """The connection is closed all the same. On a busy machine the kernel's timeout may come before ours, once or twice."""
        with self.daemon(settings="write_timeout = 0.3; unsent_limit = 4096;") as daemon:
            daemon.faults.arm("setsockopt@worker:ENOMEM")
            for number in range(1, 11):
                with contextlib.suppress(OSError):
                    harness.fill(daemon.connect())
                daemon.wait_log(f"connection {number} .*closed: write_timeout, ")
                if daemon.faults.hits():
                    break
            self.assertEqual(daemon.faults.hits(), 1)

    def test_clocks_that_cannot_be_told(self):
        with self.daemon(listener("daytime")) as daemon:
            daemon.faults.arm("localtime_r:EOVERFLOW,gmtime_r:EOVERFLOW")
            with daemon.connect() as client:
                harness.receive_all(client)
            daemon.wait_log("connection 1 .*closed: served, ")


class Short(TestCase):
    """Reads and writes of any length: no byte is lost, repeated or out of order."""

    def check(self, rules, size, index=0):
        data = harness.pattern(size)
        listeners = f"{ECHO}, {listener('upper', 'PORT1', end_word='never')}"
        with self.subTest(rules), daemons.Daemon(listeners, f"workers = 1; {QUIET}", faults=rules) as daemon:
            harness.assert_same(daemon.exchange(data, index), data.upper() if index else data)
            self.assertGreater(daemon.faults.hits(), 0)

    def test_each(self):
        for rules, size in (("recv@worker:short=100", 1 << 19), ("send@worker:short=100", 1 << 19),
                            ("recv@worker:short=61,send@worker:short=53", 1 << 19),
                            ("send@worker:short=1:/2,recv@worker:short=1000", 1 << 19),
                            ("send@worker:EAGAIN:/3,send@worker:short=777", 1 << 19),
                            ("recv@worker:short", 1 << 15), ("send@worker:short", 1 << 15),
                            ("recv@worker:short,send@worker:short", 1 << 15)):
            self.check(rules, harness.scale(size, size >> 2))
        self.check("recv@worker:short=7,send@worker:short=3", harness.scale(1 << 16, 1 << 14), 1)

    def test_a_slow_service(self):
        listeners = ", ".join([listener("greet", text="a text of some length\n", greeting="hello\n"),
                               listener("daytime", "PORT1"),
                               listener(port="PORT2", greeting="hello\n", end_word="end")])
        with daemons.Daemon(listeners, DEBUG, faults="send@worker:short,recv@worker:short") as daemon:
            self.assertEqual(daemon.exchange(b"", 0), b"hello\na text of some length\n")
            self.assertGreater(len(daemon.exchange(b"", 1)), 10)
            with daemon.connect(2) as client:
                client.sendall(b"a\nend\nb")
                self.assertEqual(harness.receive_all(client), b"hello\na\nend\n")

    def test_lines_of_the_log(self):
        with daemons.Daemon(settings=DEBUG, faults="write@log:short=5,write@log:EINTR:/7") as daemon:
            for _ in range(20):
                self.assert_serves(daemon)
            daemon.stop()
            for line in daemon.log().splitlines():
                self.assertRegex(line, r"\A\S+Z (notice|info|debug): \S")
            self.assertEqual(daemon.count_log("closed: client_closed"), 20)


class LogSinks(TestCase):
    def test_stderr(self):
        with daemons.Daemon(settings=DEBUG, faults="") as daemon:
            daemon.faults.arm("write@log:EIO:1-4")
            for _ in range(4):
                self.assert_serves(daemon)
            daemon.wait_log(r"warning: \d messages? (was|were) lost because the log did not take (it|them) in time")
            self.assertEqual(daemon.faults.hits(), 4)

    def test_journal(self):
        harness.needs_root()
        wrapper = [harness.needs("unshare"), "--mount", "sh", "-c",
                   'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && touch /run/systemd/journal/socket && exec "$@"', "sh"]
        for rules in ("sd_journal_sendv:ENOENT", "sd_journal_sendv:EINTR:/2,sd_journal_sendv:EPERM", "access:EACCES"):
            with self.subTest(rules), \
                    daemons.Daemon(settings='log = { level = "debug"; target = "journal"; };', faults=rules,
                                                     wrapper=wrapper) as daemon:
                for _ in range(10):
                    self.assert_serves(daemon)
                daemon.faults.wait_hits(10)

    def test_polling_at_the_stop(self):
        with daemons.Daemon(settings=DEBUG, faults="poll:EINTR:1-3") as daemon:
            self.assert_serves(daemon)
            daemon.stop()


class Reload(TestCase):
    BEFORE = config_text(settings=QUIET)
    AFTER = config_text(", ".join([listener("upper"),
                                   listener(port="PORT1", address="*", greeting="g", allow=["127.0.0.0/8"]),
                                   listener("greet", path="DIR/echo", text="t")]),
                        QUIET + 'idle_timeout = 100.0; deny = [ "10.0.0.0/8" ];')

    def reload(self, daemon):
        """True: done; False: refused."""
        done, failed = daemon.count_log("notice: reloaded "), daemon.count_log("error: not reloaded")
        daemon.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: daemon.count_log("notice: reloaded ") > done or daemon.count_log("error: not reloaded") > failed,
                           "the end of a reload")
        return daemon.count_log("notice: reloaded ") > done

    def sweep(self, calls):
        """Each call fails once: the reload changes everything or nothing, and traffic goes on."""
        refused = 0
        with daemons.Daemon(config=self.BEFORE, faults="") as daemon, \
                Traffic(daemon.connect, bulk=1, ping_pong=1, newcomers=0) as traffic:
            before = daemon.listening()
            descriptors = daemon.descriptors()
            for call, error in calls:
                for number in range(1, MANY):
                    with told(f"{call}:{error}:{number}"):
                        daemon.write_config(self.AFTER)
                        daemon.faults.arm(f"{call}@main:{error}:{number}")
                        done = self.reload(daemon)
                        hit = daemon.faults.hits() > 0
                        daemon.faults.disarm()
                        self.assertEqual(daemon.exchange(b"x"), b"X" if done else b"x")
                        if not done:
                            self.assertEqual(daemon.listening(), before)
                            harness.wait_until(lambda: daemon.descriptors() <= descriptors + 1,
                                               "descriptors to be given back")
                            refused += 1
                        else:
                            self.assertEqual(len(daemon.listening()), 2)
                            daemon.write_config(self.BEFORE)
                            self.assertTrue(self.reload(daemon))
                            self.assertEqual(daemon.listening(), before)
                    if not hit:
                        break
                else:
                    self.fail(f"more than {MANY} calls of {call}")
                traffic.check()
            traffic.pass_by()
        return refused

    def test_out_of_memory(self):
        self.assertGreater(self.sweep([(call, "ENOMEM") for call in MEMORY_CALLS]), 10)

    def test_every_call(self):
        self.assertGreater(self.sweep([("open", "EMFILE"), ("fopen", "EMFILE"), ("fdopen", "ENOMEM"), ("fstat", "EIO"),
                                       ("socket", "EMFILE"), ("bind", "EADDRINUSE"), ("listen", "EADDRINUSE"),
                                       ("fchmod", "EPERM"), ("fcntl", "ENOLCK"),
                                       ("getsockname", "ENOBUFS"), ("epoll_ctl_add", "ENOMEM"), ("setsockopt", "ENOMEM"),
                                       ("lstat", "EIO")]), 5)

    def test_a_kept_socket_that_cannot_be_changed(self):
        with daemons.Daemon(config=self.BEFORE, faults="") as daemon:
            daemon.write_config(self.BEFORE.replace("echo", "upper") + "tcp_keepalive = 30;")
            daemon.faults.arm("setsockopt@main:ENOMEM:2-6")
            self.assertTrue(self.reload(daemon))
            daemon.wait_log(r"warning: 127\.0\.0\.1:\d+: cannot change the socket's options: Cannot allocate memory")
            self.assertEqual(daemon.exchange(b"x"), b"X")


class Stop(TestCase):
    def test_every_call(self):
        """A stop ends well whatever fails on its way."""
        listeners = f"{ECHO}, {listener(path='DIR/echo')}"
        for call, error in (("ioctl", "EINVAL"), ("shutdown", "ENOTCONN"), ("setsockopt", "ENOMEM"), ("accept4", "EINVAL"),
                            ("accept4", "EMFILE"), ("unlink", "EACCES"), ("lstat", "EIO"), ("sd_pid_notify_with_fds", "EPIPE"),
                            ("recv", "ECONNRESET"), ("epoll_ctl", "ENOMEM"), ("malloc", "ENOMEM"), ("poll", "EINTR"),
                            ("write@log", "EIO"), ("read", "EINTR:1-3")):
            with self.subTest(call), daemons.Daemon(listeners, DEBUG, faults="") as daemon:
                clients = daemon.connect_many(5)
                for client in clients:
                    ping(client)
                daemon.faults.arm(f"{call}:{error}")
                daemon.send_signal(signal.SIGTERM)
                for client in clients:
                    self.assertEqual(client.recv(1), b"")
                    client.close()
                self.assertEqual(daemon.wait(), 0)

    def test_no_room_for_the_last_arrivals(self):
        """The queue has no room, or memory none: who is in the backlog is refused rather than left hanging."""
        with daemons.Daemon(settings=f"workers = 1; queue_depth = 1; drain_timeout = 5.0; {DEBUG}", faults="") as daemon:
            daemon.hold_main_loop()
            clients = daemon.connect_many(20)
            daemon.send_signal(signal.SIGTERM)
            daemon.faults.disarm()
            for client in clients:
                self.assertEqual(client.recv(1), b"")
                client.close()
            self.assertEqual(daemon.wait(), 0)


if __name__ == "__main__":
    harness.main(jobs=4)
