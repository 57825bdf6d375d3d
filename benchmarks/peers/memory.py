"""Resident memory of this process: now, and at its highest since a reset."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil

MEBIBYTE = 2**20


def resident_mib() -> float:
    """Resident memory now."""
    return psutil.Process().memory_info().rss / MEBIBYTE


def reset_peak() -> None:
    """Start the record anew where the system can (Linux); elsewhere the record is of the whole process."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mib() -> float:
    """Highest resident memory on record."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = MEBIBYTE if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
