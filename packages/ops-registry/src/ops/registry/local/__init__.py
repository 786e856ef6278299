"""Local files as a backend: what lies on disk behind the ports of the model registry."""
