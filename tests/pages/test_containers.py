"""The image of docs/docker.md: each step of its Dockerfile, its probes and its end, without a container."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
import yaml

from engineio_twisted import ServerOptions
from engineio_twisted.ends import CLOSE_TIMEOUT

from ..kit.fronts import ports
from ..kit.markdown import blocksOf
from ..kit.packages import FASTER
from ..kit.packages import built as built
from ..kit.services import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "docker.md"
FOLDER = ROOT / "examples" / "containers"
PATIENCE = 60


def block(language: str) -> str:
    (found,) = (each.text for each in blocksOf(PAGE) if each.language == language)
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments on one line."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, arguments.strip()) for name, _, arguments in (line.partition(" ") for line in lines)]


def the(instruction: str) -> str:
    (arguments,) = (arguments for name, arguments in instructions() if name == instruction)
    return arguments


def listed(arguments: str) -> list[str]:
    """Return the list in which an instruction names a program: a program in a list is started without a shell."""
    found: list[str] = json.loads(arguments[arguments.index("[") :])
    return found


def test_thePageShowsTheFiles() -> None:
    """What the page shows is what is in the folder; of the manifest it shows a part."""
    assert block("dockerfile").strip() == (FOLDER / "Dockerfile").read_text(encoding="utf-8").strip()
    assert block("text") == (FOLDER / "requirements.txt").read_text(encoding="utf-8")
    assert block("python").strip() in (FOLDER / "application.py").read_text(encoding="utf-8")
    shown, whole = (
        [line.strip() for line in text.splitlines() if line.strip()]
        for text in (block("yaml"), (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    )
    rest = iter(whole)
    assert [line for line in shown if line not in rest] == []


def test_onlyWhatIsCopiedIsSent() -> None:
    """.dockerignore leaves in the context of a build what the Dockerfile copies, and nothing else."""
    copied = {source for name, arguments in instructions() if name == "COPY" for source in arguments.split()[:-1]}
    first, *others = (FOLDER / ".dockerignore").read_text(encoding="utf-8").split()
    assert first == "*"
    assert {each.removeprefix("!") for each in others} == copied


def container() -> tuple[dict[str, Any], dict[str, Any]]:
    deployment, _ = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    return pod, only


def test_manifest() -> None:
    """The manifest names the ports of the image, and leaves it time to stop."""
    deployment, service = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod, only = container()
    named = {each["name"]: each["containerPort"] for each in only["ports"]}
    assert [str(each) for each in named.values()] == the("EXPOSE").split()
    command = listed(the("CMD"))
    assert command[command.index("--listen") + 1] == f"tcp:{named['sessions']}"
    for flag in ("--health", "--metrics"):
        assert command[command.index(flag) + 1] == f"tcp:{named['operation']}"
    for probe, path in (("livenessProbe", "/health"), ("readinessProbe", "/ready")):
        assert only[probe]["httpGet"] == {"path": path, "port": "operation"}
    stop = only["lifecycle"]["preStop"]["sleep"]["seconds"] + ServerOptions().drainTimeout / 1000 + CLOSE_TIMEOUT
    assert pod["terminationGracePeriodSeconds"] > stop
    user, _, _ = the("USER").partition(":")
    assert pod["securityContext"]["runAsNonRoot"]
    assert int(user) > 0
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["sessions"]


@pytest.mark.apart
def test_image(built: dict[str, Path], tmp_path: Path) -> None:
    """The steps of the Dockerfile make an environment in which its command serves, is healthy, and stops in order."""
    here = tmp_path / "app"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "python"], check=True)
    surroundings = {
        **{name: value for name, value in environment().items() if not name.startswith("PYTHON")},
        **FASTER,
        # The version that these tests are of, which nobody has released.
        "PIP_FIND_LINKS": str(built["wheel"].parent),
        "PATH": f"{tmp_path / 'python' / 'bin'}:/usr/bin:/bin",
    }
    for name, arguments in instructions():
        match name:
            case "FROM":
                assert arguments == f"python:{re.search(r'3[.]1[0-9]', arguments)[0]}-slim"  # type: ignore[index]
            case "ENV":
                surroundings |= dict(each.split("=") for each in shlex.split(arguments))
            case "WORKDIR":
                assert arguments == "/app"
                here.mkdir()
            case "COPY":
                *sources, target = arguments.split()
                assert target == "./"
                for source in sources:
                    shutil.copy(FOLDER / source, here)
            case "RUN":
                subprocess.run(["sh", "-c", arguments], cwd=here, env=surroundings, check=True, timeout=600)
            case "USER" | "EXPOSE" | "HEALTHCHECK" | "CMD":
                pass
            case _:
                pytest.fail(f"nothing is known of {name}")
    with ports(2) as (sessions, operation):
        serve(here, surroundings, sessions, operation)


def serve(folder: Path, surroundings: dict[str, str], sessions: int, operation: int) -> None:
    """Start what the image starts, at other ports and on loopback, and do what a platform does with it."""
    changes = {"3000": str(sessions), "9100": str(operation)}

    def local(text: str) -> str:
        return re.sub("3000|9100", lambda found: changes[found[0]], text)

    command = [f"{local(each)}:interface=127.0.0.1" if each.startswith("tcp:") else each for each in listed(the("CMD"))]
    check = [local(each) for each in listed(the("HEALTHCHECK"))]
    _, only = container()
    with subprocess.Popen(
        command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for probe in ("readinessProbe", "livenessProbe"):
                assert eventually(f"http://127.0.0.1:{operation}{only[probe]['httpGet']['path']}", process) == 200
            subprocess.run(check, env=surroundings, check=True, timeout=PATIENCE)
            assert eventually(f"http://127.0.0.1:{sessions}/engine.io/?EIO=4&transport=websocket", process) == 400
            assert eventually(f"http://127.0.0.1:{operation}/metrics", process) == 200
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode in (0, -signal.SIGTERM), said
            assert "Traceback" not in said
        finally:
            process.kill()
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(check, env=surroundings, check=True, capture_output=True, timeout=PATIENCE)


def eventually(url: str, process: subprocess.Popen[str]) -> int:
    """Return the status of a page, once the process listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(url, timeout=PATIENCE) as response:
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code
        except URLError:
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, f"{url} doesn't answer"
            time.sleep(0.05)
