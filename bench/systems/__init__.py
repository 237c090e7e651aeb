"""One module per system: an application as its users write it, with the facts ``ready``, ``leads`` and those of its
job.
"""
