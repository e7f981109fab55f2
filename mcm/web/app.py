"""The web application: the page's own files, its stream, the REST side and the metrics behind one guard."""

import asyncio
import hashlib
import socket
from collections.abc import Collection
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from mcm.core.web_access import Access
from mcm.web.answers import Answers
from mcm.web.guard import guarded, prepare
from mcm.web.pages import Pages
from mcm.web.sampler import Sampler
from mcm.web.source import Source

__all__ = ["Dashboard"]

STATIC = Path(__file__).with_name("static")
MAX_BODY_BYTES = 1024 * 1024
METRICS_AGE_S = 1.0
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Dashboard:
    """All of it but the socket that it listens on.

    Attributes:
        pages: that are open; their :meth:`Pages.run` is to be kept running.
    """

    def __init__(self, run_dir: Path, token: str, hosts: Collection[str]) -> None:
        self._run_dir = run_dir
        self._access = Access(token, {*hosts, socket.gethostname()})
        self._source, self._sampler = Source(run_dir), Sampler(run_dir)
        self.pages = Pages(self._source, self._sampler)

    def application(self) -> web.Application:
        """With every route; starts the sampling thread."""
        self._sampler.start()
        app = web.Application(middlewares=[guarded(self._access)], client_max_size=MAX_BODY_BYTES)
        app.add_routes(Answers(self._source, self._sampler, self.pages).routes())
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/stream", self._stream, allow_head=False)
        for path in STATIC.iterdir():
            place = "/" if path.name == "index.html" else f"/static/{path.name}"
            app.router.add_get(place, _file(path))
        return app

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await self.pages.stream(request, prepare)

    async def _metrics(self, _: web.Request) -> web.Response:
        from mcm.web import metrics  # noqa: PLC0415  # 60 ms and 8 MB that only Prometheus needs

        self.pages.probe()
        sampler, pages = self._sampler, self.pages
        measured = metrics.Measured(
            await self._source.status(METRICS_AGE_S),
            self._run_dir,
            {name: recent.whole for name, recent in list(sampler.inside.items())},
            {name: recent.whole for name, recent in list(sampler.vendor.items())},
            len(pages),
            pages.waiting_bytes,
        )
        body = await asyncio.to_thread(metrics.text, measured)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _file(path: Path) -> Handler:
    """A file of the package, read once; browsers ask whether it has changed."""
    body, kind = path.read_bytes(), _KINDS[path.suffix]
    tag = hashlib.sha256(body).hexdigest()[:16]

    async def answer(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache", "ETag": f'"{tag}"'}
        if any(one.value == tag for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    return answer
