"""Packing of the live page's parts: without comments, indentation and most blanks, so that the page stays small.

Names and texts stay as they are. The scripts end every statement with a semicolon, and have no regular expressions
between slashes.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""//[^\n]*                        # a comment
    | "(?:\\.|[^"\\\n])*"              # a text
    | `                                # a template
    | \s+ | [\w$]+ | .""",
    re.VERBOSE | re.DOTALL,
)

_TEMPLATE_TEXT = re.compile(r"(?:\\.|\$(?!\{)|[^`\\$])*(`|\$\{)", re.DOTALL)
"""Text of a template up to its end, or to an expression in it."""

_QUOTED_WORD = re.compile(r'="([\w-]+)"(?=[ >])')
"""An attribute's value that needs no quotes; before a slash, it would take that in."""

_SPACED_IN_STYLE = re.compile(r"\s*([{}:;,])\s+|\s+(?=\{)")
"""Punctuation before a blank, which no text of the style contains."""


def pack_script(source: str) -> str:
    """Return JavaScript without what only its readers need."""
    tokens: list[str] = []
    expressions: list[int] = []  # open expressions in templates, the innermost last: how many braces are open in each
    at, is_spaced = 0, False
    while match := _TOKEN.match(source, at):
        text, at = match[0], match.end()
        if text.startswith("//") or text.isspace():
            is_spaced = True
            continue
        if text == "`" or (text == "}" and expressions and not expressions[-1]):
            if text == "}":
                expressions.pop()
            template = _TEMPLATE_TEXT.match(source, at)
            assert template is not None, "a template has no end"
            text, at = text + template[0], template.end()
            if template[1] == "${":
                expressions.append(0)
        elif expressions and text in {"{", "}"}:
            expressions[-1] += 1 if text == "{" else -1
        if tokens and text == "}" and tokens[-1] == ";":
            tokens.pop()
        if text == "const":  # which differs from let only for a script that is wrong
            text = "let"
        if is_spaced and tokens and _must_be_parted(tokens[-1][-1], text[0]):
            text = " " + text
        tokens.append(text)
        is_spaced = False
    return "".join(tokens)


def _must_be_parted(before: str, after: str) -> bool:
    """Whether two characters would mean something else without a blank between them."""
    return (_is_of_a_word(before) and _is_of_a_word(after)) or before == after in {"+", "-"}


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character in {"_", "$"}


def pack_style(source: str) -> str:
    """Return a style sheet without what only its readers need."""
    return _SPACED_IN_STYLE.sub(r"\1", _pack_lines(source)).replace(";}", "}")


def pack_document(source: str) -> str:
    """Return HTML without indentation, and without quotes around single words."""
    return _QUOTED_WORD.sub(r"=\1", _pack_lines(source))


def _pack_lines(source: str) -> str:
    """Return text without indentation and empty lines."""
    return "\n".join(line for line in map(str.strip, source.splitlines()) if line)
