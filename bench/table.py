"""Prints what was measured."""

import os
from collections.abc import Sequence

_GAP = "   "


def heading(text: str) -> None:
    """Print what was measured, and on how many cores: no number means anything without them."""
    print(f"\n{text} ({os.cpu_count()} cores)\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, ["-" * width for width in widths], *rows):
        first, *others = zip(row, widths, strict=True)
        print(_GAP.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip())
    print(flush=True)
