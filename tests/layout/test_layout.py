#!/usr/bin/env python3
"""The layout of the sources: what may include what. Run it by itself: tests/layout/test_layout.py"""

import os
import re
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import harness  # noqa: E402  (the runner that speaks TAP)

# Each library, and those below it.
BELOW = {
    "base": set(),
    "serve": {"base"},
    "settings": {"base", "serve"},
    "handover": {"base", "serve"},
    "daemon": {"base", "serve", "settings", "handover"},
    "client": {"base"},
}
# Each folder of the client, and those below it; its own files, which the modes share, are between.
CLIENT_BELOW = {
    "client/process": set(),
    "client/check": set(),
    "client/report": {"client/process"},
    "client/net": {"client/process", "client/check", "client/report"},
    "client": {"client/process", "client/check", "client/report", "client/net"},
}
MODES = {"client/talk", "client/ping", "client/bench", "client/watch"}
CLIENT_BELOW |= {mode: set(CLIENT_BELOW) for mode in MODES}
# A connection is its worker's, and tells it when it closes; so is a client that waits to become one.
CIRCLES = {frozenset({"serve/connection", "serve/proxy_arrival", "serve/worker"})}


# In quotes, or with a folder of ours in front.
INCLUDE = re.compile(rf'^\s*#\s*include\s*(?:"|<(?=(?:{"|".join(BELOW)})/))([^">]+)[">]', re.MULTILINE)


def sources():
    """{"serve/worker.c": (the folder above it, [what it includes])}"""
    found = {}
    for top in ("src", "include"):
        for directory, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith((".c", ".h")):
                    path = os.path.join(directory, name)
                    with open(path, encoding="utf-8") as file:
                        included = INCLUDE.findall(file.read())
                    found[os.path.relpath(path, os.path.join(ROOT, top))] = top, included
    return found


def library(path):
    return path.split("/")[0]


def reachable(edges, start):
    seen, todo = set(), [start]
    while todo:
        for other in edges.get(todo.pop(), ()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


class Layout(unittest.TestCase):
    def setUp(self):
        self.sources = sources()
        self.assertGreater(len(self.sources), 100)

    def test_every_include_is_a_file_of_ours(self):
        for path, (_, included) in self.sources.items():
            self.assertLessEqual(set(included), set(self.sources), path)

    def test_libraries_include_what_is_below_them(self):
        for path, (_, included) in self.sources.items():
            for other in included:
                self.assertIn(library(other), BELOW[library(path)] | {library(path)}, f"{path} includes {other}")

    def test_folders_of_the_client_include_what_is_below_them(self):
        for path, (_, included) in self.sources.items():
            folder = os.path.dirname(path)
            for other in included if library(path) == "client" else ():
                if library(other) == "client":
                    self.assertIn(os.path.dirname(other), CLIENT_BELOW[folder] | {folder}, f"{path} includes {other}")

    def test_headers_in_include_are_for_other_libraries(self):
        shared = {other for path, (_, included) in self.sources.items() for other in included
                  if library(other) != library(path)}
        headers = {path: set(included) for path, (top, included) in self.sources.items() if top == "include"}
        for path in list(shared):
            shared |= reachable(headers, path)
        self.assertEqual(shared - set(headers), set(), "included by another library, and lie in src")
        self.assertEqual(set(headers) - shared, set(), "belong beside their sources, in src")

    def test_files_do_not_go_in_circles(self):
        edges = {}
        for path, (_, included) in self.sources.items():
            module = os.path.splitext(path)[0]
            edges.setdefault(module, set()).update({os.path.splitext(other)[0] for other in included} - {module})
        circles = {frozenset(each for each in reachable(edges, module) if module in reachable(edges, each))
                   for module in edges if module in reachable(edges, module)}
        self.assertEqual(circles, CIRCLES)


if __name__ == "__main__":
    harness.main()
