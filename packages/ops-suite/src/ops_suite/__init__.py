"""The ops libraries in versions that were tested together."""
