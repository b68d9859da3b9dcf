"""What the controller tells of the backups, held against what happened: plain data in, differences out.

A Job is one backup, however many pods it took, and succeeded if one of them did. Two things leave open how it is told,
but not whether: a Job deleted before it ended may be told as deleted while its worker still comes to an end; a pod
deleted before its report was written on the Job takes that report with it.

A Job that is deleted before it has the controller's finalizer is not counted: nothing is left to count it by.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubedr_ctrl.api.names import JOB_FINALIZER
from kubedr_ctrl.api.result import Operation, Outcome


class Counts(NamedTuple):
    """A number of backups."""

    backups: int
    successful: int
    failed: int

    def __str__(self) -> str:
        return f"{self.backups} = {self.successful} + {self.failed}"


@dataclass(frozen=True)
class Run:
    """A worker that ran."""

    job: str
    """The Job's UID, as everywhere here."""
    job_name: str
    owner: str
    owner_uid: str
    operation: str
    outcome: str
    """Empty where the worker was killed."""
    snapshot: str
    finished: str
    """When it ended, in ISO 8601, to the second."""

    @property
    def succeeded(self) -> bool:
        return self.outcome == Outcome.COMPLETED


@dataclass(frozen=True)
class Deletion:
    """A Job, or a pod of it, that was deleted by hand."""

    job: str
    owner_uid: str
    counted: bool
    """Whether the Job had the controller's finalizer, or had been recorded."""
    certain: bool
    """Whether nothing could change its outcome any more."""


@dataclass(frozen=True)
class Write:
    """A write that a replica sent to the API server."""

    at: float
    replica: str
    what: str
    lease: bool
    accepted: bool


@dataclass(frozen=True)
class Policy:
    """What is told of a policy, by whom."""

    name: str
    uid: str
    retain: int
    totals: Counts
    events: Counts
    metrics: Counts
    records: frozenset[str]
    """The snapshots of its records that are not being deleted."""


@dataclass(frozen=True)
class Row:
    """A policy and what does not fit."""

    policy: Policy
    ran: int
    good: str
    """How many of them succeeded; a range where it is open how they are told."""
    differences: tuple[str, ...]


def compare(policy: Policy, runs: Iterable[Run], deletions: Iterable[Deletion], snapshots: frozenset[str]) -> Row:
    """Hold what is told of a policy against what happened; `snapshots` are those in the repositories."""
    namesakes = [run for run in runs if run.operation == Operation.BACKUP and run.owner == policy.name]
    mine = [run for run in namesakes if run.owner_uid == policy.uid]
    deleted = [deletion for deletion in deletions if deletion.owner_uid == policy.uid]
    jobs = {run.job for run in mine} | {deletion.job for deletion in deleted}
    jobs -= {deletion.job for deletion in deleted if not deletion.counted}
    possible = {run.job for run in mine if run.succeeded} & jobs
    certain = possible - {deletion.job for deletion in deleted if not deletion.certain}

    def differences() -> Iterator[str]:
        for teller in ("totals", "events", "metrics"):
            told: Counts = getattr(policy, teller)
            good = told.successful
            if told != (len(jobs), good, len(jobs) - good) or not len(certain) <= good <= len(possible):
                yield f"{teller} say {told}, but {len(jobs)} ran, {_range(certain, possible)} of them well"
        if not policy.totals == policy.events == policy.metrics:
            yield "totals, events and metrics disagree"
        for run in mine:
            newer = sum(other.succeeded and other.finished >= run.finished for other in namesakes) - 1
            if run.succeeded and run.job in certain and newer < policy.retain and run.snapshot not in policy.records:
                yield f"no record of {run.snapshot}, Job {run.job_name}"
        for snapshot in sorted(policy.records - {run.snapshot for run in namesakes if run.succeeded}):
            yield f"record of {snapshot}, which nobody made"
        for snapshot in sorted(policy.records - snapshots):
            yield f"record of {snapshot}, which is not in the repository"
        if len(policy.records) > policy.retain:
            yield f"{len(policy.records)} records, {policy.retain} are to be kept"

    return Row(policy, len(jobs), _range(certain, possible), tuple(differences()))


def held(jobs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Name the Jobs that still have the controller's finalizer."""
    for job in jobs:
        if JOB_FINALIZER in job["metadata"].get("finalizers", ()):
            yield f"Job {job['metadata']['name']} still has the finalizer"


def usurped(writes: Iterable[Write]) -> Iterator[str]:
    """Yield what a replica wrote after another had, without having taken the lease in between."""
    renewed: dict[str, float] = {}
    last: Write | None = None
    for write in sorted(writes, key=lambda write: write.at):
        if write.lease:
            if write.accepted:
                renewed[write.replica] = write.at
            continue
        if last and last.replica != write.replica and renewed.get(write.replica, 0.0) < last.at:
            since = write.at - last.at
            yield f"{write.replica}: {write.what}, {since:.3f} s after {last.replica}: {last.what}, without the lease"
        last = write


def table(rows: Iterable[Row]) -> str:
    """Return the rows for people to read, a difference a line below its policy."""
    lines = [_line(" ", "policy", "uid", "ran", "good", "totals", "events", "metrics", "records")]
    for row in rows:
        policy = row.policy
        lines.append(
            _line(
                *("!" if row.differences else " ", policy.name, policy.uid[:8], row.ran, row.good),
                *(policy.totals, policy.events, policy.metrics, len(policy.records)),
            )
        )
        lines += [f"!   {difference}" for difference in row.differences]
    return "\n".join(lines)


def _line(*cells: object) -> str:
    return "{} {:<10} {:<9} {:>4} {:>7}   {:<15} {:<15} {:<15} {}".format(*map(str, cells))


def _range(certain: set[str], possible: set[str]) -> str:
    least, most = len(certain), len(possible)
    return f"{least}" if least == most else f"{least}..{most}"
