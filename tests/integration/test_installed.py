#!/usr/bin/env python3
"""What is installed beside the daemon fits it: the journal catalog, the socket unit, the completions of shells."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

import client
import daemons
import harness

SYSTEMD = os.path.join(harness.ROOT, "systemd")
CATALOG = os.path.join(SYSTEMD, "tcpechod.catalog")
PAGES = {"tcpechod(8)", "tcpechod.conf(5)", "tcpechod-messages(7)", "tcpechod.service(8)"}


def read(*path):
    with open(os.path.join(harness.ROOT, *path), encoding="utf-8") as file:
        return file.read()


def sources():
    paths = [path for folder in ("src", "include")
             for path in glob.glob(os.path.join(harness.ROOT, folder, "**", "*.[ch]"), recursive=True)]
    return "\n".join(read(path) for path in sorted(paths))


class Catalog(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sources = sources()
        parts = re.split(r"^-- (\S+)\n", read(CATALOG), flags=re.MULTILINE)[1:]
        cls.entries = list(zip(parts[::2], parts[1::2]))

    def test_explains_every_kind_of_event_and_no_other(self):
        used = re.findall(r'"([0-9a-f]{32})"', self.sources)
        self.assertGreater(len(used), 10)
        self.assert_names("systemd/tcpechod.catalog", [message_id for message_id, _ in self.entries], used)

    def test_every_entry_is_whole(self):
        for message_id, entry in self.entries:
            with self.subTest(entry=message_id):
                head, _, body = entry.partition("\n\n")
                names = [line.partition(": ")[0] for line in head.splitlines()]
                self.assertEqual(names[:2], ["Subject", "Defined-By"])
                self.assertIn("\nDefined-By: tcpechod\n", head)
                own = re.findall(r"^Documentation: man:(tcpechod\S*)$", head, re.MULTILINE)
                self.assertTrue(own and PAGES.issuperset(own), head)
                self.assertGreater(len(body.split()), 15)

    def test_fields_are_those_that_the_daemon_sends(self):
        used = set(re.findall(r'"(TCPECHOD_[A-Z_]+)"', self.sources))
        self.assertEqual(set(re.findall(r"@(\w+)@", read(CATALOG))) - used, set(), "no fields: systemd/tcpechod.catalog")

    def test_journalctl_reads_all_of_it(self):
        journalctl = harness.needs("journalctl")
        with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as root:
            directory = os.path.join(root, "usr", "lib", "systemd", "catalog")
            os.makedirs(directory)
            os.symlink(CATALOG, os.path.join(directory, "tcpechod.catalog"))
            update = subprocess.run([journalctl, f"--root={root}", "--update-catalog"], stdin=subprocess.DEVNULL,
                                    capture_output=True, text=True, check=False)
            self.assertEqual((update.returncode, update.stderr), (0, ""))
            listing = subprocess.run([journalctl, f"--root={root}", "--list-catalog"], stdin=subprocess.DEVNULL,
                                     capture_output=True, text=True, check=True).stdout
        listed = dict(re.findall(r"^([0-9a-f]{32}) tcpechod: (.*)$", listing, re.MULTILINE))
        subjects = {message_id: re.match(r"Subject: (.*)", entry).group(1) for message_id, entry in self.entries}
        self.assertEqual(listed, subjects)


class SocketUnit(harness.TestCase):
    def test_has_the_listeners_of_the_installed_settings(self):
        # Other listeners than these, of commented-out settings too, are none of the socket unit's.
        listeners = re.search(r"^listeners = \(\n(.*?)^\);", read("conf", "tcpechod.conf"), re.MULTILINE | re.DOTALL)
        places = re.findall(r'^ *\{ address = "(.*?)"; port = (\d+);', listeners.group(1), re.MULTILINE)
        self.assertEqual(len(places), 6)
        streams = re.findall(r"^ListenStream=(.*)$", read("systemd", "tcpechod.socket"), re.MULTILINE)
        self.assertEqual(streams, [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places])

    def test_has_the_port_that_the_client_asks(self):
        page = read("man", "tcpecho.1")
        port = re.search(r"^(\d+) unless given\b", page, re.MULTILINE).group(1)
        for host in ("127.0.0.1", "[::1]"):
            self.assertIn(f"\nListenStream={host}:{port}\n", read("systemd", "tcpechod.socket"))

    def test_has_the_backlog_of_the_settings(self):
        dump = daemons.run_daemon("--dump").stdout
        self.assertEqual(re.search(r"^backlog = (\d+);", dump, re.MULTILINE).group(1),
                         re.search(r"^Backlog=(\d+)$", read("systemd", "tcpechod.socket"), re.MULTILINE).group(1))

    def test_is_started_again_as_the_manual_says(self):
        unit, timer = read("systemd", "tcpechod.socket"), read("systemd", "tcpechod-retry.timer")
        burst, seconds = (re.search(rf"^TriggerLimit{name}=(\d+)s?$", unit, re.MULTILINE).group(1)
                          for name in ("Burst", "IntervalSec"))
        pause = re.search(r"^OnUnitInactiveSec=(\d+)s$", timer, re.MULTILINE).group(1)
        page, catalog = read("man", "tcpechod.service.8"), read("systemd", "tcpechod.catalog")
        self.assertIn(f"After {burst} failed starts within {seconds} seconds the socket unit fails", page)
        self.assertIn(f"starts it again after {pause} seconds", page)
        self.assertEqual(catalog.count(f"After {burst} failed starts"), 2)
        self.assertEqual(catalog.count(f"started again after {pause} seconds"), 2)
        # The service has no limit of its own, which would keep an administrator from starting it and cost its listeners.
        self.assertIn("\nStartLimitIntervalSec=0\n", read("systemd", "tcpechod.service.in"))


class ServiceUnit(harness.TestCase):
    """What tcpechod.service(8) says of it."""

    @classmethod
    def setUpClass(cls):
        cls.unit = read("systemd", "tcpechod.service.in")
        cls.page = read("man", "tcpechod.service.8")

    def value(self, name):
        return re.search(rf"^{name}=(.*)$", self.unit, re.MULTILINE).group(1)

    def test_manual_names_its_values(self):
        self.assertIn(f"default of {self.value('LimitNOFILE')} descriptors", self.page)
        self.assertIn(f".Ql {self.value('User')} ,", self.page)
        self.assertIn(f"hangs for {self.value('WatchdogSec').removesuffix('s')} seconds", self.page)
        first, second, third = self.value("RestartPreventExitStatus").split()
        self.assertIn(f"After a status of {first}, {second} or {third} it is not,", self.page)

    def test_manual_names_the_drop_ins(self):
        named = set(re.findall(r"/examples/(\S+\.conf)", self.page))
        self.assert_names("man/tcpechod.service.8, drop-ins", named,
                          [name.removesuffix(".in") for name in os.listdir(os.path.join(SYSTEMD, "examples"))])

    def test_drop_ins_are_copied_from_where_they_are(self):
        drop_ins = [name.removesuffix(".in") for name in os.listdir(os.path.join(SYSTEMD, "examples"))]
        with open(os.path.join(os.path.dirname(harness.TCPECHOD), "meson-info", "intro-installed.json"), encoding="utf-8") as file:
            installed = {source: target for source, target in json.load(file).items()
                         if target.endswith(tuple(f"/examples/{name}" for name in drop_ins))}
        self.assertEqual(len(installed), len(drop_ins))
        for source, target in installed.items():
            self.assertIn(f"#     cp {target} /etc/systemd/system/tcpechod.service.d/\n", read(source))
            self.assertNotIn("@", read(source))


class BashTestCase(harness.TestCase):
    file = function = program = None

    def complete(self, *words, typed=None):
        """What bash offers for the last word; `typed` is the line where the words are not those between blanks."""
        script = ('source "$0"; COMP_LINE=$1 COMP_POINT=${#1} current=$2; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
                  f' {self.function} "$1" "$current" "${{@: -2:1}}"; printf "%s\\n" "${{COMPREPLY[@]}}"')
        result = subprocess.run(["bash", "-c", script, os.path.join(SYSTEMD, self.file), typed or " ".join(words),
                                 "" if words[-1] == ":" else words[-1], self.program, *words],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        self.assertEqual(result.stderr, "")
        return result.stdout.split()


class Completion(BashTestCase):
    file, function, program = "completion.bash", "_tcpechod", harness.TCPECHOD

    def test_options(self):
        told = re.findall(r"^  (?:-\w, |    )(--[\w-]+)", daemons.run_daemon("--help").stdout, re.MULTILINE)
        self.assertEqual(self.complete(""), told)
        self.assertEqual(self.complete("--te"), ["--test"])
        self.assertEqual(self.complete("--po"), ["--port", "--port-file"])

    def test_command(self):
        self.assertIn("unshare", self.complete("-l", "/x", "--", "unsh"))
        self.assertEqual(self.complete("--", "cat", CATALOG[:-2]), [CATALOG])

    def test_services(self):
        self.assertEqual(self.complete("-l", "d"), ["discard@", "daytime@"])
        self.assertEqual(self.complete("--listen", "=", "up"), ["upper@"])
        self.assertNotIn("greet@", self.complete("--listen", "="))

    def test_nothing_within_an_address(self):
        for typed, words in (("tcpechod -l echo@127.0.0.1:", ["-l", "echo", "@", "127.0.0.1", ":"]),
                             ("tcpechod -l 127.0.0.1:", ["-l", "127.0.0.1", ":"]),
                             ("tcpechod -l echo@[::1]:", ["-l", "echo", "@", "[", "::", "1]", ":"]),
                             ("tcpechod --listen=*:", ["--listen", "=", "*", ":"])):
            with self.subTest(typed=typed):
                self.assertEqual(self.complete(*words, typed=typed), [])
        self.assertEqual(self.complete("-l", "127.0.0.1", ":", "7007", "--te", typed="tcpechod -l 127.0.0.1:7007 --te"),
                         ["--test"])

    def test_levels(self):
        told = re.search(r'one of (.*)', daemons.run_daemon("--log-level", "x").stderr).group(1)
        self.assertEqual(self.complete("-L", ""), re.findall(r'"(\w+)"', told))

    def test_files(self):
        self.assertEqual(self.complete("-c", CATALOG[:-2]), [CATALOG])
        self.assertEqual(self.complete("--port-file", CATALOG[:-2]), [CATALOG])

    def test_nothing_for_numbers(self):
        self.assertEqual(self.complete("--port", ""), [])


COMPLETIONS = os.path.join(os.path.dirname(client.TCPECHO), "systemd")
MODES = ("--listen", "--ping", "--bench", "--watch")


def options_of_help(*mode):
    help_text = client.run(*mode, "--help").stdout.decode()
    return list(dict.fromkeys(re.findall(r"^  (?:-\w,|   ) (--[\w-]+)", help_text, re.MULTILINE)))


class ClientCompletion(BashTestCase):
    file, function, program = os.path.join(COMPLETIONS, "tcpecho"), "_tcpecho", client.TCPECHO

    def test_options(self):
        self.assertEqual(set(self.complete("-")), set(options_of_help()))
        self.assertEqual(self.complete("--verb"), ["--verbose"])

    def test_shellcheck(self):
        shellcheck = harness.needs("shellcheck")
        result = subprocess.run([shellcheck, "--shell=bash", self.file], stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, check=False)
        self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_options_of_the_mode(self):
        for mode in MODES:
            arguments = (mode, "7777") if mode == "--listen" else (mode,)
            self.assertEqual(self.complete(*arguments, "-"), options_of_help(*arguments))
        self.assertEqual(self.complete("localhost", "--ping", "7", "-"), options_of_help("--ping"))

    def test_clusters(self):
        self.assertEqual(self.complete("--ping", "-qc", ""), [])
        self.assertEqual(self.complete("--ping", "-qc3", "-"), options_of_help("--ping"))
        self.assertIn("echo", self.complete("--ping", "-qp", "ech"))

    def test_services_to_expect(self):
        told = re.search(r"must be (\w+) or (\w+)", client.run("--expect", "x", "localhost").stderr).groups()
        self.assertEqual(self.complete("--expect", ""), list(told))
        self.assertEqual(self.complete("--expect", "=", "u"), ["upper"])
        self.assertEqual(self.complete("--expect", "="), list(told))

    def test_values(self):
        self.assertEqual(self.complete("-Q", "af4"), ["af41", "af42", "af43"])
        self.assertLess({"ef", "cs0", "cs7"}, set(self.complete("--ping", "--tos", "")))
        self.assertEqual(self.complete("--proxy-protocol", ""), ["1", "2"])
        for words in (("-I",), ("--source",), ("--bench", "--source", "=")):
            self.assertEqual(self.complete(*words, "lo"), ["lo"])
        if shutil.which("ip"):
            self.assertIn("127.0.0.1", self.complete("-I", ""))
            self.assertEqual(self.complete("--bench", "-I", "lo,127.0.0.1"), ["lo,127.0.0.1"])
        # What is accepted is what is offered.
        for tos in self.complete("-Q", ""):
            self.assertNotIn("--tos", client.run("-Q", tos).stderr)

    def test_address_of_ipv6(self):
        """Which is several words for bash."""
        self.assertEqual(self.complete("-I", "fd00", "::", "1", typed="tcpecho -I fd00::1"), [])
        typed = "tcpecho -I fd00::1 localhost ech"
        self.assertEqual(set(self.complete("-I", "fd00", "::", "1", "localhost", "ech", typed=typed)), {"echo"})

    def test_host_and_port(self):
        # Once for each protocol that has it, which bash shows as one.
        self.assertEqual(set(self.complete("localhost", "ech")), {"echo"})
        self.assertEqual(set(self.complete("-v", "-W", "5", "localhost", "ech")), {"echo"})
        self.assertEqual(set(self.complete("-p", "ech")), {"echo"})
        self.assertEqual(self.complete(CATALOG[:-2]), [CATALOG])
        self.assertEqual(self.complete("localhost", "7", "ech"), [])

    def test_nothing_for_numbers_and_times(self):
        for option in ("-W", "--wait", "--connect-timeout", "--count", "--listen"):
            self.assertEqual(self.complete(option, ""), [])


class OtherShells(harness.TestCase):
    def fish_offers(self, line):
        fish = harness.needs("fish")
        # Which names fish knows depends on the machine.
        script = f"function __fish_print_hostnames; echo a-host; end; source {COMPLETIONS}/tcpecho.fish; complete -C '{line}'"
        with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as home:
            result = subprocess.run([fish, "--no-config", "-c", script], stdin=subprocess.DEVNULL, capture_output=True,
                                    text=True, check=True, env={**os.environ, "HOME": home})
        self.assertEqual(result.stderr, "")
        return {line.partition("\t")[0] for line in result.stdout.splitlines()}

    def test_values_for_fish(self):
        for line, some in (("tcpecho -Q ", {"ef", "af43", "cs0"}), ("tcpecho --ping --proxy-protocol ", {"1", "2"}),
                           ("tcpecho --bench -I ", {"lo", "127.0.0.1"} if shutil.which("ip") else {"lo"})):
            self.assertLessEqual(some, self.fish_offers(line))

    def test_operands_for_fish(self):
        for line, is_host, is_port in (("tcpecho ", True, False), ("tcpecho -v -W 5 ", True, False),
                                       ("tcpecho -vW 5 ", True, False), ("tcpecho -W5 localhost ", False, True),
                                       ("tcpecho --wait 5 localhost ", False, True), ("tcpecho localhost 7 ", False, False),
                                       ("tcpecho --wait=5 localhost ", False, True), ("tcpecho -p ", False, True),
                                       ("tcpecho --bench --port ", False, True), ("tcpecho --ping localhost ", True, True),
                                       ("tcpecho --ping a b ", True, False), ("tcpecho --listen 7 ", False, False)):
            with self.subTest(line=line):
                offered = self.fish_offers(line)
                self.assertEqual(("a-host" in offered, "echo" in offered), (is_host, is_port))
        self.assertEqual(self.fish_offers(f"tcpecho {CATALOG[:-2]}"), {CATALOG})

    def test_fish(self):
        for arguments in ((), ("--ping",), ("--bench",), ("--watch",)):
            offered = self.fish_offers(f"tcpecho {' '.join(arguments)} --")
            wanted = set(options_of_help(*arguments)) | set(MODES)
            if arguments:
                # Of a mode: what it has, and no more than the other modes.
                self.assertEqual(offered - set(MODES), wanted - set(MODES) - set(arguments))
            else:
                self.assertLess(offered, wanted)
                self.assertIn("--no-half-close", offered)
                self.assertNotIn("--interval", offered)

    def test_zsh(self):
        """What it is told of each mode, by a function in the place of its own."""
        zsh = harness.needs("zsh")
        script = """_arguments() { print -rl -- "$@"; }; words=(tcpecho "${@:2}"); source "$1" """
        for arguments in ((), ("--listen", "7"), ("--ping",), ("--bench",), ("--watch",)):
            result = subprocess.run([zsh, "-f", "-c", script, "zsh", os.path.join(COMPLETIONS, "_tcpecho"), *arguments],
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
            self.assertEqual(result.stderr, "")
            offered = re.findall(r"^(?:\([^)]*\))?(--[\w-]+)", result.stdout, re.MULTILINE)
            self.assert_names(f"the completion for zsh, {arguments}", offered, options_of_help(*arguments))
            if "--listen" not in arguments:
                for action in (r":TOS:\(ef .* cs7\)", r":VERSION:\(1 2\)", ":ADDRESS:_tcpecho_sources"):
                    self.assertRegex(result.stdout, rf"(?m){action}$")

    def test_operands_for_zsh(self):
        """By functions in the place of zsh's own."""
        zsh = harness.needs("zsh")
        script = """_arguments() { print -rl -- "$@"; }; words=(tcpecho "${@:2}"); source "$1"
                    _files() { print files }; _hosts() { print hosts }; _alternative() { print -l -- "$@" }
                    PREFIX=./a _tcpecho_hosts; PREFIX=a _tcpecho_hosts; _tcpecho_seconds"""
        for mode, wanted in (((), ["1:host:_tcpecho_hosts", "2:port:_ports"]), (("--listen", "7"), []),
                             (("--ping",), ["1:host:_tcpecho_hosts", "2: :_tcpecho_seconds", "*:host:_tcpecho_hosts"])):
            result = subprocess.run([zsh, "-f", "-c", script, "zsh", os.path.join(COMPLETIONS, "_tcpecho"), *mode],
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
            self.assertEqual(result.stderr, "")
            lines = result.stdout.splitlines()
            self.assertEqual([line for line in lines if re.match(r"[12*]:", line)], wanted)
            self.assertEqual(lines[-4:], ["files", "hosts", "ports:port:_ports", "hosts:host:_tcpecho_hosts"])

    def test_values_for_zsh(self):
        """Interfaces by a function in the place of zsh's own."""
        zsh = harness.needs("zsh")
        script = """_arguments() {}; _net_interfaces() { print lo }; compadd() { shift; print -l -- "$@" }; words=()
                    source "$1"; _tcpecho_sources"""
        result = subprocess.run([zsh, "-f", "-c", script, "zsh", os.path.join(COMPLETIONS, "_tcpecho")],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        self.assertLessEqual({"lo", "127.0.0.1"} if shutil.which("ip") else {"lo"}, set(result.stdout.split()))


if __name__ == "__main__":
    harness.main()
