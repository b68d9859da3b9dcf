"""BackupLocation: initialise the repository, and try again until it is; forget what records let go of."""

from dataclasses import dataclass, replace
from datetime import datetime

from kubedr_ctrl.api.location import BackupLocation, BackupLocationStatus, InitStatus
from kubedr_ctrl.api.meta import find_condition, parse_ctime
from kubedr_ctrl.api.names import LOCATION_FINALIZER, RECORDED_ANNOTATION
from kubedr_ctrl.api.result import Outcome
from kubedr_ctrl.jobs.forget import forget_job
from kubedr_ctrl.jobs.init import init_job
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.reconcilers.jobs import JobsOf, clean_up, end_stuck, forgotten, next_look
from kubedr_ctrl.reconcilers.plan import (
    Action,
    CreateJob,
    Plan,
    SetFinalizers,
    SetStatus,
    State,
    broken,
    conditions,
    progressing,
    ready,
)

FORGET_BATCH = 100
"""Snapshots that one Job forgets at most."""
FORGET_RETRY = 300.0
"""Seconds before forgetting is tried again after it failed."""
FIRST_RETRY = 10.0
LAST_RETRY = 300.0
"""Seconds between tries: as long as it has been failing already, between these two."""

_EXISTS = ("already initialized", "already exists")
"""What restic says of a repository that is there already."""


@dataclass(frozen=True)
class LocationObserved:
    """A location and what bears on it."""

    location: BackupLocation
    setup: WorkerSetup
    init: JobsOf = JobsOf()
    forget: JobsOf = JobsOf()
    policies: tuple[str, ...] = ()
    """Names of the policies whose destination it is."""
    expired: tuple[str, ...] = ()
    """IDs of the snapshots whose records are being deleted."""
    rejection: str = ""
    """What the API server said when it refused a plan made of the same observation."""


def reconcile(observed: LocationObserved, now: datetime) -> Plan:
    """Decide what is to be done for a BackupLocation."""
    location = observed.location
    if location.metadata.deletion_timestamp is not None:
        return _deleting(observed, now)
    actions: list[Action] = []
    if LOCATION_FINALIZER not in location.metadata.finalizers:
        actions.append(SetFinalizers((*location.metadata.finalizers, LOCATION_FINALIZER)))
    status = location.status
    wait = next_look(observed.init, now)
    if status.initialized:
        status = replace_status(status, observed_generation=location.metadata.generation)
    elif not observed.init.unrecorded:
        delay = _delay(location, now)
        if delay <= 0:
            attempt = f"{location.metadata.generation} {status.init_time}"
            actions.append(CreateJob(init_job(location, observed.setup, attempt=attempt)))
            tried = status.init_status in (InitStatus.INITIALIZING, InitStatus.FAILED)
            if not tried or status.observed_generation != location.metadata.generation:
                status = replace_status(status, init_status=InitStatus.INITIALIZING)
            status = replace_status(status, observed_generation=location.metadata.generation)
        else:
            wait = delay
    if observed.rejection:
        actions = [action for action in actions if not isinstance(action, CreateJob)]
        wait = LAST_RETRY
    forget, forget_wait = _forget(observed, now)
    wait = min((w for w in (wait, forget_wait) if w is not None), default=None)
    actions += forget
    actions += end_stuck(observed.init, now)
    actions += clean_up(observed.init, keep=1)
    actions += _status(observed, status, _state(observed, status, now), now)
    return Plan(tuple(actions), wait)


def replace_status(status: BackupLocationStatus, **changes: object) -> BackupLocationStatus:
    """Return `status` with `changes`."""
    return status.model_copy(update=changes)


def _delay(location: BackupLocation, now: datetime) -> float:
    """Return in how many seconds the next try is due; at once for a spec that has not been tried."""
    last = parse_ctime(location.status.init_time)
    if last is None or location.status.observed_generation != location.metadata.generation:
        return 0.0
    failing = find_condition(location.status.conditions, "Ready")
    failing_for = (last - failing.last_transition_time).total_seconds() if failing else 0.0
    return min(max(failing_for, FIRST_RETRY), LAST_RETRY) - (now - last).total_seconds()


def _forget(observed: LocationObserved, now: datetime) -> tuple[list[Action], float | None]:
    """Return the Job that forgets all expired snapshots at once, unless one runs or has just failed."""
    jobs = observed.forget
    done: list[Action] = [*end_stuck(jobs, now), *clean_up(jobs, keep=1)]
    pending = [snapshot for snapshot in observed.expired if snapshot not in forgotten(jobs)][:FORGET_BATCH]
    if not pending or jobs.unrecorded or observed.rejection:
        return done, next_look(jobs, now)
    last = jobs.jobs[-1] if jobs.jobs else None
    if last is not None and last.metadata.annotations[RECORDED_ANNOTATION] == Outcome.FAILED:
        ended = last.ended.last_transition_time if last.ended else None
        wait = FORGET_RETRY - (now - (ended or now)).total_seconds()
        if wait > 0:
            return done, wait
    attempt = last.metadata.uid if last else ""
    return [*done, CreateJob(forget_job(observed.location, pending, observed.setup, attempt=attempt))], None


def _state(observed: LocationObserved, status: BackupLocationStatus, now: datetime) -> State:
    spec = observed.location.spec
    if status.initialized:
        return ready("InitSucceeded", f"Repo at {spec.repository.address} is initialized")
    if observed.rejection:
        return broken(
            "JobRejected", f"The API server refuses the init Job; correct what it names: {observed.rejection}"
        )
    for _, stuck in observed.init.stuck(now):
        return broken(stuck.reason, f"The repository cannot be initialized: {stuck.advice}")
    if status.init_status is InitStatus.FAILED:
        return broken("InitFailed", _advise(status.init_error_message or ""))
    return progressing("Initializing", f"Initializing the repo at {spec.repository.address}")


def _advise(error: str) -> str:
    """Return what init said, and what to do; the status itself keeps restic's own words."""
    if any(words in error for words in _EXISTS):
        remedy = "If it is yours, set spec.existingRepository to Adopt; if not, create a location with another prefix"
    else:
        remedy = f"It is tried again at least every {LAST_RETRY / 60:.0f} minutes: correct what is named here"
    return f"{error.strip().rstrip('.')}. {remedy}"


def _deleting(observed: LocationObserved, now: datetime) -> Plan:
    location = observed.location
    if not observed.policies:
        finalizers = tuple(name for name in location.metadata.finalizers if name != LOCATION_FINALIZER)
        return Plan((SetFinalizers(finalizers),) if finalizers != location.metadata.finalizers else ())
    names = ", ".join(sorted(observed.policies))
    message = (
        f"Deletion waits, as policies still back up to this location: {names}. Delete them or change their "
        "spec.destination; the data in the bucket stays either way"
    )
    status = replace_status(location.status, observed_generation=location.metadata.generation)
    return Plan(tuple(_status(observed, status, broken("DeletionBlocked", message), now)))


def _status(observed: LocationObserved, status: BackupLocationStatus, state: State, now: datetime) -> list[Action]:
    meta = observed.location.metadata
    merged = conditions(status.conditions, state, generation=meta.generation, now=now)
    status = replace_status(status, conditions=merged)
    return [SetStatus(status)] if status != observed.location.status else []


def rejected(observed: LocationObserved, message: str, now: datetime) -> Plan:
    """Decide anew, knowing that the API server refused the previous plan."""
    return reconcile(replace(observed, rejection=message), now)
