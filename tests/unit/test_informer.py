"""The informer against a server that does what a real one does on bad days, by script."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from kubedr_ctrl.kube import client as client_module
from kubedr_ctrl.kube import informer as module
from kubedr_ctrl.kube import outage as outage_module
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import Job

JOBS = Resource("batch", "v1", "jobs", "Job", msgspec.json.Decoder(Job).decode)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def job(name: str, version: int, uid: str = "u", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}, "spec": spec}


def line(type_: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode() + b"\n"


def listing(version: int, *items: dict[str, Any], more: str = "") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": str(version), "continue": more}, "items": items})

    return answer


def refusal(status: int, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"code": status, "message": "no"}, status=status, headers=headers)

    return answer


def stream(*chunks: bytes, cut: bool = False, hold: bool = False) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if hold:
            await asyncio.sleep(30)
        if cut and request.transport:
            request.transport.abort()
        return response

    return answer


class Script:
    """Answers requests in order; the last answer repeats. Remembers what was asked.

    Unless it `streams`, it refuses to stream lists, as servers do that know how but may not.
    """

    def __init__(self, *answers: Answer, streams: bool = False) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []
        self._streams = streams

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "sendInitialEvents" in request.query and not self._streams:
            return await refusal(422)(request)
        self.asked.append(dict(request.query))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    @property
    def watched_from(self) -> list[str]:
        return [query.get("resourceVersion", "") for query in self.asked if "watch" in query]


class Plain:
    """Credentials for a server that wants none."""

    def __init__(self, server: str) -> None:
        self.server = server

    async def headers(self) -> dict[str, str]:
        return {}

    def tls(self) -> ssl.SSLContext | None:
        return None


@asynccontextmanager
async def informing(*answers: Answer, streams: bool = False) -> AsyncIterator[tuple[Informer[Job], Script]]:
    script = Script(*answers, streams=streams)
    app = web.Application()
    app.router.add_get("/apis/batch/v1/namespaces/ns/jobs", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    credentials: Any = Plain(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with Client(credentials, user_agent="test") as client:
        informer = Informer(client, JOBS, "ns")
        task = asyncio.create_task(informer.run())
        try:
            yield informer, script
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await runner.cleanup()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for is a state of many parts
            await asyncio.sleep(0.01)


def names(informer: Informer[Job]) -> set[str]:
    return {item.metadata.name for item in informer.store}


async def test_a_list_is_read_in_pages_and_watched_from_its_version() -> None:
    answers = (
        listing(7, job("a", 1), more="next"),
        listing(7, job("b", 2)),
        stream(line("ADDED", job("c", 8)), hold=True),
    )
    async with informing(*answers) as (informer, script):
        await until(lambda: names(informer) == {"a", "b", "c"})
    assert script.asked[1]["continue"] == "next"
    assert script.watched_from == ["7"]


async def test_a_bookmark_moves_the_version_on() -> None:
    bookmark = line("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
    async with informing(listing(7), stream(bookmark), stream(hold=True)) as (_, script):
        await until(lambda: len(script.watched_from) == 2)
    assert script.watched_from == ["7", "99"]


async def test_a_cut_watch_goes_on_where_it_was_and_a_cut_line_is_not_read() -> None:
    half = line("ADDED", job("b", 9))[:30]
    answers = (
        listing(7),
        stream(line("ADDED", job("a", 8)), half, cut=True),
        stream(line("ADDED", job("b", 9)), hold=True),
    )
    async with informing(*answers) as (informer, script):
        await until(lambda: names(informer) == {"a", "b"})
    assert script.watched_from == ["7", "8"]


@pytest.mark.parametrize("gone", [refusal(410), stream(line("ERROR", {"code": 410, "reason": "Expired"}))])
async def test_too_old_a_version_lists_anew_and_tells_what_vanished(gone: Answer) -> None:
    async with informing(listing(7, job("a", 1), job("b", 2)), gone, listing(20, job("b", 2)), stream(hold=True)) as (
        informer,
        script,
    ):
        await until(lambda: names(informer) == {"b"})
        await until(lambda: script.watched_from == ["7", "20"])


@pytest.mark.parametrize("trouble", [refusal(500), refusal(429), refusal(503)])
async def test_trouble_keeps_the_version(trouble: Answer) -> None:
    async with informing(listing(7, job("a", 1)), trouble, stream(line("ADDED", job("b", 8)), hold=True)) as (
        informer,
        script,
    ):
        await until(lambda: names(informer) == {"a", "b"})
    assert script.watched_from == ["7", "7"]


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def busy(request: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        return await (refusal(429, **{"Retry-After": "2"}) if len(times) == 1 else listing(7))(request)

    async with informing(busy, busy, stream(hold=True)) as (informer, _):
        await until(informer.synced.is_set)
    assert times[1] - times[0] >= 2


async def test_a_silent_stream_is_resumed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.2)
    answers = listing(7), stream(line("ADDED", job("a", 8)), hold=True), stream(line("ADDED", job("b", 9)), hold=True)
    async with informing(*answers) as (informer, script):
        await until(lambda: names(informer) == {"a", "b"})
    assert script.watched_from == ["7", "8"]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_stream_that_never_said_a_word_lists_anew_as_its_version_may_lie_in_the_future(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.2)
    restored = listing(3, job("b", 2))  # etcd was restored from a backup
    async with informing(listing(7, job("a", 6)), stream(hold=True), restored, stream(hold=True)) as (informer, script):
        await until(lambda: names(informer) == {"b"})
        await until(lambda: script.watched_from == ["7", "3"])


@pytest.mark.parametrize("status", [{"code": 500, "reason": "InternalError"}, {"code": 504}])
async def test_what_the_server_could_not_send_is_listed_anew(
    status: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LASTING", 0.5)
    answers = [answer for _ in range(2) for answer in (listing(7), stream(line("ERROR", status)))]
    async with informing(*answers, listing(9, job("a", 8)), stream(hold=True)) as (informer, _):
        await until(lambda: names(informer) == {"a"})
    assert "not a watch" not in caplog.text


async def test_a_list_whose_body_falls_silent_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 0.2)
    async with informing(stream(b'{"metadata":', hold=True)) as (informer, script):
        await until(lambda: informer.failing_since is not None)
        await asyncio.sleep(2)
        assert len(script.asked) <= 3


async def test_a_line_nested_too_deeply_is_garbage() -> None:
    deep = b'{"type":"ADDED","object":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    async with informing(listing(7), stream(deep), listing(9, job("a", 8)), stream(hold=True)) as (informer, _):
        await until(lambda: names(informer) == {"a"})
        assert informer.undecodable_lines == 1


async def test_short_watches_that_bring_something_are_followed_without_haste() -> None:
    bookmark = line("BOOKMARK", {"metadata": {"resourceVersion": "8"}})
    async with informing(listing(7), stream(bookmark)) as (_, script):
        await asyncio.sleep(4)
    assert len(script.asked) <= 6


async def test_a_handler_with_a_fault_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with informing(listing(7, job("a", 1)), stream(line("ADDED", job("b", 8)), hold=True)) as (informer, _):
        informer.on_change(lambda delta: [][len(delta.object.metadata.name)])
        await until(lambda: names(informer) == {"a", "b"})
    assert "a fault of this program" in caplog.text


async def test_an_object_that_cannot_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    events = (line("MODIFIED", job("bad", version, activeDeadlineSeconds="soon")) for version in (8, 9, 10))
    async with informing(listing(7), stream(*events, line("ADDED", job("a", 11)), hold=True)) as (informer, _):
        await until(lambda: names(informer) == {"a"})
    assert sum("cannot be understood" in message for message in caplog.messages) == 1


async def test_a_server_that_closes_each_watch_at_once_is_not_hammered() -> None:
    async with informing(listing(7), stream()) as (_, script):
        await asyncio.sleep(2)
    assert len(script.asked) <= 8


async def test_a_server_that_calls_every_version_too_old_is_not_hammered() -> None:
    async def always_gone(request: web.Request) -> web.StreamResponse:
        return await (refusal(410) if "watch" in request.query else listing(7))(request)

    async with informing(always_gone) as (_, script):
        await asyncio.sleep(2)
    assert len(script.asked) <= 10


async def test_a_line_that_is_not_json_is_counted_and_put_right_by_a_list(caplog: pytest.LogCaptureFixture) -> None:
    garbage = [answer for line in (b"{]\n", b'{"type":"NEW","object":{}}\n') for answer in (listing(7), stream(line))]
    async with informing(*garbage, listing(9, job("a", 8)), stream(hold=True)) as (informer, _):
        await until(lambda: names(informer) == {"a"})
        assert informer.undecodable_lines == 2
    assert sum("not a watch event" in record.message for record in caplog.records) == 1


async def test_an_object_that_does_not_fit_disturbs_no_other() -> None:
    bad = job("bad", 8, activeDeadlineSeconds="soon")
    answers = listing(7, job("a", 1)), stream(line("ADDED", bad), line("ADDED", job("b", 9)), hold=True)
    async with informing(*answers) as (informer, _):
        await until(lambda: names(informer) == {"a", "b"})
        assert set(informer.unreadable) == {"bad"}


END = line("BOOKMARK", {"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}})


async def test_a_list_is_streamed_where_the_server_offers_it_and_the_watch_goes_on_in_the_same_stream() -> None:
    chunks = line("ADDED", job("a", 1)), line("ADDED", job("bad", 2, activeDeadlineSeconds="soon")), END
    async with informing(stream(*chunks, line("ADDED", job("b", 10)), hold=True), streams=True) as (informer, script):
        await until(lambda: names(informer) == {"a", "b"})
        assert informer.synced.is_set()
        assert set(informer.unreadable) == {"bad"}
    (asked,) = script.asked
    assert (asked["sendInitialEvents"], asked["resourceVersionMatch"]) == ("true", "NotOlderThan")


async def test_what_is_deleted_while_the_list_is_streamed_is_not_there() -> None:
    chunks = line("ADDED", job("a", 1)), line("ADDED", job("b", 2)), line("DELETED", job("a", 3)), END
    async with informing(stream(*chunks, hold=True), streams=True) as (informer, _):
        await until(informer.synced.is_set)
        assert names(informer) == {"b"}


async def test_a_stream_that_ends_before_the_list_is_complete_is_replaced_by_pages_once() -> None:
    answers = stream(line("ADDED", job("a", 1))), listing(7, job("a", 1)), refusal(410), stream(END, hold=True)
    async with informing(*answers, streams=True) as (informer, script):
        await until(lambda: script.watched_from == ["", "7", ""])
        await until(lambda: names(informer) == set())


async def test_a_streamed_list_counts_once_it_is_complete_and_goes_on_from_its_version() -> None:
    answers = stream(line("ADDED", job("a", 1)), cut=True), stream(line("ADDED", job("b", 2)), END), stream(hold=True)
    async with informing(*answers, streams=True) as (informer, script):
        await until(lambda: names(informer) == {"b"})
        await until(lambda: script.watched_from == ["", "", "9"])


async def test_a_server_that_does_not_end_a_streamed_list_is_asked_for_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INITIAL_STREAM", 0.2)
    added = line("ADDED", job("a", 1))
    async with informing(stream(added, hold=True), listing(7, job("a", 1)), stream(hold=True), streams=True) as (
        informer,
        script,
    ):
        await until(lambda: names(informer) == {"a"})
        await until(lambda: script.watched_from == ["", "7"])


async def test_a_failure_is_worth_a_word_once_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LASTING", 0.5)
    caplog.set_level("INFO")
    async with informing(*[refusal(403)] * 2, listing(7), stream(hold=True)) as (informer, _):
        await until(lambda: "jobs can be read again" in caplog.messages)
        assert informer.failing_since is None
    assert sum("jobs cannot be read" in message for message in caplog.messages) == 1


async def test_a_back_off_ends_with_the_outage_that_it_was_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "PATIENCE", 0.0)
    async with informing(refusal(503), refusal(503), refusal(503), listing(7), stream(hold=True)) as (informer, script):
        outage = informer._client.outage
        await until(lambda: len(script.asked) == 3)  # the next try is due in two or three seconds
        assert outage.lasts
        outage.answered()  # as another request was
        async with asyncio.timeout(2):
            await informer.synced.wait()


async def test_an_informer_that_takes_no_step_is_wedged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: Informer[Job]) -> float:
        await asyncio.Event().wait()
        return 0.0

    monkeypatch.setattr(Informer, "_watch", hang)
    monkeypatch.setattr(module, "WEDGED", 0.2)
    async with informing(listing(7)) as (informer, _):
        assert not informer.wedged()
        await until(lambda: "the watch of jobs has hung" in informer.wedged())


async def test_kinds_that_are_not_installed_yet_are_waited_for() -> None:
    async with informing(refusal(404), listing(7, job("a", 1)), stream(hold=True)) as (informer, _):
        await until(lambda: names(informer) == {"a"})


async def test_handlers_hear_of_each_change_once() -> None:
    told: list[tuple[str, str]] = []
    answers = (
        listing(7, job("a", 1)),
        stream(
            line("MODIFIED", job("a", 8)), line("MODIFIED", job("a", 9, uid="other")), line("DELETED", job("a", 10))
        ),
        stream(hold=True),
    )
    async with informing(*answers) as (informer, script):
        informer.on_change(lambda delta: told.append((delta.change.value, delta.object.metadata.uid)))
        await until(lambda: len(script.watched_from) == 2)
    assert told == [("added", "u"), ("updated", "u"), ("deleted", "u"), ("added", "other"), ("deleted", "other")]
