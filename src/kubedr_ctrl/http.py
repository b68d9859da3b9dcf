"""What the controller serves over HTTP or HTTPS: /metrics, /livez and /readyz."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import hdrs, web

from kubedr_ctrl.kube.review import Refusal

Guard = Callable[[str], Awaitable[Refusal | None]]
"""Says, by a request's header Authorization, why it is not to be served."""


@asynccontextmanager
async def serve(
    port: int,
    *,
    metrics: Callable[[], bytes],
    content_type: str,
    unready: Callable[[], str],
    wedged: Callable[[], str],
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve until the block ends; yield the port.

    `unready` says what is still missing, `wedged` what hangs and will not come right by itself; both are empty if
    nothing is. `guard` keeps /metrics, and nothing else; without it, everybody may read them.
    """

    async def show_metrics(request: web.Request) -> web.Response:
        if guard and (refusal := await guard(request.headers.get(hdrs.AUTHORIZATION, ""))):
            challenge = {hdrs.WWW_AUTHENTICATE: "Bearer"} if refusal.status is HTTPStatus.UNAUTHORIZED else {}
            return web.Response(status=refusal.status, text=refusal.message + "\n", headers=challenge)
        return web.Response(body=metrics(), headers={"Content-Type": content_type})

    def health(trouble: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            said = trouble()
            return web.Response(status=503, text=said + "\n") if said else web.Response(text="ok\n")

        return answer

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", show_metrics),
            web.get("/livez", health(wedged)),
            web.get("/readyz", health(unready)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, port=port, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
