"""What the worker reports: one JSON document, the last thing its pod says.

It is written to the container's termination message, of which the kubelet keeps 4,096 bytes; a Result is
at most `MAX_RESULT_BYTES`. `Result.decode` is how the controller reads it back.
"""

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Literal, Self

from kubedr_ctrl.api.base import Model

MAX_RESULT_BYTES = 2000
MAX_MESSAGE_BYTES = 1024


class Operation(StrEnum):
    """What a Job does."""

    INIT = "init"
    BACKUP = "backup"
    RESTORE = "restore"
    FORGET = "forget"


class Outcome(StrEnum):
    """How an operation ended, in the words of the resources' status."""

    COMPLETED = "Completed"
    FAILED = "Failed"


class Reason(StrEnum):
    """Why an operation ended as it did; stable, for machines. People read `Result.message`."""

    COMPLETED = "Completed"
    # said by the worker
    RESTIC_FAILED = "ResticFailed"
    SOURCE_UNREADABLE = "SourceUnreadable"
    REPOSITORY_NOT_FOUND = "RepositoryNotFound"
    REPOSITORY_LOCKED = "RepositoryLocked"
    REPOSITORY_EXISTS = "RepositoryExists"
    WRONG_PASSWORD = "WrongPassword"  # noqa: S105 - a reason, not a password
    S3_UNREACHABLE = "S3Unreachable"
    S3_ACCESS_DENIED = "S3AccessDenied"
    BUCKET_NOT_FOUND = "BucketNotFound"
    ETCD_UNREACHABLE = "EtcdUnreachable"
    ETCD_CERTIFICATE_REFUSED = "EtcdCertificateRefused"
    SNAPSHOT_CORRUPT = "SnapshotCorrupt"
    TIMED_OUT = "TimedOut"
    TERMINATED = "Terminated"
    WORKER_ERROR = "WorkerError"
    # concluded by the controller, of a worker that said nothing
    OUT_OF_MEMORY = "OOMKilled"
    EVICTED = "Evicted"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    CONFIGURATION_MISSING = "ConfigurationMissing"
    UNSCHEDULABLE = "Unschedulable"
    VOLUMES_NOT_READY = "VolumesNotReady"
    POD_NOT_CREATED = "PodNotCreated"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    JOB_DELETED = "JobDeleted"
    NO_REPORT = "NoReport"


class ExitCode(IntEnum):
    """How the worker's process ends, so that the Job knows whether another pod may do better."""

    COMPLETED = 0
    FAILED = 1
    """It would fail again."""
    RETRY = 75
    """It may go better later: EX_TEMPFAIL of sysexits.h."""


MENDABLE = frozenset({Reason.S3_UNREACHABLE, Reason.ETCD_UNREACHABLE, Reason.REPOSITORY_LOCKED, Reason.TERMINATED})
"""Reasons that may be gone when the operation is tried again."""


class Snapshot(Model):
    """What restic says of a backup it completed."""

    id: str
    """The first 8 characters of the snapshot's ID."""
    files_new: int
    files_changed: int
    data_added: int
    """Bytes added to the repository."""
    total_bytes_processed: int
    total_duration_secs: str
    """Seconds, as restic writes them: `0.318463127`."""


class Etcd(Model):
    """What was known of etcd as its snapshot began."""

    revision: int
    keys: int


class Result(Model):
    """How one run of the worker ended."""

    version: Literal[1] = 1
    operation: Operation
    outcome: Outcome
    reason: Reason
    message: str = ""
    """Empty on success; otherwise what went wrong, in words that may be shown to anybody."""
    started: datetime
    finished: datetime
    snapshot: Snapshot | None = None
    etcd: Etcd | None = None
    certificates: tuple[str, ...] = ()
    """Names of the certificates saved, the first few of them."""
    certificate_count: int = 0
    repository_id: str | None = None
    peak_rss_bytes: int = 0

    @property
    def completed(self) -> bool:
        """Whether the operation did all that it was asked for."""
        return self.outcome is Outcome.COMPLETED

    @property
    def exit_code(self) -> ExitCode:
        """How the worker's process ends with this Result."""
        if self.completed:
            return ExitCode.COMPLETED
        return ExitCode.RETRY if self.reason in MENDABLE else ExitCode.FAILED

    def encode(self) -> str:
        """Return the JSON text of the Result, at most `MAX_RESULT_BYTES` when encoded as UTF-8.

        What does not fit is given up in this order: names of certificates, then the middle of the message.
        """
        for certificates in (self.certificates, self.certificates[:5], ()):
            text = self._json(self.message, certificates)
            if len(text.encode()) <= MAX_RESULT_BYTES:
                return text
        limit = MAX_MESSAGE_BYTES
        while len(text.encode()) > MAX_RESULT_BYTES:
            text = self._json(shorten(self.message, limit), ())
            limit -= 64
        return text

    def _json(self, message: str, certificates: tuple[str, ...]) -> str:
        update = {"message": message, "certificates": certificates}
        return self.model_copy(update=update).model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def decode(cls, text: str) -> Self | None:
        """Return the Result in a termination message, or None where the message is no Result."""
        try:
            return cls.model_validate_json(text)
        except ValueError:
            return None


def shorten(message: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    """Return `message` in at most `limit` bytes of UTF-8, cut in the middle so that both ends are kept."""
    encoded = message.encode()
    if len(encoded) <= limit:
        return message
    gap = " … "
    room = limit - len(gap.encode())
    head, tail = encoded[: (room + 1) // 2], encoded[len(encoded) - room // 2 :]
    return head.decode(errors="ignore") + gap + tail.decode(errors="ignore")
