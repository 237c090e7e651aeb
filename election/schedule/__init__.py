"""What a term does: the registered jobs on an ``AsyncIOScheduler`` of its own, and the tasks beside it."""
