"""Real pools, as for the tests of ``tests/pool``."""

from tests.pool.conftest import new_pool, pool

__all__ = ["new_pool", "pool"]
