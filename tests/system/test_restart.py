"""systemctl restart under traffic: nothing that a client sees but a pause.

    TCPECHOD_RESTARTS=1000 TCPECHOD_CLIENTS=500 python3 tests/system/test_restart.py Traffic

is the same for longer, and prints what the clients have seen.
"""

import json
import os
import socket
import subprocess
import time

import machine
import traffic
from machine import harness

HANDOVER = "@HANDOVER@"

RESTARTS = int(os.environ.get("TCPECHOD_RESTARTS", "25"))
CLIENTS = int(os.environ.get("TCPECHOD_CLIENTS", "200"))

ECHO, UPPER, DISCARD, CHARGEN, WORD = 7, 7008, 9, 19, 8007

SETTINGS = """listeners = (
  { address = "127.0.0.1"; port = 7; service = "echo"; },
  { address = "127.0.0.1"; port = 7008; service = "upper"; },
  { address = "127.0.0.1"; port = 9; service = "discard"; },
  { address = "127.0.0.1"; port = 19; service = "chargen"; },
  { address = "127.0.0.1"; port = 8007; service = "echo"; end_word = "goodbye"; greeting = "hello\\n"; }%s
);
log = { connections = false; };
%s"""


class Chargen(traffic.Client):
    """Reads the endless answer, each byte of which it knows."""

    LINES = b"".join(bytes(32 + (start + column) % 95 for column in range(72)) + b"\r\n" for start in range(95))

    def work(self):
        got = 0
        while not self.stopping.is_set():
            data = self.socket.recv(1 << 16)
            if not data:
                raise AssertionError(f"ended after {got} bytes")
            at = got % len(self.LINES)
            expected = (self.LINES * (2 + len(data) // len(self.LINES)))[at : at + len(data)]
            harness.assert_same(data, expected, f"chargen at {got}")
            got += len(data)
            self.rounds += 1
            self.rest()


class Upper(traffic.Client):
    """Capitals, of a message that is sent in two pieces with a pause between them."""

    def work(self):
        while not self.stopping.is_set():
            message = b"message %12d\n" % self.rounds
            self.socket.sendall(message[:9])
            time.sleep(0.02)
            self.socket.sendall(message[9:])
            harness.assert_same(harness.receive_exactly(self.socket, len(message)), message.upper())
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


class Discard(traffic.Client):
    """Sends all the time."""

    def work(self):
        while not self.stopping.is_set():
            self.socket.sendall(traffic.STREAM[: traffic.CHUNK])
            self.rounds += 1
            self.rest()
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()


def kinds(count):
    """So many clients, some of each kind."""
    mixed = [(Upper, UPPER), (Chargen, CHARGEN), (Discard, DISCARD), (traffic.Bulk, ECHO), (traffic.Newcomers, ECHO)]
    for index in range(count):
        kind, port = mixed[index % len(mixed)]
        yield kind(lambda port=port: machine.Machine.connect(port), 0.02)


class Restart(machine.TestCase):
    def start(self, more="", settings=""):
        self.machine.write(machine.CONF, SETTINGS % (more, settings))
        self.machine.systemctl("start", "tcpechod")

    def restart(self, times=1):
        self.machine.run("sh", "-c", f"for i in $(seq {times}); do systemctl restart tcpechod || exit 1; done",
                         timeout=60 + times)


class Traffic(Restart):
    def test_many_restarts(self):
        self.start()
        clients = list(kinds(min(CLIENTS, 60)))
        report = f"--count=1000000000 --connections={max(CLIENTS - 60, 1)} --rate={5 * CLIENTS} --json"
        bench = self.client("--bench", *report.split(), "127.0.0.1", str(ECHO))
        watch = self.client("--watch", "--json", "127.0.0.1", str(ECHO))
        for client in clients:
            client.start()
        time.sleep(0.5)
        begin = time.monotonic()
        self.restart(RESTARTS)
        seconds = time.monotonic() - begin
        self.machine.run("pkill", "-INT", "-x", "tcpecho")
        figures, seen = self.end(bench), self.end(watch)
        for client in clients:
            client.stopping.set()
        failures = []
        for client in clients:
            try:
                client.finish()
            except AssertionError as error:
                failures.append(str(error))
        self.assertEqual(failures, [])
        print(f"# {RESTARTS} restarts in {seconds:.1f} s: {figures['messages']} messages of the load test, "
              f"p99.9 {figures['latency_p99_9_ns'] / 1e6:.1f} ms, max {figures['latency_max_ns'] / 1e6:.1f} ms; "
              f"{json.dumps(seen)}", flush=True)

    def client(self, *arguments):
        return self.machine.start("tcpecho", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)

    def end(self, process):
        """What a client of ours that runs until Ctrl-C prints then."""
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, output + errors)
        return json.loads(output)


if __name__ == "__main__":
    harness.main()
