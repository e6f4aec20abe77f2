#!/usr/bin/env python3
"""The manual pages say what the daemon does: every name, number and id in them is compared with the sources, the
installed settings file or the daemon's own words, in both directions."""

import glob
import http.client
import os
import re
import subprocess
import tempfile

import client
import daemons
import harness

MAN = os.path.join(harness.ROOT, "man")
CATALOG = os.path.join(harness.ROOT, "systemd", "tcpechod.catalog")
INSTALLED = os.path.join(harness.ROOT, "conf", "tcpechod.conf")

# The subsections of tcpechod.conf(5), and how a file has one setting of each at the end of its line.
SCOPES = {
    "Global settings": "%s",
    "Listener settings": "listeners = ( { %s } );",
    "Log settings": "log = { %s };",
}
# What libraries read from the environment, for the functions that the daemon calls.
READ_BY_LIBRARIES = {
    "localtime_r": {"TZ"},
    "sd_watchdog_enabled(": {"WATCHDOG_USEC", "WATCHDOG_PID"},
    "sd_listen_fds_with_names(": {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"},
}
# Far from every setting, so that the daemon names all that it knows instead of the nearest.
UNKNOWN = "qqqqqqqqqqqq = 1;"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_page(name):
    return read(os.path.join(MAN, name))


def section(page, name, macro="Sh"):
    """The source of a section or subsection, up to the next one."""
    end = r"^\.Sh " if macro == "Sh" else r"^\.S[hs] "
    match = re.search(rf"^\.{macro} {re.escape(name)}\n(.*?)(?={end}|\Z)", page, re.MULTILINE | re.DOTALL)
    if not match:
        raise AssertionError(f"no section {name}")
    return match.group(1)


def items(text, macro="Ic"):
    """[(name, source of the item)] of every list item of this markup."""
    pattern = rf"^\.It {macro} (\S+).*\n((?:(?!\.It |\.El|\.S[hs] ).*\n)*)"
    return re.findall(pattern, text, re.MULTILINE)


def literals(text):
    """Every literal display, as a reader sees it."""
    return [block.replace("\\e", "\\") for block in re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", text,
                                                               re.MULTILINE | re.DOTALL)]


def sources(*libraries):
    paths = [path for folder in ("src", "include") for library in libraries
             for path in glob.glob(os.path.join(harness.ROOT, folder, library, "**", "*.[ch]"), recursive=True)]
    return "\n".join(read(path) for path in sorted(paths))


def check(text):
    """What --test says of a settings file: its exit status and its lines, without the name of the file."""
    with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as directory:
        path = os.path.join(directory, "FILE")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        result = daemons.run_daemon("--test", "-c", path)
        return result.returncode, result.stderr.replace(path, "FILE").splitlines()


class Settings(harness.TestCase):
    """tcpechod.conf(5)"""

    @classmethod
    def setUpClass(cls):
        cls.page = read_page("tcpechod.conf.5")
        cls.items = {scope: items(section(cls.page, scope, "Ss")) for scope in SCOPES}

    def names(self, scope):
        return [name for name, _ in self.items[scope]]

    def fact(self, text, what):
        """The "Default:", "Allowed:" or "Reload:" of an item; None when it has none."""
        match = re.search(rf"^{what}: (.*(?:\n(?!\.).*)*)", text, re.MULTILINE)
        return match and match.group(1).replace("\n", " ").strip()

    def test_names_are_those_that_the_daemon_knows(self):
        for scope, form in SCOPES.items():
            with self.subTest(scope=scope):
                _, lines = check(form % UNKNOWN)
                known = re.search(r"known are (.*)$", lines[0]).group(1).split(", ")
                self.assert_names(f"man/tcpechod.conf.5, {scope}", self.names(scope), known)

    def test_names_are_those_of_the_dump(self):
        dump = daemons.run_daemon("--dump").stdout
        self.assert_names("man/tcpechod.conf.5", self.names("Global settings"), re.findall(r"^(\w+) = ", dump, re.MULTILINE))
        group = re.search(r"^log = \{\n(.*?)^\};", dump, re.MULTILINE | re.DOTALL).group(1)
        self.assert_names("man/tcpechod.conf.5", self.names("Log settings"), re.findall(r"^ +(\w+) = ", group, re.MULTILINE))

    def test_names_are_those_of_the_installed_file(self):
        installed = read(INSTALLED)
        listener = installed.partition("# Services:")[0]
        for scope, text, row in (("Global settings", installed, r"^#?(\w+) = "),
                                 ("Listener settings", listener, r"^#   (\w+)(?= |$)"),
                                 ("Log settings", installed, r"^    #(\w+) = ")):
            self.assert_names(f"conf/tcpechod.conf, {scope}", re.findall(row, text, re.MULTILINE), self.names(scope))

    def test_what_is_allowed(self):
        for scope, form in SCOPES.items():
            for name, text in self.items[scope]:
                with self.subTest(setting=name, scope=scope):
                    wrong = "5" if name == "log" else "{ }"
                    status, lines = check(form % f"{name} = {wrong};")
                    self.assertEqual(status, 78)
                    told = next(line for line in lines if f"{name} = " in line and "must be " in line)
                    told = re.sub(r"^.*?: must be |, a number$", "", told)
                    self.assertEqual(self.fact(text, "Allowed"), told, f"man/tcpechod.conf.5, {name}, Allowed")

    def test_defaults(self):
        dump = daemons.run_daemon("--dump").stdout
        for scope, indent in (("Global settings", ""), ("Log settings", " +")):
            for name, text in self.items[scope]:
                if name in ("listeners", "log"):
                    continue
                with self.subTest(setting=name):
                    value = re.search(rf"^{indent}{name} = (.*);$", dump, re.MULTILINE).group(1)
                    self.assertEqual(self.fact(text, "Default"), value, f"man/tcpechod.conf.5, {name}, Default")

    def test_defaults_of_listeners(self):
        """Said or left out, they mean the same. What has none must be said, or is the global setting until it is said."""
        def dump(name, option=""):
            spec = "/x" if name == "mode" else "*:1,proxy_protocol=true" if name in ("proxy_timeout", "proxy_from") else "*:1"
            return daemons.run_daemon("--dump", "-l", spec + option).stdout

        for name, text in self.items["Listener settings"]:
            with self.subTest(setting=name):
                value = self.fact(text, "Default")
                told = f"man/tcpechod.conf.5, {name}, Default"
                if name in ("address", "port", "path", "text", *self.names("Global settings")):
                    self.assertIsNone(value, told)
                elif value == "none":
                    self.assertNotIn(f"; {name} = ", dump(name), told)
                else:
                    self.assertEqual(dump(name, f",{name}={value}"), dump(name), told)

    def test_every_setting_says_what_a_reload_does(self):
        restart = []
        for scope in SCOPES:
            for name, text in self.items[scope]:
                reload = self.fact(text, "Reload")
                self.assertTrue(reload or name == "log", f"man/tcpechod.conf.5 lacks \"Reload:\" of {name}")
                if reload == "needs a restart":
                    restart.append(name)
        # In the installed file the sentence ends the comment above the setting.
        installed = re.findall(r"needs a\s+(?:# )?restart\.\n#?(\w+) = ", read(INSTALLED))
        self.assert_names('conf/tcpechod.conf, "needs a restart"', installed, restart)

    def test_examples_are_valid(self):
        examples = literals(section(self.page, "EXAMPLES"))
        self.assertGreater(len(examples), 3)
        for example in examples:
            with self.subTest(example=example.splitlines()[1]):
                self.assertEqual(check(example), (0, []))

    def test_http_example(self):
        """A client that keeps its connections needs to know where the answer ends, and that it is the last."""
        example, = (block for block in literals(section(self.page, "EXAMPLES")) if "HTTP" in block)
        with daemons.Daemon(config=example.replace("8080", "PORT")) as daemon:
            for method, path in (("GET", "/"), ("GET", "/health?a=b"), ("OPTIONS", "*")):
                with self.subTest(method=method, path=path):
                    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=harness.patience())
                    connection.request(method, path)
                    answer = connection.getresponse()
                    self.assertEqual((answer.status, answer.version), (200, 11))
                    self.assertEqual(answer.getheader("Content-Length"), "3")
                    self.assertEqual(answer.getheader("Connection"), "close")
                    self.assertEqual(answer.read(), b"OK\n")
                    connection.close()

    def test_http_example_with_curl(self):
        curl = harness.needs("curl")
        example, = (block for block in literals(section(self.page, "EXAMPLES")) if "HTTP" in block)
        with daemons.Daemon(config=example.replace("8080", "PORT")) as daemon:
            url = f"http://127.0.0.1:{daemon.port}/"
            result = subprocess.run([curl, "-sS", "--noproxy", "*", "-w", "%{http_code} %{size_download}\n", url, url],
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                    timeout=harness.patience())
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "OK\n200 3\n" * 2, ""))

    def test_diagnostics_are_what_the_daemon_says(self):
        text, messages = literals(section(self.page, "DIAGNOSTICS"))
        status, lines = check(text)
        self.assertEqual(status, 78)
        self.assertEqual(len(lines), len(messages.splitlines()))
        for line, message in zip(lines, messages.splitlines()):
            self.assertTrue(line.startswith(message.removesuffix("...")), f"{line!r} is not {message!r}")


class Daemon(harness.TestCase):
    """tcpechod(8) and tcpechod-messages(7)"""

    @classmethod
    def setUpClass(cls):
        cls.page = read_page("tcpechod.8")
        cls.messages = read_page("tcpechod-messages.7")
        cls.sources = sources("base", "serve", "settings", "daemon")
        cls.help = daemons.run_daemon("--help").stdout

    def test_options(self):
        told = re.findall(r"^  (?:-(\w), |    )--([\w-]+)( [A-Z]+)? ", self.help, re.MULTILINE)
        self.assertGreater(len(told), 5)
        written = re.findall(r"^\.It (?:Fl (\w) , )?Fl Fl ([\w-]+)( Ar \S+)?$", self.page, re.MULTILINE)
        self.assert_names("man/tcpechod.8", [(short, long, bool(argument)) for short, long, argument in written],
                          [(short, long, bool(argument)) for short, long, argument in told])
        synopsis = section(self.page, "SYNOPSIS")
        for short, long, argument in told:
            self.assertRegex(synopsis, rf"Fl (?:\w \| )?{short or 'Fl ' + long}{' Ar' if argument else ''}\b",
                             "man/tcpechod.8, SYNOPSIS")

    def test_services(self):
        told = re.findall(r"^  (\w+) +\S", self.help.partition("Services:")[2].partition("\n\n")[0], re.MULTILINE)
        self.assertGreater(len(told), 5)
        self.assert_names("man/tcpechod.8, SERVICES", [name for name, _ in items(section(self.page, "SERVICES"), "Cm")], told)

    def test_room(self):
        """The formula of OVERLOAD, with the numbers of three daemons put in."""
        words = re.search(r"room = limit \\- \((\d+) \+ (\d+) \\\(mu workers \+ listeners\)",
                          section(self.page, "OVERLOAD"))
        base, each = int(words.group(1)), int(words.group(2))
        for limit, workers, listeners in ((100, 1, 1), (200, 7, 1), (300, 2, 50)):
            with self.subTest(limit=limit, workers=workers, listeners=listeners):
                rows = ", ".join(['{ address = "127.0.0.1"; port = 0; }'] * listeners)
                with daemons.Daemon(rows, f"workers = {workers};", nofile=limit) as daemon:
                    room = int(daemon.wait_log(r"ready: .*room for (\d+) connections").group(1))
                self.assertEqual(room, limit - (base + each * workers + listeners))

    def test_exit_statuses(self):
        told = re.findall(r"\b(\d+) \w", self.help.partition("Exit status:")[2].partition("See ")[0])
        written = re.findall(r"^\.It (\d+)$", section(self.page, "EXIT STATUS"), re.MULTILINE)
        self.assert_names("man/tcpechod.8, EXIT STATUS", written, told)

    def test_message_ids(self):
        used = re.findall(r'"([0-9a-f]{32})"', self.sources)
        self.assertEqual(len(used), len(set(used)), "one id for two kinds of event")
        written = re.findall(r"^\.It Li ([0-9a-f]{32})$", section(self.messages, "MESSAGES"), re.MULTILINE)
        self.assert_names("man/tcpechod-messages.7, MESSAGES", written, used)

    def test_quoted_messages_are_those_of_the_sources(self):
        quoted = re.findall(r"^\.(?:Ql|It Li) ([a-z][a-z /]+[a-z]{3})(?: |$)", section(self.messages, "MESSAGES"),
                            re.MULTILINE)
        self.assertGreater(len(quoted), 10)
        self.assertEqual([words for words in quoted if words not in self.sources], [],
                         "man/tcpechod-messages.7, MESSAGES, has what no source says")

    def test_reasons(self):
        """Of closing and of refusing: memory can be short for both."""
        table = read(os.path.join(harness.ROOT, "src", "serve", "reason.c"))
        names = [name for name in re.findall(r'\] = "(\w+)"', table) if name != "none"]
        self.assertGreater(len(names), 10)
        closed, refused = ([name for name, _ in items(part, "Cm")]
                           for part in section(self.messages, "Reasons", "Ss").split(".El\n")[:2])
        self.assert_names("man/tcpechod-messages.7, Reasons", closed + refused, names)
        for done, reasons in (("closed", closed), ("refused", refused + ["error"])):
            entry = re.search(rf"^Subject: .* was {done}: .*\n((?:(?!-- ).*\n)*)", read(CATALOG), re.MULTILINE).group(1)
            self.assert_names(f"systemd/tcpechod.catalog, what was {done}", re.findall(r"^    (\w+)  ", entry, re.MULTILINE),
                              reasons)

    def test_counters(self):
        """The manual shows the line of SIGUSR1 and that of STATUS=, with N for each number."""
        with daemons.Daemon() as daemon:
            line, status = daemon.counters()[0], daemon.notify.last("STATUS")
        usr1 = dict(items(section(self.page, "SIGNALS"), "Dv"))["SIGUSR1"]
        notification = section(read_page("tcpechod.service.8"), "NOTIFICATION")
        for file, text, said in (("tcpechod.8, SIGUSR1", usr1, line), ("tcpechod.service.8, STATUS=", notification, status)):
            self.assertEqual(literals(text)[0].split(), re.sub(r"\d+", "N", said).split(), f"man/{file}")

    def test_fields(self):
        used = set(re.findall(r'(?<!VARIABLE )"(TCPECHOD_[A-Z_]+)"', self.sources))
        self.assert_names("man/tcpechod-messages.7, Journal",
                          [name for name, _ in items(section(self.messages, "Journal", "Ss"), "Dv")], used)

    def test_signals(self):
        handled = re.search(r"numbers\[\] = \{(.*?)\}", self.sources).group(1).split(", ")
        written = re.findall(r"SIG[A-Z0-9]+", " ".join(re.findall(r"^\.It Dv (.*)$", section(self.page, "SIGNALS"),
                                                                 re.MULTILINE)))
        self.assert_names("man/tcpechod.8, SIGNALS", written, handled + ["SIGPIPE", "SIGRTMIN"])

    def test_environment(self):
        used = set(re.findall(r'(?:getenv\(|VARIABLE )"(\w+)"', self.sources))
        for function, names in READ_BY_LIBRARIES.items():
            used |= names if function in self.sources else set()
        written = re.findall(r"^\.It Ev (.*)$", section(self.page, "ENVIRONMENT"), re.MULTILINE)
        self.assert_names("man/tcpechod.8, ENVIRONMENT", [name for line in written for name in line.split(" , ")], used)


class Client(harness.TestCase):
    """tcpecho(1)"""

    @classmethod
    def setUpClass(cls):
        cls.page = read_page("tcpecho.1")
        cls.sources = sources("client")
        cls.help = client.run("--help").stdout.decode()

    def options(self, *mode):
        """Of the help, as (letter, name, argument)."""
        text = client.run(*mode, "--help").stdout.decode()
        return re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: ([A-Z[1]\S*))?(?:  | *$)", text, re.MULTILINE)

    def test_options(self):
        told = self.options()
        self.assertGreater(len(told), 5)
        written = re.findall(r"^\.It Fl (?:(\w) , Fl )?Fl ([\w-]+)(?: (.*))?$", self.page, re.MULTILINE)
        words = {(short, long, re.sub(r"\b(Ar|Oo|Oc|Ns|Cm) ?", "", argument).replace(" ", ""))
                 for short, long, argument in written}
        self.assert_names("man/tcpecho.1", words, {(short, long, re.sub(r"[][]", "", argument).lower())
                                                   for short, long, argument in told})

    def test_synopsis_has_each_mode_with_its_letters(self):
        forms = section(self.page, "SYNOPSIS").split(".Nm\n")[1:-1]
        modes = re.findall(r"^tcpecho (?:--(\w+) )?", self.help, re.MULTILINE)
        # That of one way has what the mode has, and no letters of its own.
        forms = [form for form in forms if ".Op Ar options\n" not in form]
        self.assertEqual(len(forms), len(modes))
        for form, mode in zip(forms, modes):
            with self.subTest(mode=mode):
                arguments = [f"--{mode}", "0"] if mode else []
                told = {letter for letter, _, _ in self.options(*arguments) if letter}
                if not mode:  # the help is that of all modes; what talk has is what is accepted
                    told = {letter for letter in told if "a talk takes no" not in
                            client.run(f"-{letter}", "7", "a", "b", "c").stderr}
                self.assert_names(f"man/tcpecho.1, SYNOPSIS of {mode or 'a talk'}", "".join(re.findall(r"Fl (\w+)\b(?= |$)", re.sub(r"Fl Fl \S+", "", form),
                                                                                               re.MULTILINE)),
                                  told - {"h", "V"})

    def test_exit_statuses(self):
        told = re.findall(r"\b(\d+) \w", self.help.partition("Exit status:")[2].partition("See ")[0])
        written = re.findall(r"^\.It (\d+)$", section(self.page, "EXIT STATUS"), re.MULTILINE)
        defined = re.findall(r"#define (EXIT_\w+) (\d+)", self.sources)
        numbers = {number for name, number in defined if name != "EXIT_INTERRUPTED"}
        self.assert_names("man/tcpecho.1, EXIT STATUS", written, told)
        self.assert_names("man/tcpecho.1, EXIT STATUS", written, numbers | {"0"})

    def test_environment(self):
        used = set(re.findall(r'getenv\("(\w+)"\)', self.sources))
        written = re.findall(r"^\.It Ev (.*)$", section(self.page, "ENVIRONMENT"), re.MULTILINE)
        self.assert_names("man/tcpecho.1, ENVIRONMENT", written, used)

    def test_examples_are_understood(self):
        examples = [line[2:] for block in literals(self.page) for line in block.replace("\\\n", "").splitlines()
                    if line.startswith("$ ")]
        self.assertGreater(len(examples), 4)
        for example in examples:
            with self.subTest(example=example):
                words = re.search(r"tcpecho (.*?)(?: [<>|].*)?$", example).group(1).split()
                # An operand too many is what is wrong with it, and nothing else. Of --ping it is a HOST.
                result = client.run(*words, "surplus", "surplus", "7")
                self.assertEqual(result.status, 3 if "--nagios" in words else client.USAGE)
                self.assertRegex(result.stderr, r"surplus: |: the port of several HOSTs is given by -p")


class Examples(harness.TestCase):
    """Each mode has some in its section, and they do what they say, with the listeners of the installed settings."""

    SECTIONS = {"TALK": "", "CHAT": "--listen", "PING": "--ping", "BENCH": "--bench", "WATCH": "--watch"}
    LISTENERS = """
        { address = "127.0.0.1"; port = 7; service = "echo"; },
        { address = "127.0.0.1"; port = 7007; service = "echo"; },
        { address = "127.0.0.1"; port = 7008; service = "upper"; }
    """

    @classmethod
    def setUpClass(cls):
        cls.page = read_page("tcpecho.1")

    def commands(self, title):
        """[(command, what it prints, if the page says so)]"""
        return [example for block in literals(section(self.page, title))
                for example in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.replace("\\\n", ""), re.MULTILINE)]

    def run_shell(self, directory, command):
        path = os.pathsep.join(os.path.dirname(program) for program in (client.TCPECHO, harness.TCPECHOD))
        return subprocess.run(["sh", "-c", command], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=harness.patience(60),
                              env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"})

    def test_they_fit_a_terminal(self):
        """As all of the page, of which mandoc breaks no line of an example."""
        mandoc = harness.needs("mandoc")
        shown = subprocess.run([mandoc, "-T", "ascii", os.path.join(MAN, "tcpecho.1")], capture_output=True, text=True,
                               check=True).stdout
        for line in re.sub(".\b", "", shown).splitlines():
            self.assertLessEqual(len(line.expandtabs()), 80, line)

    def test_they_run(self):
        with harness.network_namespace(), daemons.Daemon(self.LISTENERS), \
                tempfile.TemporaryDirectory(prefix="tcpecho-test-") as directory:
            with open(os.path.join(directory, "file"), "wb") as file:
                file.write(b"Every byte.\n" * 10000)
            for title, mode in self.SECTIONS.items():
                commands = self.commands(title)
                self.assertTrue(commands, title)
                if title == "CHAT":  # two terminals
                    commands = [(f"{commands[0][0]} </dev/null & sleep 0.5; echo hi | {commands[1][0]}; wait", "hi\n")]
                for command, printed in commands:
                    with self.subTest(command=command):
                        self.assertIn(f"tcpecho {mode}", command)
                        result = self.run_shell(directory, re.sub(r" -d \d+", " -d 1", command))
                        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)
                        if printed:
                            self.assertEqual(result.stdout, printed)


class Markup(harness.TestCase):
    """Of all pages."""

    def test_mandoc_has_nothing_to_say(self):
        mandoc = harness.needs("mandoc")
        result = subprocess.run([mandoc, "-T", "lint", *glob.glob(f"{MAN}/*")], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, check=False)
        # Which other pages are installed here is none of ours.
        told = [line for line in result.stdout.splitlines() if "referenced manual not found" not in line]
        told += [line for line in result.stderr.splitlines() if "outdated mandoc.db" not in line]
        self.assertEqual(told, [])

    def test_references(self):
        """To our pages, and to sections of the same page."""
        names = os.listdir(MAN)
        for name in names:
            page = read_page(name)
            for other, number in re.findall(r"^\.Xr (tcpecho\S*) (\d)", page, re.MULTILINE):
                self.assertIn(f"{other}.{number}", names, name)
            for title in re.findall(r"\bSx (.*?)(?: [.,;)]+.*)?$", page, re.MULTILINE):
                if not re.search(rf"Sx {title}\nof\n\.Xr", page):
                    self.assertRegex(page, rf"(?m)^\.S[hs] {title}$", name)


if __name__ == "__main__":
    harness.main()
