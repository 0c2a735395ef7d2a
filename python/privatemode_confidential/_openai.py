"""Ready clients of the openai package: all of it goes over the attested transport, or nowhere.

The openai package takes a client of httpx2 for its requests, and opens WebSockets beside it by itself, with the key in
their headers. Here they have an address that cannot be dialled.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._clients import async_client, client

if TYPE_CHECKING:
    import openai as sdk

#: What WebSockets are told to dial. Its scheme is none of theirs: they refuse it before they look for the host. The host's
#: name is nobody's (RFC 6761), for whoever does not look at schemes.
_NO_WEBSOCKETS = "attested-connections-only://websockets-would-not-be-attested.invalid"

#: Options of openai's clients that neither choose a connection nor make one.
_HARMLESS = frozenset(
    [
        "admin_api_key",
        "api_key",
        "default_headers",
        "default_query",
        "max_retries",
        "organization",
        "project",
        "timeout",
        "webhook_secret",
    ]
)


def _options(url: str, options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in _HARMLESS:
            raise TypeError(f"{name}: connections are made by the attested transport alone")
    return {"base_url": f"{url.rstrip('/')}/v1", "websocket_base_url": _NO_WEBSOCKETS, **options}


def openai(
    url: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    policy_text: str | None = None,
    danger_anchors_pem: str | None = None,
    **options: Any,
) -> sdk.OpenAI:
    """An `openai.OpenAI` that sends to `url` (`https://host[:port]`) and nobody else, on attested connections.

    `Transport` says what the first options mean; the others are openai's: api_key, timeout, max_retries and the like.
    Its WebSockets (`connect` of `responses` and `realtime`) do not go over the attested transport, and raise.
    """
    try:
        import openai as sdk
    except ImportError as missing:
        raise ImportError(_MISSING) from missing
    options = _options(url, options)
    group = client(url, policy=policy, policy_text=policy_text, danger_anchors_pem=danger_anchors_pem)
    return sdk.OpenAI(http_client=group, **options)


def async_openai(
    url: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    policy_text: str | None = None,
    danger_anchors_pem: str | None = None,
    **options: Any,
) -> sdk.AsyncOpenAI:
    """As `openai`, an `openai.AsyncOpenAI` for asyncio."""
    try:
        import openai as sdk
    except ImportError as missing:
        raise ImportError(_MISSING) from missing
    options = _options(url, options)
    group = async_client(url, policy=policy, policy_text=policy_text, danger_anchors_pem=danger_anchors_pem)
    return sdk.AsyncOpenAI(http_client=group, **options)


_MISSING = "the openai package is not installed: pip install 'openai>=3.54,<4'"
