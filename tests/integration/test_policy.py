"""The scheduling policy of the daemon's threads: batch work under load, and only then. See PERFORMANCE in tcpechod(8)."""

import contextlib
import os
import subprocess
import unittest

import client
import harness

SETTINGS = 'workers = 2; log = { connections = false; };'


def policies(daemon):
    found = set()
    for thread in os.listdir(f"/proc/{daemon.pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            found.add(os.sched_getscheduler(int(thread)))
    return found


@contextlib.contextmanager
def load(daemon):
    process = subprocess.Popen(client.command("--bench", "-n", "20", "-d", "600", "127.0.0.1", daemon.port),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Policy(unittest.TestCase):
    def setUp(self):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # whoever runs the tests

    def test_batch_work_under_load_and_not_afterwards(self):
        with harness.Daemon(settings=SETTINGS) as daemon:
            self.assertEqual(policies(daemon), {os.SCHED_OTHER})
            with load(daemon):
                harness.wait_until(lambda: os.SCHED_BATCH in policies(daemon), "batch work")
            harness.wait_until(lambda: policies(daemon) == {os.SCHED_OTHER}, "the end of batch work")

    def test_policy_of_the_administrator_stays(self):
        with harness.Daemon(settings=SETTINGS, wrapper=["chrt", "--batch", "0"]) as daemon:
            with load(daemon):
                harness.wait_until(lambda: daemon.cpu_seconds() > 0.5, "load")
                self.assertEqual(policies(daemon), {os.SCHED_BATCH})
            self.assertEqual(daemon.exchange(b"hi\n"), b"hi\n")
            self.assertEqual(policies(daemon), {os.SCHED_BATCH})

    def test_without_permission_it_goes_on(self):
        for call in ("sched_getscheduler", "sched_setscheduler"):
            with self.subTest(call=call), harness.Daemon(settings=SETTINGS, faults=f"{call}:EPERM") as daemon:
                with load(daemon):
                    daemon.faults.wait_hits()
                    hits = daemon.faults.hits()
                    harness.wait_until(lambda: daemon.cpu_seconds() > 0.5, "load")
                # Once a thread: two workers and the main one.
                self.assertLessEqual(max(hits, daemon.faults.hits()), 3)
                self.assertEqual(policies(daemon), {os.SCHED_OTHER})
                self.assertEqual(daemon.exchange(b"hi\n"), b"hi\n")


if __name__ == "__main__":
    harness.main()
