"""The tests of the chat example: they pass as its users run them, and fail where the chat has a fault."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ..kit.examples import WARNINGS, guarded
from ..kit.markdown import blocksOf

CHAT = Path(__file__).parents[2] / "examples" / "chat"

FAULTS = {
    "only who says it is told": ("self._tellAll(**said)", "member.send(_encode(**said))"),
    "nothing is kept for newcomers": ("self._history.append(said)", "pass"),
    "all is kept": ("deque(maxlen=HISTORY_LIMIT)", "deque()"),
    "who is gone stays": (
        "        def closed(_reason: str, _description: object) -> None:\n            visitor.leave()",
        "        def closed(_reason: str, _description: object) -> None:\n            pass",
    ),
    "a handler with a parameter too few": (
        "def closed(_reason: str, _description: object)",
        "def closed(_reason: str)",
    ),
    "who leaves is told alone": ('self._tellAll(type="left"', 'member.send(_encode)(type="left"'),
    "names aren't cleaned": ('cleaned = " ".join(unicodedata.normalize("NFC", name).split())', "cleaned = name"),
    "what can't be seen is a name": ("if not cleaned.isprintable():", "if False:"),
    "names differ by case": ('unicodedata.normalize("NFKC", name).casefold()', "name"),
    "any key will do": ("elif _sameKey(present.key, key):", "elif key:"),
    "nobody is told of being replaced": ('present.send(_encode(type="replaced"))', "pass"),
    "the old connection takes the new one out": ("is member", "is not None"),
    "one too many": (">= MEMBER_LIMIT", "> MEMBER_LIMIT"),
    "what isn't JSON isn't answered": ("except (ValueError, RecursionError):", "except RecursionError:"),
    "times don't grow": ("self._lastTime + 1", "self._lastTime"),
    "a visitor says what hasn't joined": (
        'if not self.has(member):\n            raise Refused("not-joined", "Join with a name first.")',
        "",
    ),
}
"""Faults of a chat, each as what is in its place in the one that has none."""


COMMANDS = {
    line.split()[2]: line.split()[2:]
    for block in blocksOf(CHAT / "README.md")
    if block.isCommands
    for line in block.text.splitlines()
    if line.startswith("python -m ")
}
"""What the README says to type, by its module."""

PYTEST = (*COMMANDS["pytest"], "-q", "-x", *WARNINGS, "-p", "no:cacheprovider")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("chat.py", "test_chat.py"):
        shutil.copy(CHAT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("plugin", [(), ("-p", "no:twisted")], ids=["pytest-twisted", "plain"])
def test_pytest(folder: Path, plugin: tuple[str, ...]) -> None:
    """Under pytest, with its plugin for Twisted and without: no socket, no sleep, no warning."""
    status, said = guarded(folder, *PYTEST, *plugin)
    assert status == 0, said
    assert "36 passed" in said
    assert "warning" not in said


def test_trial(folder: Path) -> None:
    """And under trial."""
    status, said = guarded(folder, *COMMANDS["twisted.trial"])
    assert status == 0, said
    assert "PASSED (successes=36)" in said


REPRESENTATIVE = ("the old connection takes the new one out", "times don't grow")
"""Faults that are looked for each time, one of what joins and one of what is said."""


@pytest.mark.parametrize(
    "fault", [each if each in REPRESENTATIVE else pytest.param(each, marks=pytest.mark.apart) for each in FAULTS]
)
def test_faults(folder: Path, fault: str) -> None:
    """A fault in the chat is found by them, as a failed test."""
    text = (folder / "chat.py").read_text()
    right, wrong = FAULTS[fault]
    assert text.count(right) == 1
    (folder / "chat.py").write_text(text.replace(right, wrong))
    status, said = guarded(folder, *PYTEST)
    assert status == 1, said
    assert "1 failed" in said
