"""
The tests of the chat: its application whole, with people in memory.

    trial test_chat          # in this folder
    pytest test_chat.py      # the same

Nothing here listens, connects or waits: docs/testing.md.
"""

import json
from typing import Any, ClassVar

from chat import HISTORY_LIMIT, MEMBER_LIMIT, MESSAGE_LIMIT, TEXT_LIMIT, application
from twisted.trial.unittest import SynchronousTestCase

from engineio_twisted.testing import MemoryServer


class Person:
    """Somebody with a client, who is told JSON objects."""

    def __init__(self, kit: MemoryServer, **how: Any) -> None:
        self.client = kit.connect(**how)

    def ask(self, **message: object) -> list[dict[str, Any]]:
        """Send a message; return what this person has been told since last asked."""
        self.client.send(json.dumps(message))
        return self.told()

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.client.receiveAll()]


class ChatTests(SynchronousTestCase):
    """People whose clients poll, and then move to WebSocket."""

    how: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.kit = MemoryServer(application, maxHttpBufferSize=MESSAGE_LIMIT)
        self.addCleanup(self.kit.close)

    def person(self, name: str | None = None, **message: object) -> Person:
        """Return somebody who is connected, and, with a name, has joined and read the greeting."""
        person = Person(self.kit, **self.how)
        if name is not None:
            self.assertEqual(typesOf(person.ask(type="join", name=name, **message)), ["welcome"])
        return person

    def refused(self, person: Person, **message: object) -> str:
        """Return the code with which a message is refused."""
        (error,) = person.ask(**message)
        self.assertEqual(error["type"], "error")
        code: str = error["code"]
        return code

    def test_join(self) -> None:
        """A newcomer learns who is here, and the others learn of the newcomer."""
        ada, grace = self.person("Ada"), self.person()
        (welcome,) = grace.ask(type="join", name="Grace")
        self.assertEqual((welcome["name"], welcome["members"], welcome["history"]), ("Grace", ["Ada", "Grace"], []))
        (joined,) = ada.told()
        self.assertEqual((joined["type"], joined["name"]), ("joined", "Grace"))

    def test_say(self) -> None:
        """What one says reaches all who have joined, and nobody else; in order, and with times that grow."""
        ada, grace, outside = self.person("Ada"), self.person("Grace"), self.person()
        ada.told()
        said = [*ada.ask(type="say", text="hello"), *ada.ask(type="say", text="<b>\u20ac</b>")]
        self.assertEqual([(each["type"], each["name"]) for each in said], [("said", "Ada")] * 2)
        self.assertEqual([each["text"] for each in said], ["hello", "<b>\u20ac</b>"])
        self.assertLess(said[0]["time"], said[1]["time"])
        self.assertEqual(grace.told(), said)
        self.assertEqual(outside.told(), [])

    def test_history(self) -> None:
        """A newcomer gets what was said last, and no more than the limit."""
        ada = self.person("Ada")
        for number in range(HISTORY_LIMIT + 2):
            ada.ask(type="say", text=str(number))
        (welcome,) = self.person().ask(type="join", name="Grace")
        texts = [each["text"] for each in welcome["history"]]
        self.assertEqual(texts, [str(number) for number in range(2, HISTORY_LIMIT + 2)])

    def test_leave(self) -> None:
        """Who leaves is gone for the others, and may come again."""
        ada, grace = self.person("Ada"), self.person("Grace")
        ada.told()
        self.assertEqual(grace.ask(type="leave"), [])
        (left,) = ada.told()
        self.assertEqual((left["type"], left["name"]), ("left", "Grace"))
        self.assertEqual(self.refused(grace, type="say", text="still?"), "not-joined")
        self.assertEqual(typesOf(grace.ask(type="join", name="Grace")), ["welcome"])

    def test_ends(self) -> None:
        """Whose session ends, by whatever end, leaves the room, and the name is free again."""
        ada = self.person("Ada")
        for how in ("close", "drop"):
            getattr(self.person("Grace").client, how)()
            self.assertEqual(typesOf(ada.told()), ["joined", "left"])

    def test_lostUnnoticed(self) -> None:
        """Who vanishes is thought to be here until a ping goes unanswered."""
        ada, grace = self.person("Ada"), self.person("Grace")
        grace.client.vanish()
        self.kit.advance(44)
        self.assertEqual(typesOf(ada.told()), ["joined"])
        self.kit.advance(2)
        self.assertEqual(typesOf(ada.told()), ["left"])

    def test_comeBack(self) -> None:
        """Who vanished takes the place again with the key, and the others notice nothing; without it nobody does."""
        ada, lost = self.person("Ada"), self.person()
        (welcome,) = lost.ask(type="join", name="Grace")
        ada.told()
        lost.client.vanish()
        self.assertEqual(self.refused(self.person(), type="join", name="Grace"), "name-taken")
        self.assertEqual(self.refused(self.person(), type="join", name="grace", key="guess"), "name-taken")
        again = self.person("Grace", key=welcome["key"])
        self.kit.advance(60)
        self.assertEqual(ada.told(), [])
        again.ask(type="say", text="back")
        self.assertEqual([each["text"] for each in ada.told()], ["back"])

    def test_replaced(self) -> None:
        """A connection that another took the place of is told, and out."""
        first = self.person()
        (welcome,) = first.ask(type="join", name="Ada")
        self.person("Ada", key=welcome["key"])
        self.assertEqual(first.told(), [{"type": "replaced"}])
        self.assertEqual(self.refused(first, type="say", text="me?"), "not-joined")

    def test_names(self) -> None:
        """A name is cleaned, and refused where it is none, or another's."""
        ada = self.person()
        for name, code in (
            ("", "name-empty"),
            (7, "name-empty"),
            ("x" * 25, "name-too-long"),
            ("A\u200bda", "name-invisible"),
        ):
            self.assertEqual(self.refused(ada, type="join", name=name), code)
        (welcome,) = ada.ask(type="join", name="  Ada   L. ")
        self.assertEqual(welcome["name"], "Ada L.")
        self.assertEqual(self.refused(self.person(), type="join", name="ADA L."), "name-taken")
        self.assertEqual(self.refused(ada, type="join", name="Other"), "already-joined")

    def test_badMessages(self) -> None:
        """Whatever one sends, it is answered, and concerns nobody else; and this one may go on."""
        ada, grace = self.person("Ada"), self.person("Grace")
        ada.told()
        for data in ("", "{", "[]", "[" * 10_000, b"\x00"):
            grace.client.send(data)
            self.assertEqual([each["code"] for each in grace.told()], ["bad-message"])
        self.assertEqual(self.refused(grace, type="shout"), "unknown-type")
        self.assertEqual(self.refused(grace, type="say", text=" "), "text-empty")
        self.assertEqual(self.refused(grace, type="say", text="x" * (TEXT_LIMIT + 1)), "text-too-long")
        self.assertEqual(ada.told(), [])
        self.assertEqual(typesOf(grace.ask(type="say", text="\U0001f600" * TEXT_LIMIT)), ["said"])

    def test_fullRoom(self) -> None:
        """The next is refused until somebody leaves."""
        guests = [self.person(f"guest {number}") for number in range(MEMBER_LIMIT)]
        late = self.person()
        self.assertEqual(self.refused(late, type="join", name="late"), "room-full")
        guests[0].client.close()
        self.assertEqual(typesOf(late.ask(type="join", name="late")), ["welcome"])

    def test_slow(self) -> None:
        """Who is slow to read keeps nobody waiting, and gets all in the end."""
        ada, grace = self.person("Ada"), self.person("Grace")
        grace.client.pauseReading()
        for number in range(5):
            ada.ask(type="say", text=str(number))
        self.assertEqual(grace.told(), [])
        grace.client.resumeReading()
        self.assertEqual([each["text"] for each in grace.told()], list("01234"))


class PollingTests(ChatTests):
    """People whose clients can't do more than poll."""

    how: ClassVar[dict[str, Any]] = {"upgrade": False}


class WebSocketTests(ChatTests):
    """People on WebSocket from the beginning, and a network that cuts all they say into pieces."""

    how: ClassVar[dict[str, Any]] = {"transport": "websocket", "split": 7}


def typesOf(messages: list[dict[str, Any]]) -> list[str]:
    return [each["type"] for each in messages]
