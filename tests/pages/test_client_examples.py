"""The examples of the client, started as a user starts them: a bot, AMP between services, a relay, a login."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from engineio_twisted.client import Client
from engineio_twisted.session.producing import HIGH_MARK

from ..kit.clients import pythonPath
from ..kit.examples import LOOPBACK, PATIENCE, Running, refusal, running
from ..kit.fakes import Pusher
from ..kit.tools import require
from ..kit.wire import eventually, within

EXAMPLES = Path(__file__).parents[2] / "examples"
SESSIONS = r"engineio:tcp\:0\:interface=127.0.0.1"

pytestmark = pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning")


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / program), *arguments]


def started(program: str, *arguments: str) -> AbstractContextManager[Running]:
    return running(command(program, *arguments))


def said(example: Running, text: str) -> None:
    """Wait until a program prints a line that has some text in it, behind that of its address or with it."""
    assert example.process.stdout is not None
    printed = example.printed.partition("\n")[2]
    while text not in printed:
        line = example.process.stdout.readline()
        assert line, f"ended without {text!r}: {printed}{example.process.communicate()[1]}"
        printed += line


def load(program: str) -> ModuleType:
    """A program as a module; the folders are no packages."""
    path = EXAMPLES / program
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Guest:
    """A member of the chat, by polling, one request after the other."""

    def __init__(self, url: str, name: str) -> None:
        self._url = urljoin(url, "/engine.io/?EIO=4&transport=polling")
        self._url += "&sid=" + json.loads(self._fetch()[1:])["sid"]
        self._told: list[dict[str, Any]] = []
        self.say(type="join", name=name)

    def _fetch(self, body: str | None = None) -> str:
        with urlopen(self._url, None if body is None else body.encode(), timeout=PATIENCE) as response:
            answer: str = response.read().decode()
        return answer

    def say(self, **message: Any) -> None:
        assert self._fetch("4" + json.dumps(message)) == "ok"

    def hears(self, **expected: Any) -> None:
        """Wait for a message that has these members."""
        while not any(expected.items() <= each.items() for each in self._told):
            self._told += [json.loads(each[1:]) for each in self._fetch().split("\x1e") if each[0] == "4"]


def test_bot(freePort: int) -> None:
    """The bot joins the chat, answers, comes back to one that was restarted, and leaves on Ctrl-C."""
    require((EXAMPLES / "chat" / "node_modules").is_dir(), "the client for the page (run `npm ci` in examples/chat)")
    endpoint, url = f"tcp:{freePort}:interface=127.0.0.1", f"http://127.0.0.1:{freePort}"
    assert "connect: " in refusal(command("bot/bot.py", url))
    with started("chat/chat.py", endpoint) as chat, started("bot/bot.py", url) as bot:
        assert bot.printed.startswith("Bot: answers in the chat at")
        ada = Guest(chat.url, "Ada")
        ada.say(type="say", text="!who")
        ada.hears(type="said", name="Bot", text="2 here: Ada, Bot")
        assert "is called Bot already" in refusal(command("bot/bot.py", url))
        chat.kill()
        with started("chat/chat.py", endpoint) as again:
            said(bot, "Bot: answers in the chat at")
            grace = Guest(again.url, "Grace")
            bot.stop()
            grace.hears(type="left", name="Bot")
            again.stop()


def test_botsAnswers() -> None:
    """Each command has an answer, and nothing else has."""
    answerTo = load("bot/bot.py").answerTo
    assert "!roll" in answerTo("!help", [])
    assert answerTo("!who", ["Bot", "Ada"]) == "2 here: Ada, Bot"
    assert answerTo("!roll", []) in list("123456")
    assert answerTo("!time now", []).endswith(" UTC.")
    assert answerTo("what does !roll do?", []) is None


def test_amp() -> None:
    """Two shops ask the stock and are told of changes. An unknown item is one line."""
    with started("amp/stock.py", SESSIONS) as stock:
        with started("amp/shop.py", "tea", stock.url) as shop:
            said(shop, "Shop: tea costs 251 now")
            with started("amp/shop.py", "tea", stock.url) as other:
                assert "tea costs 251 at" in other.printed
                said(other, "Shop: tea costs 252 now")
                said(shop, "Shop: tea costs 252 now")
                assert "cocoa: the stock has no such item" in refusal(command("amp/shop.py", "cocoa", stock.url))
                other.stop()
            shop.stop()
        stock.stop()


def test_login() -> None:
    """The session has the cookie that treq got. Without it there is none, and a wrong name is one line."""
    with started("login/server.py", LOOPBACK) as server:
        with pytest.raises(HTTPError) as refused:
            urlopen(urljoin(server.url, "/engine.io/?EIO=4&transport=polling"), timeout=PATIENCE)
        assert refused.value.code == 403
        refused.value.close()
        finished = subprocess.run(
            command("login/client.py", server.url.rstrip("/"), "Grace"),
            env=pythonPath(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (finished.stdout, finished.stderr, finished.returncode) == ("Client: hello, Grace\n", "", 0)
        assert "wrong name or password" in refusal(command("login/client.py", server.url.rstrip("/"), ""))
        server.stop()


def test_relayRuns() -> None:
    """A session of the relay's is one with the server behind."""
    with started("echo/echo.py", LOOPBACK) as echo, started("relay/relay.py", echo.url, LOOPBACK) as relay:
        url = urljoin(relay.url, "/engine.io/?EIO=4&transport=polling")

        def fetch(data: str | None = None) -> str:
            with urlopen(url, None if data is None else data.encode(), timeout=PATIENCE) as response:
                body: str = response.read().decode()
            return body

        url += "&sid=" + json.loads(fetch()[1:])["sid"]
        assert fetch("4hello\x1ebAAEC") == "ok"
        received = ""
        while received != "4hellobAAEC":
            received += fetch().replace("\x1e", "")
        relay.stop()
        echo.stop()


def test_relayTo() -> None:
    """What isn't a URL, or an endpoint, is one line, before anything listens."""
    main = load("relay/relay.py").main
    with pytest.raises(SystemExit, match="url='nowhere'"):
        main(Clock(), "nowhere").send(None)
    with pytest.raises(SystemExit, match="pigeon"):
        main(Clock(), "http://127.0.0.1", "pigeon:post").send(None)


async def fill(sender: Any, taker: Any, between: Sequence[Any]) -> None:
    """Send to an end that takes nothing until that is noticed, and then let it take all."""
    received: list[str | bytes] = []
    taker.on("message", received.append)
    taker.pauseReceiving()
    producer = Pusher()
    sender.registerProducer(producer, True)
    sent = 0
    # More than the connections of the system take.
    while producer.told[-1:] != ["pause"]:
        sender.send(b"x" * 100_000)
        sent += 1
        await eventually(lambda: producer.told[-1:] == ["pause"] or sender.isDrained, "the sender")
    assert all(each.bufferedAmount <= 4 * HIGH_MARK + 200_000 for each in between)
    taker.resumeReceiving()
    await eventually(lambda: len(received) == sent, "all messages")
    sender.unregisterProducer()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_relayHoldsBack(serve: Any, transport: str) -> None:
    """Whichever end doesn't take what comes holds the other one back; then all of it arrives, and both ends end."""
    from twisted.internet import reactor

    behind: list[Any] = []
    fronts: list[Any] = []
    back = await serve(lambda server: server.on("connection", behind.append))

    def relaying(server: Any) -> None:
        server.on("connection", fronts.append)
        load("relay/relay.py").application(server, back.url, reactor)

    front = await serve(relaying)
    client = Client(front.url, transports=[transport])
    await within(client.connect(), "the session")
    await eventually(lambda: behind, "the session behind")
    for sender, taker in ((client, behind[0]), (behind[0], client)):
        await fill(sender, taker, fronts)
    ended: list[Any] = []
    behind[0].on("close", lambda reason, _: ended.append(reason))
    await within(client.close(), "the end")
    await eventually(lambda: ended, "the end behind")
    assert ended == ["transport close"]
    # And from the other end.
    client = Client(front.url, transports=[transport])
    await within(client.connect(), "another session")
    await eventually(lambda: len(behind) == 2, "another session behind")
    behind[1].send("goodbye")
    behind[1].close()
    messages: list[str | bytes] = []
    client.on("message", messages.append)
    assert await within(client.whenClosed(), "the end in front") == "transport close"
    assert messages == ["goodbye"]
    await within(client.close(), "the end of its connections")
