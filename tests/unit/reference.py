"""Writes the tables in docs/ that the code knows best, between marks such as `<!-- metrics: begin -->`: `make docs`."""

from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import Mock

from kubedr_ctrl.api.crd import Kind, definition
from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.results.exporter import Exporter
from kubedr_ctrl.results.metrics import Metrics
from kubedr_ctrl.settings import PREFIX, Settings
from kubedr_ctrl.telemetry import Telemetry
from tests.pages import DOCS


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("|  |", "| |")


def metrics() -> str:
    """Return the table of metrics."""
    known = Metrics()
    Exporter(known, Mock(), Mock(), Mock())  # what it exports is not asked for, only what there is
    Telemetry(known)
    return _table(
        ("metric", "type", "labels", "what it is"),
        (
            (
                f"`{metric.name}`",
                type(metric).__name__.lower(),
                ", ".join(f"`{label}`" for label in metric.labels),
                metric.doc,
            )
            for metric in known.all
        ),
    )


def fields(kind: Kind) -> str:
    """Return the table of the fields in a kind's spec."""
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rows = []
    for name, field in schema["properties"].items():
        needed = name in schema.get("required", ())
        fixed = any(rule["rule"] == "self == oldSelf" for rule in field.get("x-kubernetes-validations", ()))
        words = field["description"] + (" It cannot change." if fixed else "")
        rows.append((f"`{name}`", "must be given" if needed else _default(field), words))
    return _table(("field in spec", "default", "what it is"), rows)


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def settings() -> str:
    """Return the table of environment variables."""
    return _table(
        ("variable", "default", "what it is"),
        (
            (
                f"`{PREFIX}{name.upper()}`",
                _default({"default": "" if field.is_required() else field.default}),
                str(field.description),
            )
            for name, field in Settings.model_fields.items()
        ),
    )


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("monitoring", "metrics"): metrics,
    ("configuration", "BackupLocation"): lambda: fields(BackupLocation),
    ("configuration", "MetadataBackupPolicy"): lambda: fields(MetadataBackupPolicy),
    ("configuration", "settings"): settings,
}


def written(page: str, text: str) -> str:
    """Return the text of a page with its tables as they should be."""
    for (of, mark), table in TABLES.items():
        if of == page:
            begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
            assert begin in text, f"docs/{page}.md has no mark {mark}"
            head, _, rest = text.partition(begin)
            text = head + begin + table() + end + rest.partition(end)[2]
    return text


PAGES = [DOCS / f"{page}.md" for page in sorted({page for page, _ in TABLES})]


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path.stem, path.read_text()))
