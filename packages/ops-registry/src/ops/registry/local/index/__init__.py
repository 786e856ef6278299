"""The index of an experiment's runs: which there are and what they came to, without opening each."""
