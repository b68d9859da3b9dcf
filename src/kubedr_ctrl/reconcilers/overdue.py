"""When the next good backup is due, and the likeliest cause if it is not there in time.

Due is the first time of the schedule after the last good backup, or after the present schedule came into force if
that is later: a policy that is new, edited or taken up again is given the time until then. A backup has its timeout
and some slack to come in; from then on it is overdue, until a good one is there or the schedule changes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.meta import Condition, find_condition, merge_conditions
from kubedr_ctrl.api.names import cronjob_name
from kubedr_ctrl.api.policy import OVERDUE, ActiveSchedule, MetadataBackupPolicy, MetadataBackupPolicyStatus
from kubedr_ctrl.api.result import Outcome
from kubedr_ctrl.api.schedule import parse_schedule
from kubedr_ctrl.jobs.template import DEADLINE_SLACK
from kubedr_ctrl.kube.objects import CronJob
from kubedr_ctrl.reconcilers.jobs import JobsOf
from kubedr_ctrl.reconcilers.plan import Announce

SLACK = timedelta(seconds=DEADLINE_SLACK + 60)
"""Beyond the backup's timeout: a Job may run that much longer, and takes a moment to be recorded."""


@dataclass(frozen=True)
class Due:
    """Where a policy stands with its schedule."""

    active: ActiveSchedule | None
    """None while the policy is suspended, or has a schedule that makes no sense."""
    time: datetime | None
    """When the next good backup is due; None if never."""
    deadline: datetime | None
    """When it is overdue."""


def find_due(policy: MetadataBackupPolicy, now: datetime) -> Due:
    """Return where `policy` stands."""
    spec, status = policy.spec, policy.status
    active = None if spec.suspend else _active(policy, now)
    if active is None:
        return Due(None, None, None)
    last = status.last_successful_backup
    since = max(active.since, last.time) if last else active.since
    time = parse_schedule(spec.schedule, spec.time_zone).next(since)
    deadline = time + timedelta(seconds=spec.timeout_seconds) + SLACK if time else None
    return Due(active, time, deadline)


def _active(policy: MetadataBackupPolicy, now: datetime) -> ActiveSchedule | None:
    spec, before = policy.spec, policy.status.active_schedule
    try:
        parse_schedule(spec.schedule, spec.time_zone)
    except ValueError:
        return None
    if before and (before.schedule, before.time_zone or "") == (spec.schedule, spec.time_zone):
        return before
    return ActiveSchedule(schedule=spec.schedule, time_zone=spec.time_zone or None, since=now.replace(microsecond=0))


def find_cause(
    policy: MetadataBackupPolicy,
    location: BackupLocation | None,
    cronjob: CronJob | None,
    backups: JobsOf,
    now: datetime,
) -> tuple[str, str]:
    """Return the likeliest cause of there being no good backup: a word for machines, and words that help."""
    name = cronjob_name(policy.metadata.name)
    if location is None or not location.status.initialized:
        return "LocationNotReady", f"BackupLocation {policy.spec.destination!r} is missing or not initialized"
    if cronjob is None:
        return "CronJobMissing", f"CronJob {name} is not there"
    if cronjob.spec.suspend:
        return "CronJobSuspended", (
            f"CronJob {name} is suspended, though the policy is not; to go on: kubectl patch cronjob {name} "
            '-p \'{"spec": {"suspend": false}}\''
        )
    for _, stuck in backups.stuck(now):
        return stuck.reason, f"a backup cannot start: {stuck.advice}"
    if backups.running:
        return "BackupRunning", f"Job {backups.running[-1].metadata.name} still runs"
    if policy.status.backup_status is Outcome.FAILED:
        return "BackupsFail", f"the latest backup failed: {policy.status.backup_error_message}"
    return "NoJob", (
        f"CronJob {name} has started no Job: kube-controller-manager may be down, or a quota or an admission policy "
        f"forbids it; 'kubectl describe cronjob {name}' may say which"
    )


def tell_overdue(
    status: MetadataBackupPolicyStatus, due: Due, cause: tuple[str, str], *, generation: int, now: datetime
) -> tuple[MetadataBackupPolicyStatus, tuple[Announce, ...]]:
    """Return `status` with what it says of the schedule, and the event of a change between overdue and not."""
    current = find_condition(status.conditions, OVERDUE)
    was = current is not None and current.status == "True"
    reason, message, late = "NotDue", "No backup is due, as the schedule is paused or never comes", False
    if due.time and due.deadline:
        late = now >= due.deadline
        reason, message = "InTime", f"The next good backup is due at {_iso(due.time)}"
        if late:
            reason, message = cause[0], f"A good backup has been due since {_iso(due.time)}; {cause[1]}"
    condition = Condition(
        type=OVERDUE,
        status=str(late),
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0),
    )
    update = {
        "active_schedule": due.active,
        "next_due": due.time,
        "conditions": merge_conditions(status.conditions, (condition,), types=(OVERDUE,)),
    }
    events: tuple[Announce, ...] = ()
    if late and not was:
        events = (Announce("BackupOverdue", message, identity=_iso(due.time)),)
    elif was and not late and current is not None:
        ended = f"Backups are no longer overdue. {message}"
        events = (Announce("BackupInTime", ended, identity=_iso(current.last_transition_time), failed=False),)
    return status.model_copy(update=update), events


def _iso(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
