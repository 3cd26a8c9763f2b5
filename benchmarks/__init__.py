"""Measurements that take a while; `make bench-serve`."""
