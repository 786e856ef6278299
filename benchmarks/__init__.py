"""Benchmarks: each figure that a package claims, measured beside its peers in one process."""
