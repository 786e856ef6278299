"""The language of searches: filters of runs and models (`filters`, `parser`, `patterns`), and a whole search (`query`).

Nothing here reads a store: one that has rows, columns or SQL answers a question in its own way.
"""
