"""For tests: an election that leads at once, and a pool in memory on a clock that is advanced by hand.

``always_leader`` and ``as_run`` are for the tests of an application. ``ManualClock``, ``MemoryPool`` and ``MemorySeat``
are for tests of elections: hundreds of electors in one process, and faults.
"""

from .clock import ManualClock
from .leader import always_leader
from .pool import Happening, MemoryPool, MemorySeat
from .run import as_run

__all__ = ["Happening", "ManualClock", "MemoryPool", "MemorySeat", "always_leader", "as_run"]
