"""What all four kinds have in common: metadata, conditions, points in time."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from kubedr_ctrl.api.base import Model

Time = Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time"})]


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


class ObjectMeta(Model):
    """The part of Kubernetes' metadata that the controller looks at."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    annotations: Annotated[dict[str, str], BeforeValidator(_none_is_empty)] = {}
    labels: Annotated[dict[str, str], BeforeValidator(_none_is_empty)] = {}


class ConditionType(StrEnum):
    """The condition types of kstatus, which Flux, Argo CD and `kubectl wait` understand."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(Model):
    """One aspect of a resource's state, as in Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    reason: Annotated[str, Field(max_length=1024)]
    message: Annotated[str, Field(max_length=32768)] = ""
    observed_generation: int | None = None
    last_transition_time: Time


def merge_conditions(
    current: Iterable[Condition], wanted: Iterable[Condition], *, types: Iterable[str]
) -> tuple[Condition, ...]:
    """Return `wanted`, which people are to read first, and those of `current` that are not of `types`.

    A condition whose status stays as it was keeps its `lastTransitionTime`; of `types`, what is not wanted
    goes away.
    """
    before = {condition.type: condition for condition in current}
    owned = set(types)
    merged = []
    for condition in wanted:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status
        time = old.last_transition_time if old is not None and same else condition.last_transition_time
        merged.append(condition.model_copy(update={"last_transition_time": time}))
    return (*merged, *(condition for condition in before.values() if condition.type not in owned))


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """Return the condition of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)


def read_conditions(document: bytes) -> tuple[Condition, ...]:
    """Return the conditions in the JSON of an object of which nothing else need make sense."""
    try:
        return tuple(map(Condition.model_validate, json.loads(document)["status"]["conditions"]))
    except (ValueError, LookupError, TypeError):
        return ()


def ctime(moment: datetime) -> str:
    """Return `moment` as C's ctime writes it, in UTC: `Thu Jan 30 16:02:53 2020`."""
    return moment.astimezone(UTC).ctime()


def parse_ctime(text: str | None) -> datetime | None:
    """Return the moment that `ctime` wrote, or None where the text is none."""
    try:
        return datetime.strptime(text or "", "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return None


class RecordedJob(Model):
    """A Job whose outcome a status has taken in, until the Job itself says so too."""

    name: str
    uid: str
