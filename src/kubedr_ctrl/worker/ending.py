"""How an operation says that it failed, and what a completed one has to tell."""

from dataclasses import dataclass

from kubedr_ctrl.api.result import Etcd, Reason, Snapshot


class Failure(Exception):
    """The operation ends as Failed, for this reason, with this message for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Report:
    """What a completed operation found; the fields of `Result` of the same names."""

    snapshot: Snapshot | None = None
    etcd: Etcd | None = None
    certificates: tuple[str, ...] = ()
    certificate_count: int = 0
    repository_id: str | None = None
