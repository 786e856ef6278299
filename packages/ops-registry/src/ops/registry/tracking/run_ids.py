"""Ids of runs, which say in which of thousands of experiments a run probably is.

An id is a UUID of version 7 in hexadecimal, so ids sort by their time. Three of its random digits are a checksum of the experiment's
id: a process that knows nothing but the run's id looks into that experiment first. Ids of older versions have no such
mark; all experiments are looked into for them.
"""

from __future__ import annotations

import zlib

from ops.foundation.ids import generate_uuid7

__all__ = ["experiment_mark", "experiment_mark_in", "new_run_id"]

_MARKED = slice(17, 20)  # after the time, its fraction, the version and the variant


def new_run_id(experiment_id: str) -> str:
    """Return an id for a new run of an experiment."""
    made = generate_uuid7().replace("-", "")
    return made[: _MARKED.start] + experiment_mark(experiment_id) + made[_MARKED.stop :]


def experiment_mark(experiment_id: str) -> str:
    """Return the mark that the runs of an experiment have in their ids."""
    return f"{zlib.crc32(experiment_id.encode()) & 0xFFF:03x}"


def experiment_mark_in(run_id: str) -> str:
    """Return the mark that the id of a run has, whatever it is worth."""
    return run_id[_MARKED]
