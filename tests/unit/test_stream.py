"""Lines, events and pages: what comes over the wire, and what may go wrong with it."""

import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from kubedr_ctrl.kube.codec import Bookmark, Unreadable, WatchEvent, decode_line, decode_page
from kubedr_ctrl.kube.errors import AlreadyExists, Conflict, Gone, ServerError, TooManyRequests, Undecodable, error_from
from kubedr_ctrl.kube.lines import split_lines
from kubedr_ctrl.kube.objects import Job
from kubedr_ctrl.kube.patch import merge_diff
from kubedr_ctrl.kube.store import Change, Store

decode = msgspec.json.Decoder(Job).decode


def job(name: str, uid: str = "u1", version: str = "1") -> Job:
    return decode(json.dumps({"metadata": {"name": name, "uid": uid, "resourceVersion": version}}))


async def lines_of(*chunks: bytes) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in split_lines(stream())]


async def test_lines_are_put_together_from_chunks_of_any_size() -> None:
    text = b'{"a":1}\n{"b":2}\r\n\n{"c":3}\n'
    for size in (1, 2, 3, 7, 100):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert await lines_of(*chunks) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_a_line_cut_in_the_middle_is_dropped() -> None:
    assert await lines_of(b'{"a":1}\n{"b"') == [b'{"a":1}']


async def test_a_line_of_eight_mebibytes_is_read() -> None:
    chunk = b"x" * 65536
    (line,) = await lines_of(*[chunk] * 128, b"\n")
    assert len(line) == 8 * 2**20


def test_a_watch_line_is_an_event_a_bookmark_or_a_refusal() -> None:
    event = decode_line(b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}', decode)
    assert isinstance(event, WatchEvent)
    assert event.object.metadata.name == "a"
    end = b'{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}'
    assert decode_line(b'{"type":"BOOKMARK","object":' + end + b"}", decode) == Bookmark("7", ends_initial_list=True)
    status = decode_line(b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}', decode)
    assert isinstance(status, bytes)
    assert isinstance(error_from(0, status), Gone)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type":"NEW","object":{}}', b"\xff", b'{"type":"ADDED","object":{}}'])
def test_a_line_that_says_nothing_is_undecodable(line: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_line(line, decode)


def test_an_object_that_does_not_fit_is_told_apart_from_the_others() -> None:
    good, bad = {"metadata": {"name": "good"}}, {"metadata": {"name": "bad"}, "spec": {"activeDeadlineSeconds": "x"}}
    page = decode_page(json.dumps({"metadata": {"resourceVersion": "5"}, "items": [bad, good]}).encode(), decode)
    assert [item.metadata.name for item in page.items] == ["good"]
    assert [entry.metadata.name for entry in page.unreadable] == ["bad"]
    line = json.dumps({"type": "MODIFIED", "object": bad}).encode()
    event = decode_line(line, decode)
    assert isinstance(event, WatchEvent)
    assert isinstance(event.object, Unreadable)


def test_an_answer_becomes_the_error_that_callers_tell_apart() -> None:
    assert type(error_from(409, b'{"reason":"AlreadyExists"}')) is AlreadyExists
    assert type(error_from(409, b'{"reason":"Conflict"}')) is Conflict
    busy = error_from(429, b"", "7")
    assert isinstance(busy, TooManyRequests)
    assert busy.retry_after == 7
    broken = error_from(502, b"<html>Bad Gateway</html>")
    assert isinstance(broken, ServerError)
    assert "Bad Gateway" in broken.message


def test_a_merge_patch_says_only_what_changes() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "e": 5}
    new = {"a": 1, "b": {"c": 1, "d": 3}, "f": [1]}
    assert merge_diff(old, new) == {"b": {"d": 3}, "e": None, "f": [1]}
    assert merge_diff(new, new) == {}


def test_a_store_says_what_changed() -> None:
    store = Store[Job]({"uid": lambda item: item.metadata.uid})
    assert [delta.change for delta in store.put(job("a"))] == [Change.ADDED]
    assert store.put(job("a")) == ()
    assert [delta.change for delta in store.put(job("a", version="2"))] == [Change.UPDATED]
    changes = [(delta.change, delta.object.metadata.uid) for delta in store.put(job("a", uid="u2"))]
    assert changes == [(Change.DELETED, "u1"), (Change.ADDED, "u2")]
    assert store.by("uid", "u1") == ()
    assert [item.metadata.name for item in store.by("uid", "u2")] == ["a"]


def test_a_list_deletes_what_it_no_longer_has_but_not_what_could_not_be_read() -> None:
    store = Store[Job]()
    store.replace([job("a"), job("b"), job("c")])
    deltas = store.replace([job("a")], keep=["c"])
    assert [(delta.change, delta.object.metadata.name) for delta in deltas] == [(Change.DELETED, "b")]
    assert {item.metadata.name for item in store} == {"a", "c"}
