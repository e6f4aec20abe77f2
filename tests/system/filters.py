"""The system call filters that the kernel holds for a process, read with ptrace(2)."""

import ctypes
import os
import shutil
import struct
import unittest

import machine

WITH_FILTERS = os.environ.get("TCPECHOD_WITH_FILTERS") or os.path.join(machine.BUILD, "with-filters")

PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_SECCOMP_GET_FILTER = 0x420C
WALL = 0x40000000
INSTRUCTION_SIZE = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request, pid, address=None, data=None):
    result = _libc.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(pid):
    """The programs of a process, oldest first."""
    _ptrace(PTRACE_SEIZE, pid)
    try:
        _ptrace(PTRACE_INTERRUPT, pid)
        os.waitpid(pid, WALL)
        found = []
        while True:
            try:
                length = _ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(found))
            except FileNotFoundError:  # no more of them
                return found
            code = ctypes.create_string_buffer(length * INSTRUCTION_SIZE)
            _ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(found), code)
            found.append(code.raw)
    except PermissionError as error:
        raise unittest.SkipTest(f"cannot read system call filters ({error.strerror})") from None
    finally:
        _ptrace(PTRACE_DETACH, pid)


def save(booted, directory):
    """Those that the service has on a booted machine, and its manager has not, for `filtered`. Returns how many."""
    os.makedirs(os.path.join(directory, "command"))
    booted.systemctl("start", "tcpechod")
    programs = read(booted.main_pid())[count(booted.leader):]
    booted.systemctl("stop", "tcpechod")
    with open(os.path.join(directory, "filters"), "wb") as file:
        for program in programs:
            file.write(struct.pack("=I", len(program) // INSTRUCTION_SIZE) + program)
    os.environ["TCPECHOD_FILTERED"] = directory
    return len(programs)


def filtered(directory, executable, name=None):
    """The path of an executable that is `executable` under the filters that were saved."""
    name = name or os.path.basename(executable)
    shutil.copy(executable, os.path.join(directory, "command", name))
    return shutil.copy(WITH_FILTERS, os.path.join(directory, name))


def count(pid):
    """How many programs a process has."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["Seccomp_filters"])
