"""Chaos: a real pool under faults drawn from a seed, judged from the outside. ``python -m tests.chaos --help``."""
