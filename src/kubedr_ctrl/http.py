"""What the controller serves over HTTP: /metrics, /livez and /readyz."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serve(
    port: int, *, metrics: Callable[[], bytes], content_type: str, unready: Callable[[], str]
) -> AsyncIterator[int]:
    """Serve until the block ends; yield the port. `unready` says what is still missing, empty if nothing."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": content_type})

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        missing = unready()
        return web.Response(status=503, text=missing + "\n") if missing else web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", show_metrics), web.get("/livez", live), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, port=port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
