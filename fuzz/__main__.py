"""C{python -m fuzz [--seconds N] [TARGET ...]}: fuzz each target for so long; C{python -m fuzz --try FILE TARGET}."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path

from .runner import CORPUS, FOUND, LONGEST, TOKENS, randomly


def withAtheris(name: str, seconds: int) -> None:
    """Fuzz a target, and end the process."""
    import atheris

    with atheris.instrument_imports(include=["engineio_twisted"]):
        from .targets import run
    reached = FOUND / name
    reached.mkdir(parents=True, exist_ok=True)
    tokens = FOUND / "tokens.txt"
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    tokens.write_text("".join(f'"{each}"\n' for each in quoted))
    arguments = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        # Seconds of the clock, for what never ends, and the memory for all: whatever comes, little is done for it.
        "timeout": 300,
        "rss_limit_mb": 1024,
        "dict": tokens,
        "artifact_prefix": f"{FOUND}/{name}-",
        "print_final_stats": 1,
    }
    options = [f"-{option}={value}" for option, value in arguments.items()]
    atheris.Setup([sys.argv[0], *options, str(reached), str(CORPUS / name)], lambda data: run(name, data))
    atheris.Fuzz()


def withoutAtheris(name: str, seconds: int) -> None:
    """The same where there is no atheris: at random."""
    from .targets import run

    print(f"{name}: {randomly(name, run, random.Random(), seconds=seconds)} inputs at random")


def main() -> int:
    """Fuzz each target in a process of its own; return how many failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz targets, all by default.")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", action="store_true", help="fuzz one target in this process")
    parser.add_argument("--try", type=Path, dest="file", help="run a target on this file alone")
    parser.add_argument("--at-random", action="store_true", help="do without atheris")
    given = parser.parse_args()
    if given.here:
        (withoutAtheris if given.at_random else withAtheris)(given.targets[0], given.seconds)
        return 0
    if given.file is not None:
        from .targets import run

        run(given.targets[0], given.file.read_bytes())
        return 0
    names = [each.name for each in sorted(CORPUS.iterdir())]
    for each in given.targets:
        if each not in names:
            parser.error(f"{each}: expected one of {', '.join(names)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris isn't there: inputs are made at random, whatever code they reach")
        given.at_random = True
    failed = []
    for name in given.targets or names:
        print(f"--- {name}", flush=True)
        command = [sys.executable, "-m", "fuzz", "--here", "--seconds", str(given.seconds), name]
        if subprocess.run([*command, *(["--at-random"] if given.at_random else [])], check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}; the inputs are in {FOUND}" if failed else "nothing was found")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
