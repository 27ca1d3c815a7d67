"""The ports that several workers share by SO_REUSEPORT, held by their supervisor.

SO_REUSEPORT lets whoever sets it share a port, a second daemon of ours, too. So a port is first bound without it, which
fails where anybody listens (of UDP without SO_REUSEADDR, too, which would share it), and then held with it, but not
listened on: held ports get no connections, and give every worker the same number where the configuration says 0.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from mcp_ingest.component import find
from mcp_ingest.config.model import Configuration
from mcp_ingest.errors import IngestError, refusal

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@contextlib.contextmanager
def held(config: Configuration) -> Iterator[dict[str, int]]:
    """Hold the ports of all inputs that listen, for the length of a block; yields them by the input's name.

    IngestError names the first that is taken.
    """
    with contextlib.ExitStack() as stack:
        ports: dict[str, int] = {}
        for name, each in config.inputs.items():
            component = find("input", each.type)
            if component.sharing != "ports":
                continue
            host, port = each.settings.host, each.settings.port
            for protocol in component.protocols:
                try:
                    port = _hold(stack, host, port, protocol)
                except OSError as error:
                    raise IngestError(f"{name}: cannot listen on {protocol} {host}:{port}: {refusal(error)}") from None
            ports[name] = port
        yield ports


def _hold(stack: contextlib.ExitStack, host: str, port: int, protocol: str) -> int:
    """Hold the port on every address of this host; the port, which is a free one where 0 was asked for."""
    kind = _KINDS[protocol]
    for family, *_, address in socket.getaddrinfo(host or None, port, type=kind, flags=socket.AI_PASSIVE):
        place = (address[0], port, *address[2:])
        with _bound(family, kind, place, *([socket.SO_REUSEADDR] if kind == socket.SOCK_STREAM else [])) as probe:
            port = probe.getsockname()[1]
        place = (address[0], port, *address[2:])
        try:
            holding = _bound(family, kind, place, socket.SO_REUSEPORT)
        except OSError:  # nobody listens, but connections of a daemon that was alone are still ending
            if kind != socket.SOCK_STREAM:
                raise
            holding = _bound(family, kind, place, socket.SO_REUSEPORT, socket.SO_REUSEADDR)
        stack.enter_context(holding)
    return port


def _bound(family: int, kind: int, place: tuple[object, ...], *options: int) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        for option in options:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
    except BaseException:
        made.close()
        raise
    return made
