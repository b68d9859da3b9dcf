"""What the pages of docs/ show, for tests to run."""

import re
from pathlib import Path
from textwrap import dedent

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page that are in that language, as people copy them."""
    found = [block for block in _BLOCK.finditer((DOCS / page).read_text()) if block["language"] == language]
    return [dedent(block["text"]) for block in found]


def rows(page: str, first: str) -> list[list[str]]:
    """Return the rows of the page's table whose first column is headed `first`."""
    _, _, table = (DOCS / page).read_text().partition(f"\n| {first} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
