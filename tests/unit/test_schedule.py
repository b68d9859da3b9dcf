"""Schedules, against what Kubernetes' own reading of them gives (tests/unit/schedules)."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubedr_ctrl.api.schedule import parse_schedule

VECTORS = [
    json.loads(line) for line in (Path(__file__).parent / "schedules" / "vectors.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['schedule']} {vector['timeZone']}")
def test_a_schedule_is_due_when_kubernetes_says_so(vector: dict[str, str]) -> None:
    schedule = parse_schedule(vector["schedule"], vector["timeZone"])
    after: datetime | None = datetime.fromisoformat(vector["after"])
    for time in vector["next"]:
        assert after is not None
        after = schedule.next(after)
        assert after == datetime.fromisoformat(time)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "@every soon", "@often"],
)
def test_what_kubernetes_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_schedule(text)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="No/Where"):
        parse_schedule("@daily", "No/Where")


def test_a_schedule_without_a_time_zone_is_utc() -> None:
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert parse_schedule("0 0 * * *").next(now) == now + timedelta(hours=12)
