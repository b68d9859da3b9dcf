"""Leader election with clocks stepped by hand, against a server in process that keeps one lease."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.errors import NotLeading
from kubedr_ctrl.kube.lease import LeaderElection
from kubedr_ctrl.resources import EVENTS
from tests.unit.clock import Clock
from tests.unit.test_informer import Plain

DURATION = 15


class Server:
    """Keeps a Lease as the API server does: a patch has to name its version."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.refuses = 0
        """The status with which everything is refused, if any."""
        self.loses_answers = False
        """Whether what is written is carried out, but answered with an error."""
        self.written: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return self._status(self.refuses, "")
        if request.method != "GET":
            self.written.append(request.path)
        if request.method == "POST":
            return self._create(await request.json())
        if self.lease is None:
            return self._status(404, "NotFound")
        if request.method == "PATCH":
            patch = json.loads(await request.read())
            if patch["metadata"]["resourceVersion"] != str(self.version):
                return self._status(409, "Conflict")
            self._keep({**self.lease["spec"], **patch["spec"]})
            if self.loses_answers:
                return self._status(500, "InternalError")
        return web.json_response(self.lease)

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    def _create(self, lease: dict[str, Any]) -> web.Response:
        if self.lease is not None:
            return self._status(409, "AlreadyExists")
        self._keep(lease["spec"])
        return web.json_response(self.lease, status=201)

    def _keep(self, spec: dict[str, Any]) -> None:
        self.version += 1
        self.lease = {"metadata": {"name": "lease", "resourceVersion": str(self.version)}, "spec": spec}

    @staticmethod
    def _status(code: int, reason: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code)


class Bed:
    """A server and candidates."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client

    def candidate(self, identity: str) -> tuple[LeaderElection, Clock]:
        clock = Clock()
        return LeaderElection(self.client, "ns", "lease", identity, duration=DURATION, clock=clock), clock


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    async def at_once(_: LeaderElection) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(LeaderElection, "_pause", at_once)
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    credentials: Any = Plain(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with Client(credentials, user_agent="test") as client:
        yield Bed(server, client)
    await runner.cleanup()


async def tries(election: LeaderElection) -> bool:
    return await election._try()


async def test_the_first_one_leads_and_the_other_waits_until_the_lease_has_not_changed_for_its_duration(
    bed: Bed,
) -> None:
    (a, at_a), (b, at_b) = bed.candidate("a"), bed.candidate("b")
    assert await tries(a)
    assert not await tries(b)
    at_b.now += DURATION - 1
    at_a.now += 5
    assert await tries(a)  # renews
    at_b.now += DURATION - 1
    assert not await tries(b)  # sees that
    at_b.now += DURATION
    assert await tries(b)
    assert bed.server.holder == "b"
    assert bed.server.lease is not None
    assert bed.server.lease["spec"]["leaseTransitions"] == 2


async def test_a_leader_counts_itself_as_such_for_two_thirds_of_the_lease_and_may_not_write_afterwards(
    bed: Bed,
) -> None:
    a, clock = bed.candidate("a")
    bed.client.before_write = a.require
    with pytest.raises(NotLeading):
        await bed.client.create(EVENTS, "ns", {})
    bed.client.before_write = lambda: None
    assert await tries(a)
    bed.client.before_write = a.require
    clock.now += DURATION * 2 / 3 - 0.01
    a.require()
    clock.now += 0.02
    written = list(bed.server.written)
    for write in (
        bed.client.create(EVENTS, "ns", {}),
        bed.client.patch(EVENTS, "ns", "e", {}),
        bed.client.apply(EVENTS, "ns", {"metadata": {"name": "e"}}, manager="m"),
        bed.client.delete(EVENTS, "ns", "e", uid="u"),
    ):
        with pytest.raises(NotLeading):
            await write
    assert bed.server.written == written


async def test_a_leader_that_cannot_renew_stops_before_another_may_lead(bed: Bed) -> None:
    a, clock = bed.candidate("a")
    assert await tries(a)
    bed.server.refuses = 503
    holding = asyncio.create_task(a.hold())
    await asyncio.sleep(0.05)
    assert not holding.done()
    clock.now += DURATION * 2 / 3
    async with asyncio.timeout(2):
        await holding
    assert not a.leads


async def test_a_renewal_that_was_carried_out_though_its_answer_was_lost_is_taken_for_ours(bed: Bed) -> None:
    a, clock = bed.candidate("a")
    assert await tries(a)
    bed.server.loses_answers = True
    holding = asyncio.create_task(a.hold())
    await asyncio.sleep(0.05)
    bed.server.loses_answers = False
    clock.now += 1
    await asyncio.sleep(0.05)
    assert a.leads
    clock.now += DURATION * 2 / 3 - 0.5
    await asyncio.sleep(0.05)
    assert a.leads, "it has renewed since"
    holding.cancel()


async def test_a_lease_that_is_deleted_counts_as_held_for_its_time_and_is_made_anew_by_its_holder(bed: Bed) -> None:
    (a, _), (b, at_b) = bed.candidate("a"), bed.candidate("b")
    assert await tries(a)
    assert not await tries(b)
    bed.server.lease = None
    at_b.now += 1
    assert not await tries(b)
    assert await tries(a)
    assert not await tries(b)
    bed.server.lease = None
    at_b.now += DURATION + 1
    assert await tries(b)


async def test_the_next_one_leads_at_once_after_a_release_even_of_a_write_that_was_cancelled(bed: Bed) -> None:
    (a, _), (b, _) = bed.candidate("a"), bed.candidate("b")
    assert await tries(a)
    assert not await tries(b)
    a._version = "stale"  # as if the answer to a renewal had not been heard
    await a.release()
    assert bed.server.holder == ""
    assert not a.leads
    assert await tries(b)
    await a.release()
    assert bed.server.holder == "b"


async def test_a_restarted_container_takes_its_own_lease_over_at_once(bed: Bed) -> None:
    (a, _), (again, _) = bed.candidate("a"), bed.candidate("a")
    assert await tries(a)
    assert await tries(again)


async def test_what_is_wrong_is_said_once_and_trouble_of_the_server_not_at_all(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    a, _ = bed.candidate("a")
    for status, lines in ((503, 0), (403, 1)):
        caplog.clear()
        bed.server.refuses = status
        acquiring = asyncio.create_task(a.acquire())
        await asyncio.sleep(0.2)
        acquiring.cancel()
        assert sum("cannot be read or written" in message for message in caplog.messages) == lines
