"""The audit of `make soak` finds what it is there to find, and nothing where all is well."""

from dataclasses import replace

import pytest

from soak.audit import Counts, Deletion, Policy, Run, Write, compare, held, table, usurped

SNAPSHOTS = frozenset({"aaaaaaa1", "aaaaaaa2"})
COUNTS = Counts(backups=3, successful=2, failed=1)
POLICY = Policy("p", "p1", retain=10, totals=COUNTS, events=COUNTS, metrics=COUNTS, records=SNAPSHOTS)


def run(job: str, snapshot: str = "", *, policy: str = "p1", second: int = 0) -> Run:
    outcome = "Completed" if snapshot else "Failed"
    return Run(job, f"job-{job}", "p", policy, "backup", outcome, snapshot, f"2026-01-30T16:04:{second:02}")


RUNS = [run("1", "aaaaaaa1", second=1), run("2"), run("2", "aaaaaaa2", second=2), run("3")]
DELETED = Deletion("1", "p1", counted=True, certain=True)


def found(policy: Policy = POLICY, *deletions: Deletion, runs: list[Run] = RUNS) -> tuple[str, ...]:
    return compare(policy, runs, deletions, SNAPSHOTS).differences


def test_what_fits_has_no_difference() -> None:
    assert found() == ()
    assert found(POLICY, DELETED) == ()


@pytest.mark.parametrize("teller", ["totals", "events", "metrics"])
@pytest.mark.parametrize("counts", [Counts(2, 2, 0), Counts(4, 3, 1), Counts(3, 1, 2)])
def test_a_count_that_is_lost_doubled_or_mistaken_is_found(teller: str, counts: Counts) -> None:
    assert any(difference.startswith(teller) for difference in found(Policy(**{**vars(POLICY), teller: counts})))


def test_a_missing_record_is_found_unless_as_many_are_newer_as_are_kept() -> None:
    missing = replace(POLICY, records=SNAPSHOTS - {"aaaaaaa1"})
    assert found(missing) == ("no record of aaaaaaa1, Job job-1",)
    assert found(replace(missing, retain=1)) == ()
    assert found(replace(POLICY, retain=1)) == ("2 records, 1 are to be kept",)


def test_a_record_without_a_backup_or_a_snapshot_is_found() -> None:
    assert found(replace(POLICY, records=SNAPSHOTS | {"aaaaaaa3"})) == (
        "record of aaaaaaa3, which nobody made",
        "record of aaaaaaa3, which is not in the repository",
    )


def test_a_job_deleted_by_hand_counts_if_it_could_be_noticed() -> None:
    more = Counts(4, 2, 2)
    told = replace(POLICY, totals=more, events=more, metrics=more)
    assert found(told, Deletion("4", "p1", counted=True, certain=False)) == ()
    assert "totals say 4 = 2 + 2, but 3 ran, 2 of them well" in found(
        told, Deletion("4", "p1", counted=False, certain=False)
    )
    assert found(POLICY, Deletion("4", "p1", counted=False, certain=False)) == ()


def test_an_outcome_that_may_have_gone_with_the_job_or_its_pod_may_be_told_either_way() -> None:
    failed = Counts(3, 1, 2)
    told = replace(POLICY, totals=failed, events=failed, metrics=failed, records=SNAPSHOTS - {"aaaaaaa1"})
    assert found(told, replace(DELETED, certain=False)) == ()
    assert found(POLICY, replace(DELETED, certain=False)) == ()
    assert "totals say 3 = 1 + 2, but 3 ran, 2 of them well" in found(told)
    disagreeing = replace(told, events=COUNTS)
    assert found(disagreeing, replace(DELETED, certain=False)) == ("totals, events and metrics disagree",)


def test_a_policy_created_anew_counts_from_zero_and_keeps_its_namesakes_records() -> None:
    none = Counts(0, 0, 0)
    anew = replace(POLICY, uid="p2", totals=none, events=none, metrics=none)
    assert found(anew) == ()
    assert "totals say 0 = 0 + 0, but 1 ran, 0 of them well" in found(anew, runs=[*RUNS, run("5", policy="p2")])


def test_a_finalizer_that_is_left_is_found() -> None:
    metadata = {"name": "job-1", "finalizers": ["kubedr.catalogicsoftware.com/result"]}
    assert list(held([{"metadata": metadata}, {"metadata": {"name": "job-2"}}])) == [
        "Job job-1 still has the finalizer"
    ]


def write(at: float, replica: str, *, lease: bool = False, accepted: bool = True) -> Write:
    return Write(at, replica, "patch jobs x", lease, accepted)


def test_a_write_without_the_lease_is_found() -> None:
    handed_over = [write(1, "a", lease=True), write(2, "a"), write(3, "b", lease=True), write(4, "b")]
    assert list(usurped(handed_over)) == []
    assert list(usurped([*handed_over, write(5, "a", lease=True, accepted=False), write(6, "a")])) == [
        "a: patch jobs x, 2.000 s after b: patch jobs x, without the lease"
    ]


def test_the_table_marks_what_has_a_difference() -> None:
    rows = [compare(policy, RUNS, [], SNAPSHOTS) for policy in (POLICY, replace(POLICY, totals=Counts(2, 2, 0)))]
    head, good, bad, *differences = table(rows).splitlines()
    assert (head[0], good[0], bad[0], {line[0] for line in differences}) == (" ", " ", "!", {"!"})
    assert "3 = 2 + 1" in good
