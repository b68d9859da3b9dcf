"""Who may read, with a clock stepped by hand, against a server in process that reviews as the API server does."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web

from kubedr_ctrl.kube import review
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.review import BAD_TOKEN, BUSY, NO_TOKEN, UNKNOWN, Refusal, Reviewer
from tests.unit.clock import Clock
from tests.unit.test_informer import Plain

USER = {"username": "prometheus", "uid": "1", "groups": ["monitors"], "extra": {"pod": ["p"]}}


class Server:
    """Knows who has which token, and who may read."""

    def __init__(self) -> None:
        self.tokens = {"good": USER, "stranger": {"username": "stranger"}}
        self.readers = {"prometheus"}
        self.asked: list[dict[str, Any]] = []
        self.refuses = 0
        """The status with which everything is refused, if any."""
        self.arrived = asyncio.Semaphore(0)
        self.answering = asyncio.Event()
        self.answering.set()

    @property
    def token_reviews(self) -> int:
        return sum("token" in spec for spec in self.asked)

    async def handle(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        self.arrived.release()
        await self.answering.wait()
        if self.refuses:
            return web.json_response({"kind": "Status", "message": "no"}, status=self.refuses)
        metadata = {"creationTimestamp": None}
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            user = self.tokens.get(spec["token"])
            status: dict[str, Any] = (
                {"authenticated": True, "user": user} if user else {"error": "invalid bearer token"}
            )
        else:
            assert request.path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            status = {"allowed": spec["user"] in self.readers}
        return web.json_response({"metadata": metadata, "status": status}, status=201)


class Bed:
    """A server, a reviewer, and time."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server, self.client, self.clock = server, client, Clock()
        self.reviewer = Reviewer(client, "/metrics", clock=self.clock)

    async def ask(self, token: str) -> Refusal | None:
        return await self.reviewer.refusal(f"Bearer {token}")


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    server, app = Server(), web.Application()
    app.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    credentials: Any = Plain(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with Client(credentials, user_agent="test") as client:
        yield Bed(server, client)
        server.answering.set()
    await runner.cleanup()


async def test_a_bearer_who_may_read_is_let_in_by_all_that_the_api_server_knows_of_him(bed: Bed) -> None:
    assert await bed.ask("good") is None
    token, access = bed.server.asked
    assert token == {"token": "good"}
    assert access == {
        "user": "prometheus",
        "uid": "1",
        "groups": ["monitors"],
        "extra": {"pod": ["p"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }


async def test_who_may_not_read_is_told_what_is_missing(bed: Bed) -> None:
    refusal = await bed.ask("stranger")
    assert refusal is not None
    assert refusal.status is HTTPStatus.FORBIDDEN
    assert "stranger may not read /metrics" in refusal.message
    assert "ClusterRole with nonResourceURLs [/metrics], verb get" in refusal.message


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic Zm9vOmJhcg==", "Bearer a b", "good", "Bearer ü"])
async def test_what_is_no_bearer_token_is_not_even_asked_for(bed: Bed, header: str) -> None:
    assert await bed.reviewer.refusal(header) is NO_TOKEN
    assert not bed.server.asked


async def test_the_scheme_may_be_written_in_any_case(bed: Bed) -> None:
    assert await bed.reviewer.refusal("bearer good") is None


async def test_one_who_was_allowed_is_asked_for_again_after_five_minutes(bed: Bed) -> None:
    await bed.ask("good")
    bed.server.readers.clear()
    bed.clock.now += 299
    assert await bed.ask("good") is None
    bed.clock.now += 1
    assert (await bed.ask("good") or UNKNOWN).status is HTTPStatus.FORBIDDEN
    assert bed.server.token_reviews == 2


async def test_one_who_was_refused_is_asked_for_again_after_half_a_minute(bed: Bed) -> None:
    assert await bed.ask("new") is BAD_TOKEN
    bed.server.tokens["new"] = USER
    bed.clock.now += 29
    assert await bed.ask("new") is BAD_TOKEN
    bed.clock.now += 1
    assert await bed.ask("new") is None
    assert bed.server.token_reviews == 2


async def test_requests_at_once_with_the_same_token_make_one_review(bed: Bed) -> None:
    assert await asyncio.gather(*(bed.ask("good") for _ in range(20))) == [None] * 20
    assert bed.server.token_reviews == 1


async def test_one_who_leaves_takes_no_answer_away_from_others_and_the_next_can_ask(bed: Bed) -> None:
    bed.server.answering.clear()
    first, second = (asyncio.create_task(bed.ask("good")) for _ in range(2))
    await bed.server.arrived.acquire()
    second.cancel()
    bed.server.answering.set()
    assert await first is None


async def test_one_who_asked_and_left_keeps_nobody_waiting_and_the_next_asks(bed: Bed) -> None:
    bed.server.answering.clear()
    first, second = (asyncio.create_task(bed.ask("good")) for _ in range(2))
    await bed.server.arrived.acquire()
    first.cancel()
    await asyncio.wait({first, second})
    bed.server.answering.set()
    assert await bed.ask("good") is None


async def test_few_unknown_tokens_are_reviewed_at_once_and_known_ones_in_spite_of_them(bed: Bed) -> None:
    await bed.ask("good")
    bed.clock.now += review.ALLOWED
    before = bed.server.token_reviews
    bed.server.answering.clear()
    tasks = [asyncio.create_task(bed.ask(token)) for token in (*(f"junk{number}" for number in range(100)), "good")]
    await asyncio.sleep(0.1)
    bed.server.answering.set()
    *junk, good = await asyncio.gather(*tasks)
    assert (junk.count(BAD_TOKEN), junk.count(BUSY)) == (review.AT_ONCE, 100 - review.AT_ONCE)
    assert good is None
    assert bed.server.token_reviews - before == review.AT_ONCE + 1


async def test_what_is_known_is_bounded_and_junk_does_not_push_out_a_good_token(bed: Bed) -> None:
    await bed.ask("good")
    for number in range(2 * review.KEPT):
        await bed.ask(f"junk{number}")
    assert len(bed.reviewer._refused) == review.KEPT
    asked = len(bed.server.asked)
    assert await bed.ask("good") is None
    assert len(bed.server.asked) == asked
    for number in range(2 * review.KEPT):
        bed.server.tokens[f"good{number}"] = USER
        assert await bed.ask(f"good{number}") is None
    assert len(bed.reviewer._allowed) == review.KEPT


async def test_what_was_asked_for_anew_is_known_longest(bed: Bed) -> None:
    await bed.ask("good")
    for number in range(review.KEPT - 1):
        bed.server.tokens[f"good{number}"] = USER
        await bed.ask(f"good{number}")
    bed.clock.now += review.ALLOWED
    await bed.ask("good")
    bed.server.tokens["new"] = USER
    await bed.ask("new")
    bed.server.refuses = 500
    assert await bed.ask("good") is None
    assert await bed.ask("good0") is UNKNOWN


async def test_no_token_is_kept(bed: Bed) -> None:
    bed.server.tokens["in-confidence"] = USER
    await bed.ask("in-confidence")
    await bed.ask("in-error")
    assert bed.reviewer._allowed
    assert bed.reviewer._refused
    assert "in-" not in repr(vars(bed.reviewer))


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_while_the_server_cannot_be_asked_one_who_was_allowed_within_the_hour_is_let_in(
    bed: Bed, status: int
) -> None:
    await bed.ask("good")
    await bed.ask("wrong")
    bed.server.refuses = status
    bed.clock.now += review.OUTAGE - 1
    assert await bed.ask("good") is None
    assert await bed.ask("wrong") is UNKNOWN
    bed.clock.now += 1
    assert await bed.ask("good") is UNKNOWN
    bed.server.refuses = 0
    assert await bed.ask("good") is None
    assert await bed.ask("wrong") is BAD_TOKEN


async def test_one_whose_right_was_taken_is_not_let_in_by_an_outage(bed: Bed) -> None:
    await bed.ask("good")
    bed.server.readers.clear()
    bed.clock.now += review.ALLOWED
    assert await bed.ask("good") is not None
    bed.server.refuses = 500
    bed.clock.now += review.REFUSED
    assert await bed.ask("good") is UNKNOWN


async def test_in_an_outage_that_lasts_nothing_is_asked_for(bed: Bed) -> None:
    await bed.ask("good")
    bed.clock.now += review.ALLOWED
    bed.client.outage.lasts = True
    asked = len(bed.server.asked)
    assert await bed.ask("good") is None
    assert await bed.ask("other") is UNKNOWN
    assert len(bed.server.asked) == asked


async def test_a_server_that_does_not_answer_keeps_nobody_waiting(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    await bed.ask("good")
    bed.clock.now += review.ALLOWED
    monkeypatch.setattr(review, "PATIENCE", 0.05)
    bed.server.answering.clear()
    assert await bed.ask("good") is None
    assert await bed.ask("other") is UNKNOWN


async def test_a_controller_that_may_not_ask_says_what_it_needs_once_each_time(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    bed.server.refuses = 403
    for token in ("good", "other", "good"):
        assert await bed.ask(token) is UNKNOWN
    bed.server.refuses = 0
    assert await bed.ask("good") is None
    bed.server.refuses = 403
    assert await bed.ask("other") is UNKNOWN
    one, two = (record.getMessage() for record in caplog.records if record.name == review.log.name)
    remedy = "bind the controller's ServiceAccount to ClusterRole system:auth-delegator"
    assert one == two == f"who may read /metrics cannot be found out: no; {remedy}"
