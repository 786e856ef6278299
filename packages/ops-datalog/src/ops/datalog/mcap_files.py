"""MCAP files (mcap.dev), which Foxglove and ROS tools open: a log written as one, and one read into a log.

A source becomes a channel; its topic is the name that it was described with. Rows of a schema are JSON
messages with a JSON schema, which Foxglove plots; other payloads go over byte for byte. MCAP counts
nanoseconds: times in another unit are multiplied, and times without a schema are taken as nanoseconds.

A topic of an MCAP becomes a source, numbered in the order of channels, and its payloads and log times go
over unchanged. What a log has no field for is kept in the metadata of the source: the encoding, the schema's
name, the channel's own metadata. Publish times and sequence numbers do not come along. A file without an end, as of a
recorder that was killed, gives what can be read of it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.datalog.errors import LogFormatError
from ops.datalog.logger import DataLogger
from ops.datalog.schema import NANOSECONDS, LogSource
from ops.foundation.files import atomic_write
from ops.foundation.imports import LazyImport

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from ops.datalog.messages import Block, Message
    from ops.datalog.reader import LogReader
    from ops.datalog.schema import LogSchema

__all__ = ["import_mcap"]

mcap_writer: Any = LazyImport("mcap.writer", "ops-datalog[mcap]")
mcap_stream: Any = LazyImport("mcap.stream_reader", "ops-datalog[mcap]")
mcap_records: Any = LazyImport("mcap.records", "ops-datalog[mcap]")
mcap_exceptions: Any = LazyImport("mcap.exceptions", "ops-datalog[mcap]")

_SOURCES = 256
_LARGEST_TIME = 2**64 - 1


def to_mcap(log: LogReader, path: str | os.PathLike[str], source: int | None) -> Path:
    """Write a log as an MCAP file, in bounded memory; see `LogReader.to_mcap`."""
    described = log.described()
    with atomic_write(path, "wb") as file:
        writer = mcap_writer.Writer(file)
        writer.start(profile="", library="ops-datalog")
        channels: dict[int, _Channel] = {}
        for message in log.iter(source):
            number = message.source_id
            if number not in channels:
                channels[number] = _Channel(writer, number, described.get(number, LogSource()))
            channels[number].add(writer, message)
        writer.finish()
    return Path(path)


class _Channel:
    """How the messages of one source are written."""

    def __init__(self, writer: Any, number: int, known: LogSource) -> None:
        self._schema, self._number, self._sequence = known.schema, number, 0
        self._step = NANOSECONDS[known.schema.time_unit] if known.schema else 1
        schema_id, encoding = 0, known.metadata.get("message_encoding", "application/octet-stream")
        if known.schema is not None:
            encoding = "json"
            name = known.name or f"source_{number:03d}"
            content = json.dumps(_json_schema(known.schema)).encode()
            schema_id = writer.register_schema(name=name, encoding="jsonschema", data=content)
        topic = known.name or f"/source_{number:03d}"
        self._id = writer.register_channel(
            topic=topic, message_encoding=encoding, schema_id=schema_id,
            metadata={**known.metadata, "source": str(number)},
        )  # fmt: skip

    def add(self, writer: Any, message: Message) -> None:
        for time, data in self._payloads(message):
            if time > _LARGEST_TIME:
                raise LogFormatError(
                    f"{message.timestamp} of source {self._number} is no time of MCAP in nanoseconds."
                )
            writer.add_message(self._id, time, data, time, self._sequence)
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF

    def _payloads(self, message: Message) -> Iterator[tuple[int, bytes]]:
        if self._schema is None:
            yield message.timestamp * self._step, bytes(message.data)
            return
        table = self._schema.table(self._number, _block_of(message))
        times = table.pop("time").tolist()
        for time, *values in zip(times, *(c.tolist() for c in table.values()), strict=True):
            row = dict(zip(table, map(_json_value, values), strict=True))
            yield time * self._step, json.dumps(row).encode()


def _block_of(message: Message) -> Block:
    from ops.datalog.messages import Block

    times, sources = np.array([message.timestamp], np.uint64), np.array([message.source_id])
    return Block(times, sources, message.data.reshape(1, -1))


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, complex):
        return [value.real, value.imag]
    return None if value != value else value  # noqa: PLR0124 - JSON has no NaN


def _json_schema(schema: LogSchema) -> dict[str, Any]:
    kinds = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
    table = schema.table(0, _nothing(schema))
    properties = {
        name: {"type": kinds.get(table[name].dtype.kind, "string"), "unit": schema.unit(name)}
        for name in schema.columns
    }
    return {"type": "object", "properties": properties}


def _nothing(schema: LogSchema) -> Block:
    from ops.datalog.messages import Block

    empty = np.empty(0, np.uint64)
    return Block(empty, empty, np.empty((0, schema.row_bytes), np.uint8))


def import_mcap(
    path: str | os.PathLike[str],
    output_directory: str | os.PathLike[str],
    instance_name: str = "imported",
    *,
    exist_ok: bool = False,
) -> LogReader:
    """Read the MCAP file *path* into a log of its own and open it.

    The log is `<output_directory>/<instance_name>_data_log`: *output_directory* and *instance_name*
    are those of `DataLogger`. Topics are sources 0, 1, … in the order in which the file names them,
    described by the topic; log times are the times of messages, in nanoseconds. A file that breaks
    off gives what is before. *exist_ok* adds to a log that is there. Needs the extra `mcap`.

    Raises LogFormatError (no MCAP file, or one of more than 256 topics), LogExistsError, OSError.
    """
    logger = DataLogger(
        output_directory, instance_name, exist_ok=exist_ok, layout="segments", sync="none"
    )
    with logger:
        numbers: dict[str, int] = {}
        for topic, known, time, data in _messages(Path(path)):
            if topic not in numbers:
                if len(numbers) == _SOURCES:
                    raise LogFormatError(
                        f"{path} has more topics than the {_SOURCES} sources of a log."
                    )
                numbers[topic] = len(numbers)
                logger.describe(numbers[topic], topic, metadata=known)
            logger.input_queue.log(numbers[topic], time, data)
    return logger.read()


def _messages(path: Path) -> Iterator[tuple[str, dict[str, str], int, bytes]]:
    """Yield topic, what is known of it, log time and payload, in the order of the file."""
    schemas: dict[int, Any] = {}
    channels: dict[int, tuple[str, dict[str, str]]] = {}
    with path.open("rb") as file:
        try:
            for record in mcap_stream.StreamReader(file).records:
                if isinstance(record, mcap_records.Schema):
                    schemas[record.id] = record
                elif isinstance(record, mcap_records.Channel):
                    channels[record.id] = record.topic, _metadata(record, schemas)
                elif isinstance(record, mcap_records.Message):
                    topic, known = channels[record.channel_id]
                    yield topic, known, record.log_time, record.data
        except (mcap_exceptions.EndOfFile, struct.error):
            return  # its recorder was killed: all that is whole was there
        except (mcap_exceptions.McapError, KeyError, ValueError) as error:
            raise LogFormatError(f"{path} is no MCAP file that can be read: {error}") from error


def _metadata(channel: Any, schemas: dict[int, Any]) -> dict[str, str]:
    found = {"message_encoding": channel.message_encoding, **channel.metadata}
    schema = schemas.get(channel.schema_id)
    if schema is not None:
        found |= {"schema": schema.name, "schema_encoding": schema.encoding}
    return found
