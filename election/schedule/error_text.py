"""Text of an error of code that is not ours."""

from __future__ import annotations

MAX_ERROR_LENGTH = 2000
"""Characters of an error that are kept."""


def what_went_wrong(error: BaseException) -> str:
    """The error in words that any ledger can hold, whatever the job's own classes make of themselves."""
    try:
        text = str(error)
    except BaseException:
        text = "it cannot say what it is"
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return told[:MAX_ERROR_LENGTH].encode("utf-8", "backslashreplace").decode()
