"""Patterns of JSON texts of the ledger, in the server's own regular expressions.

Before version 16 the server cannot test whether a text is JSON, and one that is none fails the whole statement. So only
the part that has the form which Python writes is converted; none is found in another text. The patterns have no
question mark, which marks a parameter.
"""

FIRST_TERM = '"term": *([0-9]{1,18})[,}]'
"""Term of the first of a run's attempts; a quotation mark within a text has a backslash."""

_BASIC = r"u(000[1-9a-f]|(00[1-9a-f]|0[1-9a-f][0-9a-f]|[1-9a-ce-f][0-9a-f]{2}|d[0-7][0-9a-f])[0-9a-f])"
_PAIR = r"ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"
_STRING = rf'"([^"\\[:cntrl:]]|\\(["\\/bfnrt]|{_BASIC}|{_PAIR}))*"'

TAGS = rf'"tags": *(\[\]|\[{_STRING}(, *{_STRING})*\])'
"""List of a job's tags. Half of a pair of surrogates, or a null character, cannot be converted."""
