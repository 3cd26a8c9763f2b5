"""Measurements that take a while: `make bench-serve`, `python -m benchmarks.conversations`."""
