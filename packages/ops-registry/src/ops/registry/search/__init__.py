"""Finding runs: the language of searches (`filters`, `parser`) and the index that answers them.

`runindex` is the index of one experiment, `indexview` what a reader knows of it, `runtable` its compacted part in columns
(made by `widerows`), `runsearch` the answer of both together.
"""
