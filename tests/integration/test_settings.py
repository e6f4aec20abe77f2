"""The settings file and the command line from outside: what --test says of bad files, what --dump gives back.

bad_settings/ holds a file for each kind of mistake; bad_settings/expected.txt holds every line that the daemon says of
all of them, file by file. A new bad file is a new file there and its lines in expected.txt.
"""

import os
import re
import signal
import stat
import subprocess
import tempfile
import unittest

import daemons
import harness
from daemons import USAGE

HERE = os.path.dirname(os.path.abspath(__file__))
BAD = os.path.join(HERE, "bad_settings")
INSTALLED = os.path.join(harness.ROOT, "conf", "tcpechod.conf")
DEFAULT_FILE = "/etc/tcpechod.conf"

SYSTEM = 71
SETTINGS = 78

GOOD = {
    "empty": "",
    "only comments": "# one\n// two\n/* three\n lines */",
    "installed by hand": """
        listeners = (
          { address = "127.0.0.1"; port = 7; service = "echo"; },
          { address = "*"; port = 7008; service = "upper"; end_word = "end"; greeting = "hello\\n"; },
          { path = "/run/tcpechod/echo.sock"; mode = "0660"; service = "echo"; }
        );
        workers = 0; queue_depth = 1024; backlog = 4096; max_connections = 0; overload = "wait";
        max_connections_per_source = 0; source_prefix_v4 = 32; source_prefix_v6 = 64;
        allow = [ ]; deny = [ ];
        idle_timeout = 300.0; write_timeout = 60.0; drain_timeout = 10.0; stop_delay = 0.0; unsent_limit = 262144;
        tcp_keepalive = 60; busy_poll_usec = 0;
        log = { level = "info"; target = "auto"; connections = true; rate = 200; addresses = "full"; format = "text"; };
    """,
    "escapes": r'''
        listeners = ( { address = "::1"; port = 0; service = "greet"; greeting = "a\tb\r\n\f\"\\\x01\x7f\xFFz";
                        text = "C:\\path" "joined" /* and */ "again"; } );
    ''',
    "utf-8": 'listeners = ( { address = "::1"; port = 1; service = "reply"; text = "Grüße, 世界 🙂"; end_word = "x"; } );'
             .replace(' end_word = "x";', ""),
    "text over lines": 'listeners = ( { address = "::1"; port = 1; service = "greet"; text = "one\ntwo\n"; } );',
    "long text": 'listeners = ( { address = "::1"; port = 1; service = "greet"; text = "%s"; } );' % ("x" * 65536),
    "long word": 'listeners = ( { address = "::1"; port = 1; end_word = "%s"; } );' % ("é" * 127 + "x"),
    "floats": "idle_timeout = 0.001; write_timeout = 1.0000000000000002; drain_timeout = .5;",
    "exponents": "idle_timeout = 1e3; write_timeout = 12.5E-1; drain_timeout = 3.;",
    "a third": "idle_timeout = 0.3333333333333333; write_timeout = 31535999.999999;",
    "units": 'idle_timeout = "5m"; write_timeout = "250ms"; drain_timeout = "0.5h"; tcp_keepalive = "2min";',
    "units of a listener": 'listeners = ( { path = "/x"; idle_timeout = "1500us"; }, { path = "/y"; idle_timeout = "0s"; } );',
    "nested": "log = { }; allow = ( );",
    "integers for floats": "idle_timeout = 300; write_timeout = 0; drain_timeout = 0;",
    "never": "idle_timeout = 0.0; write_timeout = -0.0;",
    "hex and long": "workers = 0x10; backlog = 100L; queue_depth = 0xFFLL; tcp_keepalive = +5;",
    "colons and commas": 'workers : 2, backlog : 3, log : { level : "debug", rate : 0 }',
    "unix paths": """
        listeners = ( { path = "/run/a b/c.sock"; }, { path = "/x"; mode = "000"; service = "time"; },
                      { path = "/@y"; mode = "777"; idle_timeout = 2; trace = TRUE; } );
    """,
    "longest path": 'listeners = ( { path = "/%s"; } );' % ("x" * 106),
    "allow lists": """
        allow = [ "10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1", "0.0.0.0/0", "::/0" ];
        deny = ( "10.1.0.0/16" );
        listeners = ( { address = "127.0.0.1"; port = 7; allow = [ ]; deny = [ "::ffff:10.0.0.0/104" ]; },
                      { address = "127.0.0.1"; port = 8; allow = ( "10.0.0.0/8", "11.0.0.0/8" );
                        max_connections_per_source = 3; idle_timeout = 1.5; } );
    """,
    "beside one another": """
        listeners = ( { address = "0.0.0.0"; port = 7; }, { address = "::"; port = 7; },
                      { address = "*"; port = 8; }, { address = "127.0.0.1"; port = 0; },
                      { address = "127.0.0.1"; port = 0; }, { address = "127.0.0.2"; port = 9; },
                      { address = "127.0.0.1"; port = 9; } );
    """,
    "services": "listeners = (" + ", ".join(
        '{ address = "127.0.0.1"; port = %d; service = "%s"; %s }' % (port, name, extra)
        for port, (name, extra) in enumerate([
            ("echo", 'end_word = "bye";'), ("upper", 'trace = false;'), ("discard", ""), ("chargen", 'greeting = "x";'),
            ("daytime", ""), ("time", ""), ("greet", 'text = "hi";'), ("reply", 'text = "ok";'),
            ("whoami", 'greeting = "x"; trace = true; corrupt = 0.5;')], 1)) + ");",
    "extremes": """
        workers = 1024; queue_depth = 65536; backlog = 65535; max_connections = 1000000; overload = "refuse";
        max_connections_per_source = 1000000; source_prefix_v4 = 1; source_prefix_v6 = 128; idle_timeout = 31536000;
        drain_timeout = 3600; stop_delay = 3600; unsent_limit = 16777216; tcp_keepalive = 32767; busy_poll_usec = 1000000;
        log = { level = "error"; target = "stderr"; connections = false; rate = 1000000; addresses = "none";
                format = "json"; };
    """,
    "empty group": "log = { };",
    "an @ in text": 'listeners = ( { address = "::1"; port = 1; greeting = "\n@include \\"x\\"\n"; } );\n# @include "y"\n',
}


def run(*arguments, stdout=subprocess.PIPE):
    environment = {name: value for name, value in os.environ.items() if name not in ("FAULTS", "FAULTS_FILE")}
    return subprocess.run([harness.TCPECHOD, *arguments], stdin=subprocess.DEVNULL, stdout=stdout,
                          stderr=subprocess.PIPE, text=True, errors="surrogateescape", env=environment,
                          timeout=harness.patience(), check=False)


class Files(harness.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, text, name="tcpechod.conf"):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path

    def assert_refused(self, path, *messages):
        """Status 78, these messages and no others, each with the file's name in front of it."""
        result = run("--test", "-c", path)
        self.assertEqual(result.stderr.splitlines(), [f"{path}:{message}" for message in messages])
        self.assertEqual((result.returncode, result.stdout), (SETTINGS, ""))

    def dump(self, *arguments):
        result = run("--dump", *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout


def expected_messages():
    """{file name: [message]} of expected.txt."""
    messages = {}
    with open(os.path.join(BAD, "expected.txt"), encoding="utf-8") as file:
        for line in file.read().splitlines():
            name, separator, rest = line.partition(".conf:")
            messages.setdefault(name + ".conf", []).append(rest)
            assert separator, line
    return messages


class BadFiles(Files):
    def test_each_says_what_is_expected_and_nothing_else(self):
        messages = expected_messages()
        files = sorted(name for name in os.listdir(BAD) if name.endswith(".conf"))
        self.assertGreaterEqual(len(files), 70)
        self.assert_names("tests/integration/bad_settings/expected.txt", messages, files)
        for name in files:
            with self.subTest(f"{name}, whose messages are in bad_settings/expected.txt"):
                self.assert_refused(os.path.join(BAD, name), *messages[name])

    def test_problems_come_by_line(self):
        for name, messages in expected_messages().items():
            lines = [int(message.split(":")[0]) for message in messages]
            self.assertEqual(lines, sorted(lines), name)

    def test_a_comma_before_a_bracket(self):
        """Whether it is a mistake is the library's to say: libconfig 1.7 takes it, 1.5 does not."""
        files = (('listeners = (\n  { address = "127.0.0.1"; port = 7; },\n);\n', ',\n)', 3, ')'),
                 ('allow = [ "10.0.0.0/8", ];\n', ', ]', 1, ']'))
        for text, spare, line, bracket in files:
            with self.subTest(text):
                path = self.write(text)
                if run("--test", "-c", path).returncode == 0:
                    self.assertEqual(self.dump("-c", path), self.dump("-c", self.write(text.replace(spare, bracket), "plain")))
                else:
                    self.assert_refused(path, f'{line}: syntax error: no comma may stand before "{bracket}", in: {text.splitlines()[-1]}')

    def test_many_settings_in_one_group(self):
        path = self.write("log = {\n" + "".join(f"x{i} = [ ];\n" for i in range(1000)) + "};\n")
        self.assert_refused(path, "514: too many settings stand in one group")

    def test_many_listeners(self):
        rows = ",".join('{ address = "127.0.0.1"; port = 0; }' for _ in range(4097))
        self.assert_refused(self.write(f"\nlisteners = ({rows});"), "2: listeners: must have at most 4096 rows")

    def test_over_a_mebibyte(self):
        path = self.write(b"#" * (1 << 20))
        self.assertEqual(run("--test", "-c", path).returncode, 0)
        path = self.write(b"#" * ((1 << 20) + 1))
        self.assert_refused(path, " is larger than 1 MiB, which no settings file needs")

    def test_directory(self):
        self.assert_refused(self.folder.name, " is a directory, not a settings file")

    def test_what_is_no_regular_file(self):
        fifo = os.path.join(self.folder.name, "fifo")
        os.mkfifo(fifo)
        for path in (fifo, "/dev/zero", "/dev/null"):
            self.assertFalse(stat.S_ISREG(os.stat(path).st_mode))
            self.assert_refused(path, " is not a regular file")

    def test_absent(self):
        path = os.path.join(self.folder.name, "absent.conf")
        self.assert_refused(path, " cannot be read: No such file or directory")
        self.assert_refused(os.path.join(self.write(""), "x"), " cannot be read: Not a directory")

    def test_dump_and_a_start_refuse_it_too(self):
        path = self.write("workers = 5000;\n")
        for arguments in ((), ("--dump",)):
            result = run("-c", path, *arguments)
            self.assertEqual((result.returncode, result.stdout, result.stderr),
                             (SETTINGS, "", f"{path}:1: workers = 5000: must be 0 to 1024\n"))

    def test_nothing_broken_ends_the_process_otherwise(self):
        for text in (b"\0", b"\0" * 5000, b"\xff" * 70000, b'"' * 9999, b"(" * 200000, b"a=(" * 30000, b"[" * 99999,
                     b"{a=" * 50000, b"a" * 900000, b"a=" + b"9" * 900000, b'a="' + b"\\" * 900000, b"/*" * 400000,
                     b"@include " * 9999, b'@include "/"\n' * 9999, b"a=1;" * 200000, b"\n" * 1048576,
                     b'a="' + b"x" * 900000 + b'";', b"." * 500000, b"=" * 500000):
            with self.subTest(text[:20]):
                result = run("--test", "-c", self.write(text))
                self.assertIn(result.returncode, (0, SETTINGS))
                self.assertEqual(bool(result.stderr), result.returncode == SETTINGS)


class GoodFiles(Files):
    def test_each_is_ok(self):
        for name, text in GOOD.items():
            with self.subTest(name):
                path = self.write(text)
                result = run("-t", "-c", path)
                self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{path}: configuration OK\n", ""))

    def test_dump_reads_back_the_same(self):
        for name, text in GOOD.items():
            with self.subTest(name):
                dumped = self.dump("-c", self.write(text))
                again = self.write(dumped.encode(errors="surrogateescape"), "again.conf")
                self.assertEqual(self.dump("-c", again), dumped)

    def test_dump_with_options_reads_back_the_same(self):
        path = self.write('workers = 3; allow = [ "10.0.0.0/8" ];')
        for arguments in (("-p", "7007"), ("-w", "5"), ("-L", "debug"), ("-l", "/run/x@y.sock"),
                          ("-l", "upper@[::1]:0", "-l", "127.0.0.1:8", "-p", "9", "-w", "0", "-L", "error"),
                          ("-l", "greet@*:1,text=Hello, world,idle_timeout=5m,trace=true", "-l", "/run/x,mode=0600"),
                          ("-l", '*:1,allow=["10.0.0.0/8"],end_word="a,b"'),
                          ("-l", "*:1,proxy_protocol=true", "-l", "/x,proxy_protocol=true,proxy_timeout=1m"),
                          ("-l", "*:1,silent=true", "-l", "discard@*:2,deaf=true", "-l", "*:3,repeat=0.5,toxicity=0.5,seed=7"),
                          ("--listen=chargen@/run/c.sock", "--workers=1024", "--log-level=warning", "--port=0")):
            with self.subTest(arguments):
                dumped = self.dump("-c", path, *arguments)
                self.assertEqual(self.dump("-c", self.write(dumped, "again.conf")), dumped)

    def test_dump_fills_in_every_default(self):
        with open(INSTALLED, encoding="utf-8") as file:
            shown = [line.strip().lstrip("#") for line in file if line.strip().startswith("#") and " = " in line
                     and line.rstrip().endswith(";")]
        dumped = [line.strip() for line in self.dump("-c", self.write("")).splitlines()]
        self.assertGreater(len(shown), 15)
        for line in shown:
            self.assertIn(line, dumped, "a default of conf/tcpechod.conf")

    def test_dump_keeps_what_was_set(self):
        dumped = self.dump("-c", self.write(GOOD["extremes"]))
        for line in ("workers = 1024;", 'overload = "refuse";', "idle_timeout = 31536000.0;", '    level = "error";',
                     "    connections = false;", '    addresses = "none";', '    format = "json";', "drain_timeout = 3600.0;",
                     "stop_delay = 3600.0;"):
            self.assertIn(line + "\n", dumped)
        for name, lines in (("a third", ("idle_timeout = 0.333333;", "write_timeout = 31535999.999999;")),
                            ("units", ("idle_timeout = 300.0;", "write_timeout = 0.25;", "drain_timeout = 1800.0;",
                                       "tcp_keepalive = 120;"))):
            dumped = self.dump("-c", self.write(GOOD[name]))
            for line in lines:
                self.assertIn(line + "\n", dumped)

    def test_options_override_the_file(self):
        path = self.write('workers = 3; log = { level = "error"; }; listeners = ( { path = "/run/a.sock"; } );')
        dumped = self.dump("-c", path, "-w", "5", "-L", "debug", "-l", "upper@[::1]:9", "-p", "10")
        self.assertIn("workers = 5;\n", dumped)
        self.assertIn('    level = "debug";\n', dumped)
        self.assertIn('listeners = (\n    { address = "::1"; port = 9; service = "upper"; trace = false; proxy_protocol = false; },\n'
                      '    { address = "*"; port = 10; service = "echo"; trace = false; proxy_protocol = false; }\n);\n', dumped)

    def test_installed_file_is_ok(self):
        result = run("--test", "-c", INSTALLED)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, f"{INSTALLED}: configuration OK\n", ""))
        self.assertTrue(self.dump("-c", INSTALLED).startswith("""listeners = (
    { address = "127.0.0.1"; port = 7; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "::1"; port = 7; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "127.0.0.1"; port = 7007; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "::1"; port = 7007; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "127.0.0.1"; port = 7008; service = "upper"; end_word = "end"; trace = false; proxy_protocol = false; },
    { address = "::1"; port = 7008; service = "upper"; end_word = "end"; trace = false; proxy_protocol = false; }
);
"""))

    def test_installed_file_can_be_uncommented(self):
        """Every default that the file shows is what it says: without the comment signs it means the same."""
        with open(INSTALLED, encoding="utf-8") as file:
            lines = file.read().splitlines()
        text = "\n".join(line.replace("#", "", 1) if line.strip().startswith("#") and line.strip()[1:2].isalpha() else line
                         for line in lines)
        self.assertIn("\nworkers = 0;", text)
        self.assertEqual(self.dump("-c", self.write(text)), self.dump("-c", INSTALLED))

    def test_opening_to_the_network_is_the_edit_that_the_file_explains(self):
        with open(INSTALLED, encoding="utf-8") as file:
            text = file.read()
        loopback = [line for line in text.splitlines() if line.strip().startswith("{ address")]
        self.assertEqual(len(loopback), 6)
        for line in loopback:
            text = text.replace(line + "\n", "")
        text = text.replace("    #{ address", "    { address")
        self.assertTrue(self.dump("-c", self.write(text)).startswith("""listeners = (
    { address = "*"; port = 7; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "*"; port = 7007; service = "echo"; trace = false; proxy_protocol = false; },
    { address = "*"; port = 7008; service = "upper"; end_word = "end"; trace = false; proxy_protocol = false; }
);
"""))

    @unittest.skipIf(os.path.exists(DEFAULT_FILE), f"there is a {DEFAULT_FILE}")
    def test_built_in_defaults(self):
        result = run("--test")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout.splitlines()[-1], f"{DEFAULT_FILE}: configuration OK")
        self.assertIn("absent", result.stdout)
        self.assertEqual(self.dump(), self.dump("-c", self.write("")))
        self.assertIn('{ address = "::1"; port = 7008; service = "upper"; end_word = "end"; ', self.dump())


class CommandLine(Files):
    def assert_usage(self, arguments, message):
        result = run(*arguments)
        self.assertEqual(result.stderr, f"tcpechod: {message}; see tcpechod --help\n")
        self.assertEqual((result.returncode, result.stdout), (USAGE, ""))

    def test_options(self):
        self.assert_usage(["--prot", "7"], "--prot: unknown option; did you mean --port?")
        self.assert_usage(["--frobnicate"], "--frobnicate: unknown option")
        self.assert_usage(["--l"], "--l: ambiguous option, as --listen or --log-level")
        self.assert_usage(["-x"], "-x: unknown option")
        self.assert_usage(["-tx"], "-x: unknown option")
        self.assert_usage(["-c"], "-c needs an argument")
        self.assert_usage(["--config"], "--config needs an argument")
        self.assert_usage(["--test=yes"], "--test=yes takes no argument")
        self.assert_usage(["-c", ""], "--config: the name of the file is empty")
        self.assert_usage(["7007"], "7007: takes no arguments but options")
        self.assert_usage(["-t", "-T"], "--test, --dump and --reload cannot be had at once")

    def test_numbers(self):
        for text in ("1025", "-1", "+1", "007", "", "four", "1.0", "99999999999999999999", " 1", "0x1"):
            self.assert_usage(["-w", text], f"--workers {text}: must be 0 to 1024")
        for text in ("65536", "-1", "07", "", "echo", "99999999999999999999"):
            self.assert_usage(["-p", text], f"--port {text}: must be 0 to 65535")
        self.assert_usage(["-L", "loud"],
                          '--log-level loud: must be one of "error", "warning", "notice", "info", "debug"')

    def test_specs(self):
        form = ("must be [SERVICE@]ADDRESS:PORT, [SERVICE@][IPV6ADDRESS]:PORT or [SERVICE@]/PATH, with a numeric address "
                "or \"*\", and then ,NAME=VALUE for each option")
        for spec in ("", "7007", "::1:7", "[::1]", "[::1]7", "[127.0.0.1]:7", "[*]:7", "127.0.0.1",
                     "echo@", "echo@run/x", "[::1:7", "127.0.0.1,trace=true"):
            self.assert_usage(["-l", spec], f"--listen {spec}: {form}")
        allowed = 'must be a numeric IPv4 or IPv6 address in quotes, or "*" for every address'
        for spec, address, problem in (
                ("localhost:7", "localhost", ', not a name; did you mean "127.0.0.1" or "::1"?'),
                ("echo@echo@127.0.0.1:7", "echo@127.0.0.1", ", not a name"),
                ("1.2.3:7", "1.2.3", ""), ("[::1%lo]:7", "::1%lo", "; only a link-local IPv6 address has an interface"),
                ("[fe80::1%nope]:1", "fe80::1%nope", "; there is no interface \"nope\" ('ip link' lists them)"),
                ("[fe80::1]:1", "fe80::1", '; a link-local address needs its interface, such as "fe80::1%eth0"'),
                ("224.0.0.1:1", "224.0.0.1", "; no TCP client can reach a multicast address")):
            self.assert_usage(["-l", spec],
                              f'--listen {spec}: address = "{address}": {allowed}{problem}')
        for port, problem in (("", 'port = "": must be 0 to 65535, a number without quotes'),
                              ("65536", "port = 65536: must be 0 to 65535"),
                              ("07", "port = 07: has a leading zero, which some versions of libconfig read as octal"),
                              ("x", 'port = "x": must be 0 to 65535, a number without quotes'),
                              ("-1", 'port = "-1": must be 0 to 65535, a number without quotes')):
            self.assert_usage(["-l", f"127.0.0.1:{port}"], f"--listen 127.0.0.1:{port}: {problem}")
        services = ", ".join(f'"{name}"' for name in
                             ("echo", "upper", "discard", "chargen", "daytime", "time", "greet", "reply", "whoami"))
        for name, problem in (("", ""), ("ehco", '; did you mean "echo"?'), ("ECHO", '; did you mean "echo"?')):
            self.assert_usage(["-l", f"{name}@127.0.0.1:7"],
                              f'--listen {name}@127.0.0.1:7: service = "{name}": must be one of {services}{problem}')
        for name in ("greet", "reply"):
            self.assert_usage(["-l", f"{name}@127.0.0.1:7"],
                              f'--listen {name}@127.0.0.1:7: service = "{name}": needs a "text" to send')
        path = "/" + "x" * 107
        self.assert_usage(["-l", path], f'--listen {path}: path = "{path[:64]}...": must be an absolute path of at most '
                          "107 bytes in quotes")

    def test_options_of_specs(self):
        for options, problem in (
                ("traec=true", 'unknown setting "traec"; did you mean "trace"?'),
                ("workers=2", 'unknown setting "workers"; it is set for the whole daemon, at the top of the file'),
                ("trace=yes", 'trace = "yes": must be true or false, without quotes'),
                ("trace=", 'trace = "": must be true or false, without quotes'),
                ("trace=true,trace=true", '"trace" is set a second time; the first is in line 1'),
                ("idle_timeout=5x", 'idle_timeout = "5x": must be 0 (never) or 0.001 to 31536000 seconds, or text with a '
                                    'unit, such as "250ms" or "5m"'),
                ("mode=0600", '"mode" has no use without a path'),
                ("text=x", '"text" has no use: the service echo takes none'),
                ("path=/x", 'both "port" and "path": a listener has either address and port, or path'),
                ('end_word="x', "the text that starts here has no closing quote")):
            spec = f"127.0.0.1:7,{options}"
            self.assert_usage(["-l", spec], f"--listen {spec}: {problem}")

    # What some setting of a listener takes, and what most refuse.
    VALUES = ("true", "1", "-1", "0.25", '"250ms"', '"0600"', '"a, b=c"', "[ ]", '[ "10.0.0.0/8", "::1" ]')
    # Whose values are text, also where the quotes are left out.
    TEXTS = ("address", "path", "mode", "service", "text", "greeting", "end_word", "end")
    # What goes with no other.
    NEEDS = {"jitter": "delay=3600", "slice_delay": "slice=1", "seed": "silent=true",
             "proxy_timeout": "proxy_protocol=true", "proxy_from": "proxy_protocol=true"}

    def test_options_of_specs_are_those_of_the_file(self):
        """Each name that there is, with each of these values: the same dump, or the same message."""
        names = run("--dump", "-l", "*:1,qqqqqqqqqqqq=1").stderr.partition("known are ")[2].partition(";")[0].split(", ")
        self.assertGreater(len(names), 10)
        taken = set()
        for name in names:
            spec, group = ("/x", 'path = "/x";') if name == "mode" else ("127.0.0.1:7", 'address = "127.0.0.1"; port = 7;')
            if name == "text":
                spec, group = f"greet@{spec}", f'service = "greet"; {group}'
            if name in self.NEEDS:
                spec, group = f"{spec},{self.NEEDS[name]}", f"{group} {self.NEEDS[name]};"
            for value in self.VALUES:
                with self.subTest(name=name, value=value):
                    in_file = daemons.literal(value) if name in self.TEXTS and value[0] != '"' else value
                    file = self.write(f"listeners = ( {{ {group} {name} = {in_file}; }} );")
                    of_file, of_spec = run("--dump", "-c", file), run("--dump", "-c", self.write(""), "-l", f"{spec},{name}={value}")
                    self.assertEqual(of_spec.stdout, of_file.stdout)
                    told = of_spec.stderr.removeprefix(f"tcpechod: --listen {spec},{name}={value}: ")
                    self.assertEqual(told.removesuffix("; see tcpechod --help\n"),
                                     re.sub(r"^.*?:1: (listener 1: )?", "", of_file.stderr.partition("\n")[0]))
                    taken |= set() if of_spec.returncode else {name}
        # The others are in the SPEC before its options, or take none of these values.
        self.assertEqual(set(names) - taken, {"address", "port", "path", "service", "end"})

    def test_commas(self):
        """A comma begins an option where a name and "=" follow, and nowhere between quotes."""
        for spec, shown in (("/run/a,b", 'path = "/run/a,b"; mode = "0666"; service = "echo";'),
                            ('"/run/a,b=c"', 'path = "/run/a,b=c"; mode = "0666"; service = "echo";'),
                            (r'upper@"/run/\"a,b=c",mode=0600', r'path = "/run/\"a,b=c"; mode = "0600"; service = "upper";'),
                            ("greet@*:1,text=a, b", 'address = "*"; port = 1; service = "greet"; text = "a, b";'),
                            (r'greet@*:1,text="a,b=c\\",greeting="\",trace=true"',
                             r'address = "*"; port = 1; service = "greet"; text = "a,b=c\\"; greeting = "\",trace=true";')):
            self.assertIn(f"    {{ {shown} trace = false; proxy_protocol = false; }}\n", self.dump("-c", self.write(""), "-l", spec))
        for spec, problem in (("/run/a,b=c", 'unknown setting "b"; '), ("greet@*:1,text=a,b=c", 'unknown setting "b"; '),
                              ('"/run/a', "the text that starts here has no closing quote"),
                              ('"127.0.0.1:7"', 'path = "127.0.0.1:7": must be an absolute path ')):
            result = run("--dump", "-l", spec)
            self.assertEqual(result.returncode, USAGE)
            self.assertIn(f"tcpechod: --listen {spec}: {problem}", result.stderr)

    def test_port_file_and_command(self):
        self.assert_usage(["--port-file", ""], "--port-file: the name of the file is empty")
        self.assert_usage(["--port-file"], "--port-file needs an argument")
        self.assert_usage(["--reload", "1", "--port-file", "x"], "--reload goes with no other option")
        self.assert_usage(["--"], "--: a command must follow")
        self.assert_usage(["true", "--", "true"], "true: takes no arguments but options")
        self.assert_usage(["-c", "--", "true"], "true: takes no arguments but options")
        for option in (["-t"], ["-T"], ["-R", "1"]):
            self.assert_usage([*option, "--", "true"], "--test, --dump and --reload go without a command")
        self.assertEqual(run("-t", "-c", self.write(""), "--port-file", "/nowhere/x").returncode, 0)
        # What follows the command is its own.
        self.assertEqual(run("-l", "127.0.0.1:0", "--", "echo", "--help", "--").stdout, "--help --\n")

    def test_listeners_that_clash(self):
        result = run("-t", "-c", self.write(""), "-p", "7", "-l", "127.0.0.1:7", "-l", "/a", "-l", "/a")
        self.assertEqual(result.returncode, SETTINGS)
        self.assertEqual(result.stderr.splitlines(),
                         ["tcpechod: --listen: 127.0.0.1:7 is already taken by the listener on *:7",
                          "tcpechod: --listen: /a is already taken by the listener on /a"])

    def test_problems_of_the_file_are_not_hidden_by_options(self):
        path = self.write("workers = 5000; listeners = ( );")
        result = run("-t", "-c", path, "-w", "1", "-p", "7")
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (SETTINGS, 2))

    def test_help_and_version(self):
        for arguments in (["-h"], ["--help"], ["-h", "--nonsense"]):
            result = run(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertTrue(result.stdout.startswith("Usage: tcpechod [OPTIONS]\n"))
            for word in ("--listen", "busy_poll_usec", "log.rate", "chargen", "64"):
                self.assertIn(word, result.stdout)
            self.assertLessEqual(max(map(len, result.stdout.splitlines())), 100)
        for arguments in (["-V"], ["--version"]):
            result = run(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertRegex(result.stdout, r"\Atcpechod \d+\.\d+\.\d+\n\Z")

    def test_full_disk(self):
        path = self.write("")
        for arguments in (["--dump", "-c", path], ["--help"], ["--version"], ["--test", "-c", path]):
            with self.subTest(arguments), open("/dev/full", "w", encoding="utf-8") as full:
                result = run(*arguments, stdout=full)
                self.assertEqual(result.returncode, SYSTEM)
                self.assertIn("No space left on device", result.stderr)

    def test_closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            result = run("--dump", "-c", self.write(""), stdout=writer)
        finally:
            os.close(writer)
        self.assertIn(result.returncode, (SYSTEM, -signal.SIGPIPE))


if __name__ == "__main__":
    harness.main()
