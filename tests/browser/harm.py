"""A name that means harm."""

HOSTILE = "<img src=x onerror=document.title='hurt'>&\"'</script><script>document.title='hurt'</script>"
"""A job's id, and what it raises."""
