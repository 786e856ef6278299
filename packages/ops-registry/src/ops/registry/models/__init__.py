"""The rules of the model registry: what changes it (`registry`, `registration`), and what reads it (`queries`).

A backend (`ports`) keeps the frames that they decide; `state` folds those into `model` objects, beginning with a snapshot
(`snapshots`) where there is one. `search` has the fields of versions, `flavors` loads the objects in their artifacts.
"""
