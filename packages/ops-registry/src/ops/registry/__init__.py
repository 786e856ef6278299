"""Model registry and experiment tracking on local files, with no server."""
