"""Packing of the live page's parts: without comments, indentation and most blanks, so that the page stays small.

Names and texts stay as they are. The scripts end every statement with a semicolon, have no regular expressions
between slashes, and divide nothing by Infinity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPENING, _CLOSING = {"(", "[", "{"}, {")", "]", "}"}

_SHORTER = {"const": "let", "true": "!0", "false": "!1", "Infinity": "1/0"}
"""Shorter words with the same meaning; let differs only for a script that is wrong."""

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
    opened = ["{"]  # the innermost last; a block is "let" within a declaration, and ";" after one
    at, is_spaced = 0, False
    while match := _TOKEN.match(source, at):
        text, at = match[0], match.end()
        if text.startswith("//") or text.isspace():
            is_spaced = True
            continue
        is_template = text == "`" or (text == "}" and opened[-1] == "`")
        if text in _CLOSING:
            opened.pop()
        if is_template:
            template = _TEMPLATE_TEXT.match(source, at)
            assert template is not None, "a template has no end"
            text, at = text + template[0], template.end()
            if template[1] == "${":
                opened.append("`")
        elif text in _OPENING:
            opened.append(text)
        elif text == ">" and _end_with_an_argument(tokens):
            tokens[-4:] = [tokens[-3], "="]
        text = _SHORTER.get(text, text)
        if tokens and text == "}" and tokens[-1] == ";":
            tokens.pop()
        if _goes_on(opened, tokens, text):
            text, is_spaced = ",", False
            tokens.pop()
        if is_spaced and tokens and _must_be_parted(tokens[-1][-1], text[0]):
            text = " " + text
        tokens.append(text)
        is_spaced = False
    return "".join(tokens)


def _goes_on(opened: list[str], tokens: Sequence[str], text: str) -> bool:
    """Whether a token begins a declaration right after another one, so that a comma parts them as well."""
    goes_on = (opened[-1], text, *tokens[-1:]) == (";", "let", ";")
    if text == "let" and opened[-1] in {"{", ";"}:
        opened[-1] = "let"
    elif opened[-1] in {"let", ";"} and (text == ";" or opened[-1] == ";"):
        opened[-1] = ";" if text == ";" and opened[-1] == "let" else "{"
    return goes_on


def _end_with_an_argument(tokens: Sequence[str]) -> bool:
    """Whether the last tokens are a name in brackets and the beginning of an arrow, which needs no brackets."""
    before, *rest = ["", *tokens][-5:]
    return rest[::2] == ["(", ")"] and rest[-1] == "=" and _is_of_a_word(rest[1][0]) and not _is_of_a_word(before[-1:])


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
