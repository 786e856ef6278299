"""Suites that any backend of storage, tracking or models can run, also one of another project.

Each class asks pytest for fixtures by name, which its module lists; a subclass runs the tests:

    from ops.registry.conformance import StorageBehaviour

    class TestMine(StorageBehaviour):
        @pytest.fixture
        def storage(self, tmp_path): ...

It needs ``pip install "ops-registry[conformance]"``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.registry.conformance.models import RegistryBehaviour as RegistryBehaviour
    from ops.registry.conformance.storage import StorageBehaviour as StorageBehaviour
    from ops.registry.conformance.tracking import TrackerBehaviour as TrackerBehaviour
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".models": "RegistryBehaviour",
            ".storage": "StorageBehaviour",
            ".tracking": "TrackerBehaviour",
        },
    )
