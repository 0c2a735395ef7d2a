"""Exceptions: what the network did is an error of httpx2's, what the server is, is one of ours.

Ours are deliberately no `httpx2.RequestError`: clients take those for a network that may be better in a second, and ask
again. A refusal stays a refusal until somebody looks at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from ._native import Failure


class AttestationError(Exception):
    """Nothing was sent: there is no connection that proved itself."""

    def __init__(self, message: str, check: str | None = None, checks: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, check, checks)
        self.message = message
        #: Id of the first check that failed, as in docs/checks.md; None if it did not come to checks.
        self.check = check
        #: Every check with its outcome, as `pmc verify --json` prints them; empty if it did not come to checks.
        self.checks = checks or []

    def __str__(self) -> str:
        return self.message


class Refused(AttestationError):
    """The server's proof was judged, and a check failed: it is not, or no longer, the group that the policy means."""


class NotProved(AttestationError):
    """The server does not prove itself: it is no attested server, or speaks another version of the protocol."""


class OtherServer(AttestationError):
    """The request is for another server than the one that this client verifies. A redirect leads here, or a base URL."""


_OF_THE_NETWORK: dict[str, type[httpx2.TransportError]] = {
    "unreachable": httpx2.ConnectError,
    "connect_timeout": httpx2.ConnectTimeout,
    "busy": httpx2.PoolTimeout,
    "broken_off": httpx2.RemoteProtocolError,
    "read_timeout": httpx2.ReadTimeout,
    "malformed": httpx2.LocalProtocolError,
    "stopped": httpx2.ReadError,
}


def _translated(failure: Failure) -> Exception:
    kind, text, check, verdict = failure.args
    if kind == "refused":
        checks = json.loads(verdict)["checks"] if verdict else []
        named = f"{text} (check {check})" if check and check not in text else text
        return Refused(named, check, checks)
    if kind == "unproven":
        return NotProved(text)
    if kind == "other_server":
        return OtherServer(text)
    return _OF_THE_NETWORK[kind](text)


@contextmanager
def translated() -> Iterator[None]:
    """Turns failures of the native half into the exceptions above."""
    try:
        yield
    except Failure as failure:
        raise _translated(failure) from None
