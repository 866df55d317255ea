"""
The diagrams of the documentation, from text: `python docs/diagrams.py` writes docs/diagrams anew.

L{SEQUENCES} are what a client and a server say, which tests/pages/test_docs.py plays against a server; L{PASSAGES} are
what happens if a request reaches the wrong worker, which it plays against two; the machines are those of
L{engineio_twisted.session.states.TRANSITIONS}.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from html import escape
from pathlib import Path
from typing import NamedTuple

from engineio_twisted.session.states import TRANSITIONS, HeartbeatState, ReadyState, UpgradeState

FOLDER = Path(__file__).parent / "diagrams"


class Step(NamedTuple):
    """
    One line of a sequence.

    @ivar kind: who says it, and on what: C{get}, C{post} and C{upgrade} are requests of the client's, with a query;
        C{got}, C{posted} and C{upgraded} their answers, and C{refused} that of a POST; C{say} and C{hear} frames, from
        the client's side; C{closed} is a close frame of the server's, C{lost} the loss of the WebSocket, C{wait} time
        that passes.
    @ivar text: what is said; of a C{post} the query, a space and the body.
    @ivar note: what it means.
    """

    kind: str
    text: str
    note: str = ""


OPENED = '0{"sid":"S",…}'
RETURNED = '0{"sid":"S",…,"received":1}}'

SEQUENCES = {
    "polling": [
        Step("get", "transport=polling"),
        Step("got", OPENED, "connection, open"),
        Step("get", "transport=polling&sid=S", "waits"),
        Step("post", "transport=polling&sid=S 4hello", "message"),
        Step("posted", "ok"),
        Step("got", "4hello", "what the server sends"),
        Step("get", "transport=polling&sid=S", "waits"),
    ],
    "websocket": [
        Step("upgrade", "transport=websocket"),
        Step("upgraded", "101"),
        Step("hear", OPENED, "connection, open"),
        Step("say", "4hello", "message"),
        Step("hear", "4hello", "what the server sends"),
    ],
    "upgrade": [
        Step("get", "transport=polling"),
        Step("got", OPENED, "connection, open"),
        Step("get", "transport=polling&sid=S", "waits"),
        Step("upgrade", "transport=websocket&sid=S"),
        Step("upgraded", "101"),
        Step("say", "2probe"),
        Step("hear", "3probe", "upgrading"),
        Step("got", "6", "at once, or within 100 ms"),
        Step("say", "5", "upgrade"),
        Step("say", "4hello", "message"),
        Step("hear", "4hello", "on the WebSocket"),
    ],
    "heartbeat": [
        Step("upgrade", "transport=websocket"),
        Step("upgraded", "101"),
        Step("hear", OPENED, "connection, open"),
        Step("wait", "25 s", "pingInterval"),
        Step("hear", "2"),
        Step("say", "3", "heartbeat"),
        Step("wait", "25 s", "pingInterval"),
        Step("hear", "2"),
        Step("wait", "20 s", "pingTimeout"),
        Step("closed", "1000", "close: ping timeout"),
    ],
    "resume": [
        Step("upgrade", "transport=websocket&resume=1000.9000000"),
        Step("upgraded", "101"),
        Step("hear", OPENED, "connection, open"),
        Step("say", "4hello", "message"),
        Step("hear", "4hello", "lost on its way"),
        Step("lost", "the connection is lost", "suspend"),
        Step("wait", "9 s", "resumeTimeout runs"),
        Step("upgrade", "transport=websocket&sid=S&attempt=1&received=0"),
        Step("upgraded", "101"),
        Step("hear", RETURNED, "resume"),
        Step("hear", "4hello", "again"),
        Step("say", "4more", "message"),
    ],
    "resume-elsewhere": [
        Step("get", "transport=polling&resume=1000.9000000"),
        Step("got", OPENED, "connection, open"),
        Step("post", "transport=polling&sid=S 4hello", "message"),
        Step("posted", "ok"),
        Step("get", "transport=polling&sid=S", "on a network that is gone"),
        Step("get", "transport=polling&sid=S&attempt=1&received=0", "on another one"),
        Step("got", RETURNED + " 4hello", "suspend, resume"),
        Step("post", "transport=polling&sid=S 4late", "held up by a proxy"),
        Step("refused", "400", "not delivered"),
        Step("get", "transport=polling&sid=S&attempt=1", "waits"),
        Step("wait", "25 s", "pingInterval"),
        Step("got", "21", "one message has come"),
        Step("post", "transport=polling&sid=S&attempt=1 31", "so has one here"),
        Step("posted", "ok"),
    ],
    "close": [
        Step("get", "transport=polling"),
        Step("got", OPENED, "connection, open"),
        Step("get", "transport=polling&sid=S", "waits"),
        Step("post", "transport=polling&sid=S 1", "close: transport close"),
        Step("got", "6"),
        Step("posted", "ok"),
    ],
}

LANES = ("client", "worker 1", "worker 2")
"""The participants if a request reaches the wrong worker: worker 2 has the session."""


class Passage(NamedTuple):
    """
    One line of what happens between a client and two workers.

    @ivar kind: C{request} and C{answer} go between the client and a worker, C{link} between the workers; C{moved}
        is a connection that is given to the other worker.
    @ivar start: the lane it begins at.
    @ivar end: the lane it ends at.
    @ivar text: what is said; of a request the method, the query without the transport, and the body.
    @ivar note: what it means.
    """

    kind: str
    start: int
    end: int
    text: str
    note: str = ""


PASSAGES = {
    "move": [
        Passage("request", 0, 1, "POST sid=2-S 4hello", "at the wrong worker"),
        Passage("moved", 1, 2, "socket and bytes", "worker 1 forgets it"),
        Passage("answer", 2, 0, "ok"),
        Passage("request", 0, 2, "POST sid=2-S 4again", "the same connection"),
        Passage("answer", 2, 0, "ok", "nothing in between"),
    ],
    "relay": [
        Passage("request", 0, 1, "POST sid=2-S 4hello", "at the wrong worker"),
        Passage("link", 1, 2, "REQUEST", "head and body"),
        Passage("link", 2, 1, "ANSWER, END"),
        Passage("answer", 1, 0, "ok"),
        Passage("request", 0, 1, "POST sid=2-S 4again", "the same connection"),
        Passage("link", 1, 2, "REQUEST", "on the same link"),
        Passage("link", 2, 1, "ANSWER, END"),
        Passage("answer", 1, 0, "ok"),
    ],
}

REMARKS = {"waits", "what the server sends", "on the WebSocket", "at once, or within 100 ms"}
REMARKS |= {"pingInterval", "pingTimeout", "resumeTimeout runs", "lost on its way", "again", "one message has come"}
REMARKS |= {"on a network that is gone", "on another one", "held up by a proxy", "not delivered", "so has one here"}
"""Notes that are no events."""

MACHINES: dict[str, Sequence[Enum]] = {
    "session": [ReadyState.OPENING, ReadyState.OPEN, ReadyState.CLOSING, ReadyState.CLOSED],
    "upgrading": [UpgradeState.NONE, UpgradeState.PROBING, UpgradeState.PROBED, UpgradeState.DONE],
    "heartbeats": [
        HeartbeatState.LISTENING,
        HeartbeatState.STOPPED,
        HeartbeatState.RESTING,
        HeartbeatState.AWAITING,
    ],
}

# Each with what it is where nothing says which theme the page has; a site that has themes sets the properties.
INK = "var(--drawing-ink, #1f2933)"
FAINT = "var(--drawing-faint, #52606d)"
LINE = "var(--drawing-line, #9aa5b1)"
PAPER = "var(--drawing-paper, #ffffff)"
HTTP = "var(--drawing-http, #2563c9)"
SOCKET = "var(--drawing-socket, #12805c)"
STATE = "var(--drawing-state, #eef3fb)"

# As a part of a page, a drawing may give nothing else a style.
STYLE = f"""
.diagram text {{ font: 14px sans-serif; fill: {INK}; }}
.diagram .wire {{ font-family: monospace; font-size: 13px; }}
.diagram .note {{ font-style: italic; fill: {FAINT}; }}
.diagram .name {{ font-weight: bold; }}
.diagram .line {{ stroke: {LINE}; }}
.diagram .http {{ stroke: {HTTP}; stroke-width: 1.5; }}
.diagram .socket {{ stroke: {SOCKET}; stroke-width: 2.5; }}
.diagram .state {{ fill: {STATE}; stroke: {HTTP}; }}
.diagram .edge {{ fill: none; stroke: {FAINT}; stroke-width: 1.3; }}
"""


def drawing(name: str, width: int, height: float, parts: Sequence[str], title: str, top: float = 0) -> str:
    """An SVG in the colours of the page that it is a part of; by itself, on white whatever the page is on."""
    marker = '<marker id="{0}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{1}" markerHeight="{1}" orient="auto">'
    marker += '<path d="M0,0 L8,4 L0,8 z" style="fill: {2}"/></marker>'
    colours = [("http", 7, HTTP), ("socket", 5, SOCKET), ("edge", 7, FAINT)]
    arrows = [marker.format(arrow(name, kind), *others) for kind, *others in colours]
    size = f'viewBox="0 {top:g} {width} {height:g}" width="{width}" height="{height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" {size}>',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{''.join(arrows)}</defs>",
        f'<rect y="{top:g}" width="{width}" height="{height:g}" rx="6" style="fill: {PAPER}"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def arrow(name: str, kind: str) -> str:
    """The id of the head of an arrow: a page may hold several drawings."""
    return f"{name}-{kind}-arrow"


def text(x: float, y: float, content: str, name: str = "wire", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{name}" text-anchor="{anchor}">{escape(content)}</text>'


def sequence(name: str) -> str:
    """What client and server say to each other, from top to bottom."""
    client, server, row = 60, 500, 36
    steps = SEQUENCES[name]
    bottom = 56 + row * len(steps)
    parts = [text(client, 24, "client", "name"), text(server, 24, "server", "name")]
    parts += [f'<line x1="{x}" y1="34" x2="{x}" y2="{bottom - 8}" class="line"/>' for x in (client, server)]
    for number, (kind, said, note) in enumerate(steps):
        y = 34 + row * (number + 1)
        if kind in ("wait", "lost"):
            parts.append(text((client + server) / 2, y, f"… {said} …", "note"))
        else:
            isFromClient = kind in ("get", "post", "upgrade", "say")
            start, end = (client, server) if isFromClient else (server, client)
            name_ = "socket" if kind in ("say", "hear", "closed") else "http"
            head = arrow(name, name_)
            parts.append(f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" class="{name_}" marker-end="url(#{head})"/>')
            parts.append(text((client + server) / 2, y - 6, label(kind, said)))
        if note:
            parts.append(text(server + 16, y + 4, note, "note", "start"))
    return drawing(name, 720, bottom, parts, f"{name}: what client and server say")


def passage(name: str) -> str:
    """What goes between a client and two workers, from top to bottom; worker 2 has the session."""
    lanes, row = (60, 340, 560), 36
    steps = PASSAGES[name]
    bottom = 56 + row * len(steps)
    parts = [text(x, 24, lane, "name") for x, lane in zip(lanes, LANES, strict=True)]
    parts += [f'<line x1="{x}" y1="34" x2="{x}" y2="{bottom - 8}" class="line"/>' for x in lanes]
    for number, (kind, start, end, said, note) in enumerate(steps):
        y = 34 + row * (number + 1)
        name_ = "socket" if kind in ("link", "moved") else "http"
        ends = f'x1="{lanes[start]}" y1="{y}" x2="{lanes[end]}" y2="{y}"'
        parts.append(f'<line {ends} class="{name_}" marker-end="url(#{arrow(name, name_)})"/>')
        # What passes the lane of another worker is written before that.
        between = [x for x in lanes if min(lanes[start], lanes[end]) <= x <= max(lanes[start], lanes[end])][:2]
        written = {"request": said.replace(" ", " ?", 1).replace(" 4", ": 4"), "answer": f"200: {said}"}.get(kind, said)
        parts.append(text(sum(between) / 2, y - 6, written))
        if note:
            parts.append(text(lanes[-1] + 16, y + 4, note, "note", "start"))
    return drawing(name, 740, bottom, parts, f"{name}: a client, the worker that it reached, and the one that answers")


def label(kind: str, said: str) -> str:
    """What is written on an arrow."""
    query, _, body = said.partition(" ")
    return {
        "get": f"GET ?{said}",
        "post": f"POST ?{query}: {body}",
        "upgrade": f"GET ?{said}, Upgrade",
        "got": f"200: {said}",
        "posted": f"200: {said}",
        "upgraded": said,
        "closed": f"close frame, {said}",
    }.get(kind, said)


def machine(name: str) -> str:
    """The states in a row, with what leads from one to another."""
    states = MACHINES[name]
    width, gap, high, middle = 112, 90, 44, 126
    left = [20 + (width + gap) * index for index in range(len(states))]
    parts = []
    head = arrow(name, "edge")
    heights = [middle - high / 2, middle + high / 2]
    edges: dict[tuple[int, int], list[str]] = {}
    for (before, given), after in TRANSITIONS.items():
        if before in states:
            edges.setdefault((states.index(before), states.index(after)), []).append(given.name.lower())
    for index, state in enumerate(states):
        x = left[index]
        parts.append(f'<rect x="{x}" y="{middle - high / 2:g}" width="{width}" height="{high}" rx="8" class="state"/>')
        parts.append(text(x + width / 2, middle + 5, state.name.lower(), "name"))
    for (before, after), inputs in edges.items():
        content = ", ".join(inputs)
        if before == after:
            x = left[before] + width / 2
            path = (
                f"M{x - 20:g},{middle - 22} C{x - 40:g},{middle - 66} {x + 40:g},{middle - 66} {x + 20:g},{middle - 22}"
            )
            where = (x, middle - 60)
        elif abs(before - after) == 1:
            isForward = after > before
            y = middle - 8 if isForward else middle + 10
            start, end = (left[before] + width, left[after]) if isForward else (left[before], left[after] + width)
            path = f"M{start},{y} L{end},{y}"
            where = ((start + end) / 2, y - 6 if isForward else y + 16)
        else:
            isForward = after > before
            sign = -1 if isForward else 1
            edge = middle + sign * 22
            # Where several begin or end, each has a place of its own.
            start, end = left[before] + width / 2 + 24 * -sign, left[after] + width / 2 + 24 * sign
            depth = edge + sign * 34 * abs(before - after)
            path = f"M{start:g},{edge} C{start:g},{depth} {end:g},{depth} {end:g},{edge}"
            where = ((start + end) / 2, edge + sign * 34 * abs(before - after) * 0.75 + (-6 if isForward else 16))
        parts.append(f'<path d="{path}" class="edge" marker-end="url(#{head})"/>')
        parts.append(text(*where, content, "note"))
        heights.append(where[1])
    top = min(heights) - 24
    height = max(heights) + 18 - top
    title = f"{name}: states, and what leads from one to another"
    return drawing(name, left[-1] + width + 20, height, parts, title, top)


def drawings() -> dict[str, str]:
    """All diagrams, by the names of their files."""
    return {
        **{f"{name}.svg": sequence(name) for name in SEQUENCES},
        **{f"{name}.svg": passage(name) for name in PASSAGES},
        **{f"state-{name}.svg": machine(name) for name in MACHINES},
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in drawings().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
