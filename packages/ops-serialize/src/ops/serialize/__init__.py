"""Any object to bytes or a file and back, lossless and safe; YAML dataclass configs."""
