"""Traces of GenAI applications and the datasets that evaluate them, as MLflow logs them: append-only journals, no mlflow.

`ops.registry.mlflow` serves them; what copies, checks and shows a store reads them here, where mlflow is not needed.
"""
