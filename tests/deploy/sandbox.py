"""Starts a command under the kernel's part of the unit's sandbox, as systemd would: ``sandbox.py COMMAND…``.

Applies ``SystemCallFilter=``, ``RestrictAddressFamilies=``, ``MemoryDenyWriteExecute=``, ``NoNewPrivileges=`` and
``UMask=``. The filter is inherited by all processes that the command starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys

from tests.deploy.unit_file import allowed_system_calls, unit

LIBRARY = "libseccomp.so.2"
"""Part of every systemd installation."""

_ALLOW = 0x7FFF0000
_FAIL = 0x00050000
_EQUAL = 4
_SET_NO_NEW_PRIVILEGES = 38
_SET_MDWE = 65
_MDWE_REFUSE_EXEC_GAIN = 1


class _Comparison(ctypes.Structure):
    """Condition on one argument of a system call: ``struct scmp_arg_cmp``."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("_unused", ctypes.c_uint64),
    )


def enter() -> None:
    """Restrict this process, for good. Raises ``OSError`` if the kernel refuses."""
    settings = unit()
    os.umask(int(settings["UMask"][0], 8))
    libc = ctypes.CDLL(None, use_errno=True)
    for operation, value in ((_SET_NO_NEW_PRIVILEGES, 1), (_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN)):
        if libc.prctl(operation, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {operation}: {os.strerror(ctypes.get_errno())}")
    families = [getattr(socket, name) for name in settings["RestrictAddressFamilies"][0].split()]
    code = getattr(errno, settings["SystemCallErrorNumber"][0])
    _filter(allowed_system_calls(), families, code)


def _filter(names: set[str], families: list[int], code: int) -> None:
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_FAIL | code)))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # not on this architecture
        choices = [[_Comparison(0, _EQUAL, family, 0)] for family in families] if name == "socket" else [[]]
        for conditions in choices:
            array = (_Comparison * len(conditions))(*conditions)
            _succeed(library.seccomp_rule_add_array(context, _ALLOW, number, len(conditions), array))
    _succeed(library.seccomp_load(context))


def _succeed(result: int) -> None:
    if result != 0:
        raise OSError(-result, f"libseccomp: {os.strerror(-result)}")


if __name__ == "__main__":
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])
