"""Local files as a backend: what lies on disk behind the ports of tracking (`tracking`) and of models (`models`).

A run is some journals (`run_journals`), all of them are `run_store`, `liveness` finds those that died, and `index` finds
them without opening each. Experiments are `experiment_store`, files of runs `run_files`, of models `model_artifacts`.
"""
