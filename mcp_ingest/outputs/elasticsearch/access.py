"""Who asks, and what is answered: values that need no HTTP client."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from mcp_ingest.component import FromFile


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

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that a certificate or a secret is read from."""
        secrets = (self.username, self.password, self.api_key, *self.hosts)
        certificates = (self.ca_file, self.client_certificate, self.client_key)
        named = [path for secret in secrets if isinstance(secret, FromFile) for path in secret.files]
        return tuple(dict.fromkeys([*named, *(path for path in certificates if path is not None)]))

    def headers(self) -> dict[str, str]:
        """What every request carries, by the secrets as their files have them now."""
        if self.api_key is not None:
            return {"authorization": f"ApiKey {_now(self.api_key)}"}
        user, password = self._user()
        if user is None:
            return {}
        return {"authorization": "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()}

    def _user(self) -> tuple[str | None, str | None]:
        if self.username is not None:
            return _now(self.username), None if self.password is None else _now(self.password)
        url = urlsplit(_now(self.hosts[0]))
        return (unquote(url.username), unquote(url.password or "")) if url.username else (None, None)


def _now(secret: str) -> str:
    return secret.now() if isinstance(secret, FromFile) else secret


def _without_credentials(host: str) -> str:
    scheme, _, rest = host.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/")
