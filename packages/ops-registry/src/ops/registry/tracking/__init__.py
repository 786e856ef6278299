"""Experiments and runs on local files: the tracker and its rooms.

The tracker (`tracker`) has the life of runs. Logging is `runlogger`, files `runartifacts`, reading `runqueries`;
`runlog` is one run on disk, `runstore` all of them, `liveness` tells which of them died.
"""
