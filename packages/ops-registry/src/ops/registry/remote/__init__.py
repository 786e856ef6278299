"""Artifacts in a bucket of S3, or of anything that speaks its protocol, while the journals stay on local files.

`artifacts` keeps and fetches whole artifacts, `uploads` remembers what was begun, `s3` moves the bytes of one object.
"""
