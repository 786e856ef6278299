"""Where and how things lie on disk: the layout, journals and views, copies of artifacts, the user's own files.

Everything here knows bytes and paths and nothing of runs or models.
"""
