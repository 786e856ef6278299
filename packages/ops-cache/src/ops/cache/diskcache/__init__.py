"""The interface of diskcache, and the import of its folders."""
