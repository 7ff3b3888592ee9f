"""Whether this machine's clock is kept right."""

import ctypes
import subprocess

from farmhand_collector.examination import CannotTell, Check, Level, Result, Setup

_STA_UNSYNC = 0x0040
_REMEDY = "Switch on NTP: timedatectl set-ntp true, or chrony with rtcsync."


class _Timex(ctypes.Structure):
    """The head of `struct timex` of adjtimex(2); what follows is not looked at."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _examine(setup: Setup) -> Result:
    del setup
    kernel = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(kernel)) < 0:
        return _by_timedatectl()
    if kernel.status & _STA_UNSYNC:
        return Result(Level.WARNING, "the kernel's clock is not synchronised", _REMEDY)
    error = kernel.maxerror_us / 1e6
    return Result(Level.OK, f"synchronised, at most {error:.3f} s off")


def _by_timedatectl() -> Result:
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        raise CannotTell("neither the kernel nor timedatectl tells", _REMEDY) from None
    if said.stdout.strip() == "yes":
        return Result(Level.OK, "synchronised, as timedatectl says")
    return Result(Level.WARNING, "not synchronised, as timedatectl says", _REMEDY)


CHECK = Check("clock-here", "Clock of this machine", _examine)
