"""Whether the data's file system can take further files."""

import os

from farmhand_collector.examination import Check, Level, Result, Setup

_REMEDY = "Remove small files from this file system; df -i tells which is full."


def _examine(setup: Setup) -> Result:
    told = os.statvfs(setup.data_dir)
    if not told.f_files:
        return Result(Level.OK, "this file system makes inodes as they are needed")
    share = told.f_favail / told.f_files
    seen = f"{told.f_favail} of {told.f_files} inodes free"
    if share < 0.01:
        return Result(Level.BAD, seen, _REMEDY)
    return Result(Level.WARNING, seen, _REMEDY) if share < 0.05 else Result(Level.OK, seen)


CHECK = Check("disk-inodes", "Room for files", _examine)
