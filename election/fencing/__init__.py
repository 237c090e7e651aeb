"""Fences for a leader that hangs: its own switch, and the supervision by its followers.

Neither is needed for P1: a hung leader keeps the seat, and so nobody else leads. They are what P6 needs then.
"""
