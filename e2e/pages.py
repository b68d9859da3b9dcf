"""Runs the commands of the documentation as a reader would: page after page, block after block.

- Fenced blocks of `sh` are run by bash; what one exports is there in those that follow.
- Those of `sh node` are run as root on the control-plane node.
- All others only show something. A block of `sh` that is not to be run here has the reason in a comment above it,
  `<!-- not run here: … -->`.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from e2e import debian
from e2e.cluster import ON_NODE
from e2e.machine import REPOSITORY, environment

_BLOCK = re.compile(
    r"(<!-- not run here: (?P<why>.+?) -->\n+)?^(?P<indent> *)```(?P<language>\w+)(?P<more>[^\n]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, as people copy it."""

    page: str
    text: str
    on_node: bool
    skipped: str
    """Why it is not run, if it is not."""


def blocks(page: str, language: str = "sh") -> Iterator[Block]:
    """Yield the blocks in that language of a page, whose path is given as from the repository."""
    for match in _BLOCK.finditer((REPOSITORY / page).read_text()):
        if match["language"] == language:
            yield Block(page, dedent(match["text"]), match["more"].strip() == "node", match["why"] or "")


@dataclass
class Reader:
    """Somebody who types what the pages say, with values of their own for what stands there as an example."""

    directory: Path
    """Where they work; the repository's folders are there."""
    examples: Mapping[str, str]
    """What the pages have as an example, and what is typed in its place."""
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for program in ("curl", "openssl"):
            debian.install(program, program)
        for name in ("charts", "manifests"):
            (self.directory / name).symlink_to(REPOSITORY / name)
        self.variables = environment() | self.variables

    def read(self, page: str) -> None:
        """Run all commands of a page; AssertionError says which failed, and how."""
        for block in blocks(page):
            if not block.skipped:
                self.run(block)

    def run(self, block: Block) -> str:
        """Run one block; return what it printed."""
        text = block.text
        for example, own in self.examples.items():
            text = text.replace(example, own)
        exports = self.directory / "exports"
        script = f"set -euo pipefail\n{text}\nenv -0 > {exports}\n"
        argv = ["bash", "-c", script]
        if block.on_node:
            passed = [f"--env={name}" for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY", "RESTIC_PASSWORD")]
            argv = [*ON_NODE[:-1], *passed, ON_NODE[-1], "bash", "-c", f"set -euo pipefail\n{text}"]
        done = subprocess.run(
            argv, cwd=self.directory, env=self.variables, capture_output=True, text=True, check=False, timeout=600
        )
        assert not done.returncode, f"{block.page}:\n{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if not block.on_node:
            self.variables = dict(line.split("=", 1) for line in exports.read_text().split("\0") if line)
        return done.stdout
