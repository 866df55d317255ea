"""The examples of embedding, started as a user starts them and used by real clients; the guide that quotes them."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from ..kit.clients import INTEROP, TRANSPORTS, Program, Run, assertUneventful, overEveryTransport, pack, pythonPath
from ..kit.examples import LOOPBACK, PATIENCE, Running, refusal, running
from ..kit.services import STARTED, Service, command, environment
from ..kit.tools import require

HERE = Path(__file__).parents[2]
EXAMPLES = HERE / "examples" / "embedding"
GUIDES = [HERE / "docs" / "embedding.md", HERE / "docs" / "frameworks.md"]
HELLO = ["hello", b"\x00\x01\xff", "schön"]

Start = Callable[..., Running]


@pytest.fixture
def example() -> Iterator[Start]:
    """Starts an example; it ends by SIGTERM, and has nothing to complain of."""
    with ExitStack() as stack:
        started: list[Running] = []

        def start(name: str, endpoint: str = LOOPBACK, needs: str | None = None) -> Running:
            require(needs is None or importlib.util.find_spec(needs) is not None, str(needs))
            one = stack.enter_context(running([sys.executable, str(EXAMPLES / f"{name}.py"), endpoint]))
            started.append(one)
            return one

        yield start
        for each in started:
            each.process.send_signal(signal.SIGTERM)
            out, err = each.process.communicate(timeout=PATIENCE)
            assert (each.process.returncode, err) == (0, ""), out


def fetch(url: str, data: bytes | None = None) -> str:
    with urlopen(Request(url, data), timeout=PATIENCE) as response:
        body: str = response.read().decode()
    return body


async def ask(url: str, data: bytes | None = None) -> str:
    """The body of an answer, while clients go on."""
    body: str = await deferToThread(fetch, url, data)
    return body


async def echoes(client: Run, url: str, transports: list[str], **options: Any) -> Program:
    """Have messages come back to a client of Node.js."""
    program = client(url, "echo", transports, messages=[pack(each) for each in HELLO], options=options)
    await program.finish()
    assert program.messages == HELLO
    assertUneventful(program, transports)
    return program


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_tree(example: Start, client: Run) -> None:
    """In a tree of resources: sessions, and the files beside them."""
    here = example("tree")
    for transports in TRANSPORTS.values():
        await echoes(client, here.url, transports)
        assert "<title>Embedding</title>" in await ask(here.url)


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_klein(example: Start, client: Run) -> None:
    """As a route of Klein: sessions, which other routes count, and to which they send."""
    here = example("klein_app", needs="klein")
    for transports in TRANSPORTS.values():
        await echoes(client, here.url, transports)
        listener = client(here.url, "listen", transports, last="from a route")
        await listener.saw("upgrade" if len(transports) > 1 else "open")
        assert await ask(here.url) == "1 sessions are open"
        assert await ask(urljoin(here.url, "/say/from%20a%20route"), b"") == "told 1"
        await listener.finish()
        assert listener.messages == ["from a route"]


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_flask(example: Start, client: Run) -> None:
    """Beside a WSGI application, whose threads ask about sessions, and send to them."""
    here = example("flask_app", needs="flask")
    for transports in TRANSPORTS.values():
        await echoes(client, here.url, transports)
        listener = client(here.url, "listen", transports, last="from a thread")
        await listener.saw("upgrade" if len(transports) > 1 else "open")
        assert await ask(urljoin(here.url, "/sessions")) == "1 sessions are open"
        assert await ask(urljoin(here.url, "/say"), b"from a thread") == "sent"
        await listener.finish()
        assert listener.messages == ["from a thread"]


def encrypted(certificate: tuple[Path, Path]) -> tuple[str, dict[str, str]]:
    """An endpoint with a certificate, and the options of a client that trusts it and nothing else."""
    key, signed = certificate
    return f"tls-files:{LOOPBACK}:certificate={signed}:key={key}", {"ca": signed.read_text()}


@pytest.mark.node
@pytest.mark.parametrize("name", ["tls", "http2"])
@pytest_twisted.ensureDeferred
async def test_tls(example: Start, client: Run, certificate: tuple[Path, Path], name: str) -> None:
    """Over TLS, for a client that checks the certificate; also where HTTP/2 is offered to those who speak it."""
    endpoint, trusting = encrypted(certificate)
    here = example(name, endpoint)
    for transports in TRANSPORTS.values():
        await echoes(client, here.url, transports, **trusting)


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_tlsIsChecked(example: Start, client: Run, certificate: tuple[Path, Path]) -> None:
    """A client that doesn't trust the certificate gets no session."""
    endpoint, _ = encrypted(certificate)
    program = client(example("tls", endpoint).url, "listen", TRANSPORTS["polling"])
    await program.saw("error")
    assert not program.named("open")


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_several(example: Start, client: Run) -> None:
    """Each server has its path, its port, its options and its sessions, and an application has them all."""
    here = example("several")
    visitor = client(here.url, "listen", ["polling", "websocket"], last="news")
    await visitor.saw("upgrade")
    staff = client(here.url, "listen", ["polling"], last="news to 1 visitors", options={"path": "/staff/engine.io/"})
    await staff.saw("open")
    opened = json.loads((await ask(urljoin(here.url, "/staff/engine.io/?EIO=4&transport=polling")))[1:])
    assert (opened["pingInterval"], opened["maxPayload"]) == (5000, 10_000_000)
    session = urljoin(here.url, f"/staff/engine.io/?EIO=4&transport=polling&sid={opened['sid']}")
    assert await ask(session, b"4news") == "ok"
    assert await ask(session) == "4news to 1 visitors"
    await visitor.finish()
    assert visitor.messages == ["news"]
    assert not staff.messages
    assert await ask(session, b"1") == "ok"
    await echoes(client, here.url, ["polling", "websocket"])
    await staff.kill()


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_severalPorts(example: Start, client: Run) -> None:
    """What listens on a port of its own is another server: polling, which it doesn't allow, is refused there."""
    here = example("several")
    found = re.search(r"ws://\S+", here.printed)
    assert found is not None
    await echoes(client, found[0], ["websocket"])
    refused = client(found[0], "listen", ["polling"])
    await refused.saw("error")
    assert not refused.named("open")


@pytest.mark.node
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_multiservice(client: Run, transports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a child of a MultiService: another service sends to the sessions; SIGTERM stops both, and says goodbye."""
    monkeypatch.setenv("LISTEN", LOOPBACK)
    for name, value in pythonPath().items():
        monkeypatch.setenv(name, value)
    service = Service([command("twistd"), "--nodaemon", "--pidfile=", "--python", "multiservice.tac"], EXAMPLES)
    try:
        await deferToThread(service.started)
        found = re.search(rf"{STARTED}(http://\S+)/engine.io/", service.said)
        assert found is not None, service.said
        await listensToTicks(client, found[1], transports)
        listener = client(found[1], "listen", transports)
        await listener.saw("message")
        assert await deferToThread(service.stop) == -signal.SIGTERM
        await listener.finish()
        assert listener.names[-1] == "close"
        assert "Traceback" not in service.said
    finally:
        service.kill()


async def listensToTicks(client: Run, url: str, transports: list[str]) -> None:
    program = client(url, "listen", transports, last="tick")
    await program.finish()
    # One every half second: more than one, if the client was slow to close.
    assert set(program.messages) == {"tick"}


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_http2(example: Start, certificate: tuple[Path, Path], node: str, start: Run) -> None:
    """The same port polls over HTTP/2, for a client that speaks it; so is the file beside it served."""
    import httpx

    endpoint, _ = encrypted(certificate)
    here = example("http2", endpoint)
    program = start([node, INTEROP / "http2.mjs", here.url])
    await program.finish()
    assert [each["text"] for each in program.named("answer")][1:] == ["ok", "4hello"]

    def poll() -> None:
        trusting = ssl.create_default_context(cafile=str(certificate[1]))
        with httpx.Client(http2=True, verify=trusting, base_url=here.url, timeout=PATIENCE) as browser:
            answers = [browser.get("/"), browser.get("/engine.io/?EIO=4&transport=polling")]
            session = f"/engine.io/?EIO=4&transport=polling&sid={json.loads(answers[1].text[1:])['sid']}"
            answers += [browser.post(session, content=b"4hello"), browser.get(session)]
            answers.append(browser.post(session, content=b"4" * 2_000_000))
            assert {each.http_version for each in answers} == {"HTTP/2"}
            assert "<title>Embedding</title>" in answers[0].text
            assert [each.text for each in answers[2:4]] == ["ok", "4hello"]
            assert answers[4].status_code == 413

    await deferToThread(poll)


@pytest.mark.parametrize("name", ["tree", "klein_app", "flask_app", "several"])
def test_badEndpoint(name: str) -> None:
    """What isn't the description of an endpoint is one line, not a traceback."""
    needs = {"klein_app": "klein", "flask_app": "flask"}.get(name)
    require(needs is None or importlib.util.find_spec(needs) is not None, str(needs))
    assert "pigeon" in refusal([sys.executable, str(EXAMPLES / f"{name}.py"), "pigeon:post"])


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_django(example: Start, client: Run) -> None:
    """Beside Django, whose login decides who may open a session."""
    here = example("django_app", needs="django")

    def login() -> str:
        with urlopen(urljoin(here.url, "/login?name=ann"), timeout=PATIENCE) as response:
            cookie: str = response.headers["Set-Cookie"].partition(";")[0]
        return cookie

    refused = client(here.url, "listen", ["polling"])
    await refused.saw("error")
    assert not refused.named("open")
    forged = client(here.url, "listen", ["polling"], options={"extraHeaders": {"Cookie": "sessionid=ann"}})
    await forged.saw("error")
    assert not forged.named("open")
    cookie = {"extraHeaders": {"Cookie": await deferToThread(login)}}
    for transports in (["polling"], ["websocket"]):
        program = client(here.url, "echo", transports, messages=[pack("hello")], options=cookie)
        await program.finish()
        assert program.messages == ["ann: hello"]
    listener = client(here.url, "listen", ["polling"], options=cookie)
    await listener.saw("open")
    assert await ask(urljoin(here.url, "/sessions")) == "1 sessions are open"
    await listener.kill()


@pytest.mark.node
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_fastapi(
    example: Start, client: Run, transports: list[str], freePort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside FastAPI on one event loop: its endpoints count the sessions, and send to them."""
    require(importlib.util.find_spec("hypercorn") is not None, "hypercorn")
    monkeypatch.setenv("API", f"127.0.0.1:{freePort}")
    here = example("fastapi_app", needs="fastapi")
    await echoes(client, here.url, transports)
    listener = client(here.url, "listen", transports, last="from FastAPI")
    await listener.saw("upgrade" if len(transports) > 1 else "open")
    api = f"http://127.0.0.1:{freePort}"
    assert json.loads(await ask(f"{api}/sessions")) == {"open": 1}
    assert json.loads(await ask(f"{api}/say?text=from%20FastAPI", b"")) == {"told": 1}
    await listener.finish()
    assert listener.messages == ["from FastAPI"]


@pytest.mark.slow
def test_fastapiWithoutAPort(freePort: int) -> None:
    """It ends, and says why, instead of serving sessions alone."""
    for name in ("fastapi", "hypercorn"):
        require(importlib.util.find_spec(name) is not None, name)
    with socket.create_server(("127.0.0.1", freePort)):
        ended = subprocess.run(
            [sys.executable, EXAMPLES / "fastapi_app.py", "tcp:0:interface=127.0.0.1"],
            env={**environment(), "API": f"127.0.0.1:{freePort}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert ended.stderr.startswith("FastAPI: ")
    assert "Address already in use" in ended.stderr


# The guide


def test_quotations() -> None:
    """What the guides show of an example is in it, word for word; each example is shown, and named in its README."""
    sources = {each.name: each.read_text() for each in EXAMPLES.iterdir() if each.suffix in (".py", ".tac")}
    shown: set[str] = set()
    for section in [each for guide in GUIDES for each in guide.read_text().split("\n## ")[1:]]:
        blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if not blocks:
            continue
        named = re.search(r"examples/embedding/(\w+\.\w+)", section)
        assert named is not None, section
        shown.add(named[1])
        for block in blocks:
            assert block in unindented(sources[named[1]], block), block
    assert shown == {*sources} - {"common.py"}
    assert all(name in (EXAMPLES / "README.md").read_text() for name in sources)


def unindented(source: str, block: str) -> str:
    """A source, or the body of the function in it where a block may be."""
    return source if block in source else re.sub(r"^    ", "", source, flags=re.MULTILINE)
