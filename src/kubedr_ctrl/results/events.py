"""Kubernetes events, created under a name of their own making, so that each is created once."""

from datetime import UTC, datetime
from typing import Any

from kubedr_ctrl.api.names import API_VERSION, APP, APP_LABEL, digest
from kubedr_ctrl.api.result import shorten
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.errors import AlreadyExists
from kubedr_ctrl.resources import EVENTS


class Events:
    """Creates events on our resources, in their namespace."""

    def __init__(self, client: Client, namespace: str, *, error_type: str = "Error") -> None:
        """`error_type` is the type of events that tell a failure: `Error`, or `Warning` for tools that know
        only Kubernetes' own two."""
        self._client = client
        self._namespace = namespace
        self._error_type = error_type

    async def create(
        self, kind: str, name: str, uid: str, *, reason: str, message: str, failed: bool, identity: str
    ) -> None:
        """Create the event unless one of the same `identity` and reason is there."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name[:200]}.{digest(identity, reason, length=16)}", "labels": {APP_LABEL: APP}},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "name": name,
                "namespace": self._namespace,
                "uid": uid,
            },
            "type": self._error_type if failed else "Normal",
            "reason": reason,
            "message": shorten(message.strip()),
            "source": {"component": APP},
            "reportingComponent": APP,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(EVENTS, self._namespace, event)
        except AlreadyExists:
            return
