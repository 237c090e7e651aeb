"""Chaos runs: a served pool under faults drawn from a seed, judged from outside. ``python -m tests.chaos --help``."""
