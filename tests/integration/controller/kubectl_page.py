"""Writes docs/kubectl.md from what a real kubectl says of each kind in each state: `make docs`.

What differs from run to run is replaced: times, ages, the parts of names that are random.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.controller.states import SCHEDULE, STATES, bring_about
from tests.servers.apiserver import control_plane
from tests.servers.kubedr import PATHS, Kubedr, install_kinds, kubedr

PAGE = Path(__file__).parents[3] / "docs" / "kubectl.md"
AGE = re.compile(r"(\d+[smh])+")
EVENTS = {
    "get events --field-selector=source=kubedr": "Those of KubeDR, without what Kubernetes says of Jobs and pods:",
    "events --for metadatabackuppolicy/failed": "Of one resource, as `describe` has them, too:",
}
INTRODUCTION = """# What kubectl says

Each kind in each of its states, as a real kubectl shows them; most resources are named after the state that
they are in. Times and random parts of names have been replaced. Of `describe`, two parts are left out: what comes
before `Status`, and the conditions `Stalled` and `Reconciling`, which repeat `Ready` for tools that look for them.

`READY` says whether all is well, `STATUS` how it stands in one word, and `SINCE` since when it is well or not.
`-o wide` adds `MESSAGE`: what happened and, where something is wrong, what to do.
"""
DESCRIBED = {
    "BackupLocation": {
        "exists-already": "`Init Error Message` has restic's own words, the condition what to do:",
        "in-use": "A deletion that waits says for what:",
    },
    "MetadataBackupPolicy": {
        "completed": "`Totals` counts all backups ever, and is where the metrics come from:",
        "failed": "After a failure no figure of an earlier success is left, but what can be restored is:",
        "overdue": "Where a good backup is overdue, the likeliest cause is named:",
    },
    "MetadataBackupRecord": {"mbr-4c1223d6": "A record tells what is in the backup:"},
    "MetadataRestore": {
        "volume-missing": "A restore waits for its volume:",
        "failed": "It runs once, come what may:",
    },
}
"""By kind and name: why what `describe` says is worth showing."""
REPEATED = r"    Last Transition Time: .*\n(?:(?!    Last Transition Time:).*\n)*?    Type: +(?:Stalled|Reconciling)\n"
"""The conditions that repeat another."""


class Kubectl:
    """What kubectl has said, by its arguments; each question is asked once."""

    def __init__(self, cluster: Kubedr) -> None:
        self._cluster = cluster
        self._said: dict[str, str] = {}

    def __call__(self, arguments: str) -> str:
        if arguments not in self._said:
            self._said[arguments] = self._cluster.kubectl(*arguments.split())
        return self._said[arguments]

    def describe(self, kind: str, name: str) -> str:
        """Return what `describe` says of one; all are asked for at once."""
        parts = re.split(r"\n\n\n(?=Name: )", self(f"describe {PATHS[kind].plural}"))
        return next(part for part in parts if part.split(maxsplit=2)[1] == name)


def read_table(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that kubectl has printed, by column."""
    header, *lines = text.rstrip("\n").splitlines()
    columns = [(match[0], match.start()) for match in re.finditer(r"\S+( \S+)*", header)]
    ends = [start for _, start in columns[1:]]
    spans = list(zip((name for name, _ in columns), (start for _, start in columns), [*ends, None], strict=True))
    return [{name: line[start:end].strip() for name, start, end in spans} for line in lines]


def print_table(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield the lines of a table as kubectl prints it."""
    table = list(rows)
    names = list(table[0])
    widths = {name: max(len(name), *(len(row[name]) for row in table)) for name in names}
    for row in ({name: name for name in names}, *table):
        yield "   ".join(row[name].ljust(widths[name]) for name in names).rstrip()


def stable(text: str) -> str:
    """Return `text` without what differs from run to run."""
    text = text.replace(SCHEDULE, "0 22 * * *")
    text = re.sub(r"(due (?:at|since) |Next Due: +)?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", _stable_time, text)
    text = re.sub(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", "Fri Jan 30 16:04:05 2026", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "d1deb7f9-13e7-4c53-9b3a-53d5ca56ee45", text)
    text = re.sub(r"-(init|restore|forget)-[0-9a-f]{5}-[0-9a-f]{8}", r"-\1-9d7f9-4c25fbf1", text)
    return re.sub(r"(-[12])-[a-z0-9]{5}\b", r"\1-8jn86", text)


def _stable_time(match: re.Match[str]) -> str:
    what, time = match[1] or "", datetime.fromisoformat(match[2])
    long_ago = datetime.now(UTC) - time > timedelta(hours=1)
    return f"{what}2026-01-{'28' if long_ago else '30'}T{'22:00:00' if what else '16:04:05'}Z"


def stable_table(text: str) -> list[dict[str, str]]:
    """Return the rows with ages and all else replaced that differs from run to run."""
    return [
        {column: "5m" if AGE.fullmatch(cell) else stable(cell) for column, cell in row.items()}
        for row in read_table(text)
    ]


def stable_events(text: str) -> list[dict[str, str]]:
    """Return the rows of events in an order that does not depend on the second in which they came."""
    rows = stable_table(text)
    rows.sort(key=lambda row: row.get("REASON") or row["Reason"], reverse=True)
    rows.sort(key=lambda row: row.get("OBJECT", ""))
    return rows


def block(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines)


def described(kubectl: Kubectl, kind: str, name: str) -> Iterator[str]:
    """Yield what `describe` says from the status on."""
    text = kubectl.describe(kind, name)
    status, _, events = text[text.index("\nStatus:") + 1 :].partition("\nEvents:")
    yield f"$ kubectl -n kubedr-system describe {kind.lower()} {name}"
    yield "..."
    yield from re.sub(REPEATED, "", stable(status)).splitlines()
    if "<none>" in events:
        yield "Events:  <none>"
        return
    header, _, *rows = events.strip("\n").splitlines()
    yield "Events:"
    yield from (f"  {line}" for line in print_table(stable_events("\n".join([header, *rows]))))


def chapter(kubectl: Kubectl, kind: str) -> Iterator[str]:
    """Yield the parts of the chapter on one kind."""
    yield f"## {kind}"
    command = f"get {PATHS[kind].plural}"
    yield block([f"$ kubectl -n kubedr-system {command}", *print_table(stable_table(kubectl(command)))])
    rows = stable_table(kubectl(f"{command} -o wide"))
    messages = (f"| `{row['NAME']}` | {row['MESSAGE']} |" for row in rows)
    yield "\n".join(("| | `MESSAGE` with `-o wide` |", "|---|---|", *messages))
    for name, words in DESCRIBED[kind].items():
        yield words
        yield block(described(kubectl, kind, name))


def page(kubectl: Kubectl) -> str:
    """Return the document."""
    parts = [INTRODUCTION.rstrip("\n")]
    for kind in STATES:
        parts += chapter(kubectl, kind)
    parts.append("## Events")
    for command, words in EVENTS.items():
        parts.append(words)
        parts.append(block([f"$ kubectl -n kubedr-system {command}", *print_table(stable_events(kubectl(command)))]))
    return "\n\n".join(parts) + "\n"


def write() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as directory, control_plane(Path(directory)) as plane:
        install_kinds(plane)
        with kubedr(plane, Path(directory)) as cluster:
            bring_about(cluster)
            PAGE.write_text(page(Kubectl(cluster)))


if __name__ == "__main__":
    write()
