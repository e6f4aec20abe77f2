"""The commands of every manual page are run in the order of the page, and answer what the page says; its drop-ins are
put into force."""

import contextlib
import os
import re
import subprocess

import machine
from machine import harness

MAN = os.path.join(harness.ROOT, "man")
DIRECTORY = "/tmp/manual"
# What the commands need on the machine, which has the host's.
CLIENTS = ("nc", "ncat", "socat", "systemd-socket-activate")
# Of the page, where each run has another.
PORT = "37337"
TIME = r"^ \d{10}$"


def until_ready(log):
    """For a shell that has just started the daemon in the background, which makes the log when its turn comes."""
    return f"until grep -qs ready: {log}; do sleep 0.1; done"


def read(page):
    with open(os.path.join(MAN, page), encoding="utf-8") as file:
        return file.read()


def displays(prompt, *pages):
    """[[(command, its output)]] of each display with commands after this prompt, as a reader sees them."""
    text = "".join(map(read, pages or sorted(os.listdir(MAN))))
    found = re.findall(r"(?:^\.Dl [$#] [^\n]*\n)+|(?<=^\.Bd -literal -offset indent\n).*?(?=^\.Ed)", text, re.MULTILINE | re.DOTALL)
    for source in found:
        seen = source.replace("\\e\n", "\\\n").replace("\\e", "\\").replace(".Dl ", "").replace("\\\n", "")
        commands = re.findall(rf"^{re.escape(prompt)} (.*)\n((?:(?![$#] ).*\n)*)", seen, re.MULTILINE)
        if commands:
            yield commands


class Manual(machine.TestCase):
    def setUp(self):
        super().setUp()
        for tool in CLIENTS:
            harness.needs(tool)
        self.machine.write(f"{DIRECTORY}/file", "Every byte.\n" * 10000)
        for name in ("tcpechod.conf", "FILE"):
            self.machine.copy_in(os.path.join(harness.ROOT, "conf", "tcpechod.conf"), f"{DIRECTORY}/{name}")
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
        pages = sorted(set(os.listdir(MAN)) - {"tcpecho.1"})
        mine = [each for display in displays("$", *pages) for each in display]
        self.assertGreater(len(mine), 15)
        signals = []
        with contextlib.ExitStack() as stack:
            for command, told in mine:
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

    def test_commands_of_the_client(self):
        self.machine.systemctl("start", "tcpechod.service")
        mine = [each for display in displays("$", "tcpecho.1") for each in display]
        self.assertGreater(len(mine), 5)
        for command, told in mine:
            with self.subTest(command=command):
                if "--listen" in command:
                    self.start_shell(command)
                    harness.wait_until(lambda: self.machine.run("ss", "-tlnH", "sport = :7777").stdout, "the other side")
                else:
                    short = re.sub(r" -d \d+", "", command)
                    self.run_client(re.sub(r"--(bench|watch)", r"\g<0> -d 1", short), told)

    def test_commands_of_root(self):
        self.addCleanup(self.machine.systemctl, "disable", "tcpechod.socket")
        self.addCleanup(self.machine.systemctl, "enable", "tcpechod.service")
        mine = list(displays("#", *filter(re.compile(r".*\.8$").match, sorted(os.listdir(MAN)))))
        self.assertGreater(sum(map(len, mine)), 10)
        for display in mine:
            script = "set -e\n" + "\n".join(command for command, _ in display)
            with self.subTest(script=script):
                self.machine.run("sh", "-c", script)
                self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
            # Sockets cannot be made anew while a daemon has those before.
            self.machine.systemctl("stop", "tcpechod.service")

    def test_drop_ins(self):
        pages = "".join(map(read, sorted(os.listdir(MAN))))
        mine = re.findall(r"^\.Bd .*\n(\[(?:Unit|Service|Socket)\]\n(?:[A-Z].*\n)+)\.Ed$", pages, re.MULTILINE)
        self.assertGreater(len(mine), 3)
        for text in mine:
            with self.subTest(text=text):
                self.machine.reset()
                places = re.findall(r"^ListenStream=(\S+):(\d+)$", text, re.MULTILINE)
                unit = "tcpechod.socket" if places else "tcpechod.service"
                if places:
                    rows = ", ".join(f'{{ address = "{address}"; port = {port}; }}' for address, port in places)
                    self.machine.write(machine.CONF, f"listeners = ( {rows} );\n")
                self.machine.drop_in(text, unit)
                self.machine.systemctl("restart", unit)
                self.assertEqual(self.machine.exchange(7, b"hi\n"), b"hi\n")
                if "CPUSchedulingPolicy=batch" in text:
                    self.assertEqual(os.sched_getscheduler(self.machine.main_pid()), os.SCHED_BATCH)


if __name__ == "__main__":
    harness.main()
