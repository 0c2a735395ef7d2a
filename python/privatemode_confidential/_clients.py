"""Ready clients of httpx2: one transport, and no way around it."""

from __future__ import annotations

import os
from typing import Any

import httpx2

from ._transport import AsyncTransport, Transport

#: As openai's own: an answer of a model takes its time.
_TIMEOUT = httpx2.Timeout(600.0)

#: Options of httpx2's clients that neither choose a connection nor make one.
_HARMLESS = frozenset(
    [
        "auth",
        "base_url",
        "cookies",
        "default_encoding",
        "event_hooks",
        "follow_redirects",
        "headers",
        "max_redirects",
        "params",
        "timeout",
    ]
)


def _options(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in _HARMLESS:
            raise TypeError(f"{name}: connections are made by the attested transport alone")
    # Without trust_env: no proxy and no certificate that the environment names.
    return {"timeout": _TIMEOUT, **options, "trust_env": False}


def client(
    url: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    policy_text: str | None = None,
    danger_anchors_pem: str | None = None,
    **options: Any,
) -> httpx2.Client:
    """An `httpx2.Client` that sends to `url` (`https://host[:port]`) and nobody else, on attested connections.

    `Transport` says what the first options mean; the others are httpx2's: timeout, headers, auth and the like.
    """
    transport = Transport(url, policy=policy, policy_text=policy_text, danger_anchors_pem=danger_anchors_pem)
    return httpx2.Client(transport=transport, **_options(options))


def async_client(
    url: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    policy_text: str | None = None,
    danger_anchors_pem: str | None = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """As `client`, an `httpx2.AsyncClient` for asyncio."""
    transport = AsyncTransport(url, policy=policy, policy_text=policy_text, danger_anchors_pem=danger_anchors_pem)
    return httpx2.AsyncClient(transport=transport, **_options(options))
