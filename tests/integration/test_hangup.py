"""The daemon at a terminal that is closed: it stops, unless it was started to go on."""

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import tempfile
import termios

import daemons
import harness


class Started:
    """A shell at a terminal of its own, whose script starts a daemon: DAEMON is the command, $PID a file for its process
    ID, and $LOG one for its stderr."""

    COMMAND = '"$DAEMON" -l "127.0.0.1:$PORT"'

    def __init__(self, script, interactive=False):
        self.directory = tempfile.TemporaryDirectory(prefix="tcpechod-test-")
        self.port = int(harness.free_port())
        self.notify = daemons.NotifySocket(os.path.join(self.directory.name, "notify"))
        self.log_path = os.path.join(self.directory.name, "log")
        pid_path = os.path.join(self.directory.name, "pid")
        environment = dict(os.environ, NOTIFY_SOCKET=self.notify.path, DAEMON=harness.TCPECHOD, PORT=str(self.port),
                           LOG=self.log_path, PID=pid_path, TERM="dumb", HOME=self.directory.name)
        environment.pop("JOURNAL_STREAM", None)
        self.terminal, line = pty.openpty()

        def take_terminal():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup(1)
            os.setsid()
            fcntl.ioctl(line, termios.TIOCSCTTY, 0)

        script = script.replace("DAEMON", self.COMMAND)
        command = ["bash", "--norc", "-i"] if interactive else ["bash", "-c", script]
        self.shell = subprocess.Popen(command, stdin=line, stdout=line, stderr=line, env=environment, cwd="/",
                                      preexec_fn=take_terminal)
        os.close(line)
        if interactive:
            os.write(self.terminal, script.encode() + b"\n")
        harness.wait_until(lambda: self.notify.values("READY"), "READY=1")
        self.pid = int(harness.wait_until(lambda: os.path.exists(pid_path) and read(pid_path), "its process ID"))
        self.pidfd = os.pidfd_open(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.has_ended(0):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.has_ended()
        os.close(self.pidfd)
        self.close_terminal()
        self.shell.wait(harness.patience())
        self.notify.close()
        self.directory.cleanup()

    def close_terminal(self):
        if self.terminal >= 0:
            os.close(self.terminal)
        self.terminal = -1

    def has_ended(self, timeout=None):
        seconds = harness.patience() if timeout is None else timeout
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def send(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def log(self):
        return read(self.log_path) if os.path.exists(self.log_path) else ""

    def wait_log(self, part):
        harness.wait_until(lambda: part in self.log(), lambda: f"{part} in the log:\n{self.log()}")

    def answers(self):
        with socket.create_connection(("127.0.0.1", self.port), harness.patience()) as client:
            client.sendall(b"x")
            return client.recv(1) == b"x"


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Closed(harness.TestCase):
    def assert_stops(self, script, **how):
        with Started(script, **how) as started:
            self.assertTrue(started.answers())
            started.close_terminal()
            self.assertTrue(started.has_ended(), f"the daemon goes on:\n{started.log()}")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", started.port))
            return started.shell, started.log()

    def assert_goes_on(self, script):
        with Started(script) as started:
            started.close_terminal()
            for _ in range(2):
                # Whatever the terminal has caused comes before what this causes.
                started.send(signal.SIGHUP)
                started.wait_log("reloaded")
                self.assertTrue(started.answers())
            self.assertNotIn("stopping", started.log())
            started.send(signal.SIGTERM)
            self.assertTrue(started.has_ended())

    def test_in_the_foreground(self):
        self.assert_stops("echo $$ >$PID; exec DAEMON")

    def test_it_is_an_orderly_stop(self):
        shell, log = self.assert_stops("echo $$ >$PID; exec DAEMON 2>$LOG")
        self.assertEqual(shell.wait(), 0)
        self.assertIn("notice: stopping (its terminal was closed): ", log)
        self.assertIn("notice: stopped: every connection was finished", log)

    def test_stop_delay_is_not_for_it(self):
        self.assert_stops('echo "stop_delay = 600.0;" >$PID.conf; echo $$ >$PID; exec DAEMON -c $PID.conf 2>$LOG')

    def test_under_a_shell(self):
        self.assert_stops("sh -c 'echo $$ >$PID; exec DAEMON'; true")

    def test_in_the_background(self):
        self.assert_stops("DAEMON & echo $! >$PID", interactive=True)

    def test_in_the_background_with_a_log(self):
        self.assert_stops("DAEMON 2>$LOG & echo $! >$PID", interactive=True)

    def test_disowned(self):
        """No signal comes."""
        self.assert_stops("DAEMON 2>$LOG & echo $! >$PID; disown", interactive=True)

    def test_only_its_messages_went_there(self):
        """Nor here: it is of another session."""
        self.assert_stops("setsid sh -c 'echo $$ >$PID; exec DAEMON' & wait")

    def test_while_it_is_frozen(self):
        """The signal is read later, and is not taken for a reload then."""
        script = "echo $$ >$PID; exec DAEMON 2>$LOG"
        with Started(script) as started:
            started.send(signal.SIGSTOP)
            started.close_terminal()
            started.send(signal.SIGCONT)
            self.assertTrue(started.has_ended())
            self.assertNotIn("reloaded", started.log())

    def test_nohup(self):
        self.assert_goes_on("nohup sh -c 'echo $$ >$PID; exec DAEMON' 2>$LOG & wait")

    def test_without_a_terminal(self):
        self.assert_goes_on("setsid sh -c 'echo $$ >$PID; exec DAEMON' 2>$LOG & wait")


class Open(harness.TestCase):
    def test_sighup_is_a_reload(self):
        with Started("echo $$ >$PID; exec DAEMON 2>$LOG") as started:
            started.send(signal.SIGHUP)
            started.wait_log("reloaded")
            self.assertTrue(started.answers())
            self.assertNotIn("stopping", started.log())

    def test_what_is_typed_is_not_heard(self):
        with Started("echo $$ >$PID; exec DAEMON 2>$LOG") as started:
            for _ in range(5):
                os.write(started.terminal, b"hello\n")
                self.assertTrue(started.answers())
            self.assertNotIn("stopping", started.log())
            os.write(started.terminal, b"\x03")
            self.assertTrue(started.has_ended())
            self.assertIn("stopping (SIGINT)", started.log())


if __name__ == "__main__":
    harness.main(jobs=4)
