"""The address that the pages are served on; a reload may change it, and the token that they ask for."""

from __future__ import annotations

import errno

from aiohttp import web

from mcp_ingest.config.model import Configuration, HttpSettings
from mcp_ingest.errors import IngestError, refusal


class Site:
    """A neighbour of the graph in a reload: `settings` are those that hold now."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self._next = settings
        self._site: web.TCPSite | None = None
        self._old: web.TCPSite | None = None  # while another one is being tried

    async def open(self, runner: web.AppRunner) -> str:
        """Listen; where, as `http://127.0.0.1:24231`. IngestError says why not."""
        self._runner = runner
        self._site = await self._listen(self.settings)
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def prepare(self, config: Configuration) -> None:
        """See `Neighbour`: a new address is listened on beside the old one, or in its place where they overlap."""
        self._next, self._old = config.http, None
        if _address(config.http) == _address(self.settings) or self._site is None:
            return
        try:
            site = await self._listen(config.http)
        except IngestError as error:
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if not taken or config.http.port != self.settings.port:
                raise
            site = await self._in_place(config.http)
        self._old, self._site = self._site, site

    async def settle(self, *, taken: bool) -> None:
        """See `Neighbour`: connections that are open stay open."""
        if taken:
            self.settings = self._next
        elif self._old is not None:
            self._site, self._old = self._old, self._site
        old, self._old = self._old, None
        if old is not None and old in self._runner.sites:
            await old.stop()
        if self._site is not None and self._site not in self._runner.sites:  # it made room for one that was given up
            self._site = await self._listen(self.settings)

    async def _in_place(self, settings: HttpSettings) -> web.TCPSite:
        assert self._site is not None
        await self._site.stop()
        try:
            return await self._listen(settings)
        except IngestError:
            self._site = await self._listen(self.settings)
            raise

    async def _listen(self, settings: HttpSettings) -> web.TCPSite:
        site = web.TCPSite(self._runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            await site.stop()
            sentence = f"http: cannot listen on {settings.host}:{settings.port}: {refusal(error)}"
            raise IngestError(sentence) from error
        return site


def _address(settings: HttpSettings) -> tuple[str, int]:
    return settings.host, settings.port
