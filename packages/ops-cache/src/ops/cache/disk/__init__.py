"""The cache on disk: a log of records in segment files, an index in memory, large values beside it.

`store` is the cache, `log` the segments and who may append, `records` the bytes of one record,
`index` and `hints` what is where, `blobs` the large values, `values` what bytes a value becomes.
docs/cache.md has the format.
"""
