"""The daemon in a container: as its process 1, with the CPUs that it may use, and as examples/Containerfile has it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import client
import daemons
import harness

# Its process 1 is the daemon, which a shell has executed that leaves children.
SHELL = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")


def children(pid):
    """The process IDs of the children of a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += file.read().split()
    return found


class ProcessOne(harness.TestCase):
    def setUp(self):
        harness.needs_root()
        harness.needs("unshare")
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            raise unittest.SkipTest("this kernel does not list children (CONFIG_PROC_CHILDREN)")

    def start(self, script):
        return daemons.Daemon(wrapper=SHELL + (f'{script}\nexec "$@"', "sh"))

    def pid_in(self, daemon):
        (pid,) = children(daemon.pid)
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            self.assertRegex(file.read(), r"(?m)^NSpid:.*\t1$")
        return int(pid)

    def end(self, daemon, pid, number):
        os.kill(pid, number)
        self.assertEqual(daemon.wait(), 0)  # unshare's, which has the daemon's

    def assert_no_children(self, pid):
        harness.wait_until(lambda: not children(pid), lambda: f"no children of {pid}: {children(pid)}")

    def test_children_of_others_do_not_stay_zombies(self):
        # Orphans of which some end before the daemon is ready, and some after.
        with self.start("for i in 1 2 3; do (sleep 0 &); (sleep 0.$i &); done; (sleep 0.7 &)") as daemon:
            pid = self.pid_in(daemon)
            self.assert_no_children(pid)
            self.assertEqual(daemon.exchange(b"x"), b"x")
            self.end(daemon, pid, signal.SIGTERM)

    def test_stops_as_any_daemon(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number), self.start(":") as daemon:
                self.end(daemon, self.pid_in(daemon), number)

    def test_without_a_container(self):
        """A child of the shell, which the daemon has from it."""
        wrapper = ("sh", "-c", 'sleep 0 & sleep 0.5 &\nexec "$@"', "sh")
        with daemons.Daemon(wrapper=wrapper) as daemon:
            self.assert_no_children(daemon.pid)


class Quota(harness.TestCase):
    """workers = 0 is one for each CPU that the process may use, which its control groups bound."""

    def setUp(self):
        harness.needs_root()
        if len(os.sched_getaffinity(0)) == 1:
            raise unittest.SkipTest("there is one CPU, so a quota cannot make the workers fewer")
        self.group, self.mount = self.own_group()
        self.is_v2 = self.mount[2] == "cgroup2"

    @staticmethod
    def own_group():
        """The directory of this process's control group, in a hierarchy that has quotas, and how that is mounted."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [(line.split(), line.split(" - ")[1].split()) for line in file]
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        for fields, (kind, _, options) in mounts:
            for _, controllers, path in groups:
                directory = os.path.join(fields[4], path.lstrip("/"))
                controllers_mounted = [option for option in options.split(",") if option not in ("rw", "ro")]
                if kind == "cgroup" and "cpu" in controllers_mounted and "cpu" in controllers.split(","):
                    return directory, ("mount", "-t", kind, "-o", ",".join(controllers_mounted), "cgroup", fields[4])
                if kind == "cgroup2" and not controllers and "cpu" in Quota.read(directory, "cgroup.subtree_control").split():
                    return directory, ("mount", "-t", kind, "cgroup", fields[4])
        raise unittest.SkipTest("no control group here whose children have quotas")

    @staticmethod
    def read(*path):
        try:
            with open(os.path.join(*path), encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""

    def make_group(self, parent, quota):
        """A group below it with so many hundredths of a CPU."""
        directory = os.path.join(parent, f"tcpechod-test-{os.getpid()}")
        try:
            os.mkdir(directory)
            self.addCleanup(os.rmdir, directory)
            for name, text in ((("cpu.max", f"{quota * 1000} 100000"),) if self.is_v2 else
                               (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", f"{quota * 1000}"))):
                with open(os.path.join(directory, name), "w", encoding="ascii") as file:
                    file.write(text)
        except OSError as error:
            raise unittest.SkipTest(f"no control group with a quota can be made ({error.strerror})") from None
        return directory

    def workers(self, directory, script='exec "$@"', **how):
        enter = f'echo $$ >"{directory}/cgroup.procs"\n{script}'
        with daemons.Daemon(wrapper=("sh", "-c", enter, "sh"), **how) as daemon:
            return int(daemon.wait_log(r"ready: \d+ listeners?, (\d+) workers?,").group(1))

    def test_half_a_cpu(self):
        self.assertEqual(self.workers(self.make_group(self.group, 50)), 1)

    def test_more_than_there_are(self):
        cpus = len(os.sched_getaffinity(0))
        self.assertEqual(self.workers(self.make_group(self.group, 100 * cpus + 50)), cpus)

    def test_what_is_asked_for_is_made(self):
        self.assertEqual(self.workers(self.make_group(self.group, 50), settings="workers = 3;"), 3)

    def test_in_a_namespace(self):
        """As a container's runtime makes it: the group is the root of its namespace, and mounted as such."""
        harness.needs("unshare")
        group = self.make_group(self.group, 50)
        script = f"exec unshare --cgroup --mount sh -c 'umount -l {self.mount[-1]} && {' '.join(self.mount)} && exec \"$@\"' sh \"$@\""
        self.assertEqual(self.workers(group, script), 1)


class Container:
    """What an image's runtime does with it: a root that cannot be written to, processes and mounts of its own, the image's
    user without any capability, and pipes. `root` is the image's; without one it is this host's, with the executables of
    the build and the image's settings in their places."""

    SCRIPT = """
        root=$1; shift
        [ "$root" = / ] || mount --rbind "$root" "$root"
        cd "$root"
        mount -t proc proc proc
        mount --rbind /sys sys
        [ -c dev/null ] || mount --bind /dev dev
        mount -o remount,bind,ro .
        exec chroot . setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs --inh-caps=-all \\
            --bounding-set=-all -- "$@"
    """

    def __init__(self, file, root=None):
        self.file = file
        self.stack = contextlib.ExitStack()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tcpechod-test-"))
        os.chmod(directory, 0o755)
        arguments = file.words("ENTRYPOINT")
        if root is None:
            for program in (harness.TCPECHOD, client.TCPECHO):
                shutil.copy(program, directory)
            shutil.copy(os.path.join(harness.ROOT, "examples", "in-container.conf"), directory)
            arguments += ["-c", os.path.join(directory, "in-container.conf")]
        user, group = file.value("USER").split(":")
        environment = {"PATH": f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin", "user": user, "group": group}
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "setpriv", "--pdeathsig", "KILL", "sh", "-ec", self.SCRIPT,
             "sh", root or "/", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.text = b""
        try:
            self.wait_log("ready: ")
            (self.pid,) = map(int, children(self.process.pid))
        except BaseException:
            self.close()
            raise

    def log(self):
        """The objects of stderr so far; each line is one."""
        while data := self.process.stderr.read():
            self.text += data
        try:
            return [json.loads(line) for line in self.text.splitlines(keepends=True)
                    # With coverage: that it cannot be written, in a root that is read-only.
                    if line.endswith(b"\n") and not line.startswith(b"profiling:")]
        except ValueError:
            raise AssertionError(f"no JSON: {self.text}") from None

    def wait_log(self, pattern):
        return harness.wait_until(lambda: [event for event in self.log() if re.search(pattern, event["MESSAGE"])],
                                  lambda: f"{pattern} in {self.text[-2000:]}")[-1]

    def run(self, command):
        """Beside the daemon, as the runtime runs a health check or a hook: its exit status."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root", "--wd=/", "--"]
        with open(f"/proc/{self.pid}/environ", "rb") as file:
            environment = dict(item.split(b"=", 1) for item in file.read().split(b"\0") if item)
        return subprocess.run([*enter, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=environment, timeout=harness.patience(), check=False).returncode

    def check_health(self):
        return self.run(self.file.words("HEALTHCHECK"))

    def stop(self):
        """Returns the exit status, and what stdout has."""
        os.kill(self.pid, getattr(signal, self.file.value("STOPSIGNAL")))
        status = self.process.wait(harness.patience())
        self.log()
        return status, self.process.stdout.read()

    def close(self):
        if self.process.poll() is None:
            # --kill-child does not reach it: with another user a process has no signal for its parent's end.
            for pid in children(self.process.pid):
                os.kill(int(pid), signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.stack.close()


class Containerfile:
    def __init__(self):
        with open(os.path.join(harness.ROOT, "examples", "Containerfile"), encoding="utf-8") as file:
            self.lines = re.sub(r"\\\n\s*", "", file.read()).splitlines()

    def value(self, instruction):
        """Of the last stage's only one."""
        last = [line for line in self.lines if line.startswith("FROM ")][-1]
        value, = (line.partition(" ")[2] for line in self.lines[self.lines.index(last):]
                  if line.startswith(instruction + " "))
        return value

    def words(self, instruction):
        value = self.value(instruction)
        return json.loads(value[value.index("["):])


class Image(harness.TestCase):
    """examples/Containerfile: the root of the image that was built by it, if $TCPECHOD_IMAGE names that (tests/fresh/run
    does), and otherwise this host's."""

    ROOT = os.environ.get("TCPECHOD_IMAGE")

    def setUp(self):
        harness.needs_root()
        harness.needs("unshare")
        self.file = Containerfile()
        self.enterContext(harness.network_namespace())

    def start(self):
        return contextlib.closing(Container(self.file, self.ROOT))

    def connect(self):
        return socket.create_connection(("127.0.0.1", 7007), harness.patience())

    def test_serves_and_says_so(self):
        with self.start() as container:
            ports = [re.search(r"\d+$", event["TCPECHOD_LISTENER"]).group() for event in container.log()
                     if "TCPECHOD_LISTENER" in event]
            self.assertEqual(sorted(set(ports)), self.file.value("EXPOSE").split())
            with self.connect() as one:
                self.assertEqual(harness.exchange(one, b"hello"), b"hello")
                name = "%s:%d" % one.getsockname()
            closed = container.wait_log("^connection 1 from .* closed: client_closed")
            self.assertEqual((closed["TCPECHOD_CLIENT"], closed["TCPECHOD_BYTES_IN"], closed["TCPECHOD_BYTES_OUT"]),
                             (name, 5, 5))
            self.assertEqual(container.stop(), (0, b""))
            self.assertEqual(container.log()[-1]["MESSAGE"], "stopped: every connection was finished")

    def test_has_no_privilege(self):
        with self.start() as container:
            with open(f"/proc/{container.pid}/status", encoding="ascii") as file:
                status = dict(re.findall(r"(?m)^(\w+):\t(.*)$", file.read()))
            self.assertEqual(status["NSpid"].split()[-1], "1")
            self.assertEqual([int(number) for number in status["Uid"].split()], [int(self.file.value("USER").split(":")[0])] * 4)
            for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[name], 16), 0, name)

    def test_health_check(self):
        with self.start() as container:
            self.assertEqual(container.check_health(), 0)
            with harness.Frozen(container.pid):
                self.assertNotEqual(container.check_health(), 0)
            self.assertEqual(container.check_health(), 0)
            self.assertEqual(container.run(["sleep", "0"]), 0, "the program of the hook in kubernetes.yaml")

    def test_a_stop_loses_no_answer(self):
        """Within the 10 seconds that the runtime gives, with clients who have not read yet."""
        data = harness.pattern(1 << 20)
        with self.start() as container, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.connect()) for _ in range(50)]
            for one in clients:
                one.sendall(data[:10000])
            status, _ = container.stop()
            self.assertEqual(status, 0)
            for one in clients:
                harness.assert_same(harness.receive_all(one), data[:10000])
            drained = [event for event in container.log() if event.get("TCPECHOD_REASON") == "drained"]
            self.assertEqual([event["TCPECHOD_BYTES_OUT"] for event in drained], [10000] * 50)


class Kubernetes(harness.TestCase):
    """examples/kubernetes.yaml: it is whole, and fits the image and the daemon."""

    PATH = os.path.join(harness.ROOT, "examples", "kubernetes.yaml")

    def setUp(self):
        try:
            import yaml
        except ImportError:
            raise unittest.SkipTest("python3-yaml is not installed") from None
        with open(self.PATH, encoding="utf-8") as file:
            objects = list(yaml.safe_load_all(file))
        self.assertEqual([(each["apiVersion"], each["kind"]) for each in objects],
                         [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("v1", "Service")])
        self.settings, self.deployment, self.service = objects
        self.pod = self.deployment["spec"]["template"]["spec"]
        self.container, = self.pod["containers"]

    def dump(self):
        """The settings in force, as the daemon reads them."""
        (name, text), = self.settings["data"].items()
        with tempfile.TemporaryDirectory(prefix="tcpechod-test-") as directory:
            path = os.path.join(directory, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            result = daemons.run_daemon("--dump", "--config", path)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def test_names_of_one_object_are_those_of_the_others(self):
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        for each in (self.settings, self.deployment, self.service):
            self.assertEqual((each["metadata"]["name"], each["metadata"]["labels"]), ("tcpechod", labels))
        self.assertEqual(self.deployment["spec"]["selector"], {"matchLabels": labels})
        self.assertEqual(self.service["spec"]["selector"], labels)
        volume, = self.pod["volumes"]
        mount, = self.container["volumeMounts"]
        name, = self.settings["data"]
        self.assertEqual((volume["configMap"]["name"], volume["name"]), (self.settings["metadata"]["name"], mount["name"]))
        self.assertEqual(self.container["args"], ["--config", f"{mount['mountPath']}/{name}"])
        self.assertEqual([(port["targetPort"], port["port"]) for port in self.service["spec"]["ports"]],
                         [(port["name"], port["containerPort"]) for port in self.container["ports"]])

    def test_fits_the_image(self):
        file = Containerfile()
        user, group = map(int, file.value("USER").split(":"))
        self.assertEqual((self.pod["securityContext"]["runAsUser"], self.pod["securityContext"]["runAsGroup"]), (user, group))
        for probe in ("readinessProbe", "livenessProbe"):
            self.assertEqual(self.container[probe]["exec"]["command"], file.words("HEALTHCHECK"))
        self.assertEqual(file.words("ENTRYPOINT"), ["tcpechod"], "which the arguments are for")

    def test_fits_the_daemon(self):
        dump = self.dump()
        delay, drain = (float(re.search(rf"(?m)^{name} = (.*);", dump).group(1)) for name in ("stop_delay", "drain_timeout"))
        program, pause = self.container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual((program, delay), ("sleep", 0), "one pause is enough")
        self.assertGreater(int(pause), 0)
        self.assertGreater(self.pod["terminationGracePeriodSeconds"], int(pause) + delay + drain)
        self.assertEqual([int(port) for port in re.findall(r"\bport = (\d+);", dump)],
                         [port["containerPort"] for port in self.container["ports"]])
        self.assertIn('format = "json";', dump)

    def test_is_of_the_types_of_the_cluster(self):
        """kubectl reads the objects into the types of the API, and gives out what it has understood: that is all of them."""
        kubectl = harness.needs("kubectl")
        for kind, wanted, command in (("Deployment", self.deployment, ("set", "env", "A=b")),
                                      ("Service", self.service, ("set", "selector", "a=b"))):
            with self.subTest(kind):
                result = subprocess.run([kubectl, *command, "--local", "--output=json", "--filename=-"],
                                        input=json.dumps(wanted), capture_output=True, text=True, check=False)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assert_within(wanted, json.loads(result.stdout), kind)

    def assert_within(self, wanted, found, where):
        if where.endswith((".env", "Service.spec.selector")):
            return  # the command's own
        if isinstance(wanted, dict):
            for key, value in wanted.items():
                self.assertIn(key, found, where)
                self.assert_within(value, found[key], f"{where}.{key}")
        elif isinstance(wanted, list):
            self.assertEqual(len(wanted), len(found), where)
            for number, value in enumerate(wanted):
                self.assert_within(value, found[number], f"{where}[{number}]")
        else:
            self.assertEqual(wanted, found, where)


if __name__ == "__main__":
    harness.main(jobs=4)
