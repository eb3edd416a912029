"""Plans capacity: how many pods carry a rate within a p99, from a measured curve."""
