"""The journal: the fields of each kind of event, and what the catalog says of it."""

import contextlib
import os
import re
import signal
import socket
import time

import machine
from machine import harness

LISTENERS = """listeners = (
  { address = "127.0.0.1"; port = 7; service = "echo"; },
  { address = "127.0.0.1"; port = 7008; service = "upper"; end_word = "end"; },
  { address = "127.0.0.1"; port = 13; service = "daytime"; },
  { address = "127.0.0.1"; port = 9; service = "discard"; idle_timeout = 0.2; },
  { address = "::1"; port = 19; service = "chargen"; }%s
);
"""

# The kinds of the catalog, by what they are called here.
KINDS = {
    "listening": "c042810a8f504d11af1f96ec0be804d6",
    "cannot_listen": "1080276ad938445b986d118c4e11256b",
    "ready": "d9f0986eaf554321a88221b4644b60ff",
    "mistake": "5bc74c30c1844a8e9ddd8a4af76c7db9",
    "reload": "c12451b408ac4865a619c1ba87eed999",
    "limits": "06e0a4e6b8cb4c3bb5a0fd8acbdbb77b",
    "system": "59ed5db7d14b4af997d4347bb6671cb1",
    "stuck": "8c3f6f0e5ad94a0f9a4fca1f2f6f3c55",
    "stop": "7e3ac0ff9e74443d99aa15f4b22f5dd3",
    "handover": "9fea9f2f868b42a380bbe3ac44b16dfb",
    "counters": "402c0c3befeb4567967713130f40bfb1",
    "connected": "d82550e56b424d2eb7e50e8d25aacd69",
    "closed": "a0207d5af9e74255b495d0bc6886541c",
    "refused": "0b4aa9233cc84bfa9e4423611b5b611e",
    "waiting": "ab6276f55abf467ea21867d10d71c3d8",
    "accept_failed": "ee0238765a064675bf5376129657ec76",
    "trace": "38599c3ca93b4217978aed13ce7db314",
    "lost": "8e24615adac94fb9ada0d798708c7853",
    "held_back": "8318817a9a1845f18d1a10f3871d6eab",
    "misbehaving": "dfcef1712ad049d49a3e27da5ae19c6e",
    "trusting": "66ab4fb0387647148a540b8cd624ae23",
    "diverted": "67df34521d4549a99c3d66fc20e8ac98",
}


class Journal(machine.TestCase):
    def start(self, settings="", more_listeners="", faults=None):
        self.machine.write(machine.CONF, LISTENERS % more_listeners + settings)
        if faults is not None:
            self.machine.use_faults(faults)
        self.machine.systemctl("start", "tcpechod")

    def wait_kind(self, kind, count=1, **fields):
        """Waits for `count` entries of a kind with these fields; returns the last."""
        matches = [f"MESSAGE_ID={KINDS[kind]}"] + [f"TCPECHOD_{name.upper()}={value}" for name, value in fields.items()]
        return self.machine.wait_journal("", *matches, count=count)

    def assert_fields(self, entry, **fields):
        self.assertEqual({name: entry.get(name) for name in (f"TCPECHOD_{each.upper()}" for each in fields)},
                         {f"TCPECHOD_{name.upper()}": str(value) for name, value in fields.items()})

    def assert_explained(self, entry, subject):
        """journalctl -x has the catalog's text below the message."""
        kind = f"MESSAGE_ID={entry['MESSAGE_ID']}"
        text = self.machine.journalctl("-x", "-u", "tcpechod", kind)
        self.assertRegex(text, rf"(?m)^.* Subject: {subject}$")
        self.assertRegex(text, r"(?m)^.* Documentation: man:tcpechod(\.conf\(5\)|-messages\(7\)|(\.service)?\(8\))$")
        self.assertNotIn("@TCPECHOD_", text)

    # -- connections --

    def test_closed_has_every_fact(self):
        self.start()
        start = time.monotonic()
        with self.machine.connect(7008) as client:
            name = "{}:{}".format(*client.getsockname())
            client.sendall(b"hello\nend\nnot answered")
            self.assertEqual(harness.receive_all(client), b"HELLO\nEND\n")
        entry = self.wait_kind("closed")
        longest = (time.monotonic() - start) * 1e6
        self.assert_fields(entry, connection=1, client=name, listener="127.0.0.1:7008", service="upper", bytes_out=10,
                           reason="end_word")
        self.assertGreaterEqual(int(entry["TCPECHOD_BYTES_IN"]), 10)
        self.assertLessEqual(int(entry["TCPECHOD_BYTES_IN"]), 22)
        self.assertTrue(0 < int(entry["TCPECHOD_DURATION_USEC"]) < longest, entry)
        self.assertGreaterEqual(int(entry["TCPECHOD_WORKER"]), 1)
        self.assertEqual((entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]), ("6", "tcpechod"))
        self.assertIn("end_word", entry["MESSAGE"])
        self.assert_explained(entry, "A connection of tcpechod was closed: end_word")

    def test_stop_tells_what_it_drained(self):
        self.start()
        with self.machine.connect(7) as client:
            client.sendall(b"hello")
            self.assertEqual(client.recv(5), b"hello")
            self.machine.systemctl("stop", "tcpechod")
        self.assert_fields(self.wait_kind("closed", reason="drained"), bytes_in=5, bytes_out=5)
        self.assert_explained(self.wait_kind("stop", 2), "tcpechod stops")

    def test_a_restart_is_explained(self):
        self.start()
        with self.machine.connect(7):
            self.machine.systemctl("restart", "tcpechod")
        self.assert_explained(self.wait_kind("handover", 2), "tcpechod hands over to a new process, or has taken over")

    def test_misbehaviour_has_its_seed_and_its_end(self):
        self.start(more_listeners=', { address = "127.0.0.1"; port = 8001; lose = 0.1; seed = 7; limit = 3; }')
        entry = self.wait_kind("misbehaving", listener="127.0.0.1:8001", seed=7)
        self.assertEqual(entry["PRIORITY"], "5")
        self.assert_explained(entry, "A listener of tcpechod misbehaves on purpose")
        with self.machine.connect(8001) as client:
            client.sendall(bytes(1000))
            self.assertEqual(harness.receive_all(client), bytes(3))
        self.assert_fields(self.wait_kind("closed"), reason="fault", fault="limit", bytes_out=3)

    def test_proxies_that_anybody_may_be(self):
        self.start(more_listeners=', { address = "0.0.0.0"; port = 8001; proxy_protocol = true; }')
        entry = self.wait_kind("trusting")
        self.assertEqual(entry["PRIORITY"], "4")
        self.assert_explained(entry, "A listener of tcpechod believes everyone who the client is")

    def test_connected_and_trace_follow_one_connection(self):
        self.start('log = { level = "debug"; };\n', ', { address = "127.0.0.1"; port = 8001; trace = true; }')
        with self.machine.connect(8001) as client:
            name = "{}:{}".format(*client.getsockname())
            self.assertEqual(harness.exchange(client, b"caf\xc3\xa9\n\0"), b"caf\xc3\xa9\n\0")
        self.wait_kind("closed", connection=1)
        entries = [entry for entry in self.machine.journal("TCPECHOD_CONNECTION=1")]
        self.assertEqual([entry["MESSAGE_ID"] for entry in entries],
                         [KINDS[kind] for kind in ("connected", "trace", "trace", "closed")])
        for entry in entries:
            self.assert_fields(entry, client=name, listener="127.0.0.1:8001", service="echo",
                               worker=entries[0]["TCPECHOD_WORKER"])
        self.assertIn('sent 7 bytes: "', entries[1]["MESSAGE"])
        self.assertEqual(entries[0]["PRIORITY"], "7")
        self.assert_explained(entries[0], "A client of tcpechod has connected")
        self.assert_explained(entries[1], "What a client of tcpechod has sent or was sent")

    def test_refused_says_who_and_why(self):
        self.start('max_connections_per_source = 1;\ndeny = [ "127.0.0.2" ];\n')
        with socket.create_connection(("127.0.0.1", 7), harness.patience(), ("127.0.0.2", 0)) as client:
            name = "{}:{}".format(*client.getsockname())
            self.assertIn(harness.receive_all(client), (b"",))
        entry = self.wait_kind("refused", reason="denied")
        self.assert_fields(entry, client=name, listener="127.0.0.1:7", service="echo")
        self.assertEqual(entry["PRIORITY"], "5")
        with self.machine.connect(7) as first:
            first.sendall(b"1")
            first.recv(1)
            with self.machine.connect(7) as second:
                harness.receive_all(second)
        self.wait_kind("refused", reason="per_source")
        self.assert_explained(entry, "A client of tcpechod was refused: denied")

    def test_waiting_when_it_is_full(self):
        self.start("max_connections = 1;\n")
        with self.machine.connect(7) as first:
            first.sendall(b"1")
            first.recv(1)
            with self.machine.connect(7) as second:
                entry = self.wait_kind("waiting", reason="max_connections")
                first.close()
                self.assertEqual(harness.exchange(second, b"now"), b"now")
        self.assert_explained(entry, "New clients of tcpechod have to wait: max_connections")

    # -- the daemon --

    def test_life_of_the_daemon(self):
        self.machine.drop_in("[Service]\nLimitNOFILE=200\n")
        self.start("max_connections = 5000;\n")
        listening = self.wait_kind("listening", 5)
        self.assert_fields(listening, listener="[::1]:19", service="chargen")
        self.assertRegex(self.wait_kind("ready")["MESSAGE"], r"^ready: 5 listeners, \d+ workers?, room for \d+ connections")
        self.machine.systemctl("kill", "--kill-whom=main", "--signal=USR1", "tcpechod")
        counters = self.wait_kind("counters")
        self.machine.systemctl("reload", "tcpechod")
        reload = self.wait_kind("reload")
        self.assert_explained(listening, "tcpechod listens")
        self.assert_explained(self.wait_kind("ready"), "tcpechod is ready")
        self.assert_explained(self.wait_kind("limits"), "tcpechod has fewer descriptors than it was asked to use")
        self.assert_explained(counters, "The counters of tcpechod")
        self.assert_explained(reload, "A reload of tcpechod")

    def test_what_keeps_it_from_starting(self):
        self.machine.write(machine.CONF, "wrokers = 3;\n")
        self.machine.systemctl("start", "tcpechod", check=False)
        self.assert_explained(self.wait_kind("mistake"), "The settings of tcpechod have a mistake")
        self.machine.write(machine.CONF, LISTENERS % "")
        with socket.create_server(("127.0.0.1", 9)):
            self.machine.systemctl("start", "tcpechod", check=False)
        entry = self.wait_kind("cannot_listen")
        self.assertEqual(entry["PRIORITY"], "3")
        self.assert_explained(entry, "tcpechod cannot listen")

    def test_what_the_system_refuses(self):
        # The second notification is a STATUS=, after READY=1.
        self.start(faults="accept4:EINVAL:1, sd_pid_notify_with_fds:ECONNREFUSED:2")
        self.assertEqual(self.machine.exchange(7, b"in the end\n"), b"in the end\n")
        entry = self.wait_kind("accept_failed")
        self.assert_fields(entry, listener="127.0.0.1:7")
        self.assert_explained(entry, "tcpechod cannot accept clients")
        self.assert_explained(self.wait_kind("system"), "The system has refused something that tcpechod needs")

    # -- the log itself --

    def test_rate_is_told(self):
        self.start("log = { rate = 5; };\n")
        for _ in range(50):
            self.machine.exchange(7, b"x")
        entry = self.wait_kind("held_back")
        self.assertGreater(int(entry["TCPECHOD_HELD_BACK"]), 20)
        self.assert_explained(entry, "Messages of tcpechod were held back")

    @contextlib.contextmanager
    def frozen_journald(self):
        journald = self.machine.main_pid("systemd-journald.service")
        os.kill(journald, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(journald, signal.SIGCONT)

    def test_frozen_journald_costs_messages_and_no_traffic(self):
        self.start("log = { rate = 0; };\n")
        with self.frozen_journald():
            self.many_clients(3000)
        entry = self.wait_kind("lost")
        self.assertGreater(int(entry["TCPECHOD_LOST"]), 0)
        self.assert_explained(entry, "Messages of tcpechod were lost")
        # Nor does it keep the daemon from its stop.
        with self.frozen_journald():
            self.many_clients(100)
            stopping = self.machine.start("systemctl", "restart", "tcpechod")
            self.assertEqual(stopping.wait(harness.patience()), 0)
            self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")

    def many_clients(self, count):
        for _ in range(count):
            self.machine.exchange(7, b"x")

    # -- the catalog --

    def test_catalog_has_the_kinds_that_are_tested_here(self):
        listed = self.machine.run("journalctl", "--list-catalog").stdout
        ours = set(re.findall(r"(?m)^([0-9a-f]{32}) tcpechod: ", listed))
        self.assertEqual(ours, set(KINDS.values()), listed[-300:])


if __name__ == "__main__":
    harness.main()
