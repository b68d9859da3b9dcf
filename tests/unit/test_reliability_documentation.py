"""docs/reliability.md names tests: each of them has to be there, and none of tests/faults may be forgotten in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text()))


def functions_in(*folders: str) -> set[str]:
    files = (file for folder in folders for file in (ROOT / "tests" / folder).rglob("test_*.py"))
    return {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text())}


def test_each_test_that_the_document_names_is_there() -> None:
    assert functions_in("") >= NAMED


def test_the_document_names_each_test_of_an_accident() -> None:
    of_the_proxy = set(re.findall(r"def (test_\w+)\(", (ROOT / "tests" / "faults" / "test_proxy.py").read_text()))
    assert functions_in("faults") - of_the_proxy - NAMED == {"test_the_list_is_streamed_by_a_real_server"}
