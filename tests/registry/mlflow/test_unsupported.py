"""Every method of MLflow's interfaces of stores is served, or says at once which feature is missing."""

import asyncio
import inspect
from unittest.mock import MagicMock

import pytest
from mlflow.exceptions import MlflowException, MlflowNotImplementedException
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractModels
from mlflow.store.tracking.abstract_store import AbstractStore as AbstractTracking

from ops.registry.mlflow import OpsModelStore, OpsTrackingStore
from ops.registry.mlflow.unsupported import feature_of, refuse_the_rest, unserved

STORES = [(OpsTrackingStore, AbstractTracking), (OpsModelStore, AbstractModels)]


def interface(base):
    """Return the public methods of a base class, inherited ones too."""
    return [name for name, _ in inspect.getmembers(base, inspect.isfunction) if name[0] != "_"]


CALLS = [(store, name) for store, base in STORES for name in interface(base)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "name"), CALLS, ids=lambda value: getattr(value, "__name__", value)
)
def test_each_call_of_the_interface_is_served_or_names_its_feature(uri, kind, name):
    """No call raises a bare NotImplementedError, whatever it is given, and none leaves the feature out."""
    method = getattr(kind(uri), name)
    needed = {
        p.name: MagicMock()
        for p in inspect.signature(method).parameters.values()
        if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
    }
    if name.endswith("_async") and name != "log_spans_async":
        return  # it only puts the call off, into a thread of its own
    raised = None
    try:
        found = method(**needed)
        if inspect.iscoroutine(found):
            asyncio.run(found)
    except Exception as error:
        raised = error  # of its arguments, where it is served
    if isinstance(raised, MlflowNotImplementedException):
        assert raised.get_http_status_code() == 501
        assert feature_of(name) in raised.message
        assert "the call" not in raised.message, "no feature has this word"
    assert isinstance(raised, MlflowException) or not isinstance(raised, NotImplementedError)


def test_nothing_of_the_interface_is_left_unserved():
    """The walk over the classes finds nothing that MLflow's base would answer."""
    assert [list(unserved(store)) for store, _ in STORES] == [[], []]


def test_a_method_of_a_later_mlflow_is_refused_by_its_name():
    """What no word of today fits is named as the call that it is."""

    class Later:
        def paint_unicorns(self):
            raise NotImplementedError

    Later.paint_unicorns.__module__ = "mlflow.store"
    with pytest.raises(MlflowNotImplementedException, match="'paint_unicorns'") as caught:
        refuse_the_rest(Later)().paint_unicorns()
    assert caught.value.get_http_status_code() == 501


def test_webhooks_are_refused_at_once_over_http(our_server):
    """A client of the server gets the error of the first request; it repeated an internal one for minutes."""
    import mlflow

    client = mlflow.MlflowClient(our_server, our_server)
    with pytest.raises(MlflowException, match="webhooks"):
        client.list_webhooks()
