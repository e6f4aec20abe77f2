#!/usr/bin/env python3
"""What tcpecho tells programs: JSON in every mode, comma-separated values, metrics for Prometheus, a check for Nagios."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import tempfile
import threading

import client
import daemons
import harness

LISTENERS = """
    { address = "127.0.0.1"; port = PORT; service = "echo"; },
    { address = "127.0.0.1"; port = PORT1; service = "discard"; },
    { address = "127.0.0.1"; port = PORT2; service = "chargen"; }
"""

OK, WARNING, CRITICAL, UNKNOWN = range(4)


class TestCase(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = daemons.Daemon(LISTENERS)
        cls.addClassCleanup(cls.daemon.__exit__, None, None, None)
        cls.closed = harness.free_port()
        cls.addClassCleanup(cls.closed.close)


def objects(text):
    """Of lines, each a plain object."""
    return [json.loads(line, object_pairs_hook=client.plain_object) for line in text.decode().splitlines()]


class Json(TestCase):
    def test_talk(self):
        """On stderr, since stdout has the answer."""
        result = client.run("--json", "--expect", "echo", "127.0.0.1", self.daemon.port, stdin=b"hello")
        self.assertEqual((result.status, result.stdout), (0, b"hello"))
        document = json.loads(result.stderr)
        self.assertEqual((document["mode"], document["bytes_sent"], document["bytes_received"]), ("talk", 5, 5))
        self.assertEqual((document["clean"], document["checked"], document["interrupted"]), (True, True, False))

    def test_chat(self):
        with client.Client("--json", "--listen", "127.0.0.1:0") as host:
            port = int(host.wait_stderr(r'"address": "127\.0\.0\.1:(\d+)"').group(1))
            host.end_input()
            client.run("127.0.0.1", port, stdin=b"hi")
            lines = objects(host.finish().stderr.encode())
        self.assertEqual([line["event"] for line in lines], ["listening", "summary"])
        self.assertEqual((lines[1]["mode"], lines[1]["bytes_received"]), ("listen", 2))

    def test_talk_in_trouble(self):
        """Stderr is JSON whatever happens, and says what else would be told there."""
        with client.Server(lambda connection: connection.sendall(b"?")) as server:
            for arguments, status, message in (
                    (("--expect", "echo", "127.0.0.1", server.port), client.WRONG, "wrong answer from .*"),
                    (("127.0.0.1", self.closed), client.REFUSED, "cannot connect to .*"),
                    (("no-such-host.invalid",), client.UNKNOWN, "cannot find no-such-host.invalid: .*"),
                    (("--listen", f"127.0.0.1:{int(self.daemon.port)}"), client.REFUSED, "cannot listen at .*")):
                result = client.run("--json", *arguments, stdin=b"hello")
                document, = objects(result.stderr.encode())
                self.assertEqual((result.status, document["exit_status"], document["clean"]), (status, status, False))
                self.assertRegex(document["message"], rf"\A{message}\Z")

    def test_interrupted_talk(self):
        """It ends by the signal, which is no exit status."""
        with client.Client("--json", "127.0.0.1", self.daemon.port) as process:
            process.send(b"hello")
            self.assertEqual(process.receive(5), b"hello")
            process.interrupt()
            self.assertEqual(process.process.wait(harness.patience()), -signal.SIGINT)
            document, = objects(process.finish().stderr.encode())
        self.assertEqual((document["interrupted"], document["clean"], document["bytes_received"]), (True, False, 5))
        self.assertNotIn("exit_status", document)

    def test_bench_that_does_not_begin(self):
        """A document with figures and the reason, beside the line on stderr."""
        for arguments in ((), ("--send",), ("--receive",)):
            for host, status in ((("127.0.0.1", self.closed), client.REFUSED), (("no-such-host.invalid",), client.UNKNOWN)):
                result = client.run("--bench", *arguments, "--json", *host)
                self.assertEqual(result.status, status)
                document = result.document
                self.assertEqual(result.stderr, f"tcpecho: {document['message']}\n")
                self.assertEqual((document["mode"], document["server"], document["exit_status"]), ("bench", host[0], status))
                self.assertEqual((document["clean"], document["bytes_per_second"], document["connected"]), (False, 0, 0))
        result = client.run("--bench", "--json", "127.0.0.1", self.daemon.port, faults="pthread_create:EAGAIN")
        self.assertEqual((result.status, result.document["exit_status"]), (client.SYSTEM_ERROR, client.SYSTEM_ERROR))

    def test_plan_of_a_bench_that_cannot_begin(self):
        plan = {"connections": 10, "threads": 1, "duration_s": 10}
        both = {**plan, "expect": "echo", "message_bytes": 64, "reconnect": False}
        for arguments, wanted in (((), both), (("--rate", 100, "-n", 50), {**both, "messages": 50, "duration_s": 0.5,
                                                                           "messages_per_second": 100}),
                                  (("--send",), {**plan, "direction": "send", "message_bytes": 262144}),
                                  (("--receive",), {**plan, "direction": "receive", "message_bytes": 262144})):
            document = client.run("--bench", *arguments, "--json", "/nonexistent/socket").document
            self.assertEqual((document["plan"], document["interrupted"]), (wanted, False))
            self.assertEqual(("messages" in document, "messages_per_second" in document), ("expect" in wanted,) * 2)

    def test_ping(self):
        result = client.run("--ping", "--json", "-c", 2, "-i", "10ms", "localhost", self.daemon.port)
        lines = objects(result.stdout)
        self.assertEqual([(line["event"], line.get("seq")) for line in lines], [("reply", 1), ("reply", 2), ("summary", None)])
        for line in lines[:2]:
            self.assertEqual((line["host"], line["message_bytes"]), ("localhost", 64))
            self.assertEqual(line["server"].rpartition(":")[2], str(int(self.daemon.port)))
            self.assertGreater(line["time_us"], 0)
        self.assertEqual((lines[2]["sent"], lines[2]["received"], lines[2]["lost"], lines[2]["clean"]), (2, 2, 0, True))
        self.assertEqual(lines[2]["exit_status"], 0)
        self.assertNotIn("message", lines[2])
        self.assertEqual(len(objects(client.run("--ping", "-q", "--json", "-c", 2, "-i", "10ms", "localhost",
                                                self.daemon.port).stdout)), 1)

    def test_ping_in_trouble(self):
        def serve(connection):
            connection.sendall(harness.receive_exactly(connection, 64).replace(b"P", b"?").replace(b"p", b"?"))

        with client.Server(serve) as server:
            result = client.run("--ping", "--json", "-c", 4, "-i", "100ms", "-W", "100ms", "127.0.0.1", server.port)
        lines = objects(result.stdout)
        events = {line["event"]: line for line in lines}
        self.assertLessEqual({"corrupt", "broken", "reconnected", "summary"}, events.keys())
        self.assertEqual(events["broken"]["error"], "closed by the server")
        self.assertLessEqual({"kind", "offset_bytes", "length_bytes", "text"}, events["corrupt"].keys())
        self.assertFalse(events["summary"]["clean"])

    def test_handshakes(self):
        for port, event in ((self.daemon.port, "connected"), (self.closed, "refused")):
            lines = objects(client.run("--ping", "--connect", "--json", "-c", 1, "127.0.0.1", port).stdout)
            self.assertEqual([line["event"] for line in lines], [event, "summary"])
            self.assertGreaterEqual(lines[0]["time_us"], 0)
            self.assertEqual(lines[1]["refused"], int(event == "refused"))

    def test_no_connection(self):
        """Each host has its objects, and its reason."""
        for place, server, reason in ((f"127.0.0.1:{int(self.closed)}", f"127.0.0.1:{int(self.closed)}", "cannot connect to .*"),
                                      ("no-such-host.invalid", "", "cannot find no-such-host.invalid: .*")):
            result = client.run("--ping", "--json", place)
            self.assertEqual(result.stderr.count("\n"), 1)
            event, summary = objects(result.stdout)
            self.assertEqual((event["event"], summary["event"]), ("not_connected", "summary"))
            for line, key in ((event, "error"), (summary, "message")):
                self.assertEqual((line["host"], line["server"]), (place, server))
                self.assertRegex(line[key], reason)
            self.assertEqual((summary["sent"], summary["clean"], summary["exit_status"]), (0, False, result.status))
            rows = list(csv.DictReader(io.StringIO(client.run("--ping", "--csv", place).stdout.decode())))
            self.assertEqual([row["event"] for row in rows], ["not_connected"])
            self.assertRegex(rows[0]["text"], reason)
            result = client.run("--watch", "--json", place)
            self.assertEqual(result.stderr.count("\n"), 1)
            self.assertRegex(result.document["message"], reason)
            self.assertEqual((result.document["server"], result.document["clean"], result.document["elapsed_s"]),
                             (server or place, False, 0))
        for mode in ("--ping", "--watch"):
            document, = [json.loads(client.run(mode, "--json", "-I", "192.0.2.77", "127.0.0.1").stdout)]
            self.assertRegex(document["message"], "-I 192.0.2.77: .*")

    def test_no_times(self):
        """Null, where nothing was answered; the keys are there."""
        with client.Server(client.discard) as server:
            summary = objects(client.run("--ping", "--json", "-c", 1, "-W", "10ms", "127.0.0.1", server.port).stdout)[-1]
        for name in ("min", "mean", "max", "mdev"):
            self.assertIsNone(summary[f"time_{name}_us"])

    def test_keys_are_documented(self):
        with open(os.path.join(harness.ROOT, "man", "tcpecho.1"), encoding="utf-8") as file:
            words = set(file.read().split())
        found = set(json.loads(client.run("--json", "127.0.0.1", self.daemon.port).stderr))
        for arguments in ((self.daemon.port,), ("--connect", self.closed), ("--connect", self.daemon.port)):
            for line in objects(client.run("--ping", "--json", "-c", 1, "127.0.0.1", *arguments[::-1]).stdout):
                found |= {re.sub("^refused_(?=.*_us)", "time_", key) for key in line} | {line["event"]}
        self.assertGreater(len(found), 25)
        self.assertEqual(found - words, set())


class Csv(TestCase):
    def test_lines(self):
        result = client.run("--ping", "--csv", "-c", 2, "-i", "10ms", "127.0.0.1", self.daemon.port)
        rows = list(csv.DictReader(io.StringIO(result.stdout.decode())))
        self.assertEqual([(row["event"], row["seq"], row["text"]) for row in rows], [("reply", "1", ""), ("reply", "2", "")])
        self.assertRegex(rows[0]["time_us"], r"\A\d+\Z")

    def test_quoted(self):
        """A comma in a name is no end of a field."""
        with tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
            path = os.path.join(directory, 'a,"b')
            with client.Server(client.echo, family=client.socket.AF_UNIX, address=path):
                result = client.run("--ping", "--csv", "-c", 1, path)
        row, = csv.DictReader(io.StringIO(result.stdout.decode()))
        self.assertEqual((row["host"], row["server"]), (path, path))


class Prometheus(TestCase):
    MODES = (("--ping", "-c", 3, "-i", "10ms"), ("--ping", "--connect", "-c", 3, "-i", "10ms"), ("--watch", "-d", "0.3"))

    @contextlib.contextmanager
    def metrics_file(self):
        with tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
            yield os.path.join(directory, "tcpecho.prom")

    def read(self, path):
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_each_mode(self):
        for arguments in self.MODES:
            with self.subTest(arguments=arguments), self.metrics_file() as path:
                result = client.run(*arguments, "--prometheus", path, "127.0.0.1", self.daemon.port)
                self.assertEqual((result.status, result.stderr), (0, ""))
                text = self.read(path)
                self.assertRegex(text, r'(?m)^tcpecho_\w+_up\{.*server="127\.0\.0\.1:\d+".*\} 1$')
                self.assertEqual(os.listdir(os.path.dirname(path)), [os.path.basename(path)])
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)
                if "--ping" in arguments:
                    self.assertRegex(text, r"(?m)^tcpecho_ping_received_total\{.*\} 3$")

    def test_promtool(self):
        promtool = harness.needs("promtool")
        for arguments in self.MODES:
            with self.metrics_file() as path:
                client.run(*arguments, "--prometheus", path, "127.0.0.1", self.daemon.port)
                checked = subprocess.run([promtool, "check", "metrics"], input=self.read(path), capture_output=True, text=True,
                                         check=False)
                self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_while_it_runs(self):
        """It is there from the beginning, whole each time that it is read, and goes on."""
        with self.metrics_file() as path, \
                client.Client("--ping", "-i", "10ms", "-q", "--prometheus", path, "127.0.0.1", self.daemon.port) as process:
            seen = set()

            def grows():
                with contextlib.suppress(FileNotFoundError):
                    text = self.read(path)
                    self.assertRegex(text, r"(?m)^tcpecho_ping_time_seconds_count\{.*\} \d+\n\Z")
                    self.assertRegex(text, r"(?m)^tcpecho_ping_up\{.*\} 1$")
                    seen.add(re.search(r"(?m)^tcpecho_ping_sent_total\{.*\} (\d+)$", text).group(1))
                return len(seen) > 2

            harness.wait_until(grows, "figures that grow")
            process.interrupt()
            self.assertEqual(process.finish().status, 0)

    def test_down(self):
        with self.metrics_file() as path:
            client.run("--ping", "--connect", "-c", 1, "--prometheus", path, "127.0.0.1", self.closed)
            text = self.read(path)
        self.assertRegex(text, r"(?m)^tcpecho_ping_up\{.*\} 0$")
        self.assertRegex(text, r"(?m)^tcpecho_ping_refused_total\{.*\} 1$")

    def test_run_that_fails(self):
        """What an earlier run has left there does not stay, and who was not connected to is in it."""
        closed = f"127.0.0.1:{int(self.closed)}"
        for mode in ("--ping", "--watch"):
            for arguments, server in (((closed,), closed), (("-I", "192.0.2.77", closed), ""),
                                      (("no-such-host.invalid",), "")):
                with self.subTest(mode=mode, arguments=arguments), self.metrics_file() as path:
                    with open(path, "w", encoding="ascii") as file:
                        file.write("tcpecho_up 1\n")
                    result = client.run(mode, "--prometheus", path, *arguments)
                    self.assertNotEqual(result.status, 0)
                    self.assertEqual(result.stderr.count("\n"), 1)
                    text = self.read(path)
                    self.assertRegex(text, rf'(?m)^tcpecho_\w+_up\{{.*server=".*{server}".*\}} 0$')
                    self.assertNotRegex(text, r"(?m)^\w+_up.* 1$")

    def test_one_of_several_hosts_fails(self):
        with self.metrics_file() as path:
            client.run("--ping", "-c", 1, "--prometheus", path, f"127.0.0.1:{self.daemon.port}",
                       f"127.0.0.1:{int(self.closed)}")
            found = re.findall(r'(?m)^tcpecho_ping_up\{host="127\.0\.0\.1:(\d+)",.*\} ([01])$', self.read(path))
        self.assertEqual(found, [(str(int(self.daemon.port)), "1"), (str(int(self.closed)), "0")])

    def test_nothing_is_answered(self):
        """Also when there was still time for an answer at the end."""
        for arguments in (("--ping", "-w", "0.2", "-W", "1h"), ("--watch", "-d", "0.2", "--gap", "1h", "-W", "1h")):
            with client.Server(client.discard) as server, self.metrics_file() as path:
                client.run(*arguments, "--prometheus", path, "127.0.0.1", server.port)
                self.assertEqual(set(re.findall(r"(?m)^tcpecho_\w+_up\{.*\} ([01])$", self.read(path))), {"0"})

    def test_outage_that_lasts_to_the_end(self):
        """A watch that ends in an outage leaves no 'up 1'."""
        with client.Server(client.discard) as server, self.metrics_file() as path:
            client.run("--watch", "-d", "0.3", "--gap", "50ms", "--prometheus", path, "127.0.0.1", server.port)
            self.assertEqual(re.findall(r"(?m)^tcpecho_watch_up\{.*\} ([01])$", self.read(path)), ["0", "0"])

    def test_no_regular_file(self):
        """It would be lost for good: refused before anybody is connected to."""
        with self.metrics_file() as path:
            os.symlink("/dev/null", path)
            for arguments in self.MODES:
                for target in (path, "/dev/null"):
                    result = client.run(*arguments, "--prometheus", target, "127.0.0.1", self.closed)
                    client.assert_one_line(self, result, client.FILE_ERROR,
                                           f"cannot write {target}: it is no regular file, and would be lost")
                    self.assertEqual(result.stdout, b"")
            self.assertEqual(os.readlink(path), "/dev/null")

    def test_no_such_directory(self):
        """It is told, and each mode goes on to its end."""
        with self.metrics_file() as path:
            path = f"{path}.d/x"
            for arguments in self.MODES:
                result = client.run(*arguments, "--prometheus", path, "127.0.0.1", self.daemon.port)
                self.assertEqual((result.status, result.stderr),
                                 (client.FILE_ERROR, f"tcpecho: cannot write {path}: No such file or directory\n"))
                self.assertRegex(result.stdout, b"\n3 messages transmitted, 3 |\n3 connections tried, 3 |\nno outage\n")

    def test_no_such_directory_in_json(self):
        for arguments in self.MODES:
            result = client.run(*arguments, "--json", "--prometheus", "/no/such/x", "127.0.0.1", self.daemon.port)
            document = json.loads(result.stdout if "--watch" in arguments else result.lines[-1])
            self.assertEqual((result.status, document["exit_status"], document["clean"], document["message"]),
                             (client.FILE_ERROR, client.FILE_ERROR, False,
                              "cannot write /no/such/x: No such file or directory"))


class Nagios(TestCase):
    DATA = r"rta=\d+\.\d{3}ms;[\d.]+;[\d.]+;0 pl=[\d.]+%;0;99;0;100"
    NO_TIME = r"rta=U;[\d.]+;[\d.]+;0 pl=100%;0;99;0;100"

    def check(self, state, arguments, text, data="", **options):
        result = client.run(*arguments, **options)
        name = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[state]
        self.assertEqual((result.status, result.stderr), (state, ""), result.stdout)
        self.assertRegex(result.stdout.decode(), rf"\ATCPECHO {name} - {text}{data}\n\Z")

    def test_ping(self):
        place = ("127.0.0.1", self.daemon.port)
        for limits, state, reason in (("10,20", OK, ""), ("1us,20", WARNING, " over 1 us"), ("1us,2us", CRITICAL, " over 2 us")):
            self.check(state, ("--ping", "--nagios", limits, "-i", "10ms", *place),
                       rf"127\.0\.0\.1 \(127\.0\.0\.1:\d+\): 5 of 5 answered, 0% lost, mean \d+\.\d{{3}} ms{reason} \| ",
                       self.DATA)

    def test_handshakes(self):
        self.check(OK, ("--ping", "--connect", "--nagios", "10,20", "-i", "10ms", "-c", 2, "127.0.0.1", self.daemon.port),
                   r".*: 2 of 2 connected, .* \| ", self.DATA)
        self.check(CRITICAL, ("--ping", "--connect", "--nagios", "10,20", "-c", 1, "127.0.0.1", self.closed),
                   r".*: 0 of 1 connected, 100% lost, last failure: Connection refused \| ", self.NO_TIME)

    def test_lost(self):
        """One of three."""
        count = iter(range(100))

        def serve(connection):
            for data in client.chunks(connection, 64):
                if next(count) != 1:
                    connection.sendall(data)

        with client.Server(serve) as server:
            self.check(WARNING, ("--ping", "--nagios", "10,20", "-c", 3, "-i", "20ms", "-W", "100ms", "127.0.0.1", server.port),
                       r".*: 2 of 3 answered, 33\.33% lost, mean .* ms, last failure: no answer in time \| ", self.DATA)

    def answer(self, answers):
        """A server; `answers` takes a message and its number."""
        def serve(connection):
            for number, data in enumerate(client.chunks(connection, 64), 1):
                connection.sendall(answers(data, number))

        return client.Server(serve)

    def test_one_definition_of_lost(self):
        """An outage counts the same for people, machines and a check, whether a message could be sent or not."""
        arguments = ("--ping", "-c", 12, "-i", "20ms", "127.0.0.1")

        def serve(connection):
            for _ in range(3):
                connection.sendall(harness.receive_exactly(connection, 64))
            server.stop()

        for kind in ((), ("--json",), ("--nagios", "1h,1h"), ("--prometheus",)):
            with client.Server(serve) as server, tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
                path = [os.path.join(directory, "x.prom")] if kind == ("--prometheus",) else []
                result = client.run(*arguments, server.port, *kind, *path)
                text = result.stdout.decode()
                if kind == ("--json",):
                    summary = objects(result.stdout)[-1]
                    self.assertEqual((summary["received"], summary["lost"], summary["lost_percent"]), (3, 9, 75))
                    self.assertEqual(summary["sent"] + summary["not_sent"], 12)
                elif kind and not path:
                    self.assertRegex(text, r"WARNING - .*: 3 of 12 answered, 75% lost, .*, last failure: .* pl=75%;0;99;0;100$")
                else:
                    self.assertRegex(text, r"(?m), \d+ not sent, 3 received, 9 lost \(75%\), time ")
                if path:
                    with open(path[0], encoding="utf-8") as file:
                        self.assertRegex(file.read(), r"(?m)^tcpecho_ping_lost_total\{.*\} 9$")

    def test_deadline(self):
        """What has still time at the end is under way, but not when nothing was answered at all."""
        arguments = ("--ping", "--nagios", "1h,1h", "-w", "0.3", "-i", "20ms", "-W", "1h", "127.0.0.1")
        with client.Server(client.discard) as server:
            self.check(CRITICAL, (*arguments, server.port),
                       r".*: 0 of \d+ answered, 100% lost, last failure: no answer by the end \| ", self.NO_TIME)
        with self.answer(lambda data, number: data if number == 1 else b"") as server:
            self.check(OK, (*arguments, server.port), r".*: 1 of 1 answered, 0% lost, mean .* ms \| ", self.DATA)

    def test_wrong_answers(self):
        with self.answer(lambda data, number: bytes(64)) as server:
            self.check(CRITICAL, ("--ping", "--nagios", "1h,1h", "-c", 3, "-i", "20ms", "-W", "100ms", "127.0.0.1", server.port),
                       r".*: 0 of 3 answered, 100% lost, last failure: (wrong bytes|no answer in time) \| ", self.NO_TIME)

    def test_answered_twice(self):
        with self.answer(lambda data, number: data * 2 if number == 1 else data) as server:
            self.check(WARNING, ("--ping", "--nagios", "1h,1h", "-c", 3, "-i", "20ms", "127.0.0.1", server.port),
                       r".*: 3 of 3 answered, 0% lost, mean .* ms, 1 answered twice \| ", self.DATA)

    def test_threshold_of_loss(self):
        """What is over the limit in the data is critical."""
        with self.answer(lambda data, number: data if number == 1 else b"") as server:
            self.check(CRITICAL, ("--ping", "--nagios", "1h,1h", "-c", 150, "-i", "1ms", "-W", "100ms", "127.0.0.1", server.port),
                       r".*: 1 of 150 answered, 99\.33% lost, .* \| ", self.DATA)

    def test_cut_by_a_reset(self):
        """What came was right: lost, and not wrong."""
        def serve(connection):
            connection.sendall(harness.receive_exactly(connection, 64))
            connection.sendall(harness.receive_exactly(connection, 64)[:30])
            client.reset(connection)

        with client.Server(serve) as server:
            self.check(WARNING, ("--ping", "--nagios", "1h,1h", "-c", 2, "-i", "20ms", "127.0.0.1", server.port),
                       r".*: 1 of 2 answered, 50% lost, mean .* ms, last failure: Connection reset by peer \| ", self.DATA)

    def test_bar_in_a_path(self):
        """It separates the data."""
        with tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
            path = os.path.join(directory, "a|b")
            with client.Server(client.echo, family=client.socket.AF_UNIX, address=path):
                for mode in (("--ping", "-c", 1), ("--watch", "-d", "50ms")):
                    line, = client.run(*mode, "--nagios", "1h,1h", path).lines
                    self.assertRegex(line, r"\ATCPECHO OK - [^|]*a\\x7cb[^|]* \| [^|]*\Z")
            line, = client.run("--ping", "--nagios", "1h,1h", path).lines
            self.assertNotIn("|", line)

    def test_reasons_of_a_watch(self):
        with client.Server(client.discard) as server:
            self.check(CRITICAL, ("--watch", "--nagios", "50ms,1h", "-d", "0.1", "-W", "1h", "127.0.0.1", server.port),
                       r".*: longest gap [\d.]+ s over 50 ms, 0 connections failed, the steady client was not answered, watched for .* \| gap=", ".*")
        self.check(UNKNOWN, ("--watch", "--nagios", "1h,1h", "-d", "0.3", "127.0.0.1", self.daemon.port),
                   r".*, \d+ not begun: Too many open files, watched for .* \| gap=", ".*", faults="socket:EMFILE:9-")

    def test_no_connection(self):
        self.check(CRITICAL, ("--ping", "--nagios", "10,20", "127.0.0.1", self.closed), "cannot connect to .*")
        self.check(UNKNOWN, ("--ping", "--nagios", "10,20", "no-such-host.invalid"), "cannot find no-such-host.invalid: .*")

    def test_our_own_fault(self):
        """It says nothing about the server: unknown, and not critical."""
        place = ("127.0.0.1", self.daemon.port)
        for mode in (("--ping",), ("--watch", "-d", "0.3")):
            mode = (*mode, "--nagios", "10,20")
            self.check(UNKNOWN, (*mode, "-I", "192.0.2.77", *place), "-I 192.0.2.77: .*; this host has no such address")
            self.check(UNKNOWN, (*mode, "--prometheus", "/no/such/directory/x", *place), "cannot write /no/such/directory/x: .*")
            for rule in ("socket:EMFILE", "connect:EADDRNOTAVAIL"):
                self.check(UNKNOWN, (*mode, *place), "cannot connect to .*", faults=rule)
        data = r"rta=U;[\d.]+;[\d.]+;0 pl=100%;0;99;0;100"
        self.check(UNKNOWN, ("--ping", "--connect", "--nagios", "10,20", "-c", 2, "-i", "10ms", *place),
                   r".*: 0 of 2 connected, 100% lost, last failure: Too many open files \| ", data, faults="socket:EMFILE")
        self.check(UNKNOWN, ("--watch", "--nagios", "10,20", "-d", "0.3", *place), r".* \| .*", faults="socket:EMFILE:2-")

    def test_reasons(self):
        """The line says what failed."""
        limits = ("--nagios", "10,20")
        with client.full_queue() as port:
            self.check(CRITICAL, ("--ping", "--connect", *limits, "-c", 1, "-W", "50ms", "127.0.0.1", port),
                       r".* last failure: no answer in time \| ", self.NO_TIME)
        with client.Server(client.discard) as server:
            self.check(CRITICAL, ("--ping", *limits, "-c", 1, "-W", "50ms", "127.0.0.1", server.port),
                       r".*: 0 of 1 answered, 100% lost, last failure: no answer in time \| ", self.NO_TIME)
            self.check(CRITICAL, ("--watch", *limits, "-d", "0.2", "-W", "50ms", "127.0.0.1", server.port),
                       r".* connections? failed \(\d+ timed out\), .* \| ", r"gap=.*")
        with client.Server(lambda connection: connection.recv(1)) as server:
            self.check(CRITICAL, ("--watch", *limits, "-d", "0.2", "127.0.0.1", server.port),
                       r".* connections? failed \(\d+ broken: (Connection reset by peer|closed by the server).*\), .* \| ", r"gap=.*")

    def test_watch(self):
        place = ("127.0.0.1", self.daemon.port)
        data = r"\| gap=\d+\.\d{6}s;[\d.]+;[\d.]+;0 failed=\d+;0;;0"
        self.check(OK, ("--watch", "--nagios", "10,20", "-d", "0.3", *place), r"127\.0\.0\.1:\d+: longest gap 0\.\d{3} s, "
                   r"0 connections failed, watched for \d\.\d s ", data)
        for limits, state in (("1us,10", WARNING), ("1us,1us", CRITICAL)):
            self.check(state, ("--watch", "--nagios", limits, "-d", "0.3", *place), ".* ", data)
        release = threading.Event()
        with client.Server(lambda connection: release.wait(harness.patience())) as server:
            self.check(CRITICAL, ("--watch", "--nagios", "10,20", "-d", "0.1", "127.0.0.1", server.port), ".* ", data)
            release.set()

    def test_usage(self):
        for limits in ("5", "5,1", "a,b", "1,", ""):
            client.assert_one_line(self, client.run("--ping", "--nagios", limits, "a"), UNKNOWN,
                                   "--nagios .*: must be two times, .*")
        result = client.run("--ping", "--nagios=1,2", "-p", "7", "a", "b")
        client.assert_one_line(self, result, UNKNOWN, "b: --nagios takes one HOST; .*")
        self.assertEqual(result.stdout, b"TCPECHO UNKNOWN - the command line is wrong, as stderr says\n")
        client.assert_one_line(self, client.run("--ping", "--json", "--csv", "a"), client.USAGE,
                               "only one of --json, --csv and --nagios can be used; .*")


if __name__ == "__main__":
    harness.main(jobs=4)
