"""Benchmarks: ratios against a named baseline, never a timed assertion."""
