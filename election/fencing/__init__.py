"""What ends a leader that holds the seat and no longer lives: its own switch, and the eyes of its followers.

Neither is needed for P1: a hung leader keeps the seat, and so nobody else leads. They are what P6 needs then.
"""
