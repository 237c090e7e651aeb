"""Measurements side by side: ``make bench``, or ``python -m bench NAME … [--quick]``."""
