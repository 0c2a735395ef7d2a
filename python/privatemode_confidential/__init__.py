"""Reach a server that proves, on this very connection, that it is the attested group that you mean, or reach nothing.

    import privatemode_confidential as pc

    ai = pc.openai("https://group.example", policy="policy.toml", api_key="...")

Connecting, TLS, verification and sending are done by the Rust library below; Python opens no connection.
"""

import atexit

from ._clients import async_client, client
from ._errors import AttestationError, NotProved, OtherServer, Refused
from ._native import let_go
from ._openai import async_openai, openai
from ._transport import AsyncTransport, Transport

__all__ = [
    "AsyncTransport",
    "AttestationError",
    "NotProved",
    "OtherServer",
    "Refused",
    "Transport",
    "async_client",
    "async_openai",
    "client",
    "openai",
]

# Threads of the library must not be in an interpreter that goes away.
atexit.register(let_go)
