"""Writes the table of metrics in docs/monitoring.md from the code: `make docs`."""

from pathlib import Path
from unittest.mock import Mock

from kubedr_ctrl.results.exporter import Exporter
from kubedr_ctrl.results.metrics import Metrics
from kubedr_ctrl.telemetry import Telemetry

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def reference() -> str:
    """Return the table."""
    metrics = Metrics()
    Exporter(metrics, Mock(), Mock(), Mock())  # what it exports is not asked for, only what there is
    Telemetry(metrics)
    rows = (
        f"| `{metric.name}` | {type(metric).__name__.lower()} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {metric.doc} |\n"
        for metric in metrics.all
    )
    return "| metric | type | labels | what it is |\n|---|---|---|---|\n" + "".join(rows)


def written(document: str) -> str:
    """Return the document with the table as it should be."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + reference() + END + tail


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
