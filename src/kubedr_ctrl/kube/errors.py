"""What a request to the API server can end in, one class for each thing that a caller treats differently."""

import msgspec


class ApiError(Exception):
    """The server answered, and the answer is no."""

    def __init__(self, status: int, reason: str = "", message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds the server asks to be left alone, where it says so."""


class Unauthorized(ApiError):
    """401: the credentials are not, or no longer, valid."""


class Forbidden(ApiError):
    """403: RBAC, a quota or an admission plugin says no."""


class NotFound(ApiError):
    """404: there is no such object, or no such kind."""


class Conflict(ApiError):
    """409: the object is no longer the one that was read."""


class AlreadyExists(ApiError):
    """409: an object of that name is there already."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token is too old; list anew."""


class Invalid(ApiError):
    """422 or 400: the object does not pass validation; trying again will not help."""


class TooManyRequests(ApiError):
    """429: the server is busy; wait for `retry_after`."""


class ServerError(ApiError):
    """5xx: the server or its etcd is in trouble."""


class Unreachable(Exception):
    """No answer: refused, cut, or silent for too long. A write may or may not have been applied."""


class Silent(Unreachable):
    """A watch said nothing for too long: idle, or half open."""


class NotLeading(Exception):
    """Nothing was sent, as only the leader may write and this is not, or no longer, the leader."""


class Undecodable(Exception):
    """The server sent something that is no JSON, or not of the shape that was asked for."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class Status(msgspec.Struct):
    """Kubernetes' metav1.Status, which carries a refusal both in responses and in watch streams."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(Status)


def error_from(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Return the error that a response stands for; `body` should be a Status and may be anything."""
    try:
        answer = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = Status(message=body[:300].decode(errors="replace").strip())
    code = status if status >= 400 else answer.code or 500
    kind = _BY_STATUS.get(code, ServerError if code >= 500 else ApiError)
    if kind is Conflict and answer.reason == "AlreadyExists":
        kind = AlreadyExists
    seconds = answer.details.retry_after_seconds if answer.details else None
    if retry_after and retry_after.isdigit():
        seconds = float(retry_after)
    return kind(code, answer.reason or "", answer.message or "", seconds)
