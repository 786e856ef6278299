"""Stores of other programs, copied into one of ours; the source is only read, and only named folders are.

Nothing of those programs need be installed for MLflow and trackio. ``ops-registry import`` is the command for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.registry.importing.findings import Findings as Findings
    from ops.registry.importing.formats import foreign_store as foreign_store
    from ops.registry.importing.formats import is_own_store as is_own_store
    from ops.registry.importing.records import ForeignStore as ForeignStore
    from ops.registry.importing.store_import import Imported as Imported
    from ops.registry.importing.store_import import import_foreign as import_foreign
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".findings": "Findings",
            ".formats": "foreign_store is_own_store",
            ".records": "ForeignStore",
            ".store_import": "Imported import_foreign",
        },
    )
