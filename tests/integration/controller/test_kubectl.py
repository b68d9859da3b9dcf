"""What an administrator reads at three in the morning, from a real kubectl: short, truthful, and with a remedy."""

import re
from collections.abc import Iterator

import pytest

from tests.integration.controller.kubectl_page import AGE, PAGE, Kubectl, page, read_table
from tests.integration.controller.states import STATES, bring_about
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import PATHS, kubedr

EVERY_KIND = pytest.mark.parametrize("kind", STATES)
ON_THE_WAY = {"Initializing", "Restoring"}
"""States that are not well yet, but in which nothing is to be done."""
REMEDY = re.compile(
    r"\b(create (it|what|another)|correct (it|the|what)|set spec|Delete them|kubectl (create|describe|events|get))\b"
)
SAYS_THAT_ALL_WENT_WELL = re.compile(r" +(Init|Backup|Restore) Error Message:")


@pytest.fixture(scope="module")
def kubectl(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A namespace in which each kind is in each of its states."""
    with kubedr(plane, tmp_path_factory.mktemp("kubectl")) as cluster:
        bring_about(cluster)
        yield Kubectl(cluster)


@EVERY_KIND
def test_get_says_whether_it_is_well_how_it_stands_and_since_when(kubectl: Kubectl, kind: str) -> None:
    said = kubectl(f"get {PATHS[kind].plural}")
    rows = read_table(said)
    assert {row["NAME"]: row["STATUS"] for row in rows} == STATES[kind]
    assert max(map(len, said.splitlines())) <= 160
    for row in rows:
        assert row["READY"] in ("True", "False")
        assert AGE.fullmatch(row["AGE"])
        assert AGE.fullmatch(row.get("SINCE") or row["TAKEN"]) or row["STATUS"] == "LocationNotFound"


def test_get_says_of_a_policy_how_it_went_last_and_what_can_be_restored(kubectl: Kubectl) -> None:
    rows = {row["NAME"]: row for row in read_table(kubectl("get metadatabackuppolicies"))}
    assert {name: (row["LAST"], row["RECORD"]) for name, row in rows.items() if row["LAST"]} == {
        "completed": ("Completed", "mbr-4c1223d6"),
        "failed": ("Failed", "mbr-34abbf1b"),
        "suspended": ("Completed", "mbr-b0f347ef"),
    }
    assert all(bool(AGE.fullmatch(row["LAST SUCCESS"])) == bool(row["RECORD"]) for row in rows.values())


@EVERY_KIND
def test_get_wide_says_what_to_do_where_something_is_wrong(kubectl: Kubectl, kind: str) -> None:
    for row in read_table(kubectl(f"get {PATHS[kind].plural} -o wide")):
        assert row["MESSAGE"]
        if row["READY"] == "False" and row["STATUS"] not in ON_THE_WAY:
            assert REMEDY.search(row["MESSAGE"]), row


@EVERY_KIND
def test_describe_shows_no_field_of_the_status_that_says_nothing(kubectl: Kubectl, kind: str) -> None:
    for name in STATES[kind]:
        status, _, _ = kubectl.describe(kind, name).partition("\nStatus:\n")[2].partition("\nEvents:")
        lines = [line for line in status.splitlines() if line.strip()]
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            assert "<n" not in line, f"{name}: {line}"  # <none>, <nil>
            if line.rstrip().endswith(":") and not SAYS_THAT_ALL_WENT_WELL.match(line):
                assert _depth(following) > _depth(line), f"{name}: {line}"


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


@EVERY_KIND
def test_events_of_a_resource_are_the_same_wherever_one_asks(kubectl: Kubectl, kind: str) -> None:
    all_events = read_table(kubectl("get events"))
    for name in STATES[kind]:
        here = f"{kind.lower()}/{name}"
        told = sorted((row["TYPE"], row["REASON"], row["MESSAGE"]) for row in all_events if row["OBJECT"] == here)
        asked = kubectl(f"events --for {here}")
        rows = read_table(asked) if "\n" in asked.strip() else []
        assert sorted((row["TYPE"], row["REASON"], row["MESSAGE"]) for row in rows) == told
        described = kubectl.describe(kind, name).partition("\nEvents:")[2]
        assert all(reason in described and message in described for _, reason, message in told)
        assert bool(told) == ("<none>" not in described)


def test_the_page_shows_what_kubectl_says(kubectl: Kubectl) -> None:
    assert page(kubectl) == PAGE.read_text(), "run 'make docs'"
