"""The controller, wired: the file to read first.

    API server ──watch──► Informer ──► Store ──► WorkQueue ──► reconcile() ──► Plan ──► API writes
                             │                                  (pure)
                             └─ Jobs that ended ─► ResultChannel ─┬► StatusWriter
                                                                  ├► EventRecorder
                                                                  └► Exporter

Informers (`Caches`) keep stores equal to what the API server has, in every replica. The replica that holds the
Lease runs `Controllers`: a change adds the name of each resource that it bears on to that kind's queue; a worker
takes the name, observes the stores, decides, and carries out the plan. A Job that has ended goes to the result
channel, which marks it as recorded once status, event and metric say so.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from kubedr_ctrl import __version__
from kubedr_ctrl.api.names import APP, LEASE
from kubedr_ctrl.caches import Caches
from kubedr_ctrl.controllers import Controllers
from kubedr_ctrl.http import serve
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.certificate import CertificateError, ServingCertificate
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.credentials import Credentials, CredentialsError, load_credentials, pod_namespace
from kubedr_ctrl.kube.errors import ApiError, ServerError, TooManyRequests, Undecodable, Unreachable
from kubedr_ctrl.kube.lease import LeaderElection
from kubedr_ctrl.kube.outage import Outage
from kubedr_ctrl.kube.review import Reviewer
from kubedr_ctrl.logs import set_up_logging
from kubedr_ctrl.resources import NAMESPACES, PODS
from kubedr_ctrl.results.event_recorder import EventRecorder
from kubedr_ctrl.results.events import Events
from kubedr_ctrl.results.exporter import Exporter
from kubedr_ctrl.results.metrics import CONTENT_TYPE, Metrics
from kubedr_ctrl.results.source import ResultSource
from kubedr_ctrl.results.status_writer import StatusWriter
from kubedr_ctrl.settings import Settings, load_settings
from kubedr_ctrl.telemetry import Telemetry

log = logging.getLogger(__name__)

V = TypeVar("V")

DRAIN = 3.0
"""Seconds that work in progress has to end when the controller is stopped."""


class App:
    """All parts of the controller for one namespace. `run` them until `stop`."""

    def __init__(self, credentials: Credentials, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._telemetry = Telemetry(self._metrics)
        outage = Outage(credentials.server)
        client = self._client = self._connection(credentials, outage)
        self._lease_client = self._connection(credentials, outage)
        self._review_client = self._connection(credentials, outage)  # those who stand by ask as well
        self._election = LeaderElection(
            self._lease_client,
            settings.namespace,
            LEASE,
            settings.pod_name or f"{socket.gethostname()}_{uuid4()}",
            duration=settings.lease_duration_seconds,
        )
        client.before_write = self._election.require
        self._guard = Reviewer(self._review_client, "/metrics").refusal if settings.metrics_authentication else None
        directory = settings.metrics_tls_directory
        self._tls = ServingCertificate(directory).context if directory else None

        self.caches = Caches(client, settings.namespace)
        self._source = ResultSource(client, settings.namespace)
        self._events = Events(client, settings.namespace, error_type=settings.event_error_type)
        self._exporter = Exporter(self._metrics, self._source, self.caches.policies, self.caches.locations)
        self._consumers = (
            StatusWriter(client, self._source, settings.namespace),
            EventRecorder(self._source, self._events),
            self._exporter,
        )
        self.controllers: Controllers | None = None
        """The loops that write, while this replica leads."""
        self._stopping = asyncio.Event()
        self._prepared = False
        self._setup = WorkerSetup("")
        self._cluster = ""
        """The UID of namespace kube-system."""

    async def run(self) -> None:
        """Serve, keep the caches true, and lead whenever it is this replica's turn, until `stop`."""
        settings = self._settings
        async with (
            self._client,
            self._lease_client,
            self._review_client,
            serve(
                settings.port,
                metrics=self.metrics, content_type=CONTENT_TYPE, unready=self.unready, wedged=self.wedged,
                guard=self._guard, tls=self._tls,
            ) as port,
            asyncio.TaskGroup() as group,
        ):  # fmt: skip
            log.info("kubedr %s watches namespace %s and serves on port %d", __version__, settings.namespace, port)
            informers = [
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
                for informer in self.caches
            ]
            await self._contend()
            await self._election.release()
            for task in informers:
                task.cancel()

    def stop(self) -> None:
        """Have `run` end: nothing new is begun, what is in progress ends, the lease is released."""
        self._stopping.set()

    def unready(self) -> str:
        """Return what has not been read yet, in words; empty once all has."""
        missing = self.caches.missing() or ("" if self._prepared else "the cluster's identity, or the own pod")
        return f"not yet read: {missing}" if missing else ""

    def wedged(self) -> str:
        """Return which loops hang, in words; empty while none does. An API server that is away wedges nothing."""
        loops = (*self.caches, self._election, *(self.controllers.all() if self.controllers else ()))
        return "; ".join(words for loop in loops if (words := loop.wedged()))

    def metrics(self) -> bytes:
        """Return what /metrics serves."""
        controllers = self.controllers
        self._telemetry.show(
            leads=self._election.leads,
            caches=self.caches,
            controllers=controllers.all() if controllers else (),
            backlog=controllers.channel.backlog() if controllers else {},
        )
        return self._metrics.render()

    async def _contend(self) -> None:
        """Lead whenever it is this replica's turn, until `stop`."""
        await self._unless_stopped(self._prepare())
        while await self._unless_stopped(self._election.acquire()):
            self.controllers = Controllers(
                self._client, self._settings.namespace, self.caches, self._source, self._consumers, self._events,
                setup=self._setup, cluster=self._cluster,
            )  # fmt: skip
            self._exporter.show()
            try:
                await self._lead(self.controllers)
            finally:
                self._exporter.hide()
                self.controllers = None

    async def _prepare(self) -> None:
        """Have at hand what the controllers need."""
        identity = await _patiently("namespace kube-system", lambda: self._client.get(NAMESPACES, None, "kube-system"))
        self._cluster = identity.metadata.uid
        self._setup = await _patiently("the controller's own pod", self._worker_setup)
        self._prepared = True
        for informer in self.caches:
            await informer.synced.wait()
        log.info("all caches are synced")

    async def _lead(self, controllers: Controllers) -> None:
        """Run `controllers` until another may lead, or until `stop`: then let them end what is in progress."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(controllers.run(), name="controllers")
            term = group.create_task(self._election.hold(), name="lease")
            stop = group.create_task(self._stopping.wait(), name="stop")
            await asyncio.wait({work, term, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                controllers.shut_down()
                await asyncio.wait({work}, timeout=DRAIN)
            for task in (work, term, stop):
                task.cancel()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` to its end, or cancel it when `stop` is called; return whether to go on."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="contender")
            stop = group.create_task(self._stopping.wait(), name="stop")
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            stop.cancel()
        return not self._stopping.is_set()

    async def _worker_setup(self) -> WorkerSetup:
        settings = self._settings
        common = WorkerSetup(
            settings.worker_image, proxies=settings.proxies, ca_bundle=settings.ca_bundle, pods=settings.job_pods
        )
        if settings.worker_image:
            return common
        spec = (await self._client.get(PODS, settings.namespace, settings.pod_name)).spec
        container = spec.containers[0]
        pull_secrets = tuple(reference.name for reference in spec.image_pull_secrets)
        return replace(
            common, image=container.image, pull_policy=container.image_pull_policy, pull_secrets=pull_secrets
        )

    def _connection(self, credentials: Credentials, outage: Outage) -> Client:
        agent, count = f"{APP}/{__version__}", self._telemetry.count_request
        return Client(credentials, user_agent=agent, on_request=count, outage=outage)


async def _patiently(what: str, ask: Callable[[], Awaitable[V]]) -> V:
    """Return what `ask` returns, asking again for as long as the API server does not let us have it."""
    backoff, said = Backoff(first=0.8, limit=30.0), ""
    while True:
        try:
            return await ask()
        except (Unreachable, ServerError, TooManyRequests):  # the client says so
            pass
        except (ApiError, Undecodable) as error:
            if str(error) != said:
                said = str(error)
                log.warning("%s cannot be read; trying again until it can: %s", what, said)
        await asyncio.sleep(backoff.next())


async def _run(settings: Settings) -> None:
    app = App(await load_credentials(), settings)
    loop = asyncio.get_running_loop()

    def stop(received: signal.Signals) -> None:
        log.info("stopped by %s", received.name)
        app.stop()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop, name)
    await app.run()


def main() -> None:
    """Run the controller: the command `kubedr-controller`."""
    try:
        settings = load_settings(pod_namespace())
    except ValueError as error:
        sys.exit(f"kubedr-controller cannot start: {error}")
    set_up_logging(settings.log_level)
    try:
        asyncio.run(_run(settings))
    except (CertificateError, CredentialsError) as error:
        log.critical("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
