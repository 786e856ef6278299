"""The language of searches: what may be asked of runs and models (`filters`, `parser`, `patterns`), and a whole question (`query`).

Nothing here reads a store: one that has rows, columns or SQL answers a question in its own way.
"""
