"""Who leads: the elector, and what an engine must offer it. Imports nothing of ours."""
