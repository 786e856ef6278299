"""The model registry on local files: changing it (`registry`), reading it (`queries`), its journal (`ledger`)."""
