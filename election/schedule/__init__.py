"""Work of a term: the registered jobs on an ``AsyncIOScheduler`` of its own, and the tasks beside it."""
