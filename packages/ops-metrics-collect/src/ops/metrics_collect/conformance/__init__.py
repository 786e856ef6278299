"""Suites that any storage can run, also one of another project.

A class asks pytest for fixtures by name, which its module lists; a subclass runs the tests:

    from ops.metrics_collect.conformance import StorageBehaviour

    class TestMine(StorageBehaviour):
        @pytest.fixture
        def storage(self, tmp_path): ...

It needs ``pip install "ops-metrics-collect[conformance]"``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.metrics_collect.conformance.storage import StorageBehaviour as StorageBehaviour
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".storage": "StorageBehaviour",
        },
    )
