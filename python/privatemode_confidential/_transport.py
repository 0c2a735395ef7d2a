"""Transports of httpx2 over the native half.

httpx2 builds requests and reads answers; between the two, nothing of its own connections is used.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

from ._errors import translated
from ._native import Answer, Call, Pending, Server

#: The longest piece of a body that is handed over at once, in bytes. A few of them wait to be sent, never more.
_PIECE = 256 * 1024

#: The longest policy file that is read, in characters.
_LONGEST_POLICY = 1024 * 1024


def _server(
    url: str,
    policy: str | os.PathLike[str] | None,
    policy_text: str | None,
    danger_anchors_pem: str | None,
) -> Server:
    if (policy is None) == (policy_text is None):
        raise TypeError("give either policy, a file's path, or policy_text: without one there is nothing to accept")
    if policy is not None:
        with open(policy, encoding="utf-8") as file:
            policy_text = file.read(_LONGEST_POLICY + 1)
        if len(policy_text) > _LONGEST_POLICY:
            raise ValueError(f"{os.fspath(policy)} is longer than {_LONGEST_POLICY} characters")
    assert policy_text is not None
    if danger_anchors_pem is not None:
        # As every other surface says it.
        warnings.warn("anchors: NOT PRODUCTION: a verdict is worth as much as danger_anchors_pem", stacklevel=3)
    return Server(url, policy_text, danger_anchors_pem)


def _begin(server: Server, request: httpx2.Request) -> Call:
    url = request.url
    # Without what belongs to httpx2 alone: the user's name and password, and the fragment.
    whole = b"".join([url.raw_scheme, b"://", url.netloc, url.raw_path]).decode("ascii")
    with_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    with_body = with_body and request.headers.get("content-length") != "0"
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _OF_ONE_HOP]
    return server.begin(request.method, whole, headers, with_body)


#: HTTP/2 has none of them (RFC 9113, 8.2.2), and says with its own field whom it means.
_OF_ONE_HOP = frozenset(
    [b"connection", b"host", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"]
)


def _pieces(chunk: bytes) -> Iterator[bytes]:
    for start in range(0, len(chunk), _PIECE):
        yield chunk[start : start + _PIECE]


def _response(answer: Answer, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
    return httpx2.Response(
        answer.status,
        headers=answer.headers,
        stream=stream,
        extensions={"http_version": b"HTTP/2"},
    )


def _limits(request: httpx2.Request) -> tuple[float | None, float | None]:
    """Seconds for a piece to go out, and for one to come in. The native half has its own for connecting and proving."""
    timeout: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeout.get("write"), timeout.get("read")


def _wait(pending: Pending, seconds: float | None, late: type[httpx2.TimeoutException]) -> Any:
    with translated():
        try:
            return pending.wait(seconds)
        except TimeoutError:
            raise late("not done in time") from None
        finally:
            # Does nothing to what is done.
            pending.stop()


class _Body(httpx2.SyncByteStream):
    def __init__(self, answer: Answer, seconds: float | None) -> None:
        self._answer = answer
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        while (piece := _wait(self._answer.read(), self._seconds, httpx2.ReadTimeout)) is not None:
            yield piece

    def close(self) -> None:
        self._answer.close()


class Transport(httpx2.BaseTransport):
    """Sends requests to one server, on attested connections, or raises.

    `policy` is the path of a policy file, or `policy_text` its text: TOML or JSON, as for `pmc`.
    `danger_anchors_pem` is the text of certificates to believe instead of AMD's and Microsoft's, for simulations.

    The server is verified before the first request, and whenever `verify` is called. May be used by any number of
    threads, and in a forked process, which makes connections of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: str | os.PathLike[str] | None = None,
        policy_text: str | None = None,
        danger_anchors_pem: str | None = None,
    ) -> None:
        self._server = _server(url, policy, policy_text, danger_anchors_pem)

    @property
    def url(self) -> str:
        """The server."""
        return self._server.url

    def verify(self) -> dict[str, Any]:
        """Has the server prove itself now, on a connection of its own; returns the verdict with every check, or raises.

        The verdict is what `pmc verify --json` prints: `at` is when it was judged, in Unix seconds.
        """
        with translated():
            verdict: dict[str, Any] = json.loads(self._server.verify().wait())
        return verdict

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        write, read = _limits(request)
        call = _begin(self._server, request)
        try:
            self._feed(call, request, write)
            answer = _wait(call.answer, read, httpx2.ReadTimeout)
        except BaseException:
            call.answer.stop()
            raise
        return _response(answer, _Body(answer, read))

    @staticmethod
    def _feed(call: Call, request: httpx2.Request, seconds: float | None) -> None:
        if not call.with_body:
            return
        assert isinstance(request.stream, httpx2.SyncByteStream)
        for chunk in request.stream:
            for piece in _pieces(chunk):
                if not _wait(call.push(piece), seconds, httpx2.WriteTimeout):
                    return
        _wait(call.finish(), seconds, httpx2.WriteTimeout)


async def _awaited(pending: Pending, seconds: float | None, late: type[httpx2.TimeoutException]) -> Any:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    pending.when_done(functools.partial(loop.call_soon_threadsafe, _wake, done))
    with translated():
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes at the same moment as the outcome.
            async with asyncio.timeout(seconds):
                await done
            return pending.result()
        except TimeoutError:
            raise late("not done in time") from None
        finally:
            # Also when the task is cancelled. Does nothing to what is done.
            pending.stop()


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, answer: Answer, seconds: float | None) -> None:
        self._answer = answer
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await _awaited(self._answer.read(), self._seconds, httpx2.ReadTimeout)) is not None:
            yield piece

    async def aclose(self) -> None:
        self._answer.close()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """As `Transport`, for asyncio. May be used by any number of tasks, and by one event loop after the other."""

    def __init__(
        self,
        url: str,
        *,
        policy: str | os.PathLike[str] | None = None,
        policy_text: str | None = None,
        danger_anchors_pem: str | None = None,
    ) -> None:
        self._server = _server(url, policy, policy_text, danger_anchors_pem)

    @property
    def url(self) -> str:
        """The server."""
        return self._server.url

    async def verify(self) -> dict[str, Any]:
        """As `Transport.verify`."""
        verdict: dict[str, Any] = json.loads(await _awaited(self._server.verify(), None, httpx2.ConnectTimeout))
        return verdict

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        write, read = _limits(request)
        call = _begin(self._server, request)
        try:
            await self._feed(call, request, write)
            answer = await _awaited(call.answer, read, httpx2.ReadTimeout)
        except BaseException:
            call.answer.stop()
            raise
        return _response(answer, _AsyncBody(answer, read))

    @staticmethod
    async def _feed(call: Call, request: httpx2.Request, seconds: float | None) -> None:
        if not call.with_body:
            return
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        async for chunk in request.stream:
            for piece in _pieces(chunk):
                if not await _awaited(call.push(piece), seconds, httpx2.WriteTimeout):
                    return
        await _awaited(call.finish(), seconds, httpx2.WriteTimeout)
