"""The pages in docs/: their tables are those of the code, and what they say of reasons is so."""

import re
from pathlib import Path

import pytest

from e2e.stories.test_documentation import PAGES as STORY
from kubedr_ctrl.api.result import Reason
from tests.pages import DOCS
from tests.unit.reference import PAGES as WITH_TABLES
from tests.unit.reference import written

ROOT = DOCS.parent


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda path: path.stem)
def test_tables_are_those_of_the_code(page: Path) -> None:
    text = page.read_text()
    assert written(page.stem, text) == text, "run 'make docs'"


def test_each_page_with_commands_is_run_by_a_story_or_by_a_test() -> None:
    by_tests = {"docs/distributions.md", "docs/migration.md"}
    run = {*STORY, "docs/disaster-recovery.md", *by_tests}
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = page.read_text()
        name = str(page.relative_to(ROOT))
        assert "```sh" not in text or name in run, name
        # What is shown indented is what programs say, or a make target, which needs no story.
        assert not re.search(r"^    (kubectl|helm|restic|etcd\w+) ", text, re.MULTILINE), name


def test_troubleshooting_has_every_reason_and_the_words_of_its_messages() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    of_conditions = set(re.findall(r'\b(?:broken|progressing)\(\s*"(\w+)"', source))
    on_their_way = {"Completed", "Initializing", "Restoring"}
    for reason in {*Reason, *of_conditions} - on_their_way:
        assert f"`{reason}`" in page, reason

    # Literals that the code breaks over lines are made whole.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    failures = page[page.index("## Why a backup failed") : page.index("## Why a backup is overdue")]
    for said in re.findall(r"^\| (.+?) \| `", failures, re.MULTILINE):
        for words in said.split(", "):
            assert words in source or words.startswith("restic: "), words
