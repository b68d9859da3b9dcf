"""What goes wrong, drawn at random: one fault after the other, each for a few seconds; or something done by hand."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from pathlib import Path
from random import Random, random
from typing import Any

from kubedr_ctrl.api.names import JOB_FINALIZER, OWNER_UID_ANNOTATION, RECORDED_ANNOTATION, RESULT_ANNOTATION
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.resources import JOBS, PODS, POLICIES
from soak.audit import Deletion
from soak.cluster import LEASE_SECONDS, Candidate, Cluster
from soak.kubelet import Object
from tests.faults.proxy import Fault, FaultProxy, Match, Request, answer, cut, cut_body, delay, refuse, stall
from tests.servers.apiserver import ApiError

_HALF_A_LINE = b'{"type":"MODIFIED","object":{"kind":"Job","metadata":{"na'
_BY_HAND = 0.4
"""How often something is done by hand while a fault lasts."""

Lasting = Callable[[], AbstractContextManager[str]]
"""Lasts until the block is left; yields who is concerned."""
ByHand = Callable[[], str]
"""Returns what was done."""


def anything(_: Request) -> bool:
    """Match every other request; all would be no more than an outage."""
    return random() < 0.5


def answered(request: Request) -> bool:
    """Match every other request that is no watch."""
    return request.verb != "watch" and random() < 0.5


def writes(request: Request) -> bool:
    """Match every other write."""
    return request.writes and random() < 0.5


def watches(request: Request) -> bool:
    """Match watches."""
    return request.verb == "watch"


def _answer(match: Match, status: HTTPStatus, reason: str, retry_after: int | None = None) -> Fault:
    return answer(match, status, reason, "made up", retry_after=retry_after)


AT_PROXY: dict[str, Callable[[FaultProxy], object]] = {
    "requests cut": lambda proxy: proxy.add(refuse(anything)),
    "requests stalled": lambda proxy: proxy.add(stall(anything)),
    "requests delayed": lambda proxy: proxy.add(delay(anything, 1.5)),
    "answers cut in the middle": lambda proxy: proxy.add(cut_body(answered, 200)),
    "409": lambda proxy: proxy.add(_answer(writes, HTTPStatus.CONFLICT, "Conflict")),
    "429": lambda proxy: proxy.add(_answer(anything, HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests")),
    "429 with Retry-After": lambda proxy: proxy.add(
        _answer(anything, HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", retry_after=2)
    ),
    "500": lambda proxy: proxy.add(_answer(anything, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError")),
    "writes applied, answers cut": lambda proxy: proxy.add(cut(writes, applied=True)),
    "writes applied, answers stalled": lambda proxy: proxy.add(stall(writes, applied=True)),
    "watches cut": lambda proxy: proxy.cut_streams(watches),
    "watches silent": lambda proxy: proxy.silence(watches),
    "watches silent in the middle of a line": lambda proxy: proxy.silence(watches, _HALF_A_LINE),
    "garbage in watches": lambda proxy: proxy.inject(watches, b"garbage\n", b"{}\n"),
    "half a line in watches": lambda proxy: proxy.inject(watches, _HALF_A_LINE),
}
"""What is over when the proxy's faults are cleared."""


class Faults:
    """Has something go wrong, time and again."""

    def __init__(self, cluster: Cluster, rng: Random, log: Path, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._rng = rng
        self._picks = Random(rng.random())  # how often it is asked depends on what there is
        self._log = log
        self._say = say
        self.deletions: list[Deletion] = []
        self.happened = 0
        self._lasting: dict[str, Lasting] = {
            "API server refuses": lambda: self._at_proxy(FaultProxy.close_port, FaultProxy.open_port),
            "API server restarted": self._restarted,
            "API server restarted, etcd compacted": lambda: self._restarted(self._cluster.compact),
            "controller killed": lambda: self._ended(signal.SIGKILL),
            "controller terminated": lambda: self._ended(signal.SIGTERM),
            "controller stopped": self._stopped,
            **{name: partial(self._at_proxy, begin) for name, begin in AT_PROXY.items()},
        }
        self._by_hand: dict[str, ByHand] = {
            "Jobs deleted while they run": lambda: self._delete_jobs(ended=False),
            "Jobs deleted after they ended": lambda: self._delete_jobs(ended=True),
            "pods deleted after they ended": self._delete_pods,
            "policy deleted and created anew": self._replace_policy,
            "etcd compacted": self._compact,
        }

    def happen(self) -> None:
        """Have one thing go wrong, and wait until it is over."""
        name = self._rng.choice([*self._lasting, *self._by_hand])
        if name in self._by_hand:
            self._do_by_hand(name)
        else:
            seconds = self._rng.uniform(2, 6)
            with self._lasting[name]() as whom:
                self._say(f"{name} ({whom}, {seconds:.1f} s)")
                time.sleep(seconds / 2)
                if self._rng.random() < _BY_HAND:
                    self._do_by_hand(self._rng.choice([*self._by_hand]))
                time.sleep(seconds / 2)
        self.happened += 1

    def _do_by_hand(self, name: str) -> None:
        self._say(f"{name} ({self._by_hand[name]()})")

    # What lasts.

    def _some(self) -> tuple[Candidate, ...]:
        """Draw one replica or both."""
        return tuple(self._rng.choice([*((one,) for one in self._cluster.candidates), self._cluster.candidates]))

    @contextmanager
    def _at_proxy(
        self, begin: Callable[[FaultProxy], object], end: Callable[[FaultProxy], object] = FaultProxy.clear
    ) -> Iterator[str]:
        some = self._some()
        for candidate in some:
            begin(candidate.proxy)
        yield _names(some)
        for candidate in some:
            end(candidate.proxy)

    @contextmanager
    def _restarted(self, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
        server = self._cluster.instance.plane.apiserver
        assert server._process
        server._process.kill()  # the longer it takes, the longer kube-controller-manager backs off, and no Job runs
        server.stop()
        meanwhile()
        time.sleep(self._rng.uniform(0, 2))
        server.start()
        yield "all"

    @contextmanager
    def _ended(self, number: signal.Signals) -> Iterator[str]:
        some = self._some()
        for candidate in some:
            candidate.replica.stop(number)
        yield _names(some)
        for candidate in some:
            candidate.start()

    @contextmanager
    def _stopped(self) -> Iterator[str]:
        candidate = self._rng.choice(self._cluster.candidates)
        candidate.replica.send(signal.SIGSTOP)
        time.sleep(LEASE_SECONDS)
        yield candidate.replica.name
        candidate.replica.send(signal.SIGCONT)

    # What is done by hand.

    def _compact(self) -> str:
        self._cluster.compact()
        return "to the latest revision"

    def _replace_policy(self) -> str:
        name = self._rng.choice(self._cluster.policies)
        self._cluster.request("DELETE", POLICIES, name)
        time.sleep(self._rng.choice([0, 0, 2]))
        self._cluster.apply(name)
        return name

    def _delete_jobs(self, *, ended: bool) -> str:
        return self._delete(JOBS, [(job, job) for job in self._cluster.backups() if has_ended(job) == ended])

    def _delete_pods(self) -> str:
        jobs = {job["metadata"]["uid"]: job for job in self._cluster.backups()}
        ended = [pod for pod in self._cluster.all(PODS) if pod["status"]["phase"] in ("Succeeded", "Failed")]
        owners = [jobs.get(pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"]) for pod in ended]
        return self._delete(PODS, [(pod, job) for pod, job in zip(ended, owners, strict=True) if job])

    def _delete(self, resource: Resource[Any], found: list[tuple[Object, Object]]) -> str:
        """Delete up to three of the objects, unless they change meanwhile; each comes with its Job."""
        names = []
        for one, job in self._picks.sample(found, min(3, len(found))):
            meta, about = one["metadata"], job["metadata"]
            preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            options = {"propagationPolicy": "Background", "preconditions": preconditions}
            try:
                self._cluster.request("DELETE", resource, meta["name"], options)
            except ApiError:
                continue
            annotations = about["annotations"]
            recorded = RECORDED_ANNOTATION in annotations
            deletion = Deletion(
                job=about["uid"],
                owner_uid=annotations[OWNER_UID_ANNOTATION],
                counted=resource is PODS or recorded or JOB_FINALIZER in about.get("finalizers", ()),
                certain=recorded or RESULT_ANNOTATION in annotations or (resource is JOBS and has_ended(job)),
            )
            self.deletions.append(deletion)
            with self._log.open("a") as log:
                log.write(json.dumps({"name": meta["name"], "at": time.time(), **asdict(deletion)}) + "\n")
            names.append(meta["name"])
        return ", ".join(names) or "none"


def has_ended(job: Object) -> bool:
    """Return whether Kubernetes says that the Job has ended."""
    conditions = job["status"].get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def _names(candidates: Sequence[Candidate]) -> str:
    return " and ".join(candidate.replica.name for candidate in candidates)
