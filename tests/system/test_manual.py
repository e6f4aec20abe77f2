"""The commands of tcpechod(8) are run in the order of the page, and answer what the page says."""

import contextlib
import os
import re
import subprocess

import machine
from machine import harness

PAGE = os.path.join(harness.ROOT, "man", "tcpechod.8")
DIRECTORY = "/tmp/manual"
# What the commands need on the machine, which has the host's.
CLIENTS = ("nc", "ncat", "socat", "systemd-socket-activate")
# Of the page, where each run has another.
PORT = "37337"
TIME = r"^ \d{10}$"


def until_ready(log):
    """For a shell that has just started the daemon in the background, which makes the log when its turn comes."""
    return f"until grep -qs ready: {log}; do sleep 0.1; done"


def displays():
    """[[(prompt, command, its output)]] of each display with commands, as a reader sees them."""
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r"(?:^\.Dl [$#] [^\n]*\n)+|(?<=^\.Bd -literal -offset indent\n).*?(?=^\.Ed)", text, re.MULTILINE | re.DOTALL)
    for source in found:
        seen = source.replace("\\e\n", "\\\n").replace("\\e", "\\").replace(".Dl ", "").replace("\\\n", "")
        commands = re.findall(r"^([$#]) (.*)\n((?:(?![$#] ).*\n)*)", seen, re.MULTILINE)
        if commands:
            yield commands


class Manual(machine.TestCase):
    def setUp(self):
        super().setUp()
        for tool in CLIENTS:
            harness.needs(tool)
        self.machine.write(f"{DIRECTORY}/file", "Every byte.\n" * 10000)
        self.machine.copy_in(os.path.join(harness.ROOT, "conf", "tcpechod.conf"), f"{DIRECTORY}/tcpechod.conf")
        self.daemons = 0
        self.log = None

    def start_shell(self, command, **options):
        return self.machine.start("bash", "-c", f"cd {DIRECTORY} && {command}", stdin=subprocess.DEVNULL, **options)

    @contextlib.contextmanager
    def daemon(self, command):
        """A command that goes on, until the next of its kind."""
        self.daemons += 1
        self.log = f"{DIRECTORY}/log{self.daemons}"
        process = self.start_shell(f"echo $$ >pid; exec {command} >{self.log} 2>&1")
        try:
            harness.wait_until(lambda: re.search(r"ready:|Listening on", self.read_log()) or process.poll() is not None,
                               lambda: f"{command} to be ready")
            self.assertIsNone(process.poll(), self.read_log())
            yield
        finally:
            # The shell's own: kill(1) is in a package that need not be there.
            self.machine.run("bash", "-c", f"kill {self.machine.read(f'{DIRECTORY}/pid').strip()}", check=False)
            process.wait(harness.patience())

    def read_log(self):
        try:
            return self.machine.read(self.log)
        except FileNotFoundError:
            return ""

    def run_client(self, command, told):
        listening = re.search(r"listening: \S+ on 127\.0\.0\.1:(\d+)$", self.read_log(), re.MULTILINE) if self.log else None
        if PORT in command:
            command = command.replace(PORT, listening.group(1))
        process = self.start_shell(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=harness.patience())
        self.assertEqual(process.returncode, 0, output)
        if re.search(TIME, told):
            self.assertRegex(output, TIME)
        elif told:
            self.assertEqual(output, told)
        self.assertNotEqual(output, "0\n")  # of wc(1)

    def run_signals(self, commands):
        """Those of the shell that has started the daemon."""
        script = "\n".join(f"{command} || exit 99\nsleep 0.5" for command in commands)
        log = f"{DIRECTORY}/signals"
        process = self.start_shell(f"{{ tcpechod -l 127.0.0.1:0 2>{log} &\n{until_ready(log)}\n{script}\n"
                                   "wait $!; }", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=harness.patience())
        self.assertEqual((process.returncode, output), (0, ""))
        return self.machine.read(log)

    def test_commands_of_users(self):
        mine = [[each for each in display if each[0] == "$"] for display in displays()]
        self.assertGreater(sum(map(len, mine)), 15)
        signals = []
        with contextlib.ExitStack() as stack:
            for _, command, told in [each for display in mine for each in display]:
                with self.subTest(command=command):
                    if re.match(r"tcpechod -l|systemd-socket-activate", command):
                        stack.close()
                        stack.enter_context(self.daemon(command))
                    elif command.startswith("setsid tcpechod"):  # goes on when the terminal is closed
                        self.run_client(f"{{ {command} {until_ready('log')}; kill $!; wait $!; }}", told)
                    elif "$!" in command:
                        signals.append(command)
                    else:
                        self.run_client(command, told)
        log = self.run_signals(signals)
        for said in ("reloaded", "connections, ", "stopped"):
            self.assertIn(said, log)

    def test_commands_of_root(self):
        self.addCleanup(self.machine.systemctl, "disable", "tcpechod.socket")
        self.addCleanup(self.machine.systemctl, "enable", "tcpechod.service")
        mine = [[each for each in display if each[0] == "#"] for display in displays()]
        self.assertGreater(sum(map(len, mine)), 10)
        for display in filter(None, mine):
            script = "set -e\n" + "\n".join(command for _, command, _ in display)
            with self.subTest(script=script):
                self.machine.run("sh", "-c", script)
                self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
            # Sockets cannot be made anew while a daemon has those before.
            self.machine.systemctl("stop", "tcpechod.service")


if __name__ == "__main__":
    harness.main()
