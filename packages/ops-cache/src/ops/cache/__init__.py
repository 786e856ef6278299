"""Memory and disk caches and memoization that are right first and then fast."""
