"""
Response headers as data: the cookie, what CORS says, and the coding that a client accepts.

Nothing of what a client sends comes back in a header unless it was checked to be free of separators and control
characters. docs/protocol.md, "Cookie", "CORS and origins" and "Compression".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC
from email.utils import format_datetime
from urllib.parse import quote

import attrs

from .option_parts import Cookie, Cors
from .origin_rules import SELF, OriginRule
from .origins import normalOrigin, originMatches, sentOrigin

_VISIBLE = re.compile(r"[!-~]+")
_FIELD_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]+")  # tokens, with commas between them
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)  # RFC 9110, 12.4.2


def cookieHeader(cookie: Cookie, sid: str) -> str:
    """Return the value of the Set-Cookie header that carries a session's id (RFC 6265, 4.1)."""
    attributes: dict[str, str | bool | None] = {
        "Max-Age": None if cookie.maxAge is None else str(cookie.maxAge),
        "Domain": cookie.domain,
        "Path": cookie.path,
        "Expires": None if cookie.expires is None else format_datetime(cookie.expires.astimezone(UTC), usegmt=True),
        "HttpOnly": cookie.httpOnly,
        "Secure": cookie.secure,
        "Partitioned": cookie.partitioned,
        "Priority": cookie.priority and cookie.priority.title(),
        "SameSite": cookie.sameSite and cookie.sameSite.title(),
    }
    # An id of the application's own making may hold anything.
    parts = [f"{cookie.name}={quote(sid, safe='')}"]
    for name, value in attributes.items():
        if value:
            parts.append(name if value is True else f"{name}={value}")
    return "; ".join(parts)


def noOrigin() -> None:
    """Stand for an own origin that isn't asked for."""


def originAllowed(rule: OriginRule, origin: str | None, own: Callable[[], str | None] = noOrigin) -> bool:
    """
    Return whether a rule allows an origin; None, if a client sends none, by a rule for all alone.

    @param own: returns the origin that C{self} stands for, or None; called if the rule has that.
    """
    if rule is True or rule == "*":
        return True
    if origin is None or not rule:
        return False
    assert not isinstance(rule, bool)
    sent = sentOrigin(origin)
    for each in (rule,) if isinstance(rule, str | re.Pattern) else rule:
        if isinstance(each, re.Pattern):
            isAllowed = each.search(origin) is not None
        else:
            isAllowed = normalOrigin(origin) == own() if each == SELF else originMatches(each, sent)
        if isAllowed:
            return True
    return False


@attrs.frozen
class CorsHeaders:
    """
    What CORS adds to an answer.

    @ivar headers: by name.
    @ivar vary: names of the request's headers on which they depend.
    """

    headers: dict[str, str] = attrs.field(factory=dict)
    vary: list[str] = attrs.field(factory=list)


def corsHeaders(
    cors: Cors, rule: OriginRule, origin: str | None, isPreflight: bool, requestHeaders: str | None
) -> CorsHeaders:
    """
    Return what CORS adds to an answer (the Fetch standard, "CORS protocol").

    @param rule: which origins, as C{cors.origin} has it or its function returned it.
    @param origin: the request's Origin.
    @param isPreflight: whether the request asks what it may do, by the method OPTIONS.
    @param requestHeaders: its Access-Control-Request-Headers.
    """
    answer = CorsHeaders()
    if rule is False:
        return answer
    allowed: str | None = None
    if rule == "*":
        allowed = "*"
    else:
        answer.vary.append("Origin")
        if isinstance(rule, str) and "*" not in rule:
            # For every origin: a browser compares it with the page's origin itself.
            allowed = rule
        elif origin is not None and _VISIBLE.fullmatch(origin) and originAllowed(rule, origin):
            allowed = origin
    if allowed is not None:
        answer.headers["Access-Control-Allow-Origin"] = allowed
        if cors.credentials and allowed != "*":
            answer.headers["Access-Control-Allow-Credentials"] = "true"
    if cors.exposedHeaders:
        answer.headers["Access-Control-Expose-Headers"] = ",".join(cors.exposedHeaders)
    if isPreflight:
        _addPreflight(answer, cors, requestHeaders)
    return answer


def _addPreflight(answer: CorsHeaders, cors: Cors, requestHeaders: str | None) -> None:
    answer.headers["Access-Control-Allow-Methods"] = ",".join(cors.methods)
    if cors.maxAge is not None:
        answer.headers["Access-Control-Max-Age"] = str(cors.maxAge)
    if cors.allowedHeaders is not None:
        if cors.allowedHeaders:
            answer.headers["Access-Control-Allow-Headers"] = ",".join(cors.allowedHeaders)
        return
    answer.vary.append("Access-Control-Request-Headers")
    if requestHeaders is not None and _FIELD_NAMES.fullmatch(requestHeaders):
        answer.headers["Access-Control-Allow-Headers"] = requestHeaders


def contentCoding(accepted: Iterable[bytes]) -> str | None:
    """
    Return the content coding to use, gzip or deflate; None for none (RFC 9110, 12.5.3).

    @param accepted: the values of the request's Accept-Encoding header.
    """
    qualities: dict[str, float] = {}
    for element in b",".join(accepted).decode("latin-1").lower().split(","):
        name, _, parameter = element.partition(";")
        quality = _QUALITY.fullmatch(parameter.strip())
        if quality is not None:
            qualities[name.strip()] = float(quality[1])
        elif not parameter:
            qualities[name.strip()] = 1.0
    others = qualities.get("*", 0.0)
    # The first of those liked best.
    best = max(("gzip", "deflate"), key=lambda name: qualities.get(name, others))
    liking = qualities.get(best, others)
    return best if liking > 0 and liking >= qualities.get("identity", 0.0) else None
