"""Finding runs: the language of searches (`filters`, `parser`) and the index they are asked of.

`runindex` is the index of one experiment, `runtable` its compacted part in columns, `runsearch` the answer
of both together.
"""
