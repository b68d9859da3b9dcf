"""Who may read a path that we serve, by the word of the API server: TokenReview, then SubjectAccessReview.

- What was decided is kept as long as kube-apiserver keeps the answers of an authorization webhook
  (`--authorization-webhook-cache-authorized-ttl`, `…-unauthorized-ttl`), and controller-runtime those for /metrics.
- While the API server cannot be asked, a token that was allowed lately goes on being so: monitoring has to see the
  outage.
- Tokens that nobody knows cost the API server little: one review for all requests with the same token, few at once,
  and none of them pushes out what is known of a good token.
- Tokens are neither kept nor logged: what is known of one is found by its HMAC.
"""

import asyncio
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, TypeVar

import msgspec

from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.errors import ApiError, Forbidden, ServerError, TooManyRequests, Undecodable, Unreachable
from kubedr_ctrl.kube.objects import ObjectMeta

log = logging.getLogger(__name__)

V = TypeVar("V")

ALLOWED = 300.0
"""Seconds until a token that was allowed is asked for again."""
REFUSED = 30.0
"""Seconds until one that was refused is."""
OUTAGE = 3600.0
"""Seconds since it was last allowed for which a token is let in while the API server cannot be asked."""
KEPT = 128
"""Tokens of which it is known that they are allowed, and as many that are refused."""
AT_ONCE = 8
"""Reviews in progress, of tokens that were not allowed lately."""
PATIENCE = 5.0
"""Seconds for a review; Prometheus waits for 10."""

_BEARER = re.compile(r"bearer +([\w.~+/-]+=*) *", re.ASCII | re.IGNORECASE)


class UserInfo(msgspec.Struct, frozen=True):
    """Kubernetes' authentication.k8s.io/v1 UserInfo, whose fields a SubjectAccessReview has as well."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class ReviewStatus(msgspec.Struct, frozen=True):
    """What a TokenReview (`authenticated`, `user`) or a SubjectAccessReview (`allowed`) is answered with."""

    authenticated: bool = False
    user: UserInfo = UserInfo()
    allowed: bool = False


class Review(msgspec.Struct, frozen=True):
    """Either of the two: the server stores neither, so that they have no name."""

    metadata: ClassVar[ObjectMeta] = ObjectMeta("")
    status: ReviewStatus = ReviewStatus()


_DECODE = msgspec.json.Decoder(Review).decode
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", _DECODE)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", _DECODE)


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served."""

    status: HTTPStatus
    message: str


NO_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "this asks for the header 'Authorization: Bearer …' with a token")
BAD_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "the API server does not accept this token: it is wrong, or has expired")
BUSY = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many tokens are being reviewed; try again")
UNKNOWN = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "the API server cannot be asked about this token; the controller's log has more"
)


class Reviewer:
    """Decides who may `get` one path."""

    def __init__(self, client: Client, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._path = path
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._allowed: dict[bytes, float] = {}
        """When each was last found allowed."""
        self._refused: dict[bytes, tuple[float, Refusal]] = {}
        self._reviewing: dict[bytes, asyncio.Future[Refusal | None]] = {}
        self._said = ""

    async def refusal(self, authorization: str) -> Refusal | None:
        """Return why a request with this header `Authorization` is not to be served; None if it is."""
        match = _BEARER.fullmatch(authorization)
        if not match:
            return NO_TOKEN
        token = match[1]
        key = hmac.digest(self._salt, token.encode(), "sha256")
        if self._age(key) < ALLOWED:
            return None
        since, refusal = self._refused.get(key, (-math.inf, None))
        if self._clock() - since < REFUSED:
            return refusal
        if reviewing := self._reviewing.get(key):
            return await asyncio.shield(reviewing)
        if len(self._reviewing) >= AT_ONCE and key not in self._allowed:
            return BUSY
        reviewing = self._reviewing[key] = asyncio.get_running_loop().create_future()
        try:
            decision = await self._decide(key, token)
            reviewing.set_result(decision)
            return decision
        finally:
            del self._reviewing[key]
            reviewing.cancel()  # where there is no decision, as this request was cancelled

    async def _decide(self, key: bytes, token: str) -> Refusal | None:
        """Return what the API server says, and keep it; what it said lately, where it cannot be asked."""
        try:
            async with asyncio.timeout(PATIENCE):
                refusal = await self._review(token)
        except (ApiError, Undecodable, Unreachable, TimeoutError) as error:
            self._complain(error)
            return None if self._age(key) < OUTAGE else UNKNOWN
        self._said = ""
        if refusal is None:
            _keep(self._allowed, key, self._clock())
        else:
            self._allowed.pop(key, None)
            _keep(self._refused, key, (self._clock(), refusal))
        return refusal

    async def _review(self, token: str) -> Refusal | None:
        """Ask the API server."""
        if self._client.outage.lasts:  # when it is over, other requests find out
            msg = "the API server does not serve"
            raise Unreachable(msg)
        bearer = await self._ask(TOKEN_REVIEWS, token=token)
        if not bearer.authenticated:
            return BAD_TOKEN
        user, read = bearer.user, {"path": self._path, "verb": "get"}
        access = await self._ask(
            ACCESS_REVIEWS,
            user=user.username, uid=user.uid, groups=user.groups, extra=user.extra, nonResourceAttributes=read,
        )  # fmt: skip
        if access.allowed:
            return None
        missing = f"a ClusterRole with nonResourceURLs [{self._path}], verb get"
        return Refusal(HTTPStatus.FORBIDDEN, f"{user.username} may not read {self._path}: bind it to {missing}")

    async def _ask(self, kind: Resource[Review], **spec: object) -> ReviewStatus:
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
        return (await self._client.create(kind, None, manifest)).status

    def _age(self, key: bytes) -> float:
        """Return for how long it has been since the token was found allowed."""
        return self._clock() - self._allowed.get(key, -math.inf)

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong, unless the client says so itself."""
        if isinstance(error, Unreachable | ServerError | TooManyRequests):
            return
        words = str(error) or f"no answer within {PATIENCE:.0f} s"
        if isinstance(error, Forbidden):
            words += "; bind the controller's ServiceAccount to ClusterRole system:auth-delegator"
        if words != self._said:
            self._said = words
            log.warning("who may read %s cannot be found out: %s", self._path, words)


def _keep(known: dict[bytes, V], key: bytes, value: V) -> None:
    """Keep `value` as the newest, and no more than `KEPT` of them."""
    known.pop(key, None)
    known[key] = value
    if len(known) > KEPT:
        del known[next(iter(known))]
