"""Usage data collected, packed, shipped, rolled up and reported, every row exactly once."""
