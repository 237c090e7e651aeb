"""Fences for a leader that hangs: its own dead man's switch, and the supervision by its followers.

P1 needs neither: a hung leader keeps the seat, so no other worker leads. P6 needs both.
"""
