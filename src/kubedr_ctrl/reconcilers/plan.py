"""What a reconciler may ask for. A Plan is data: deciding it does nothing, carrying it out is another's work.

Every action can be carried out twice without harm, so a controller that dies half-way begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from kubedr_ctrl.api.location import BackupLocationStatus
from kubedr_ctrl.api.meta import Condition, ConditionType, merge_conditions
from kubedr_ctrl.api.policy import MetadataBackupPolicyStatus
from kubedr_ctrl.api.record import MetadataBackupRecordStatus
from kubedr_ctrl.api.restore import MetadataRestoreStatus

AnyStatus: TypeAlias = (
    BackupLocationStatus | MetadataBackupPolicyStatus | MetadataBackupRecordStatus | MetadataRestoreStatus
)


@dataclass(frozen=True)
class ApplyCronJob:
    """Create the CronJob or bring it to what the manifest says."""

    manifest: Mapping[str, Any]
    afresh: bool = False
    """Whether none of ours was there. Somebody else's may be, as the original KubeDR's: applied onto it, the manifest
    would leave their containers beside ours."""


@dataclass(frozen=True)
class CreateJob:
    """Create the Job, unless one of that name is there."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class EndJob:
    """End a Job that cannot come to anything, and write on it why."""

    name: str
    uid: str
    diagnosis: str
    after: int
    """Seconds since the Job's start that become its deadline: a time that has passed."""


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job whose outcome is recorded."""

    name: str
    uid: str


@dataclass(frozen=True)
class DeleteRecord:
    """Delete a MetadataBackupRecord."""

    name: str
    uid: str


@dataclass(frozen=True)
class SetFinalizers:
    """Replace the finalizers of the object that is reconciled."""

    finalizers: tuple[str, ...]


@dataclass(frozen=True)
class SetStatus:
    """Write the status of the object that is reconciled."""

    status: AnyStatus


@dataclass(frozen=True)
class Announce:
    """Create an event on the object that is reconciled, once."""

    reason: str
    message: str
    identity: str = ""
    """What tells this occasion from another of the same reason."""
    failed: bool = True
    """Whether it tells of a failure."""


Action: TypeAlias = ApplyCronJob | CreateJob | EndJob | DeleteJob | DeleteRecord | SetFinalizers | SetStatus | Announce


@dataclass(frozen=True)
class Plan:
    """Actions in their order, and when to look again if nothing happens before."""

    actions: tuple[Action, ...] = ()
    look_again: float | None = None
    """Seconds."""


@dataclass(frozen=True)
class State:
    """What the conditions are to say; made by `ready`, `progressing` or `broken`."""

    ready: bool
    stalled: bool
    reason: str
    message: str


def ready(reason: str, message: str) -> State:
    """All is well."""
    return State(ready=True, stalled=False, reason=reason, message=message)


def progressing(reason: str, message: str) -> State:
    """Not yet, but on the way, or waiting for what may come by itself."""
    return State(ready=False, stalled=False, reason=reason, message=message)


def broken(reason: str, message: str) -> State:
    """Not well, and somebody has to do something."""
    return State(ready=False, stalled=True, reason=reason, message=message)


def conditions(
    current: tuple[Condition, ...], state: State, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions of kstatus that say `state`: Ready always, Reconciling or Stalled where it is so."""

    def condition(type_: ConditionType, *, status: bool) -> Condition:
        return Condition(
            type=type_,
            status=str(status),
            reason=state.reason,
            message=state.message,
            observed_generation=generation,
            last_transition_time=now.replace(microsecond=0),
        )

    wanted = [condition(ConditionType.READY, status=state.ready)]
    if not state.ready:
        type_ = ConditionType.STALLED if state.stalled else ConditionType.RECONCILING
        wanted.append(condition(type_, status=True))
    return merge_conditions(current, wanted, types=ConditionType)
