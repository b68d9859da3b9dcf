"""What the controller serves over HTTP: /metrics, /livez and /readyz."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serve(
    port: int, *, metrics: Callable[[], bytes], content_type: str, unready: Callable[[], str], wedged: Callable[[], str]
) -> AsyncIterator[int]:
    """Serve until the block ends; yield the port.

    `unready` says what is still missing, `wedged` what hangs and will not come right by itself; both are empty if
    nothing is.
    """

    async def show_metrics(_: web.Request) -> web.Response:
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
        site = web.TCPSite(runner, port=port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
