"""NumPy arrays shared between processes that stay safe when a process dies."""
