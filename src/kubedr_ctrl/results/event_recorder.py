"""The consumer that tells results as Kubernetes events, in the words of the user guide."""

from kubedr_ctrl.api.names import REPOSITORY_ANNOTATION, SNAPSHOTS_ANNOTATION
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.resources import LOCATIONS, POLICIES, RESTORES
from kubedr_ctrl.results.events import Events
from kubedr_ctrl.results.harvest import Harvest, JobKey
from kubedr_ctrl.results.source import ResultSource

KINDS = {
    Operation.INIT: LOCATIONS.kind,
    Operation.BACKUP: POLICIES.kind,
    Operation.RESTORE: RESTORES.kind,
    Operation.FORGET: LOCATIONS.kind,
}


class EventRecorder:
    """Step 5 of the protocol."""

    name = "event-recorder"

    def __init__(self, source: ResultSource, events: Events) -> None:
        self._source = source
        self._events = events

    async def consume(self, key: JobKey) -> None:
        """Create the event of `key`, once."""
        harvest = await self._source.harvest(key)
        if harvest is None:
            return
        await self._events.create(
            KINDS[key.operation],
            key.owner,
            key.owner_uid,
            reason=f"{key.operation.capitalize()}{'Succeeded' if harvest.result.completed else 'Failed'}",
            message=message_of(key.operation, harvest),
            failed=not harvest.result.completed,
            identity=key.uid,
        )


def message_of(operation: Operation, harvest: Harvest) -> str:
    """Return what the event says."""
    result = harvest.result
    if not result.completed:
        return result.message
    snapshots = harvest.about.get(SNAPSHOTS_ANNOTATION, "").replace(",", ", ")
    match operation:
        case Operation.INIT:
            return f"Repo at {harvest.about.get(REPOSITORY_ANNOTATION)} is successfully initialized"
        case Operation.BACKUP:
            return f"Backup completed, snapshot ID: {result.snapshot.id if result.snapshot else 'unknown'}"
        case Operation.RESTORE:
            return f"Restore from snapshot {snapshots} completed"
        case Operation.FORGET:
            return f"Removed from the repository: {snapshots}"
