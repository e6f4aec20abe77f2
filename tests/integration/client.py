"""What the tests of tcpecho share: the client as a child, the client at a terminal, and servers that misbehave.

    with client.Server(client.echo) as server:
        result = client.run("127.0.0.1", server.port, stdin=b"hello")

It runs the executables of build/, or those that $TCPECHO and $TCPECHO_FAULTS name.
"""

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import harness

TCPECHO = os.environ.get("TCPECHO") or os.path.join(harness.ROOT, "build", "tcpecho")
TCPECHO_FAULTS = os.environ.get("TCPECHO_FAULTS") or os.path.join(harness.ROOT, "build", "tests", "support",
                                                                  "tcpecho-faults")

# Exit statuses of tcpecho(1).
WRONG, USAGE, UNKNOWN, REFUSED, UNREACHABLE, SYSTEM_ERROR = 1, 64, 68, 69, 70, 71
FILE_ERROR, TIMED_OUT, CLOSED_EARLY, NO_PERMISSION = 74, 75, 76, 77


def command(*arguments, faults=None, executable=None):
    """It dies with the test that is killed."""
    program = executable or (TCPECHO if faults is None else TCPECHO_FAULTS)
    return ["setpriv", "--pdeathsig", "KILL", "--", program, *map(str, arguments)]


def environment(changes=None, faults=None):
    result = dict(os.environ)
    for name in ("FAULTS", "FAULTS_FILE", "NO_COLOR"):
        result.pop(name, None)
    if faults is not None:
        result["FAULTS"] = faults
    result.update(changes or {})
    return result


def check_sanitizers(text):
    if harness.SANITIZER_REPORT.search(text):
        raise AssertionError(f"a sanitizer reports:\n{text[:12000]}")


def plain_object(pairs):
    assert all(re.fullmatch(r"[a-z0-9_]+", key) for key, _ in pairs), pairs
    assert len(dict(pairs)) == len(pairs) and not {"value", "unit"} & dict(pairs).keys(), pairs
    return dict(pairs)


class Result:
    """How a client ended."""

    def __init__(self, status, stdout, stderr):
        self.status = status  # negative for a signal
        self.stdout = stdout
        self.stderr = stderr
        check_sanitizers(stderr)

    @property
    def lines(self):
        return self.stdout.decode(errors="replace").splitlines()

    @property
    def document(self):
        """Of --json: figures are plain numbers, and no key has a dot."""
        return json.loads(self.stdout, object_pairs_hook=plain_object)


def run(*arguments, stdin=b"", faults=None, variables=None, wrapper=(), executable=None, timeout=None, **options):
    """Runs the client to its end. `stdin` is bytes, or a file."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    options.setdefault("stdout", subprocess.PIPE)
    result = subprocess.run([*wrapper, *command(*arguments, faults=faults, executable=executable)], stderr=subprocess.PIPE,
                            check=False, env=environment(variables, faults), timeout=timeout or harness.patience(60),
                            **given, **options)
    return Result(result.returncode, result.stdout, result.stderr.decode(errors="replace"))


def watch_memory(process):
    """Until its end; the most that it had, in KiB. wait4(2) would tell of us, from before its exec(3)."""
    most = 0
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            match = re.search(r"^VmHWM:\s+(\d+) kB", file.read(), re.MULTILINE)
        most = int(match.group(1)) if match else most
        time.sleep(0.005)
    return most


def awaits_signals(process):
    """Whether a signal is no longer the end by itself."""
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
        caught = int(re.search(r"^SigCgt:\s+([0-9a-f]+)", file.read(), re.MULTILINE).group(1), 16)
    return caught & 1 << signal.SIGINT - 1 != 0


class Client:
    """A client that runs beside the test, with pipes."""

    def __init__(self, *arguments, faults=None, variables=None, wrapper=(), **options):
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        self.process = subprocess.Popen([*wrapper, *command(*arguments, faults=faults)],
                                        env=environment(variables, faults), **options)
        self.errors = bytearray()
        self.reader = None
        if self.process.stderr:
            self.reader = threading.Thread(target=self._collect_errors, daemon=True)
            self.reader.start()

    def _collect_errors(self):
        for line in self.process.stderr:
            self.errors += line

    def stderr(self):
        return self.errors.decode(errors="replace")

    def wait_stderr(self, pattern):
        return harness.wait_until(lambda: re.search(pattern, self.stderr()),
                                  lambda: f"/{pattern}/ on stderr: {self.stderr()}")

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, length):
        return self.process.stdout.read(length)

    def end_input(self):
        self.process.stdin.close()

    def finish(self, timeout=None):
        """Waits for the end."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        output = self.process.stdout.read() if self.process.stdout else b""
        return self.wait(timeout, output)

    def wait(self, timeout=None, output=b""):
        status = self.process.wait(timeout or harness.patience())
        if self.reader:
            self.reader.join(harness.patience())
        return Result(status, output, self.stderr())

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.reader:
            self.reader.join(harness.patience())
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        check_sanitizers(self.stderr())


class Terminal:
    """A client at a terminal of its own, and the person in front of it."""

    END, INTERRUPT = "\x04", "\x03"  # Ctrl-D, Ctrl-C

    def __init__(self, *arguments, variables=None, size=(24, 80), program=None, stdout=None):
        self.screen = ""
        self.fd, line = pty.openpty()
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

        def take_terminal():
            os.setsid()
            fcntl.ioctl(line, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(program or command(*arguments), stdin=line,
                                        stdout=line if stdout is None else stdout, stderr=line,
                                        preexec_fn=take_terminal,
                                        env=environment({"TERM": "xterm", **(variables or {})}))
        os.close(line)

    def type(self, text):
        os.write(self.fd, text.encode())

    def _look(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern):
        """Waits for a regex on the screen; what follows it is looked at next."""
        deadline = time.monotonic() + harness.patience()
        while True:
            match = re.search(pattern, self.screen, re.MULTILINE)
            if match:
                self.screen = self.screen[match.end():]
                return match
            if time.monotonic() > deadline:
                raise AssertionError(f"/{pattern}/ is not on the screen:\n{self.screen}")
            self._look(0.1)

    def wait(self):
        """Waits for the end; returns the exit status. What is still unread is in screen."""
        deadline = time.monotonic() + harness.patience()
        while self.process.poll() is None:
            self._look(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"the client did not end:\n{self.screen}")
        while self._look(0):
            pass
        check_sanitizers(self.screen)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)


# ---- what several modes have to do ----


def assert_one_line(test, result, status, pattern):
    """It failed with this status and one line."""
    test.assertEqual(result.status, status, result.stderr)
    test.assertRegex(result.stderr, rf"\Atcpecho: {pattern}\n\Z")


# ---- servers ----


class Server:
    """A server whose every connection is served by `serve(socket)`, in a thread of its own; which is closed after it."""

    def __init__(self, serve, family=socket.AF_INET, address="127.0.0.1", port=0):
        self.serve = serve
        self.listening = socket.socket(family, socket.SOCK_STREAM)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind(address if family == socket.AF_UNIX else (address, port))
        self.listening.listen(16)
        self.port = None if family == socket.AF_UNIX else self.listening.getsockname()[1]
        self.threads = []
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _run(self, connection):
        with connection, contextlib.suppress(ConnectionError):
            self.serve(connection)

    def __enter__(self):
        return self

    def stop(self):
        """Nobody listens any more; the connections go on."""
        # A close alone does not wake who waits in accept(2).
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.acceptor.join(harness.patience())

    def __exit__(self, *_):
        self.stop()
        for thread in self.threads:
            thread.join(harness.patience())


@contextlib.contextmanager
def full_queue():
    """A port whose server takes nobody: what comes gets no answer."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # The queue takes one more than it was told.
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.contextmanager
def full_pipe():
    """The end for writing of a pipe that nobody reads."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb", buffering=0) as pipe:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        yield pipe


def chunks(connection, size=1 << 18):
    while True:
        data = connection.recv(size)
        if not data:
            return
        yield data


def echo(connection):
    for data in chunks(connection):
        connection.sendall(data)


def echo_and_tell(answered):
    """The same, and `answered` is set with the first answer."""

    def serve(connection):
        for data in chunks(connection):
            connection.sendall(data)
            answered.set()

    return serve


def discard(connection):
    for _ in chunks(connection):
        pass


def closing_proxy(to, delay=0):
    """Something on the way that takes the client's half-close for the end of both directions, as nginx's stream does; it
    sends on what comes from the client after `delay` seconds."""

    def serve(connection):
        with socket.create_connection(("127.0.0.1", to)) as server:

            def answer():
                with contextlib.suppress(OSError):
                    for data in chunks(server):
                        connection.sendall(data)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            for data in chunks(connection):
                # The client's end is seen at once, whatever is still to be sent on.
                if delay and select.select([connection], [], [], delay)[0]:
                    break
                server.sendall(data)
            connection.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)
            thread.join()

    return serve


def reset(connection):
    """Makes the end of the connection a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Tamper:
    """An echo server that does something to one place of the answer: `change(data)` makes something else of the
    `length` bytes at `offset`."""

    def __init__(self, offset, length, change):
        self.offset = offset
        self.length = length
        self.change = change

    def __call__(self, connection):
        done, held = 0, b""
        for data in chunks(connection):
            data = held + data
            start = self.offset - done
            if 0 <= start < len(data) and start + self.length > len(data):
                held = data[start:]  # not all of the place has come
                data = data[:start]
                connection.sendall(data)
                done += len(data)
                continue
            held = b""
            done += len(data)
            if 0 <= start < len(data):
                data = data[:start] + self.change(data[start:start + self.length]) + data[start + self.length:]
            connection.sendall(data)
        connection.sendall(held)


# ---- files ----


@contextlib.contextmanager
def random_file(size):
    """The same in every run: where equal bytes are neighbours, nobody can say which of them is missing."""
    source = random.Random(1)
    with tempfile.NamedTemporaryFile(prefix="tcpecho-test-") as file:
        for _ in range(size >> 20):
            file.write(source.randbytes(1 << 20))
        file.write(source.randbytes(size & ((1 << 20) - 1)))
        file.flush()
        file.seek(0)
        yield file
