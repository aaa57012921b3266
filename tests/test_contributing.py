"""The walks of CONTRIBUTING.md, done as written in a copy of the project: its files written, its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = re.findall(r"```console\n\$ (.*?)\n(.*?)```", GUIDE, re.DOTALL)
COPIED = ("compiler", "passes", "targets", "codegen", "tests")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the guide's files; what it adds to an existing file goes to its end."""
    copy = tmp_path_factory.mktemp("project")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.rmtree(copy / "tests" / "models")
    (copy / "tests" / "models").symlink_to(ROOT / "tests" / "models")
    (copy / "examples").symlink_to(ROOT / "examples")
    (copy / "build").mkdir()
    for path, text in FILES:
        (copy / path).parent.mkdir(exist_ok=True)
        with (copy / path).open("a") as file:
            file.write(f"\n\n{text}" if (ROOT / path).exists() else text)
    return copy


def call(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy, with this Python as `python`."""
    env = {**os.environ, "PYTHONPATH": str(project), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *command[1:]], cwd=project, env=env, capture_output=True, text=True, check=False
    )


def test_the_guide_has_its_walks() -> None:
    assert {path.partition("/")[0] for path, _ in FILES} == {"compiler", "passes", "targets", "tests"}
    assert len(COMMANDS) == 4


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_commands_do_what_the_guide_says(project: Path, command: str, expected: str) -> None:
    lines = expected.splitlines()
    code = int(lines.pop().removeprefix("exit code ")) if lines[-1].startswith("exit code ") else 0
    done = call(project, *shlex.split(command))
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert [line for line in lines if line not in output] == [], output


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param("ruff check", id="ruff check"),
        pytest.param("ruff format --check --diff", id="ruff format"),
        pytest.param("mypy", id="mypy", marks=pytest.mark.slow),
    ],
)
def test_its_code_passes_the_checks_of_the_project(project: Path, tool: str) -> None:
    new = [path for path, _ in FILES if not (ROOT / path).exists()]
    done = call(project, "python", "-m", *tool.split(), *new)
    assert done.returncode == 0, done.stdout + done.stderr
