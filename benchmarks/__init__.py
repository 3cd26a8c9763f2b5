"""Measurements that take a while: `make bench`, `make bench-serve`, `python -m benchmarks.…`."""
