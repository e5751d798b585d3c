"""The tokens of a formula, and complaints that show the place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ..errors import FormulaError

_TOKEN = re.compile(
    # blanks are a token of their own: in front of every other one, those at the end would be tried from each on
    r"(?P<blank>\s+)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|[<>=!]=|[-+*/|<>=(),\[\]])|(?P<bad>\S)",
    re.ASCII,
)


class Token(NamedTuple):
    kind: str  # "number", "name", "sign" or "end"
    text: str
    place: int


def syntax_error(message: str, text: str, place: int) -> NoReturn:
    """Raise FormulaError with the line of the text in which the place is, and a caret under it."""
    start = text.rfind("\n", 0, place) + 1
    line = text[start:].split("\n", 1)[0]
    column, shown = place - start, line
    if len(line) > 120:  # show the neighbourhood only
        left = max(0, column - 60)
        shown, column = line[left : left + 120], column - left
    shown = "".join(c if c.isprintable() else " " for c in shown)
    raise FormulaError(f"{message}\n  {shown}\n  {' ' * column}^") from None


def shorten(text: str) -> str:
    """The text, or how it begins if it is long."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message, "; did you mean ...?", or nothing if no known name is near."""
    if len(name) > 60:
        return ""
    from difflib import get_close_matches  # slow to import, and wanted for messages only

    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), list(by_lower), 1, 0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def tokens(text: str) -> list[Token]:
    """The tokens of a text and one that marks its end; FormulaError at a character that begins none."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "bad":
            syntax_error(f"unexpected character {match[0]!r}", text, match.start())
        if kind != "blank":
            found.append(Token(kind, match[0], match.start()))
    return [*found, Token("end", "", len(text.rstrip()))]
