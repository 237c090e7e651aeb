"""Work of a term: the registered jobs on its own ``AsyncIOScheduler``, and the tasks beside it."""
