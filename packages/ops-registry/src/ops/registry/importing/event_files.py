"""TensorBoard's event files: each folder with some is a run, read through the package ``tensorboard``.

Scalars become points, hyper-parameters parameters; texts and histograms are lines of ``logged/values.jsonl``, images
files beside it. A last record that is not whole may still be written and is left for the next import. The package is
used, and no reader of our own, because the format is protocol buffers of several plugins, which change with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from typing import TYPE_CHECKING, Any

from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.foreign_files import ForeignFolder
from ops.registry.importing.mlflow_values import checked_points
from ops.registry.importing.records import ForeignRun
from ops.registry.instants import from_ns
from ops.registry.logged_values import VALUES, safe_name, value_line
from ops.registry.records import Experiment, RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.validators import check_key

if TYPE_CHECKING:
    import pathlib

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignFile, ForeignLoggedModel, ForeignModel

__all__ = ["EventFiles", "is_event_file"]

_NAME = re.compile(r"tfevents\.(\d{1,12})")
#: What TensorBoard's own status of a session is here; without one a run is over.
_STATUS = {2: RunStatus.FAILED, 3: RunStatus.RUNNING}
_SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif"}
_LARGEST_TIME = 253_402_300_799


def is_event_file(name: str) -> bool:
    """Whether a file is called as event files are."""
    return "tfevents" in name


class EventFiles:
    """The folder *root* of logs, which is one experiment called *name*."""

    def __init__(self, root: pathlib.Path, findings: Findings, name: str | None = None) -> None:
        self.findings: Findings = findings
        self._folder = ForeignFolder(root, findings)
        self._name = name or os.path.basename(self._folder.root) or "tensorboard"  # noqa: PTH119 - a string
        self._runs: dict[str, str] = {}
        self._files: dict[str, list[ForeignFile]] = {}
        for file in self._folder.files(""):
            if is_event_file(file.name.rpartition("/")[2]):
                self._files.setdefault(file.name.rpartition("/")[0], []).append(file)

    def experiments(self) -> list[Experiment]:
        """Return the one experiment; it begins with the first of its files."""
        names = [file.name for files in self._files.values() for file in files]
        seconds = [int(match[1]) for name in names if (match := _NAME.search(name))]
        begun = min(seconds, default=0)
        return [Experiment(_digest(self._name), self._name, from_ns(begun * 1_000_000_000))]

    def run_ids(self, experiment_id: str) -> list[str]:
        """Return an id for each folder with event files, which its name and its first file give."""
        del experiment_id
        for folder, files in sorted(self._files.items()):
            first = min(file.name for file in files)
            self._runs[_digest(f"{self._name}\n{folder}\n{first}")] = folder
        return list(self._runs)

    def stamp(self, run_id: str) -> str:
        """Return a digest of the names, sizes and times of a run's files."""
        files = self._files[self._runs[run_id]]
        return _digest(repr([(file.name, file.size, file.modified_ns) for file in files]))

    def run(self, run_id: str) -> ForeignRun:
        """Return a run with what all of its event files have."""
        folder = self._runs[run_id]
        reading = _Reading(run_id, folder or self._name, self.findings)
        for file in sorted(self._files[folder], key=lambda one: one.name):
            reading.read(file)
        return reading.done()

    def logged_models(self, experiment_id: str) -> list[ForeignLoggedModel]:
        """Return nothing: TensorBoard has no models."""
        del experiment_id
        return []

    def models(self) -> list[ForeignModel]:
        """Return nothing: TensorBoard has no registry."""
        return []

    def close(self) -> None:
        """Do nothing: no file stays open."""


class _Reading:
    """One run as its event files come to it."""

    def __init__(self, run_id: str, name: str, findings: Findings) -> None:
        self._run = ForeignRun(RunCopy(run_id, name, str(RunStatus.COMPLETED), 0))
        self._findings = findings
        self._lines: list[str] = []
        self._times: list[int] = []

    def read(self, file: ForeignFile) -> None:
        """Take the events of a file, up to what is damaged."""
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        whole, is_torn = _records(file.path)
        done = 0
        try:
            for event in EventFileLoader(file.path).Load():
                done += 1
                self._take(file.name, event)
        except Exception as error:  # noqa: BLE001 - whatever the package raises about bytes of others
            self._findings.refuse(file.name, f"event {done + 1}: {type(error).__name__}: {error}")
            return
        if done < whole:
            self._findings.refuse(file.name, f"damaged after {done} of {whole} events")
        elif is_torn:
            self._findings.leave_out(f"{file.name}: its last event is not whole")

    def done(self) -> ForeignRun:
        """Return the run."""
        copy = self._run.copy
        if self._lines:
            self._run.made[VALUES] = "".join(self._lines).encode()
        copy.start = copy.start or min(self._times, default=0)
        if copy.status != RunStatus.RUNNING:
            copy.end = max([*self._times, copy.start])
        return self._run

    def _take(self, where: str, event: Any) -> None:
        if not 0 <= event.wall_time <= _LARGEST_TIME:
            self._findings.refuse(where, f"the time {event.wall_time!r:.40} is no date")
            return
        when = round(event.wall_time * 1e9)
        for value in event.summary.value:
            self._times.append(when)
            with self._findings.refusing(f"{where} tag {value.tag!r:.200}"):
                self._value(where, value, event.step, when)

    def _value(self, where: str, value: Any, step: int, when: int) -> None:
        from tensorboard.util import tensor_util

        plugin = value.metadata.plugin_data.plugin_name
        if plugin == "hparams":
            self._parameters(value.metadata.plugin_data.content)
            return
        array = tensor_util.make_ndarray(value.tensor)
        if plugin == "scalars":
            if array.size != 1:
                raise ForeignDataError(f"{array.size} numbers, no scalar")
            point = float(array.item()), step, when
            self._run.copy.points += checked_points(where, value.tag, [point], self._findings)
        elif plugin == "images":
            for number, image in enumerate(array.ravel()[2:]):
                suffix = next((s for m, s in _SUFFIXES.items() if image.startswith(m)), "bin")
                name = f"logged/{safe_name(value.tag)}/{step}-{number}.{suffix}"
                self._run.made[name] = bytes(image)
                self._lines.append(value_line(value.tag, step, when, plugin, artifact=name))
        else:
            shown = [
                one.decode("utf-8", "replace") if isinstance(one, bytes) else one
                for one in array.ravel().tolist()
            ]
            kind = {"kind": plugin or "tensor", "shape": list(array.shape)}
            self._lines.append(value_line(value.tag, step, when, shown, **kind))

    def _parameters(self, content: bytes) -> None:
        """Take the hyper-parameters of a run, its group and its end."""
        from tensorboard.plugins.hparams import plugin_data_pb2

        # Protocol buffers make the class when the module is loaded, which no checker sees.
        data: Any = plugin_data_pb2.HParamsPluginData.FromString(content)  # pyright: ignore[reportAttributeAccessIssue]
        copy = self._run.copy
        if data.HasField("session_start_info"):
            start = data.session_start_info
            for key, value in start.hparams.items():
                kind = value.WhichOneof("kind")
                copy.parameters[check_key(key)] = None if kind is None else getattr(value, kind)
            if start.group_name:
                copy.tags["group"] = start.group_name
        elif data.HasField("session_end_info"):
            status = _STATUS.get(data.session_end_info.status, RunStatus.COMPLETED)
            copy.status = str(status)


def _records(path: str) -> tuple[int, bool]:
    """Return how many whole records a file has by their lengths, and whether there is half of one after them."""
    count, offset = 0, 0
    with open(path, "rb") as file:  # noqa: PTH123 - a string
        size = os.fstat(file.fileno()).st_size
        while header := file.read(8):
            if len(header) < 8:
                return count, True
            (length,) = struct.unpack("<Q", header)
            offset += 8 + 4 + length + 4
            if offset > size:
                return count, True
            file.seek(offset)
            count += 1
    return count, False


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
