"""Lossless, high-rate logging of timestamped binary packages from many processes."""
