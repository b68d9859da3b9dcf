"""The proxy does to requests what each fault says, and nothing to others."""

import gc
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any

import pytest

from tests.faults.proxy import (
    Fault,
    FaultProxy,
    Request,
    answer,
    call,
    cut,
    cut_body,
    delay,
    everything,
    fault_proxy,
    inject,
    refuse,
    stall,
    stall_body,
)
from tests.servers.apiserver import ControlPlane
from tests.servers.process import LOOPBACK, free_port

PATIENCE = 0.5
"""Seconds after which what did not come is taken never to come."""
LINE = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}\n'


@dataclass(frozen=True)
class Caller:
    """Deals with the ConfigMaps of one namespace."""

    server: str
    token: str
    namespace: str
    trust: ssl.SSLContext

    @contextmanager
    def sent(
        self, method: str, name: str = "", body: object = None, *, timeout: float = 10, encoding: str = "identity"
    ) -> Iterator[HTTPConnection]:
        """Send a request; yield what its answer comes from. `name` may have a query."""
        scheme, _, address = self.server.partition("://")
        connection = (
            HTTPSConnection(address, timeout=timeout, context=self.trust)
            if scheme == "https"
            else HTTPConnection(address, timeout=timeout)
        )
        headers = {
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "caller",
            "Content-Type": "application/json",
            "Accept-Encoding": encoding,
        }
        path = f"/api/v1/namespaces/{self.namespace}/configmaps{name}"
        with closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            yield connection

    @contextmanager
    def asking(self, *args: Any, **kwargs: Any) -> Iterator[HTTPResponse]:
        """Send a request; yield the response."""
        with self.sent(*args, **kwargs) as connection, connection.getresponse() as response:
            yield response

    def ask(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        """Send a request; return status and object of the response."""
        with self.asking(*args, **kwargs) as response:
            return response.status, json.loads(response.read())

    def create(self, name: str, *, timeout: float = 10, **data: str) -> int:
        return self.ask("POST", "", {"metadata": {"name": name}, "data": data}, timeout=timeout)[0]

    def exists(self, name: str) -> bool:
        return self.ask("GET", f"/{name}")[0] == 200

    def watching(self, name: str) -> AbstractContextManager[HTTPResponse]:
        return self.asking("GET", f"?watch=true&fieldSelector=metadata.name%3D{name}", timeout=PATIENCE)


@pytest.fixture(scope="module")
def account(control_plane: ControlPlane) -> Iterator[Caller]:
    """What may edit in a namespace of its own and talks to the API server itself."""
    with control_plane.namespace() as namespace:

        def kubectl(*args: str) -> str:
            return control_plane.kubectl("-n", namespace, *args).strip()

        kubectl("create", "serviceaccount", "caller")
        kubectl("create", "rolebinding", "caller", "--clusterrole=edit", f"--serviceaccount={namespace}:caller")
        trust = ssl.create_default_context(cafile=control_plane.authority.certificate)
        account = Caller(control_plane.server, kubectl("create", "token", "caller"), namespace, trust)
        until(lambda: account.ask("GET")[0] == 200)
        yield account


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy(control_plane) as proxy:
        yield proxy
    gc.collect()  # what was left open is complained about here


@pytest.fixture
def caller(account: Caller, proxy: FaultProxy) -> Caller:
    """What talks to the proxy."""
    return replace(account, server=proxy.server)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def creates(request: Request) -> bool:
    return request.verb == "create"


def watches(request: Request) -> bool:
    return request.verb == "watch"


def test_requests_are_carried_out_and_seen(proxy: FaultProxy, caller: Caller) -> None:
    began = time.monotonic()
    assert caller.create("plain", key="ä") == 201
    assert caller.ask("GET", "/plain")[1]["data"] == {"key": "ä"}
    assert caller.ask("GET", "?limit=1&labelSelector=a%3Db%2Cc")[1]["items"] == []
    seen = proxy.seen()
    assert [(str(entry.request), entry.status) for entry in seen] == [
        ("create configmaps", 201),
        ("get configmaps plain", 200),
        ("list configmaps", 200),
    ]
    assert {entry.request.agent for entry in seen} == {"caller"}
    assert began < seen[0].at < seen[1].at < time.monotonic()
    assert proxy.seen(creates) == seen[:1]
    assert proxy.seen(since=seen[2].at) == seen[2:]


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/api/v1/namespaces", "list namespaces"),
        ("GET", "/api/v1/namespaces/a", "get namespaces a"),
        ("PUT", "/api/v1/namespaces/a/finalize", "update namespaces/finalize a"),
        ("PATCH", "/apis/batch/v1/namespaces/a/jobs/b/status?force=true", "patch jobs/status b"),
        ("DELETE", "/apis/batch/v1/namespaces/a/jobs/b", "delete jobs b"),
        ("GET", "/apis/batch/v1/jobs?watch=1", "watch jobs"),
        ("GET", "/apis/batch/v1", "get"),
        ("GET", "/readyz", "get"),
    ],
)
def test_requests_are_told_apart_by_what_they_are_about(proxy: FaultProxy, method: str, path: str, meant: str) -> None:
    proxy.add(answer(everything, 418))
    with closing(HTTPConnection(proxy.server.removeprefix("http://"), timeout=10)) as connection:
        connection.request(method, path)
        connection.getresponse().close()
    (seen,) = proxy.seen()
    assert (str(seen.request), seen.request.writes) == (meant, method != "GET")


def test_a_caller_has_its_own_rights(caller: Caller) -> None:
    assert replace(caller, token="no-such-token").ask("GET")[0] == 401
    assert replace(caller, namespace="kube-system").ask("GET")[0] == 403


def test_bodies_stay_compressed(account: Caller, caller: Caller) -> None:
    caller.create("compressed", data="x" * 900_000)
    bodies = []
    for one in (account, caller):
        with one.asking("GET", "/compressed", encoding="gzip") as response:
            bodies.append((response.headers["Content-Encoding"], response.read()))
    assert bodies[0] == bodies[1]
    assert bodies[0][0] == "gzip"


def test_a_watch_comes_as_it_happens(caller: Caller) -> None:
    with caller.watching("watched") as stream:
        caller.create("watched")
        assert json.loads(stream.readline())["type"] == "ADDED"


def test_a_caller_that_hangs_up_ends_its_watch_at_the_server(control_plane: ControlPlane, caller: Caller) -> None:
    def watchers() -> int:
        series = 'resource="configmaps",scope="resource",subresource="",verb="WATCH",version="v1"}'
        metrics = control_plane.kubectl("get", "--raw=/metrics").splitlines()
        counts = [line for line in metrics if line.startswith("apiserver_longrunning_requests") and series in line]
        return sum(int(line.rpartition(" ")[2]) for line in counts)

    with caller.watching("absent"):
        meanwhile = watchers()
    until(lambda: watchers() < meanwhile)


def test_a_refused_request_is_not_carried_out(proxy: FaultProxy, caller: Caller) -> None:
    fault = proxy.add(refuse(creates, times=1))
    with pytest.raises(ConnectionError):
        caller.create("refused")
    assert not caller.exists("refused")
    assert caller.create("refused") == 201
    assert fault.acted == 1
    assert [entry.status for entry in proxy.seen(creates)] == [0, 201]


@pytest.mark.parametrize(("name", "applied"), [("cut-before", False), ("cut-after", True)])
def test_an_answer_is_cut_before_or_after_the_request_is_carried_out(
    proxy: FaultProxy, caller: Caller, name: str, applied: bool
) -> None:
    proxy.add(cut(creates, applied=applied))
    with pytest.raises(ConnectionError):
        caller.create(name)
    assert caller.exists(name) == applied


@pytest.mark.parametrize(("name", "applied"), [("stalled-before", False), ("stalled-after", True)])
def test_a_stalled_request_is_never_answered(proxy: FaultProxy, caller: Caller, name: str, applied: bool) -> None:
    proxy.add(stall(creates, applied=applied))
    with pytest.raises(TimeoutError):
        caller.create(name, timeout=PATIENCE)
    assert caller.exists(name) == applied


@pytest.mark.parametrize("applied", [False, True])
def test_a_stalled_request_is_cut_when_faults_are_cleared(proxy: FaultProxy, caller: Caller, applied: bool) -> None:
    proxy.add(stall(creates, applied=applied))
    with caller.sent("POST", body={}) as connection:
        until(proxy.seen)
        proxy.clear()
        with pytest.raises(ConnectionError):
            connection.getresponse()
    assert caller.create(f"cleared-{applied}".lower()) == 201


def test_a_request_is_cut_that_would_stall_just_after_faults_are_cleared(proxy: FaultProxy, caller: Caller) -> None:
    def clear_and_match(_: Request) -> bool:
        proxy.clear()
        return True

    proxy.add(stall(clear_and_match))
    with pytest.raises(ConnectionError):
        caller.create("late")


@pytest.mark.parametrize("after", [10, 700_000])
def test_a_body_is_cut(proxy: FaultProxy, caller: Caller, after: int) -> None:
    caller.create("large", data="x" * 900_000)
    proxy.add(cut_body(everything, after))
    with caller.asking("GET", "/large") as response, pytest.raises(IncompleteRead) as incomplete:
        response.read()
    assert len(incomplete.value.partial) == after
    assert proxy.seen()[-1].status == 200


def test_a_body_stalls(proxy: FaultProxy, caller: Caller) -> None:
    proxy.add(stall_body(everything, 10))
    with caller.asking("GET", timeout=PATIENCE) as response:
        assert response.read(10) == b'{"kind":"C'
        with pytest.raises(TimeoutError):
            response.read(1)


@pytest.mark.parametrize(("fault", "end"), [(cut_body, IncompleteRead), (stall_body, TimeoutError)])
def test_a_watch_is_cut_or_stalls_before_the_first_event(
    proxy: FaultProxy, caller: Caller, fault: Callable[[Any, int], Fault], end: type[Exception]
) -> None:
    proxy.add(fault(watches, 0))
    with caller.watching("absent") as stream, pytest.raises(end):
        stream.read(1)


def test_a_delayed_request_is_carried_out_later(proxy: FaultProxy, caller: Caller) -> None:
    proxy.add(delay(everything, 0.3))
    began = time.monotonic()
    assert caller.create("delayed") == 201
    assert time.monotonic() - began > 0.3


def test_a_made_up_answer_is_a_status(proxy: FaultProxy, caller: Caller) -> None:
    proxy.add(answer(creates, 429, "TooManyRequests", "later", retry_after=3))
    with caller.asking("POST", body={"metadata": {"name": "made-up"}}) as response:
        status = json.loads(response.read())
    assert (response.status, response.headers["Retry-After"]) == (429, "3")
    assert (status["kind"], status["code"], status["reason"], status["message"]) == (
        *("Status", 429, "TooManyRequests", "later"),
    )
    assert proxy.seen()[0].status == 429
    assert not caller.exists("made-up")


def test_lines_are_injected_at_the_head_of_a_watch(proxy: FaultProxy, caller: Caller) -> None:
    caller.create("behind")
    proxy.add(inject(watches, LINE, b"{}\n"))
    with caller.watching("behind") as stream:
        assert [stream.readline(), stream.readline()] == [LINE, b"{}\n"]
        assert json.loads(stream.readline())["type"] == "ADDED"


@pytest.mark.parametrize(("name", "applied"), [("called-before", False), ("called-after", True)])
def test_a_function_is_called_and_the_answer_cut(
    proxy: FaultProxy, account: Caller, caller: Caller, name: str, applied: bool
) -> None:
    calls: list[tuple[str, bool]] = []
    proxy.add(call(creates, lambda request: calls.append((str(request), account.exists(name))), applied=applied))
    with pytest.raises(ConnectionError):
        caller.create(name)
    assert calls == [("create configmaps", applied)]
    assert caller.exists(name) == applied


def test_a_function_that_is_called_can_use_the_proxy(proxy: FaultProxy, caller: Caller) -> None:
    proxy.add(call(creates, lambda _: proxy.close_port(), applied=True))
    with pytest.raises(ConnectionError):
        caller.create("last-words")
    with pytest.raises(ConnectionRefusedError):
        caller.exists("last-words")
    proxy.open_port()
    assert caller.exists("last-words")


def test_the_first_fault_that_is_not_used_up_acts(proxy: FaultProxy, caller: Caller) -> None:
    for status in (500, 503):
        proxy.add(answer(everything, status, times=1))
    assert [caller.ask("GET")[0] for _ in range(3)] == [500, 503, 200]


@contextmanager
def watching(proxy: FaultProxy, caller: Caller, name: str = "absent") -> Iterator[HTTPResponse]:
    """Open a watch and see that what is injected comes."""
    with caller.watching(name) as stream:
        until(lambda: proxy.inject(watches, LINE))
        assert stream.readline() == LINE
        yield stream


def test_lines_are_injected_into_open_watches(proxy: FaultProxy, caller: Caller) -> None:
    with watching(proxy, caller, "injected") as stream:
        assert proxy.inject(creates, b"{}\n") == 0
        assert proxy.inject(watches, LINE, b"{}\n") == 1
        assert [stream.readline(), stream.readline()] == [LINE, b"{}\n"]
        caller.create("injected")
        assert json.loads(stream.readline())["type"] == "ADDED"
    until(lambda: proxy.inject(watches, LINE) == 0)


def test_open_watches_are_cut(proxy: FaultProxy, caller: Caller) -> None:
    with watching(proxy, caller) as stream:
        assert proxy.cut_streams(creates) == 0
        assert proxy.cut_streams(watches) == 1
        with pytest.raises(IncompleteRead):
            stream.read()
    assert proxy.cut_streams(watches) == 0


def test_silenced_watches_say_nothing_more(proxy: FaultProxy, caller: Caller) -> None:
    with watching(proxy, caller, "unheard-of") as stream:
        assert proxy.silence(creates) == 0
        assert proxy.silence(watches, LINE[:9]) == 1
        assert proxy.silence(watches) == proxy.inject(watches, LINE) == 0
        caller.create("unheard-of")
        assert stream.read(9) == LINE[:9]
        with pytest.raises(TimeoutError):
            stream.read(1)


def test_silenced_watches_are_cut_when_faults_are_cleared(proxy: FaultProxy, caller: Caller) -> None:
    with watching(proxy, caller) as stream:
        proxy.clear()
        proxy.silence(watches)
        with pytest.raises(TimeoutError):
            stream.read(1)
    with watching(proxy, caller) as stream:
        proxy.silence(watches)
        proxy.clear()
        with pytest.raises(IncompleteRead):
            stream.read()


def test_a_closed_port_cuts_what_is_open_and_refuses_what_is_new(proxy: FaultProxy, caller: Caller) -> None:
    with watching(proxy, caller) as stream:
        proxy.close_port()
        with pytest.raises(IncompleteRead):
            stream.read()
    with pytest.raises(ConnectionRefusedError):
        caller.ask("GET")
    proxy.open_port()
    assert caller.ask("GET")[0] == 200


def test_a_server_that_is_away_gives_no_answer(control_plane: ControlPlane, account: Caller) -> None:
    away = replace(control_plane, server=f"https://{LOOPBACK}:{free_port()}")
    with fault_proxy(away) as proxy, pytest.raises(ConnectionError):
        replace(account, server=proxy.server).ask("GET")


def test_a_watch_that_the_server_cuts_is_cut_for_the_caller(control_plane: ControlPlane, account: Caller) -> None:
    pair = control_plane.authority.server("server")
    with (
        fault_proxy(control_plane, tls=pair) as server,
        fault_proxy(replace(control_plane, server=server.server)) as proxy,
        watching(proxy, replace(account, server=proxy.server)) as stream,
    ):
        server.close_port()
        with pytest.raises(IncompleteRead):
            stream.read()


def test_new_connections_are_served_with_the_latest_certificate(control_plane: ControlPlane, account: Caller) -> None:
    def serial(server: str) -> object:
        address = LOOPBACK, int(server.rpartition(":")[2])
        with (
            socket.create_connection(address, timeout=10) as connection,
            account.trust.wrap_socket(connection, server_hostname=LOOPBACK) as wrapped,
        ):
            return (wrapped.getpeercert() or {})["serialNumber"]

    with fault_proxy(control_plane, tls=control_plane.authority.server("first")) as proxy:
        first = serial(proxy.server)
        with watching(proxy, replace(account, server=proxy.server)) as stream:
            proxy.serve_with(control_plane.authority.server("second"))
            assert serial(proxy.server) != first
            assert proxy.inject(watches, LINE) == 1
            assert stream.readline() == LINE


@pytest.mark.parametrize("tls", [False, True])
def test_it_stops_at_once_whatever_is_going_on(control_plane: ControlPlane, account: Caller, tls: bool) -> None:
    pair = control_plane.authority.server("proxy") if tls else None
    with ExitStack() as connections:
        with fault_proxy(control_plane, tls=pair) as proxy:
            caller = replace(account, server=proxy.server)
            proxy.add(stall(creates))
            connections.enter_context(watching(proxy, caller))
            connections.enter_context(caller.sent("POST"))
            idle = connections.enter_context(caller.sent("GET"))
            idle.getresponse().read()
            until(lambda: proxy.seen(creates))
            began = time.monotonic()
        assert time.monotonic() - began < 1
    gc.collect()
