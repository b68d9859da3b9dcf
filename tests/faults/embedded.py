"""The controller in a thread of the tests: as real as the process, but it can be stopped at any await.

Its code, its requests and its clock are the real ones. It also can be made to believe that it leads, come what may.
"""

import asyncio
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kubedr_ctrl.app import App
from kubedr_ctrl.kube.credentials import load_credentials
from kubedr_ctrl.settings import Settings
from tests.servers.kubedr import Samples
from tests.servers.process import LOOPBACK, free_port

V = TypeVar("V")


class Embedded:
    """One controller. `start` it, and end it by `stop` (as SIGTERM does) or by `kill` (at whatever await it is)."""

    def __init__(self, kubeconfig: Path, namespace: str, name: str, *, deluded: bool = False, **settings: Any) -> None:
        """`deluded` is a controller that believes that it leads, whoever holds the lease."""
        self.name = name
        self._kubeconfig = kubeconfig
        self.port = free_port()
        self._settings = Settings(
            namespace=namespace,
            worker_image="kubedr:test",
            pod_name=name,
            port=self.port,
            lease_duration_seconds=6,
            **settings,
        )
        self._deluded = deluded
        self._thread: threading.Thread | None = None
        self._started = threading.Event()

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self._started.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=self.name)
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        """Have it end as SIGTERM does."""
        self._end(self.app.stop)

    def kill(self) -> None:
        """Cancel all it does, wherever that is."""
        self._end(self.cancel)

    def cancel(self) -> None:
        """Cancel all it does, without waiting for the end."""
        self._loop.call_soon_threadsafe(self._task.cancel)

    def join(self) -> None:
        """Wait for the end."""
        assert self._thread
        self._thread.join(20)
        assert not self._thread.is_alive(), f"{self.name} does not end"
        self._thread = None

    def stop_if_running(self) -> None:
        if self._thread:
            self.kill()

    def call(self, function: Callable[[], V]) -> V:
        """Call the function in the controller's thread."""

        async def call() -> V:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def leads(self) -> bool:
        return self.call(lambda: self.app.controllers is not None)

    def ready(self) -> bool:
        return not self.call(self.app.unready)

    def metrics(self) -> Samples:
        return Samples(self.call(self.app.metrics).decode())

    def hold_no_longer(self) -> None:
        """Have it no longer renew its lease, and not notice."""

        async def for_ever() -> None:
            await asyncio.Event().wait()

        election: Any = self.app._election
        self.call(lambda: setattr(election, "_pause", for_ever))

    def http(self, path: str) -> tuple[int, str]:
        """Return the status and the body of what is served there."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=5) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def _end(self, how: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(how)
        self.join()

    async def _run(self) -> None:
        os.environ["KUBECONFIG"] = str(self._kubeconfig)
        self.app = App(await load_credentials(), self._settings)
        if self._deluded:
            delude(self.app)
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self.app.run())
        self._started.set()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()


def delude(app: App) -> None:
    """Let `app` believe that it leads."""

    async def at_once() -> None:
        await asyncio.sleep(0)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    def never(_: Coroutine[Any, Any, None] | None = None) -> None:
        return

    election: Any = app._election
    election.acquire, election.hold, app._client.before_write = at_once, for_ever, never
