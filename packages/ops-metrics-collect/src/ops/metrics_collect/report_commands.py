"""The commands that read what was shipped: rollup and report.

All that the options and the configuration say is checked before the first tarball is fetched. Tarballs
whose names show that they have nothing of the period, or no collection that is wanted, are not fetched.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import name_hint
from ops.metrics_collect import plugins
from ops.metrics_collect.commands import Progress, listed
from ops.metrics_collect.errors import ParameterError, StateError
from ops.metrics_collect.process_memory import economize
from ops.metrics_collect.storage import StorageDirectory
from ops.metrics_collect.tarballs import named
from ops.metrics_collect.uris import storage_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ops.metrics_collect.reports import Report
    from ops.metrics_collect.rollups import Rollup

__all__ = ["report", "rollup"]

_MEMORY_BYTES = 100_000_000
#: Of each rollup of a report, which has several.
_SHARED_MEMORY_BYTES = 50_000_000
#: Every tarball has it, whatever its name is.
_IN_ALL = ("data_collection_status",)


def rollup(options: argparse.Namespace) -> dict[str, Any]:
    """Aggregate shipped rows into a file."""
    if options.dataframe not in plugins.names("rollups"):  # they may use pandas
        economize()
    made = _made(options, options.dataframe, _MEMORY_BYTES)
    writers = {".parquet": made.to_parquet, ".csv": made.to_csv, ".json": made.to_json}
    write = writers[_suffix(options, writers)]
    if options.dry_run:
        return {"would read": _tarballs(options, [made])}
    _fill(options, [made])
    write(options.output)
    rows = sum(table.num_rows for table in made.batches(encoded=True))
    if not rows:
        sys.stderr.write(f"There are no rows of {options.collection or options.dataframe!r}.\n")
    return {"written": options.output, "rows": rows}


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Write a report of shipped rows, or of stored rollups.

    Raises `StateError` when there is nothing to report.
    """
    economize()
    from ops.metrics_collect import reports
    from ops.metrics_collect.reports._xlsx import require_xlsx

    kinds: dict[str, tuple[tuple[str, ...], Callable[..., Report]]] = {
        "ccsp": (("job_host_summary", "main_host", "main_jobevent"), reports.ReportCCSP),
        "ccspv2": (
            ("job_host_summary", "main_host", "main_jobevent", "data_collection_status"),
            reports.ReportCCSPv2,
        ),
        "renewal": (("host_metric", "main_host"), reports.ReportRenewalGuidance),
        "activity": (("activity",), lambda d, c: reports.ReportActivity(d["activity"], c)),
    }
    names, make = kinds[options.report]
    stored = _stored(options, names)
    if options.ship is None:
        names = tuple(name for name in names if name in stored)
    dataframes = {name: _made(options, name, _SHARED_MEMORY_BYTES) for name in names}
    for name, file in stored.items():
        dataframes[name].add_parquet(file)
    # All of it before the work, not after it.
    made = make(dataframes, _config(options))
    _suffix(options, {".xlsx"})
    require_xlsx()
    fresh = [each for name, each in dataframes.items() if name not in stored]
    if options.dry_run:
        return {"would read": _tarballs(options, fresh) if fresh else []}
    if fresh:
        _fill(options, fresh)
    _require_rows(dataframes[names[0]], _config(options).get("organizations"))
    made.save(options.output)
    return {"written": options.output}


def _require_rows(dataframe: Rollup, organizations: Sequence[str] | None) -> None:
    """Raise `StateError` when there are no rows, or none of the *organizations*; report those without."""
    if "organization_name" not in dataframe.index:
        organizations = None
    found: set[str] = set()
    rows = 0
    for table in dataframe.batches(encoded=True):
        rows += table.num_rows
        if organizations is not None and table.num_rows:
            found.update(table["organization_name"].unique().to_pylist())
    missing = sorted(set(organizations or ()) - found)
    if not rows or (organizations is not None and len(missing) == len(set(organizations))):
        what = " or ".join(dataframe.collections)
        hint = f" of the organizations {', '.join(map(repr, missing))}" if rows else ""
        raise StateError(
            f"There is nothing to report: no rows of {what}{hint}.",
            suggestions=(
                name_hint(missing[0], found)
                if rows
                else "Look at what was collected with status, and at --since and --until.",
            ),
        )
    for name in missing:
        sys.stderr.write(f"There are no rows of the organization {name!r}.\n")


def _stored(options: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Return the files of stored rollups by the names of dataframes."""
    stored = dict(options.stored or ())
    for name, file in stored.items():
        if name not in names:
            raise ParameterError(
                f"This report has no dataframe {name!r}; it has {', '.join(names)}."
            )
        if not pathlib.Path(file).is_file():
            raise ParameterError(f"There is no stored rollup {file!r}.")
    if options.ship is None and names[0] not in stored:
        raise ParameterError(f"Give --ship, or --stored {names[0]}=FILE.parquet.")
    return stored


def _made(options: argparse.Namespace, name: str, memory_bytes: int) -> Rollup:
    from ops.metrics_collect import rollups

    if name == "activity":
        if not (options.collection and options.by):
            raise ParameterError("An activity needs --collection and --by.")
        return rollups.DataframeActivity(
            options.collection,
            by=listed(options.by),
            sums=listed(options.sum),
            time=options.time,
            row_id=_row_id(options),
            order_by=options.order_by,
            memory_bytes=memory_bytes,
        )
    _require_no_activity(options, name)
    kinds: Mapping[str, Callable[..., Rollup]] = {
        "job_host_summary": rollups.DataframeJobHostSummary,
        "main_host": rollups.DataframeMainHost,
        "main_jobevent": rollups.DataframeJobevent,
        "data_collection_status": rollups.DataframeDataCollectionStatus,
        "host_metric": rollups.DataframeHostMetric,
    }
    if name not in kinds:
        plugin: Rollup = plugins.loaded("rollups", name)(memory_bytes=memory_bytes)
        return plugin
    return kinds[name](memory_bytes=memory_bytes)


def _require_no_activity(options: argparse.Namespace, name: str) -> None:
    """Refuse options that only an activity has: they would be ignored."""
    given = {
        f"--{option.replace('_', '-')}": getattr(options, option)
        for option in ("collection", "by", "sum", "time", "row_id", "order_by")
    }
    if used := [option for option, value in given.items() if value]:
        raise ParameterError(f"{', '.join(used)}: only for an activity, not for {name!r}.")


def _row_id(options: argparse.Namespace) -> Any:
    """Return the column that identifies a row: ... for the declared one, None for none."""
    if options.keep == "latest":
        return {"": ..., "none": None}.get(options.row_id, options.row_id)
    if options.row_id not in {"", "none"} or options.order_by:
        raise ParameterError(
            "With --keep all every row counts: --row-id and --order-by have no use."
        )
    return None


def _fill(options: argparse.Namespace, made: Sequence[Rollup]) -> None:
    """Add the tarballs of the period; a collection that none of all the tarballs has is an error."""
    from ops.metrics_collect.extractor import Extractor

    storage, names = storage_of(options.ship), _tarballs(options, made)
    progress = Progress(len(names), options)
    for name in names:
        with contextlib.ExitStack() as stack:
            # A folder's files are read where they are.
            local = isinstance(storage, StorageDirectory)
            path = storage.base_path / name if local else stack.enter_context(storage.get(name))  # type: ignore[attr-defined]  # it is local
            extractor = Extractor([path], start=options.since, end=options.until)
            for each in made:
                each.add(extractor)
        progress(f"read      {name}")


def _tarballs(options: argparse.Namespace, made: Sequence[Rollup]) -> list[str]:
    """Return the names of the tarballs that may have rows of the period and of what is rolled up.

    Raises `ParameterError` when there are none at all, or none of the collection of an activity.
    """
    names = storage_of(options.ship).glob("**/*.tar.gz")
    if not names:
        raise ParameterError(f"There are no tarballs at {options.ship!r}.")
    wanted = {collection for each in made for collection in each.collections}
    found = {name: named(name) for name in names}
    keys = {key for tarball in found.values() if tarball is not None for key in tarball.keys}
    if options.collection:
        _require_collection(options.collection, {*keys, *_IN_ALL}, found)
    return [
        name
        for name, tarball in found.items()
        if tarball is None
        or (
            tarball.is_within(options.since, options.until)
            and (not wanted.isdisjoint({*tarball.keys, *_IN_ALL}) or "package" in tarball.keys)
        )
    ]


def _require_collection(
    collection: str, keys: set[str], found: Mapping[str, object | None]
) -> None:
    """Refuse a collection that no tarball has, as far as their names show."""
    if collection in keys or "package" in keys or None in found.values():
        return
    raise ParameterError(f"No tarball is of {collection!r}; {name_hint(collection, keys)}")


def _suffix(options: argparse.Namespace, known: Collection[str]) -> str:
    suffix = pathlib.Path(options.output).suffix
    if suffix not in known:
        raise ParameterError(f"{options.output!r} has to end in {' or '.join(known)}.")
    folder = pathlib.Path(options.output).absolute().parent
    if not folder.is_dir():
        raise ParameterError(f"There is no folder {str(folder)!r} to write into.")
    return suffix


def _config(options: argparse.Namespace) -> dict[str, Any]:
    period = {k: v for k in ("since", "until") if (v := getattr(options, k)) is not None}
    if options.report == "activity":
        period = {}
    if not options.config:
        return period
    try:
        text = pathlib.Path(options.config).read_text("utf-8-sig")
        config = json.loads(text)
    except FileNotFoundError:
        raise ParameterError(f"There is no configuration {options.config!r}.") from None
    except ValueError as error:
        raise ParameterError(f"{options.config!r} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ParameterError(f"{options.config!r} holds no JSON object.")
    return {**config, **period}
