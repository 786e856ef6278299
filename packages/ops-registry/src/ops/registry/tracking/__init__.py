"""The rules of experiment tracking, over a backend (`ports`) that keeps what they decide.

The tracker (`tracker`) has the life of runs, whose beginning and end (`run_life`) is the same for MLflow's client. Experiments
are `experiment_calls`, logging is `logging_api`, files `artifacts`, reading `queries`; `run_state` folds the frames of a
run. Backends are `ops.registry.local` and `ops.registry.databricks`.
"""
