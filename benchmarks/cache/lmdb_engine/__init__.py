"""A prototype: `DiskCache` on LMDB instead of our log, to compare the two engines fairly.

`environment` is the file of a folder, `engine` what the log is to our cache, `cache` the `DiskCache` on it.
Values, keys, large values as files, locks, transactions and queues are those of `ops.cache`. Not part of any
distribution; docs/cache.md has what came of it.
"""
