"""Who asks, and what is answered: values that need no HTTP client."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are and what they may know and must prove; `None` is "not that way"."""

    hosts: tuple[str, ...]
    username: str | None = None
    password: str | None = None
    api_key: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    verify: bool = True
    connections: int = 4

    @property
    def peer(self) -> str:
        """The servers as a reader knows them, without credentials."""
        return "Elasticsearch at " + ", ".join(_without_credentials(host) for host in self.hosts)

    @property
    def login(self) -> str:
        """Who asks."""
        if self.api_key is not None:
            return "the API key"
        user, _ = self._user()
        return "a request without credentials" if user is None else f"user {user}"

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        if self.api_key is not None:
            return {"authorization": f"ApiKey {self.api_key}"}
        user, password = self._user()
        if user is None:
            return {}
        return {"authorization": "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()}

    def _user(self) -> tuple[str | None, str | None]:
        if self.username is not None:
            return self.username, self.password
        url = urlsplit(self.hosts[0])
        return (unquote(url.username), unquote(url.password or "")) if url.username else (None, None)


def _without_credentials(host: str) -> str:
    scheme, _, rest = host.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/")
