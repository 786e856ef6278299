"""The model registry on local files: what changes it (`registry`, `registering`), and what reads it (`queries`).

`ledger` folds its journal into `model` objects, beginning with a snapshot (`snapshots`); `search` selects versions and
`flavors` loads the objects in their artifacts.
"""
