"""One request of polling, and its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ..clock import Timeout, cancel
from ..ends import CLOSE_TIMEOUT, attempt
from .bodies import Body, inflaterFor, tooLarge
from .connecting import Connecting
from .errors import MAX_BODY, ConnectionFailed, FailureType
from .failures import failureOf, failureOfResponse

NAME = "polling"


class PollingRequest:
    """
    A request of polling, from its sending until its response is read, or it is given up.

    @param body: the body of a POST; None makes it a GET.
    @param ended: called with this once it is over, unless it was aborted.
    @ivar size: how many bytes its body has.
    @ivar answer: the body of the response, once it is over.
    @ivar failure: why it has none, or another than it should.
    @ivar responseHeaders: the headers of the response, once its body is read.
    """

    def __init__(
        self,
        connecting: Connecting,
        body: bytes | None,
        ended: Callable[[PollingRequest], object],
    ) -> None:
        self.size: int = 0 if body is None else len(body)
        self.answer: bytes = b""
        self.failure: ConnectionFailed | None = None
        self.responseHeaders: Headers | None = None
        self._status = 0
        self._connecting = connecting
        self._isPost = body is not None
        self._requestBody = body
        self._ended: Callable[[PollingRequest], object] | None = ended
        self._url = ""
        self._response: Deferred[Any] | None = None
        self._body: Body | None = None
        self._timeout: Timeout | None = None
        self._patience: IDelayedCall | None = None

    def send(self, agent: Any, headers: Headers, **more: str) -> None:
        """
        Send it; called once.

        @param agent: a L{SessionAgent} or a L{GivenAgent}.
        @param more: further parameters of the URL.
        """
        connecting, body = self._connecting, self._requestBody
        self._requestBody = None
        timeout = connecting.opts.requestTimeout
        if timeout is not None:
            self._timeout = connecting.timeouts.callLater(timeout / 1000, self._tooLate, timeout)
        self._url = connecting.url(NAME, **more) if more else connecting.nextUrl()
        # An agent of the application's may raise, and return something else; and so may a jar.
        response: Deferred[Any] = maybeDeferred(self._request, agent, headers, body)
        self._response = response
        response.addCallbacks(self._responded, self._failed)
        # Its response may be none.
        response.addErrback(self._failed)

    def _request(self, agent: Any, headers: Headers, body: bytes | None) -> Any:
        url, jar = self._url, self._connecting.cookies
        cookies = None if jar is None else jar.header(url)
        if cookies is not None:
            # A request has one such header (RFC 6265, 5.4).
            own = headers.getRawHeaders(b"cookie", ())
            headers = headers.copy()
            headers.setRawHeaders(b"Cookie", [b"; ".join([*filter(None, own), cookies])])
        return agent.request(b"GET" if body is None else b"POST", url.encode("ascii"), headers, body)

    @property
    def bodySize(self) -> int:
        """How many bytes the body of the response had, as they came."""
        return 0 if self._body is None else self._body.size

    @property
    def received(self) -> int | None:
        """How many bytes of the body of the response have come; None if it isn't being read."""
        return None if self._body is None or self._ended is None else self._body.size

    def abort(self) -> None:
        """Give it up, and call nobody."""
        self._ended = None
        self._stop()

    def _stop(self) -> None:
        """Let nothing of it be left."""
        cancel(self._timeout)
        cancel(self._patience)
        response, self._response = self._response, None
        if response is not None:
            attempt(response.cancel)
        if self._body is not None:
            attempt(self._body.stop)

    def _end(self, failure: ConnectionFailed | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            self.failure = failure
            self._stop()
            ended(self)

    # What happens

    def _responded(self, response: Any) -> None:
        self._response = None
        if self._ended is None:
            return
        connecting, headers = self._connecting, response.headers
        self._status, self.responseHeaders = response.code, headers
        if connecting.cookies is not None:
            connecting.cookies.store(self._url, headers.getRawHeaders(b"set-cookie", ()))
        isGood = self._status == 200
        inflater = None
        try:
            inflater = inflaterFor(headers)
        except ValueError as error:
            if isGood:
                self._end(ConnectionFailed(FailureType.NOT_ENGINEIO, str(error)))
                return
        if not isGood:
            # It has failed; a body that is long in coming tells no more.
            self._patience = connecting.clock.callLater(CLOSE_TIMEOUT, self._cut)
        limit = connecting.opts.maxHttpBufferSize if isGood else MAX_BODY
        body = self._body = Body(limit, self._read, inflater)
        response.deliverBody(body)
        length = getattr(response, "length", None)
        if isGood and type(length) is int and length > limit:
            # Nothing of it is waited for.
            self._end(tooLarge(limit))

    def _cut(self) -> None:
        if self._body is not None:
            self._body.cut()

    def _read(self, answer: bytes, failure: ConnectionFailed | None) -> None:
        if self._status != 200:
            assert self.responseHeaders is not None
            failure = failureOfResponse(self._status, self.responseHeaders, answer)
        elif self._isPost and failure is not None and failure.type is FailureType.LOST:
            # The status says that it was taken, and the body nothing.
            failure = None
        elif self._isPost and failure is None and answer.lstrip()[:1] == b"<":
            # A web page: whatever sent it, what was posted hasn't reached the server.
            assert self.responseHeaders is not None
            failure = failureOfResponse(self._status, self.responseHeaders, answer)
        self.answer = answer
        self._end(failure)

    def _failed(self, reason: Failure) -> None:
        self._response = None
        self._end(failureOf(reason))

    def _tooLate(self, timeout: int) -> None:
        what = "POST" if self._isPost else "GET"
        self._end(ConnectionFailed(FailureType.TIMEOUT, f"a {what} took longer than requestTimeout, {timeout} ms"))
