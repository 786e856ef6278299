"""A model in memory: its versions, and what belongs to all of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Self

from ops.registry.plain_values import copied, copied_mapping

if TYPE_CHECKING:
    from ops.registry.records import ModelVersion

__all__ = ["Model", "own_copy"]


def own_copy(version: ModelVersion) -> ModelVersion:
    """Return a version whose mappings are the caller's: the registry keeps its own in memory."""
    known = version.metadata
    metadata = dataclasses.replace(
        known,
        hyperparameters=copied_mapping(known.hyperparameters),
        metrics=dict(known.metrics),
        tags=dict(known.tags),
        signature=copied(known.signature),
        flavor_metadata=copied_mapping(known.flavor_metadata),
    )
    return dataclasses.replace(version, metadata=metadata)


@dataclasses.dataclass(slots=True)
class Model:
    """A model as the journal records it; *highest* is the last number given, also if deleted.

    *created* and *updated* are nanoseconds; a model that was deleted has no *created*. *changed* has
    when each version was changed last.
    """

    model_id: str
    name: str
    highest: int = 0
    created: int | None = None
    updated: int = 0
    description: str = ""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: dict[int, int] = dataclasses.field(default_factory=dict)
    versions: dict[int, ModelVersion] = dataclasses.field(default_factory=dict)
    aliases: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Per stage, the versions that entered it and were not rolled back, the last one at the end.
    holders: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def copy(self) -> Self:
        """Return a model that later changes of this one do not reach; versions are never changed."""
        return dataclasses.replace(
            self,
            tags=dict(self.tags),
            changed=dict(self.changed),
            versions=dict(self.versions),
            aliases=dict(self.aliases),
            holders={stage: list(numbers) for stage, numbers in self.holders.items()},
        )
