"""What is no number, or no name, is refused where it is counted; what is one reaches every export."""

from __future__ import annotations

import decimal
import enum
import fractions
import json
import pathlib

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import MetricsCollector, MetricValueError, openmetrics_text, prometheus_text

numpy = pytest.importorskip("numpy")

# All equal to the usual step of a counter, and none of them an int.
ONES = [
    True,
    1.0,
    decimal.Decimal(1),
    fractions.Fraction(1),
    numpy.int64(1),
    numpy.float32(1),
    numpy.bool_(True),
    numpy.array(1),
]


class Colour(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is another
    RED = "red"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector()


@pytest.mark.parametrize("one", ONES, ids=lambda one: type(one).__name__)
def test_steps_of_other_number_types_are_exported_like_ints(metrics, one) -> None:
    metrics.increment("jobs", one)
    metrics.counter("parts").inc(one)
    metrics.increment("jobs", 0.5)
    page = prometheus_text(metrics)
    assert "jobs_total 1.5" in page
    assert "parts_total 1" in page
    assert json.loads(json.dumps(metrics.get_summary()))["counters"] == {"jobs": 1.5, "parts": 1}


@pytest.mark.parametrize("method", ["increment", "decrement", "gauge", "histogram", "record_time"])
@pytest.mark.parametrize("value", ["1", "nan", b"1", 10**400])
def test_text_and_numbers_beyond_every_float_are_refused(metrics, method, value) -> None:
    with pytest.raises(MetricValueError):
        getattr(metrics, method)("x", value)
    assert openmetrics_text(metrics) == "# EOF\n"


def test_a_callback_whose_number_no_float_holds_leaves_the_page(metrics) -> None:
    metrics.gauge_callback("huge", lambda: 10**400)
    metrics.increment("ok")
    assert prometheus_text(metrics) == "# TYPE ok_total counter\nok_total 1\n"


@pytest.mark.parametrize("name", [5, None, b"x", pathlib.Path("x"), ("a", "b"), True])
def test_a_name_that_is_no_text_is_refused_before_it_spoils_an_export(metrics, name) -> None:
    metrics.increment("ok")
    for method in ("increment", "decrement", "gauge", "histogram", "record_time"):
        with pytest.raises(ValidationError, match="name"):
            getattr(metrics, method)(name, 1)
    with pytest.raises(ValidationError):
        metrics.gauge_callback(name, lambda: 1)
    with pytest.raises(ValidationError):
        metrics.counter(name)
    with pytest.raises(ValidationError):
        metrics.describe(name, "Help.")
    assert prometheus_text(metrics) == "# TYPE ok_total counter\nok_total 1\n"


@pytest.mark.parametrize("text", [{"help": None}, {"help": 5}, {"unit": None}, {"unit": 5}])
def test_a_description_is_text(metrics, text) -> None:
    with pytest.raises(ValidationError, match="text"):
        metrics.describe("x", **text)


def test_names_and_tags_of_a_text_enum_are_its_values(metrics) -> None:
    metrics.increment(Colour.RED, tags={Colour.RED: Colour.RED})
    metrics.gauge(Colour.RED, 2)
    page = prometheus_text(metrics)
    assert 'red_total{red="red"} 1' in page
    assert "red_gauge 2" in page


def test_tags_of_any_type_count(metrics) -> None:
    metrics.increment("x", tags={1: 2, "b": Mute(), None: [3]})
    assert 'None="[3]"' in prometheus_text(metrics)
    assert metrics.get_counter("x", tags={"1": "2", "b": Mute(), "None": "[3]"}) == 1


def test_a_gauge_whose_callback_is_never_awaited_is_refused(metrics) -> None:
    async def size() -> float:
        return 1.0

    with pytest.raises(ValidationError, match="coroutine"):
        metrics.gauge_callback("queue", size)


def test_opentelemetry_takes_tags_units_and_helps_of_any_text(metrics) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    from ops.observe import observe_with_opentelemetry

    metrics.describe("x", "\udce9", unit="µ\udce9" * 40)
    metrics.increment("x", tags={5: "a"})
    reader = export.InMemoryMetricReader()
    observe_with_opentelemetry(
        metrics, sdk.MeterProvider(metric_readers=[reader]).get_meter("test")
    )
    exported = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0]
    assert [dict(point.attributes) for point in exported.data.data_points] == [{"5": "a"}]
