"""Runs targets: on their corpora, on inputs made of those at random, and, by atheris, led by what code is reached."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
"""Inputs of each target, in a folder of its name: to begin with, and those in which something was found."""

FOUND = HERE / "found"
"""Where inputs are put that fail, and those that atheris found to reach more code."""

LONGEST = 4096
"""Bytes of an input."""

TOKENS = [
    *(b"4hello", b"2probe", b"3probe", b"\x1e", b"b4AQID", b"bAQID", b"\x00\x04\xff", b"\x01\x03\xff4", b"12:"),
    *(
        "€".encode(),
        "😀".encode(),
        b"\xed\xa0\x80",
        b"\xff",
        b"\x00",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\\n",
        b"%41",
        b"+",
    ),
    *(b"\xf5|", b"\xf5c", b"\xf5f\x81", b"\xf5f\x82", b"\xf5f\x01", b"\xf5f\x80", b"\xf5f\x88\x03\xe8", b"\xf5f\x89"),
    *(b"\xf5f\xc1", b"\xf5t", b"\xf5s", b"\xf5l", b"\xf5p", b"\xf5f\x814", b"\xf5f\x812probe", b"\xf5f\x815"),
    *(b"\xf5o", b"\xf5w", b"\xf5g0", b"\xf5g1", b"\xf5b04hello", b"\xf5b02", b"\xf5b03", b"\xf5b01", b"\xf5b14a\x1e4b"),
    *(b"\xf5u0", b"\xf5u0\xf5f\x812probe", b"\xf5u1", b"\xf5c\xf5o", b"\xf5c\xf5w", b"\xf5c\xf5g0", b"\xf5c\xf5b04"),
    *(b"GET ", b"POST ", b"OPTIONS ", b"/engine.io/", b"?EIO=4&transport=polling", b"&transport=websocket"),
    *(b"&sid=sid0", b"&sid=sid1", b"&j=0", b"&b64=1", b"EIO=3", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: h\r\n"),
    *(
        b"Content-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Sec-WebSocket-Version: 13\r\n"),
    *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    *(b"Content-Type: application/octet-stream\r\n", b"Origin: https://a.example\r\n", b"Accept-Encoding: gzip\r\n"),
    *(
        b"for=10.0.0.2",
        b'for="[2001:db8::1]:80"',
        b";proto=https",
        b";host=h",
        b"10.0.0.3, ",
        b'\\"',
        b'for="_x',
        b"[::1]",
    ),
    *(b"permessage-deflate", b"; server_max_window_bits=10", b"; client_max_window_bits", b"gzip;q=0.5", b"deflate"),
    *(b'2["m",', b"51-", b"62-", b"/admin,", b'{"_placeholder":true,"num":0}', b'{"_placeholder":true,"num":1}'),
    *(b"\xf5|\x00", b"\\ud800", b"1e999", b"NaN", b'["connect"]', b"9007199254740992", b'{"a":'),
    *(
        b"\x83\xa4type\x02",
        b"\xa3nsp\xa1/",
        b"\xa4data\x92\xa1m",
        b"\xa2id\x01",
        b"\xdd\x00\x00\x00\x09",
        b"\xd4\x00\x00",
    ),
]
"""What inputs are made of."""

Run = Callable[[str, bytes], None]


def corpusOf(name: str) -> list[Path]:
    """The files of a target's corpus."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())


def mutations(seeds: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Make inputs of others, without an end."""
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
            place = chance.randint(0, len(data))
            end = min(len(data), place + chance.choice((1, 1, 2, 4, 16, 64)))
            match chance.randrange(7):
                case 0:
                    data[place:end] = chance.randbytes(end - place)
                case 1:
                    del data[place:end]
                case 2:
                    data[place:place] = chance.choice(TOKENS)
                case 3:
                    data[place:end] = chance.choice(TOKENS)
                case 4:
                    data[place:place] = data[place:end] * chance.choice((1, 2, 10))
                case 5:
                    other = chance.choice(seeds)
                    data[place:] = other[chance.randint(0, len(other)) :]
                case 6 if place < len(data):
                    data[place] ^= 1 << chance.randrange(8)
        yield bytes(data[:LONGEST])


def randomly(name: str, run: Run, chance: random.Random, count: int | None = None, seconds: float | None = None) -> int:
    """
    Run a target on inputs made at random of its corpus, until there were enough of them or it took long enough.

    @return: on how many.
    @raise Exception: whatever the target raised; the input is in L{FOUND}.
    """
    end = None if seconds is None else time.monotonic() + seconds
    seeds = [path.read_bytes() for path in corpusOf(name)]
    done = 0
    for data in mutations(seeds, chance):
        if done == count or (end is not None and time.monotonic() > end):
            break
        done += 1
        try:
            run(name, data)
        except Exception:
            FOUND.mkdir(exist_ok=True)
            path = FOUND / f"{name}-crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            path.write_bytes(data)
            print(f"{name} fails on {path}")
            raise
    return done
