"""The system call filters that the kernel holds for a process, read with ptrace(2)."""

import ctypes
import os
import struct
import unittest

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


def write(path, programs):
    """A file for with_filters.c."""
    with open(path, "wb") as file:
        for program in programs:
            file.write(struct.pack("=I", len(program) // INSTRUCTION_SIZE) + program)


def count(pid):
    """How many programs a process has."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["Seccomp_filters"])
