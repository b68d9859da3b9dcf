"""What the pages of docs/ show, for tests to run."""

from pathlib import Path

from e2e import pages

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page of docs/ that are in that language, as people copy them."""
    return [block.text for block in pages.blocks(f"docs/{page}", language)]


def rows(page: str, first: str) -> list[list[str]]:
    """Return the rows of the page's table whose first column is headed `first`."""
    _, _, table = (DOCS / page).read_text().partition(f"\n| {first} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
