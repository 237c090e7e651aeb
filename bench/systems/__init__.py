"""One module a system: an application as its users write it, that tells ``ready``, ``leads`` and what its job does."""
