"""An informer behind a proxy that does to its requests what real networks and servers do, with the requests counted."""

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import Configuration

from kubedr_ctrl.kube import client as client_module
from kubedr_ctrl.kube import informer as informer_module
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.credentials import Credentials, load_credentials
from kubedr_ctrl.kube.errors import Unreachable
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import Job
from kubedr_ctrl.resources import JOBS
from tests.faults.proxy import FaultProxy, Request, answer, cut_body, fault_proxy, refuse, stall
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import Kubedr
from tests.servers.pki import Authority

SILENCE = 1.5
"""Seconds of patience with a silent stream in these tests; 90 in real life."""


def watches(request: Request) -> bool:
    return request.verb == "watch"


def lists(request: Request) -> bool:
    return request.verb == "list"


def create(kubedr: Kubedr, name: str) -> None:
    """Create a Job that does nothing."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "none", "image": "none"}]}}
    job = {"metadata": {"name": name}, "spec": {"suspend": True, "template": template}}
    kubedr.plane.request("POST", JOBS.path(kubedr.namespace), {"apiVersion": "batch/v1", "kind": "Job", **job})


class Watched:
    """An informer of Jobs, the proxy that it asks, and the Jobs that there are."""

    def __init__(self, informer: Informer[Job], proxy: FaultProxy, kubedr: Kubedr) -> None:
        self.informer = informer
        self.proxy = proxy
        self._kubedr = kubedr

    def create(self, name: str) -> None:
        create(self._kubedr, name)

    def delete(self, name: str) -> None:
        path = f"{JOBS.path(self._kubedr.namespace)}/{name}"
        self._kubedr.plane.request("DELETE", path, {"propagationPolicy": "Background"})

    @property
    def names(self) -> set[str]:
        return {job.metadata.name for job in self.informer.store}

    async def until(self, true: Callable[[], bool], seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - what is waited for is a state of many parts
                await asyncio.sleep(0.02)

    async def has(self, *names: str) -> None:
        await self.until(lambda: self.names == set(names))

    def requests(self, since: float) -> int:
        return len(self.proxy.seen(since=since))


@asynccontextmanager
async def informing(credentials: Credentials, proxy: FaultProxy, kubedr: Kubedr) -> AsyncIterator[Watched]:
    async with Client(credentials, user_agent="informer") as client:
        informer = Informer(client, JOBS, kubedr.namespace)
        task = asyncio.create_task(informer.run())
        try:
            yield Watched(informer, proxy, kubedr)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def watched(kubedr: Kubedr, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """An informer that has seen Job `a`."""
    monkeypatch.setattr(informer_module, "SILENCE", SILENCE)
    monkeypatch.setenv("KUBECONFIG", str(kubedr.kubeconfig("informer", proxy.server)))
    async with informing(await load_credentials(), proxy, kubedr) as watched:
        watched.create("a")
        await watched.has("a")
        yield watched


async def test_the_list_is_streamed_by_a_real_server(watched: Watched) -> None:
    assert not watched.proxy.seen(lists)
    assert len(watched.proxy.seen(watches)) == 1


async def test_a_server_that_streams_no_lists_is_asked_for_pages(
    kubedr: Kubedr, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_module, "PAGE_LIMIT", 2)
    monkeypatch.setenv("KUBECONFIG", str(kubedr.kubeconfig("informer", proxy.server)))
    proxy.add(answer(watches, 422, "Invalid", "sendInitialEvents is forbidden", times=1))
    for number in range(5):
        create(kubedr, f"job-{number}")
    async with informing(await load_credentials(), proxy, kubedr) as watched:
        await watched.has(*(f"job-{number}" for number in range(5)))
        assert len(proxy.seen(lists)) == 3
        watched.create("later")
        await watched.until(lambda: "later" in watched.names)
        assert len(proxy.seen(lists)) == 3


async def test_a_page_that_is_too_old_to_go_on_from_lists_anew(
    kubedr: Kubedr, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_module, "PAGE_LIMIT", 1)
    monkeypatch.setenv("KUBECONFIG", str(kubedr.kubeconfig("informer", proxy.server)))
    proxy.add(answer(watches, 422, "Invalid", times=1))
    asked = iter(range(100))
    proxy.add(answer(lambda request: lists(request) and next(asked) == 1, 410, "Expired", times=1))
    for name in ("a", "b"):
        create(kubedr, name)
    async with informing(await load_credentials(), proxy, kubedr) as watched:
        await watched.has("a", "b")
        assert [seen.status for seen in proxy.seen(lists)] == [200, 410, 200, 200]


async def test_410_in_the_status_line_lists_anew(watched: Watched) -> None:
    watched.proxy.add(answer(watches, 410, "Expired", times=1))
    watched.proxy.cut_streams(watches)
    watched.delete("a")
    watched.create("b")
    await watched.has("b")
    assert watched.informer.relists == 2


async def test_410_in_the_stream_lists_anew(watched: Watched) -> None:
    watched.proxy.inject(watches, line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
    await watched.until(lambda: watched.informer.relists == 2)
    watched.create("b")
    await watched.has("a", "b")


async def test_429_is_left_alone_for_as_long_as_it_asks(watched: Watched) -> None:
    watched.proxy.add(answer(watches, 429, "TooManyRequests", retry_after=2, times=1))
    watched.proxy.cut_streams(watches)
    watched.create("b")
    await watched.has("a", "b")
    first, second = watched.proxy.seen(watches)[-2:]
    assert (first.status, second.status) == (429, 200)
    assert second.at - first.at >= 2
    assert watched.informer.relists == 1


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_5xx_is_tried_again_from_the_same_version(watched: Watched, status: int) -> None:
    watched.proxy.add(answer(watches, status, times=2))
    watched.proxy.cut_streams(watches)
    watched.create("b")
    await watched.has("a", "b")
    assert watched.informer.relists == 1


async def test_a_refused_connection_is_tried_again_ever_more_seldom(watched: Watched) -> None:
    began = time.monotonic()
    watched.proxy.add(refuse(watches))
    watched.proxy.cut_streams(watches)
    await asyncio.sleep(5)
    assert 2 <= watched.requests(began) <= 6
    watched.proxy.clear()
    watched.create("b")
    await watched.has("a", "b")
    assert watched.informer.relists == 1


async def test_a_server_that_closes_each_watch_at_once_gets_a_handful_of_requests(watched: Watched) -> None:
    began = time.monotonic()
    watched.proxy.add(answer(watches, 200))
    watched.proxy.cut_streams(watches)
    await asyncio.sleep(5)
    assert watched.requests(began) <= 15
    watched.proxy.clear()
    watched.create("b")
    await watched.until(lambda: "b" in watched.names)


async def test_silence_at_connect_has_an_end(monkeypatch: pytest.MonkeyPatch, black_hole: str) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT", 0.5)
    configuration = Configuration()
    configuration.host = black_hole.replace("http:", "https:")  # the TLS handshake is never answered
    began = time.monotonic()
    async with Client(Credentials(configuration), user_agent="test") as client:
        with pytest.raises(Unreachable):
            await client.get(JOBS, "default", "any")
    assert time.monotonic() - began < 5


async def test_silence_at_the_headers_has_an_end(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 1.0)
    watched.proxy.add(stall(watches, times=1))
    watched.proxy.cut_streams(watches)
    watched.create("b")
    await watched.has("a", "b")


@pytest.mark.parametrize("half", [b"", b'{"type":"ADDED","object":{"metadata":{"name":"half'])
async def test_silence_in_a_stream_has_an_end_and_half_a_line_is_not_read(watched: Watched, half: bytes) -> None:
    began = time.monotonic()
    assert watched.proxy.silence(watches, half) == 1
    watched.create("b")
    await watched.has("a", "b")
    # It counts from the last byte, which came a moment before.
    assert SILENCE - 0.2 <= time.monotonic() - began < SILENCE + 5
    assert (watched.informer.relists, watched.informer.undecodable_lines) == (1, 0)


@pytest.mark.parametrize("after", [1, 100, 400])
async def test_a_line_cut_in_the_middle_is_read_anew(watched: Watched, after: int) -> None:
    watched.proxy.add(cut_body(watches, after, times=1))
    watched.proxy.cut_streams(watches)
    watched.create("b")
    await watched.has("a", "b")
    assert watched.informer.undecodable_lines == 0


async def test_a_line_of_eight_mebibytes_is_read(watched: Watched) -> None:
    (job,) = watched.informer.store
    metadata = {
        "name": "huge", "uid": "huge", "resourceVersion": job.metadata.resource_version,
        "annotations": {"x": "x" * 8 * 2**20},
    }  # fmt: skip
    watched.proxy.inject(watches, line("ADDED", {"metadata": metadata}))
    await watched.has("a", "huge")


async def test_garbage_is_counted_logged_once_and_put_right_by_a_list(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    for garbage in (b"{]\n", line("NEW", {}), b"\xff\xfe\n"):
        lists_before = watched.informer.relists
        await watched.until(lambda: watched.proxy.inject(watches, garbage) == 1)  # noqa: B023 - called at once
        await watched.until(lambda: watched.informer.relists > lists_before)  # noqa: B023
    watched.create("b")
    await watched.has("a", "b")
    assert watched.informer.undecodable_lines == 3
    assert sum("saying no more of the like" in message for message in caplog.messages) == 1
    assert watched.requests(began) <= 6


async def test_what_was_deleted_unseen_is_told_after_the_next_list(watched: Watched) -> None:
    gone: list[str] = []
    watched.informer.on_change(lambda delta: gone.append(f"{delta.change.value} {delta.object.metadata.name}"))
    fault = watched.proxy.add(refuse(watches))
    watched.proxy.cut_streams(watches)
    watched.delete("a")
    watched.create("a")
    await watched.until(lambda: fault.acted > 0)
    watched.proxy.clear()
    watched.proxy.add(answer(watches, 410, "Expired", times=1))
    await watched.until(lambda: len(gone) == 2)
    assert gone == ["deleted a", "added a"]


async def test_a_token_that_is_no_longer_accepted_is_replaced_from_its_file(
    kubedr: Kubedr, proxy: FaultProxy, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    kubedr.kubectl("create", "secret", "generic", "bound")
    bound = ("--bound-object-kind=Secret", "--bound-object-name=bound")
    token.write_text(kubedr.kubectl("create", "token", "kubedr-controller", *bound))
    configuration = Configuration()
    configuration.host = proxy.server
    async with informing(Credentials(configuration, token_file=token), proxy, kubedr) as watched:
        await watched.until(watched.informer.synced.is_set)
        kubedr.kubectl("delete", "secret", "bound")
        # The server remembers for ten seconds that it accepted a token.
        await watched.until(lambda: refused(proxy, kubedr, token.read_text()), 30)
        proxy.cut_streams(watches)
        watched.create("a")
        await watched.until(lambda: proxy.seen(watches)[-1].status == 401)
        token.write_text(kubedr.kubectl("create", "token", "kubedr-controller"))
        await watched.has("a")


def refused(proxy: FaultProxy, kubedr: Kubedr, token: str) -> bool:
    url = proxy.server + JOBS.path(kubedr.namespace)
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    return False


async def test_a_certificate_authority_that_is_replaced_is_read_from_its_file(
    plane: ControlPlane, kubedr: Kubedr, tmp_path: Path
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    old, new = Authority(tmp_path / "old", "old-ca"), Authority(tmp_path / "new", "new-ca")
    shutil.copy(old.certificate, account / "ca.crt")
    (account / "token").write_text(kubedr.kubectl("create", "token", "kubedr-controller"))
    with fault_proxy(plane, tls=old.server("proxy")) as proxy:
        configuration = Configuration()
        configuration.host, configuration.ssl_ca_cert = proxy.server, str(account / "ca.crt")
        credentials = Credentials(configuration, token_file=account / "token")
        async with informing(credentials, proxy, kubedr) as watched:
            await watched.until(watched.informer.synced.is_set)
            proxy.serve_with(new.server("proxy"))
            proxy.cut_streams(watches)
            watched.create("a")
            await watched.until(lambda: watched.informer.failing_since is not None)
            shutil.copy(new.certificate, account / "ca.crt")
            await watched.has("a")


def line(type_: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode() + b"\n"
