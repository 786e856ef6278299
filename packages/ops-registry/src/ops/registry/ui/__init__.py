"""The web UI of a store: `ops-registry ui`, extra `ui`.

`server` listens, `security` decides who may connect, `app` maps addresses to pages, `api` and `streams` to
JSON and live points; `runtables`, `curves` and `comparisons` prepare what `templates` show.
"""
