#!/usr/bin/env python3
"""Measures the daemon beside other servers: prints a table, writes results.json and the charts. See README.md."""

import argparse
import datetime
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))

import cases
import charts
import figures
import filters
import loads
import machine
import servers

# Field: unit, factor.
UNITS = {
    "rate": ("/s", 1),
    "cpu": ("ns CPU", 1),
    "bytes": ("MiB/s", 1 / 2**20),
    "p50": ("us p50", 1e-3),
    "p90": ("us p90", 1e-3),
    "p99": ("us p99", 1e-3),
    "p99.9": ("us p99.9", 1e-3),
    "process bytes": ("bytes of the process", 1),
    "kernel bytes, both ends": ("of the kernel, both ends", 1),
    "calls": ("system calls", 1),
    "of the hand-over": ("of them for the hand-over", 1),
    "% of a CPU": ("% of a CPU", 1),
    "connections": ("connections", 1),
    "kept": ("% of the rate kept", 1),
}


def main():
    arguments = parse()
    # So that the servers are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Few servers raise it by themselves.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.makedirs(arguments.out, exist_ok=True)
    peers = [peer for peer in servers.peers(arguments.tools) if peer.name in arguments.peers]
    missing = sorted(set(arguments.peers) - {peer.name for peer in peers})
    if arguments.against:
        peers, missing = [servers.daemon([path], path, arguments.workers) for path in arguments.against], []
    daemon = arguments.daemon
    report = {"machine": describe_machine(), "rounds": arguments.rounds, "seconds": arguments.seconds,
              "workers": arguments.workers, "complete": False,
              "servers": ["tcpechod"] + [peer.name for peer in peers], "rows": []}
    print(f"{report['machine']}; {arguments.rounds} rounds of {arguments.seconds} s; ratios are medians with their 95 % "
          f"interval{'; not here: ' + ', '.join(missing) if missing else ''}")
    with tempfile.TemporaryDirectory(prefix="tcpechod-bench-") as directory:
        report["filters"] = 0
        if not arguments.unfiltered:
            filtered = os.path.join(directory, "filtered")
            report["filters"] = take_filters(filtered)
            daemon = filters.filtered(filtered, daemon)
            for number, peer in enumerate(peers if arguments.against else []):
                peer.command[0] = filters.filtered(filtered, peer.command[0], f"other-{number}")
        print(f"the daemon runs under {report['filters']} system call filters of the unit")
        load = loads.Loads(arguments.client, arguments.tools, arguments.seconds)
        suite = cases.Suite([daemon], arguments.workers, load, peers, arguments.rounds, directory, log,
                            cases.QUICK if arguments.quick else cases.Sizes())
        try:
            failed = [name for name in arguments.only or cases.CASES if not measure(suite, name, report)]
            report["complete"] = True
        finally:
            with open(os.path.join(arguments.out, "results.json"), "w", encoding="ascii") as file:
                json.dump(report, file, indent=1)
    charts.draw(report["rows"], arguments.out, log)
    if arguments.quick:
        failed += sorted({row["rival"] for row in report["rows"] if "failed" in row} - servers.MAY_FAIL)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def take_filters(directory):
    """The unit's filters, which a booted systemd makes: what is measured is what is shipped. Returns how many there are."""
    try:
        machine.needs_all()
        package = machine.package()
        booted = machine.Machine()
    except unittest.SkipTest as reason:
        sys.exit(f"the unit's filters cannot be had: {reason}; --unfiltered measures without them")
    try:
        booted.install(package)
        return filters.save(booted, directory)
    finally:
        booted.close()


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daemon", required=True, help="the tcpechod to measure")
    parser.add_argument("--client", required=True, help="the tcpecho that loads it")
    parser.add_argument("--tools", required=True, help="the directory of floor, churn and the peers")
    parser.add_argument("--out", required=True, help="the directory for results.json and the charts")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of each two servers (default 15)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one run (default 1.0)")
    parser.add_argument("--workers", type=int, default=loads.cpus(), help="of the daemon (default one a CPU)")
    parser.add_argument("--peers", nargs="+", choices=sorted(servers.PEERS), default=sorted(servers.PEERS), metavar="PEER",
                        help=f"of {', '.join(sorted(servers.PEERS))} (default all)")
    parser.add_argument("--against", nargs="+", default=[], metavar="TCPECHOD",
                        help="compare with these builds of the daemon instead")
    parser.add_argument("--unfiltered", action="store_true", help="without the system call filters of tcpechod.service")
    parser.add_argument("--quick", action="store_true", help="few connections, which shows that it works, and no more; a peer that fails is an error")
    parser.add_argument("--only", nargs="+", choices=cases.CASES, metavar="CASE",
                        help=f"of {', '.join(cases.CASES)}")
    return parser.parse_args()


def log(text):
    print(text, file=sys.stderr, flush=True)


def describe_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    return (f"{loads.cpus()} CPUs ({', '.join(sorted(models)) or platform.machine()}), Linux {platform.release()}, "
            f"{datetime.date.today()}")


def measure(suite, name, report):
    log(name)
    try:
        for row in cases.CASES[name](suite):
            report["rows"].append(row)
            show(row)
    except loads.Unmeasured as problem:
        print(f"{name}: not measured: {problem}")
    except (servers.Failed, OSError) as problem:
        print(f"{name}: {problem}")
        return False
    return True


def show(row, shown=[None]):  # the case of the last line
    """A heading for each case, and a line for each server: what is compared is 'ratio (interval): ours / theirs'."""
    if row["case"] != shown[0]:
        print(f"\n{row['case']}")
        shown[0] = row["case"]
    columns = [f"failed: {row['failed']}"] if "failed" in row else []
    for field, (unit, factor) in UNITS.items():
        value = row.get(field)
        if isinstance(value, dict):
            columns.append(f"{figures.text(value['ratio'])}: {number(value['ours'] * factor)} / "
                           f"{number(value['theirs'] * factor)} {unit}")
        elif value is not None:
            columns.append(f"{number(value * factor)} {unit}")
    print(f"  {row['rival']:<26}" + "".join(f"{column:<50}" for column in columns).rstrip(), flush=True)


def number(value):
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


if __name__ == "__main__":
    main()
