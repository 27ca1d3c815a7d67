"""What several verbs share: the option `-c`, and asking the daemon that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mcp_ingest.config.model import HttpSettings
from mcp_ingest.errors import IngestError

if TYPE_CHECKING:
    from urllib.error import HTTPError

F = TypeVar("F", bound=Callable[..., Any])

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  where a listener on all is reached


class RefusalError(IngestError):
    """The daemon refused; `answer` is what it said, with its reason under `error`."""

    def __init__(self, address: str, status: int, answer: dict[str, Any]) -> None:
        super().__init__(f"the daemon at {address} answers {status}: {answer['error']}")
        self.answer = answer


def config_option(function: F) -> F:
    """Add `-c/--config FILE` to a verb, which gets it as `config: str | None`."""
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="The configuration; without it ./mcp-ingest.yaml, /etc/mcp-ingest/mcp-ingest.yaml, the built-in one.",
    )(function)


def reachable(host: str) -> str:
    """The address at which this machine reaches a listener on `host`."""
    return _ANY.get(host, host)


def ask_daemon(http: HttpSettings, path: str, timeout: float = 10, body: Any = None) -> Any | None:
    """The daemon's JSON answer; None where no daemon listens, IngestError with its reason where it refuses.

    With a `body`, which is sent as JSON, it is asked to do something (POST).
    """
    import urllib.error
    import urllib.request  # a tenth of the start-up time, which `run` does not have to pay

    host = reachable(http.host)
    host = f"[{host}]" if ":" in host else host
    headers = {"Authorization": f"Bearer {http.token}"} if http.token else {}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(f"http://{host}:{http.port}{path}", data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the daemon is never behind a proxy
    try:
        with opener.open(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise RefusalError(f"{host}:{http.port}", error.code, _answer(error)) from None
    except TimeoutError:
        raise IngestError(f"the daemon at {host}:{http.port} does not answer within {timeout:g} s") from None
    except (urllib.error.URLError, OSError):
        return None
    except ValueError:
        raise IngestError(f"what listens on {host}:{http.port} is not mcp-ingest") from None


def _answer(error: HTTPError) -> dict[str, Any]:
    try:
        answer = json.load(error)
        return {**answer, "error": answer["error"]}
    except (ValueError, KeyError, TypeError):
        return {"error": str(error.reason)}


def seconds(span: float | None) -> str:
    """A time span for a person: `0.4 s`, `5.0 min`, `3.2 h`, `4.0 d`; a dash for none."""
    if span is None:
        return "–"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if span >= 2 * length:
            return f"{span / length:.1f} {unit}"
    return f"{span:.1f} s"


def size(count: float) -> str:
    """Bytes for a person: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
