"""Leader election by a Lease: of several replicas, one at a time may write.

- Time is measured by each process's own monotonic clock; what another's clock says is never believed. A lease
  that is held is free once its record has not changed for as long as it says, as seen from here.
- A lease that is deleted under its holder counts as held for its time, for those who had seen it.
- The leader counts itself as such for two thirds of the lease, from before the renewal was sent. What is in flight
  by then has the last third to end, before another may lead.
- A process that was stopped, and wakes up after its time, does not lead: whoever writes asks `leads` first.
- The same identity takes its own lease over at once: it is a container that was restarted in its pod.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    NotFound,
    NotLeading,
    ServerError,
    TooManyRequests,
    Undecodable,
    Unreachable,
)
from kubedr_ctrl.kube.objects import ObjectMeta

log = logging.getLogger(__name__)


class LeaseSpec(msgspec.Struct, rename="camel", frozen=True):
    """Kubernetes' coordination.k8s.io/v1 LeaseSpec."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(msgspec.Struct, frozen=True):
    """Kubernetes' coordination.k8s.io/v1 Lease."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", msgspec.json.Decoder(Lease).decode)


LOOK_EVERY = 1.5
"""Seconds between two looks at the lease, at most: a tenth of its duration where that is less."""
LEAVE = 1.0
"""Seconds that releasing the lease may take."""
WEDGED = 300.0
"""Seconds without a step after which the election counts as wedged."""


class LeaderElection:
    """One candidate. `acquire`, then `hold` until it returns, then `acquire` again; `release` in the end."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: int = 15,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`duration` is the lease's, in seconds. `client` should be used for nothing else, lest renewals queue."""
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._clock = clock
        self._seen = LeaseSpec()
        self._seen_at = float("-inf")
        self._version = ""
        self._leads_until = float("-inf")
        self._stepped_at = float("inf")
        self._complaint = ""
        self._wrote = False

    @property
    def leads(self) -> bool:
        """Whether this process may write."""
        return self._clock() < self._leads_until

    def require(self) -> None:
        """Raise NotLeading unless this process may write."""
        if not self.leads:
            msg = "the lease has run out, or is another's"
            raise NotLeading(msg)

    async def acquire(self) -> None:
        """Return as soon as this process leads."""
        waiting = ""
        while True:
            try:
                leads = await self._try()
            except (ApiError, Unreachable, Undecodable) as error:
                self._complain(error)
            else:
                self._complaint = ""
                if leads:
                    log.info("%s leads", self._identity)
                    return
                if self._seen.holder_identity != waiting:
                    waiting = self._seen.holder_identity
                    log.info("%s stands by, as %s leads", self._identity, waiting or "nobody")
            await self._pause()

    async def hold(self) -> None:
        """Renew the lease until this process no longer leads."""
        while True:
            await self._pause()
            try:
                # Until then a try is worth its while; what comes afterwards comes too late.
                async with asyncio.timeout(max(0.0, self._leads_until - self._clock())):
                    if not self.leads or not await self._try():
                        break
                    self._complaint = ""
            except (ApiError, Unreachable, Undecodable, TimeoutError) as error:
                self._complain(error)
        self._leads_until = float("-inf")
        ours = self._seen.holder_identity == self._identity
        why = "the lease could not be renewed in time" if ours else f"{self._seen.holder_identity or 'nobody'} does"
        log.warning("%s no longer leads: %s", self._identity, why)

    async def release(self) -> None:
        """Let the next one lead at once, if the lease is, or may be, ours; who calls has ended all that writes."""
        self._leads_until = float("-inf")
        if not self._wrote:
            return
        try:
            async with asyncio.timeout(LEAVE):
                await self._look()  # a write of ours may have been carried out although it was cancelled
                if self._seen.holder_identity == self._identity:
                    await self._write(LeaseSpec("", 1, _now(), self._seen.lease_transitions))
        except (ApiError, Unreachable, Undecodable, TimeoutError) as error:
            words = str(error) or f"no answer within {LEAVE:.0f} s"
            log.warning("the lease %s could not be released, the next leads when it runs out: %s", self._name, words)

    def wedged(self) -> str:
        """Return in words that the election hangs; empty while it does not."""
        still = self._clock() - self._stepped_at
        return f"the lease has been let alone for {still:.0f} s" if still > WEDGED else ""

    @property
    def _held_by_another(self) -> bool:
        if self._seen.holder_identity in ("", self._identity):
            return False
        return self._clock() < self._seen_at + self._seen.lease_duration_seconds

    async def _try(self) -> bool:
        """Take or renew the lease if it is ours, free or run out; return whether this process leads."""
        if not self.leads:
            await self._look()
            if self._held_by_another:
                return False
        try:
            await self._lead_from_now()
        except (Conflict, NotFound):
            # Another was faster, or an earlier try of ours was carried out though its answer was lost.
            await self._look()
            if self._held_by_another:
                return False
            await self._lead_from_now()
        return True

    async def _lead_from_now(self) -> None:
        changes = self._seen.holder_identity != self._identity
        asked = self._clock()
        self._wrote = True
        await self._write(LeaseSpec(self._identity, self._duration, _now(), self._seen.lease_transitions + changes))
        self._leads_until = asked + self._duration * 2 / 3

    async def _look(self) -> None:
        """Read the lease; one that does not exist is created, held by nobody, once the last holder's time is over."""
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            if self._held_by_another:
                return
            manifest = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self._name},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            }
            try:
                lease = await self._client.create(LEASES, self._namespace, manifest)
            except AlreadyExists:
                lease = await self._client.get(LEASES, self._namespace, self._name)
        self._take(lease)

    async def _write(self, spec: LeaseSpec) -> None:
        patch = {"metadata": {"resourceVersion": self._version}, "spec": msgspec.to_builtins(spec)}
        self._take(await self._client.patch(LEASES, self._namespace, self._name, patch))

    def _take(self, lease: Lease) -> None:
        if lease.spec != self._seen:
            self._seen, self._seen_at = lease.spec, self._clock()
        self._version = lease.metadata.resource_version

    async def _pause(self) -> None:
        self._stepped_at = self._clock()
        await asyncio.sleep(min(self._duration / 10, LOOK_EVERY) * random.uniform(0.8, 1.0))

    def _complain(self, error: Exception) -> None:
        """Say what is wrong, once; that the server is in trouble is said by the client."""
        if isinstance(error, Unreachable | ServerError | TooManyRequests | TimeoutError):
            return
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("the lease %s cannot be read or written; trying again: %s", self._name, error)


def _now() -> str:
    """Return the time as Kubernetes' MicroTime, for people to read."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
