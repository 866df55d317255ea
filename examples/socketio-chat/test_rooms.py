"""
The tests of the chat: its application whole, with people in memory.

    trial test_rooms          # in this folder
    pytest test_rooms.py      # the same

Nothing here listens, connects or waits: docs/socketio-testing.md.
"""

from typing import Any, ClassVar

from rooms import HISTORY_LIMIT, OPTIONS, PEOPLE_LIMIT, ROOMS_EACH, TEXT_LIMIT, application
from twisted.trial.unittest import SynchronousTestCase

from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO, NothingReceived, Refused

NOW = 1000.0


class RoomsTests(SynchronousTestCase):
    """People whose clients poll, and then move to WebSocket."""

    how: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.kit = MemorySocketIO(lambda io: application(io, lambda: NOW), **OPTIONS)
        self.addCleanup(self.kit.close)

    def person(self, name: object, *rooms: str, key: object = None) -> MemorySocket:
        """Return somebody who has come in, has joined rooms, and has read what there was to read."""
        person = self.kit.connect(auth={"name": name, "key": key}, **self.how)
        for room in rooms:
            self.assertEqual(person.emitWithAck("join", room)["room"], room)
        person.receiveAll()
        return person

    def told(self, person: MemorySocket) -> list[Event]:
        """Return what somebody was told since last asked, but which rooms there are."""
        return [each for each in person.receiveAll() if each.name != "rooms"]

    def people(self, *names: str) -> list[MemorySocket]:
        """Return some who are in the room `Tea`."""
        people = [self.person(each, "Tea") for each in names]
        for each in people:
            each.receiveAll()
        return people

    def keptOut(self, name: object, key: object = None) -> str:
        """Return the code with which somebody isn't let in."""
        with self.assertRaises(Refused) as caught:
            self.person(name, key=key)
        self.assertTrue(caught.exception.message.endswith("."))
        code: str = caught.exception.data["code"]
        return code

    def refused(self, person: MemorySocket, event: str, *values: object) -> str:
        """Return the code with which an event is refused."""
        answer = person.emitWithAck(event, *values)
        self.assertEqual([*answer], ["error"])
        self.assertTrue(answer["error"]["message"].endswith("."))
        code: str = answer["error"]["code"]
        return code

    def test_comeIn(self) -> None:
        """A newcomer is told its name, as others see it, and which rooms there are."""
        self.people("Ada")
        grace = self.kit.connect(auth={"name": "  Grace   H. "})
        self.assertEqual(grace.receiveAll(), [Event("welcome", ["Grace H.", ["Tea"]])])

    def test_names(self) -> None:
        """A name is refused if it is none, or that of somebody else."""
        self.person("Ada")
        for name, code in (
            ("", "name-empty"),
            (7, "name-empty"),
            ("x" * 25, "name-too-long"),
            ("A\u200bda", "name-invisible"),
            ("ADA", "name-taken"),
        ):
            self.assertEqual(self.keptOut(name), code)

    def test_full(self) -> None:
        """The next is refused until somebody leaves."""
        people = [self.person(f"guest {number}") for number in range(PEOPLE_LIMIT)]
        self.assertEqual(self.keptOut("late"), "full")
        people[0].disconnect()
        self.person("late")

    def test_comeBack(self) -> None:
        """With its key a client takes the place of the connection that it has lost; without it nobody does."""
        lost = self.person("Ada", "Tea", key="secret")
        lost.vanish()
        for key in (None, "", "guess", 7):
            self.assertEqual(self.keptOut("Ada", key), "name-taken")
        again = self.person("Ada", "Tea", key="secret")
        self.assertFalse(lost.socket.connected)
        self.assertTrue(again.connected)

    def test_noKey(self) -> None:
        """Two that have no key are not the same person."""
        self.person("Ada", key="")
        self.assertEqual(self.keptOut("Ada", ""), "name-taken")

    def test_join(self) -> None:
        """Who joins a room learns who is there and what was said; the members learn of the newcomer, others don't."""
        ada, other = self.person("Ada", "Tea"), self.person("Linus")
        ada.emitWithAck("say", "Tea", "hello")
        grace = self.person("Grace")
        answer = grace.emitWithAck("join", " tea ")
        said = {"name": "Ada", "text": "hello", "time": 1_000_000}
        self.assertEqual(answer, {"room": "Tea", "members": ["Ada", "Grace"], "history": [said]})
        self.assertEqual(self.told(ada), [Event("joined", ["Tea", "Grace"])])
        self.assertEqual(self.told(other), [])
        # Again, nothing has changed.
        self.assertEqual(grace.emitWithAck("join", "Tea"), answer)
        self.assertEqual(self.told(ada), [])

    def test_rooms(self) -> None:
        """Everybody learns which rooms there are: from the first member of each to the last."""
        ada, grace = self.person("Ada"), self.person("Grace")
        ada.emitWithAck("join", "Tea")
        grace.emitWithAck("join", "Tea")
        grace.emitWithAck("join", "Cake")
        self.assertEqual(ada.emitWithAck("leave", "Tea"), {})
        grace.disconnect()
        told = [each.args[0] for each in ada.receiveAll() if each.name == "rooms"]
        self.assertEqual([sorted(each) for each in told], [["Tea"], ["Cake", "Tea"], told[2], []])

    def test_roomNames(self) -> None:
        """A room has a name; no more than some rooms are for one person."""
        ada = self.person("Ada", *map(str, range(ROOMS_EACH)))
        self.assertEqual(self.refused(ada, "join", "one more"), "too-many-rooms")
        self.assertEqual(self.refused(ada, "join", ""), "name-empty")
        self.assertEqual(self.refused(ada, "join"), "name-empty")
        ada.emitWithAck("leave", "0")
        self.assertEqual(ada.emitWithAck("join", "one more")["members"], ["Ada"])

    def test_idsAreNoRooms(self) -> None:
        """The id of somebody's socket, which is a room too, is the name of a room like any other."""
        ada, grace = self.person("Ada"), self.person("Grace")
        assert ada.id is not None
        grace.emitWithAck("join", ada.id)
        self.told(ada)
        grace.emitWithAck("say", ada.id, "psst")
        self.assertEqual(self.told(ada), [])

    def test_say(self) -> None:
        """A message is acknowledged with its time, and reaches the other members alone."""
        ada, grace = self.people("Ada", "Grace")
        other = self.person("Linus", "Cake")
        said = {"name": "Ada", "text": "<b>\u20ac</b>", "time": 1_000_000}
        self.assertEqual(ada.emitWithAck("say", "Tea", " <b>\u20ac</b>\n"), said)
        self.assertEqual(self.told(grace), [Event("said", ["Tea", said])])
        self.assertEqual(self.told(ada), [])
        self.assertEqual(self.told(other), [])
        # Times grow, also within one millisecond.
        self.assertEqual(ada.emitWithAck("say", "Tea", "more")["time"], 1_000_001)

    def test_badMessages(self) -> None:
        """What can't be said is refused, and concerns nobody else."""
        ada, grace = self.people("Ada", "Grace")
        self.person("Linus", "Cake")
        self.assertEqual(self.refused(ada, "say", "Tea", " "), "text-empty")
        self.assertEqual(self.refused(ada, "say", "Tea", {"not": "text"}), "text-empty")
        self.assertEqual(self.refused(ada, "say", "Tea", "x" * (TEXT_LIMIT + 1)), "text-too-long")
        self.assertEqual(self.refused(ada, "say", "Cake", "hello"), "not-in-room")
        self.assertEqual(self.refused(ada, "say", "Wine", "hello"), "not-in-room")
        self.assertEqual(self.refused(ada, "leave", "Cake"), "not-in-room")
        self.assertEqual(self.refused(ada, "typing", "Cake"), "not-in-room")
        with self.assertRaises(NothingReceived):
            ada.emitWithAck("shout", "Tea", "hello")
        self.assertEqual(self.told(grace), [])
        # The largest message that is allowed.
        ada.emitWithAck("say", "Tea", "\U0001f600" * TEXT_LIMIT)
        self.assertEqual([each.name for each in self.told(grace)], ["said"])

    def test_history(self) -> None:
        """A room keeps what was said last, and no more than the limit."""
        (ada,) = self.people("Ada")
        for number in range(HISTORY_LIMIT + 2):
            ada.emitWithAck("say", "Tea", str(number))
            self.kit.advance(1)
        history = self.person("Grace").emitWithAck("join", "Tea")["history"]
        self.assertEqual([each["text"] for each in history], [str(each) for each in range(2, HISTORY_LIMIT + 2)])

    def test_typing(self) -> None:
        """The other members learn who is typing, but one that is slow to read never does."""
        ada, grace, slow = self.people("Ada", "Grace", "Slow")
        slow.pauseReading()
        # More than its connection takes, and no more in a second than one may say.
        for _ in range(4):
            for _ in range(30):
                ada.emitWithAck("say", "Tea", "x" * TEXT_LIMIT)
            self.kit.advance(1)
        self.told(grace)
        ada.emit("typing", "Tea")
        self.assertEqual(self.told(grace), [Event("typing", ["Tea", "Ada"])])
        slow.resumeReading()
        self.assertEqual({each.name for each in self.told(slow)}, {"said"})

    def test_leave(self) -> None:
        """Who leaves a room, or is gone by whatever end, is gone for the members."""
        (ada,) = self.people("Ada")
        for leave in (
            lambda each: each.emitWithAck("leave", "Tea"),
            lambda each: each.disconnect(),
            lambda each: each.drop(),
        ):
            (grace,) = self.people("Grace")
            leave(grace)
            self.assertEqual(self.told(ada), [Event("joined", ["Tea", "Grace"]), Event("left", ["Tea", "Grace"])])
            self.assertEqual(ada.emitWithAck("join", "Tea")["members"], ["Ada"])
            grace.disconnect()

    def test_lostUnnoticed(self) -> None:
        """Who vanishes is thought to be here until a ping goes unanswered."""
        ada, grace = self.people("Ada", "Grace")
        grace.vanish()
        self.kit.advance(44)
        self.assertEqual(self.told(ada), [])
        self.kit.advance(2)
        self.assertEqual(self.told(ada), [Event("left", ["Tea", "Grace"])])

    def test_flood(self) -> None:
        """Who sends too many messages in a second is disconnected, and others go on."""
        ada, grace = self.people("Ada", "Grace")
        for _ in range(OPTIONS["maxMessagesPerSecond"] * 2):
            if not grace.connected:
                break
            grace.emit("typing", "Tea")
        self.assertFalse(grace.connected)
        self.assertEqual(self.told(ada)[-1], Event("left", ["Tea", "Grace"]))
        self.assertEqual(ada.emitWithAck("say", "Tea", "quiet again")["name"], "Ada")


class PollingTests(RoomsTests):
    """People whose clients can't do more than poll."""

    how: ClassVar[dict[str, Any]] = {"upgrade": False}


class WebSocketTests(RoomsTests):
    """People on WebSocket from the beginning, and a network that cuts all they say into pieces."""

    how: ClassVar[dict[str, Any]] = {"transport": "websocket", "split": 7}
