"""Become the server: the last step between fork and exec, in its own small program.

Run as ``python -I -S launch.py PARENT DEATH_SIGNAL USER COMMAND...``. What it does must happen inside the new
process, after its user has changed (that clears the death signal) and before the server's own code; a
``preexec_fn`` would do it too, but may deadlock where the parent has threads, and ours has librdkafka's.
"""

import ctypes
import os
import pwd
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAP_DAC_OVERRIDE: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Half(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _become(user: str) -> None:
    """Leave root for ``user``, keeping only the right to walk through folders that are root's alone.

    PostgreSQL refuses to run as root, and a checkout under root's home cannot be entered by anyone else. The one
    capability saves us from loosening the modes of folders that are not ours.
    """
    entry = pwd.getpwnam(user)
    _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except PermissionError:
        raise SystemExit(f"this root may not become the user {user}, as which it must run") from None
    mask = 1 << _CAP_DAC_OVERRIDE
    header = _Header(_CAPABILITY_VERSION_3, 0)
    halves = (_Half * 2)(_Half(mask, mask, mask), _Half(0, 0, 0))
    # A container may have taken the capability away: then the server runs without, where its folders are open.
    if _libc.capset(ctypes.byref(header), ctypes.byref(halves)) == 0:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def main(arguments: list[str]) -> None:
    """Change the user if one is named, tie this process to its parent's life, and exec the command."""
    parent, death_signal, user, *command = arguments
    if user:
        _become(user)
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        raise SystemExit(1)  # The parent died before the line above: nobody is left to stop this server.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise SystemExit(f"{command[0]}: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
