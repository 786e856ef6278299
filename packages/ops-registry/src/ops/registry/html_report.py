"""The store as one HTML file: runs, metric curves and models; no script, nothing from the network.

Every text of the store passes through `html.escape`; curves are inline SVG; colours follow the
reader's light or dark setting.
"""

from __future__ import annotations

import html
import math
import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.formatting import format_duration
from ops.registry.logged_model_copies import logged_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.context import MLOpsContext
    from ops.registry.records import Experiment, Metric, Run

__all__ = ["write_page"]

_STYLE = """
:root{color-scheme:light dark;--line:#d8dde3;--soft:#667;--ink:#1c2733;--back:#fff;--curve:#1668b8}
@media(prefers-color-scheme:dark){:root{--line:#3a434d;--soft:#9aa7b4;--ink:#e4eaf0;--back:#14191f;--curve:#6cb4f5}}
body{font:14px/1.45 system-ui,sans-serif;margin:2rem;color:var(--ink);background:var(--back)}
h1,h2,h3{font-weight:600}.soft{color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}.FAILED{color:#d0433b}.Production{font-weight:600}
.curves{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{color:var(--soft);font-size:12px}
svg{border:1px solid var(--line);border-radius:4px}polyline{fill:none;stroke:var(--curve);stroke-width:1.5}
"""
_SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "seconds", "duration")
_WIDTH, _HEIGHT, _POINTS = 260, 110, 400


def write_page(
    context: MLOpsContext, path: StrPath, *, runs_per_experiment: int = 200
) -> pathlib.Path:
    """Write the page of the store of *context* to *path* and return the path.

    The newest *runs_per_experiment* runs of each experiment are shown.
    """
    parts = [
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>ops-registry</title>'
            f"<style>{_STYLE}</style></head><body><h1>ops-registry</h1>"
            f'<p class="soft">{_text(context.path)}</p>'
        ),
        _models(context),
    ]
    parts += [
        _experiment(context, experiment, runs_per_experiment)
        for experiment in context.experiment_tracker.list_experiments()
    ]
    target = pathlib.Path(path)
    with atomic_write(target, "w", durable="none") as file:
        file.write("\n".join([*parts, "</body></html>\n"]))
    return target


def _models(context: MLOpsContext) -> str:
    rows = [
        [
            _text(v.name),
            _number(v.version),
            f'<span class="{_text(v.stage)}">{_text(v.stage)}</span>',
            _text(", ".join(v.aliases)),
            _text(v.metadata.framework),
            _text(", ".join(f"{k}={m:.4g}" for k, m in v.metadata.metrics.items())),
            _text(f"{v.created_at:%Y-%m-%d %H:%M:%S}"),
        ]
        for v in context.model_registry.search_models()
    ]
    with_versions = {v.name for v in context.model_registry.search_models()}
    rows += [
        [_text(name), "", "", "", "", "", ""]
        for name in context.model_registry.by_age()
        if name not in with_versions
    ]
    head = ["model", "version", "stage", "aliases", "framework", "metrics", "registered (UTC)"]
    return "<h2>Models</h2>" + (_table(head, rows) if rows else "<p>There are none yet.</p>")


def _experiment(context: MLOpsContext, experiment: Experiment, limit: int) -> str:
    tracker = context.experiment_tracker
    every = tracker.list_runs(experiment.experiment_id)
    runs = sorted(every, key=lambda r: r.start_time)[-limit:]
    params = sorted({k for r in runs for k in r.parameters})
    metrics = sorted({k for r in runs for k in r.metrics})
    best = {k: _best(k, runs) for k in metrics}
    rows = [_run_row(run, params, best) for run in reversed(runs)]
    count = f"{len(every)} run{'' if len(every) == 1 else 's'}"
    note = f"{count}, the last {limit} of them shown" if len(every) > limit else count
    recorded = [text for text in (experiment.description, note) if text]
    return "\n".join(
        [
            f"<h2>{_text(experiment.name)}</h2>",
            f'<p class="soft">{_text(" · ".join(recorded))}</p>',
            _table(["run", "status", "duration", *params, *metrics], rows),
            _logged_models(context, experiment),
            *(_curves(context, run) for run in reversed(runs)),
        ]
    )


def _logged_models(context: MLOpsContext, experiment: Experiment) -> str:
    """Return MLflow's logged models of an experiment."""
    if context.config.backend_type != "local":
        return ""
    rows = [
        [
            _text(model["name"]),
            _text(model["id"]),
            _text(model["source_run_id"] or ""),
            _text(", ".join(f"{k}={v[0]:.4g}" for (k, *_), v in model["metrics"].items())),
        ]
        for model in logged_models(context).all()
        if model["experiment_id"] == experiment.experiment_id and not model["deleted"]
    ]
    head = ["logged model", "id", "run", "metrics"]
    return _table(head, rows) if rows else ""


def _run_row(run: Run, params: Sequence[str], best: Mapping[str, float | None]) -> list[str]:
    seconds = run.duration_seconds
    title = f' title="{_text(run.error)}"' if run.error else ""
    return [
        _text(run.name),
        f'<span class="{_text(run.status)}"{title}>{_text(run.status)}</span>',
        "" if seconds is None else _text(format_duration(seconds)),
        *(_text(run.parameters.get(k, "")) for k in params),
        *(_value(run.metrics[k], best[k]) if k in run.metrics else "" for k in best),
    ]


def _best(key: str, runs: Sequence[Run]) -> float | None:
    """Return the best last value of several; what is lost or wrong is best when it is small."""
    values = [r.metrics[key] for r in runs if math.isfinite(r.metrics.get(key, math.nan))]
    if len(set(values)) < 2:
        return None
    words = key.lower()
    return min(values) if any(word in words for word in _SMALLER_IS_BETTER) else max(values)


def _value(value: float, best: float | None) -> str:
    text = _number(value)
    return f'<b title="the best of its column">{text}</b>' if value == best else text


def _curves(context: MLOpsContext, run: Run) -> str:
    keys = [k for k, s in run.metric_summaries.items() if s.count > 1]
    if not keys:
        return ""
    tracker = context.experiment_tracker
    curves = "".join(_curve(k, tracker.get_metric_history(run.run_id, k)) for k in sorted(keys))
    return f'<h3>{_text(run.name)}</h3><div class="curves">{curves}</div>'


def _curve(key: str, history: Sequence[Metric]) -> str:
    points = [(m.step, m.value) for m in history if math.isfinite(m.value)]
    points = points[:: max(1, len(points) // _POINTS)]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    line = " ".join(
        f"{_scaled(x, xs, _WIDTH):.1f},{_HEIGHT - _scaled(y, ys, _HEIGHT):.1f}" for x, y in points
    )
    caption = f"{_text(key)}: {min(ys):.4g} to {max(ys):.4g}, steps {min(xs)} to {max(xs)}"
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{_text(key)}">'
        f'<polyline points="{line}"/></svg><figcaption>{caption}</figcaption></figure>'
    )


def _scaled(value: float, values: Sequence[float], size: int) -> float:
    low, high = min(values), max(values)
    share = 0.5 if high == low else (value / 2 - low / 2) / (high / 2 - low / 2)  # never overflows
    return 6 + share * (size - 12)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _number(value: float) -> str:
    return _text(f"{value:.5g}")


def _text(value: Any) -> str:
    return html.escape(str(value)).encode("utf-8", "replace").decode()
