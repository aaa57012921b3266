"""The tools we are measured against: pinned, each in a throw-away virtual environment, and how each is called.

`python -m benchmarks.peers [--cache DIR] [NAME ...]` creates the environments ahead of time.
"""

import argparse
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.catalogue import SIZES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DEFAULT_CACHE = ROOT / "build" / "benchmarks"

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "onnx-tools": (
        "onnx==1.23.2",
        "onnxruntime==1.31.1",
        "numpy==2.4.6",
        "onnxsim==0.8.1",
        "onnxslim==0.1.98",
        "onnxscript==0.7.2",
        "coremltools==9.0",
    ),
    "onnx2coreml": ("onnx==1.23.2", "numpy==2.4.6", "coremltools==9.0", "onnx2coreml==1.1.0"),
    "coreai-onnx": ("onnx==1.23.2", "numpy==2.4.6", "coreai-core==1.0.0b3", "coreai-onnx==1.2.1"),
    "onnx2tf": ("onnx2tf==2.6.9",),  # itself pins what it needs
    "onnx2tf-tensorflow": (
        "onnx2tf==2.6.9",
        "tensorflow==2.21.0",
        "tf-keras==2.21.0",
        "onnx-graphsurgeon==0.6.1",
    ),
    "ai-edge-quantizer": ("ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    "torch-compression": (
        "torch==2.13.0",
        "onnx==1.23.2",
        "onnx2torch==1.5.15",
        "torch-pruning==1.6.1",
        "aimet-torch==2.42.0",
        "tensorly==0.10.0",
    ),
    "torch": ("torch==2.13.0", "onnx==1.23.2", "numpy==2.4.6", "onnxscript==0.7.2"),
}

OLDEST_PYTHON = {"onnx2tf": (3, 12), "onnx2tf-tensorflow": (3, 12)}
"""Environments that this interpreter may be too old for."""

DEPLOYMENT_TARGET = "iOS17"


@dataclass(frozen=True, slots=True)
class Tool:
    """One command line. `{model}`, `{out}` (a fresh directory) and `{bin}` (the environment's) are filled in, and
    `{stem}`, the model's name without suffix, in the name of the artifact too."""

    name: str
    artifact: str
    argv: tuple[str, ...]
    environment: str | None = None
    note: str = ""

    @property
    def is_ours(self) -> bool:
        return self.environment is None

    def command(self, model: Path, out: Path, cache: Path) -> list[str]:
        binaries = Path(sys.executable).parent if self.environment is None else environment_bin(cache, self.environment)
        values = {"model": model, "out": out, "bin": binaries, "here": HERE}
        return [part.format(**values) for part in self.argv]

    def produced(self, model: Path, out: Path) -> Path:
        """Where the artifact of a model is once the command has run."""
        return out / self.artifact.format(stem=model.stem)


def _ours(target: str, artifact: str, note: str, *extra: str) -> Tool:
    argv = ("-m", "compiler", "{model}", "--target", target, *extra, "-o", "{out}/" + artifact)
    return Tool("cincel", artifact, (sys.executable, *argv, "--verify", "off", "--quiet"), note=note)


_ONNXSIM = ("{bin}/onnxsim", "{model}", "{out}/m.onnx")
_ONNXSIM_TARGET = ("--coreml-minimum-deployment-target", DEPLOYMENT_TARGET)
_SIMPLIFIERS = (
    Tool("onnxsim", "m.onnx", _ONNXSIM, "onnx-tools", "defaults"),
    Tool("onnxslim", "m.onnx", ("{bin}/onnxslim", "{model}", "{out}/m.onnx"), "onnx-tools", "defaults"),
    Tool(
        "onnxscript",
        "m.onnx",
        ("{bin}/python", "{here}/foreign/onnxscript_driver.py", "{model}", "{out}/m.onnx"),
        "onnx-tools",
        "optimize_ir, then rewrite with the default rules",
    ),
)
_TFLITE = (
    _ours("nnapi", "m.tflite", "float32"),
    Tool(
        "onnx2tf",
        "{stem}_float32.tflite",
        ("{bin}/onnx2tf", "-i", "{model}", "-o", "{out}", "-n"),
        "onnx2tf",
        "its default backend flatbuffer_direct, quiet (-n); it writes a float16 file beside the float32 one",
    ),
)
_EXTERNAL = {"onnxsim": "--save-as-external-data", "onnxslim": "--save-as-external-data", "onnxscript": "--external"}

TOOLS: dict[str, tuple[Tool, ...]] = {
    "onnx": (_ours("onnx", "m.onnx", "every exact pass"), *_SIMPLIFIERS),
    "coreml": (
        _ours("ane", "m.mlpackage", "ML Program, fp16", "--deployment-target", DEPLOYMENT_TARGET),
        Tool(
            "onnx2coreml",
            "m.mlpackage",
            ("{bin}/onnx2coreml", "convert", "{model}", "-o", "{out}/m.mlpackage", "--target", DEPLOYMENT_TARGET),
            "onnx2coreml",
            "ML Program, fp16 (its default)",
        ),
        Tool(
            "onnxsim",
            "m.mlpackage",
            (*_ONNXSIM, "--external-data-threshold", "2GB", "--emit-coreml", "{out}/m.mlpackage", *_ONNXSIM_TARGET),
            "onnx-tools",
            "ML Program, fp16 (coremltools' default); writes the simplified ONNX file as well, inline, "
            "because reading back its external one fails",
        ),
    ),
    "coreai": (
        _ours("coreai", "m.aimodel", "fp32", "--precision", "fp32"),
        Tool(
            "coreai-onnx",
            "m.aimodel",
            ("{bin}/coreai-onnx", "convert", "{model}", "-o", "{out}/m.aimodel", "--no-verify", "--no-validate"),
            "coreai-onnx",
            "element types as in the model (its default), without its own comparison with ONNX Runtime",
        ),
    ),
    "tflite": _TFLITE,
    "latency": _TFLITE,
    "scaling": (_ours("onnx", "m.onnx", "every exact pass"), *_SIMPLIFIERS),
    "decoder": (
        _ours("onnx", "m.onnx", "every exact pass; weights external", "--external"),
        *(replace(t, argv=(*t.argv, _EXTERNAL[t.name]), note=f"{t.note}; weights external") for t in _SIMPLIFIERS),
    ),
}


def applies(tool: Tool, suite: str, model: str) -> bool:
    """Peers skip the large scaling graphs: most of them do not finish within a quarter of an hour."""
    return tool.is_ours or suite != "scaling" or model.endswith(f"_{SIZES[0]}")


def environment_bin(cache: Path, name: str) -> Path:
    return cache / "venvs" / name / ("Scripts" if sys.platform == "win32" else "bin")


def ensure_environment(cache: Path, name: str) -> Path:
    """The interpreter of environment `name`, created and filled from `ENVIRONMENTS` unless it is there already.

    Pip's own configuration applies, so an index of CPU-only wheels can be chosen for torch.
    """
    home = cache / "venvs" / name
    python = environment_bin(cache, name) / "python"
    if not python.exists():
        print(f"creating {home}", file=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            _create(home, OLDEST_PYTHON.get(name, sys.version_info[:2]))
            subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)
        except BaseException:  # an interrupt too must not leave half an environment behind
            shutil.rmtree(home, ignore_errors=True)
            raise
    return python


def _create(home: Path, oldest: tuple[int, int]) -> None:
    """An empty environment of this interpreter, or if that is too old, of the oldest on the path that is not."""
    if sys.version_info[:2] >= oldest:
        venv.create(home, with_pip=True)
        return
    names = [f"python{oldest[0]}.{minor}" for minor in range(oldest[1], oldest[1] + 4)]
    found = next((path for path in map(shutil.which, names) if path and _works(path)), None)
    if found is None:
        raise SystemExit(f"{home.name} needs Python {oldest[0]}.{oldest[1]} or newer: put one of {names} on the path")
    subprocess.run([found, "-m", "venv", str(home)], check=True)


def _works(python: str) -> bool:
    """Whether an interpreter starts; a version manager's stand-in for one that is not chosen does not."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; default all")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    arguments = parser.parse_args()
    for name in arguments.names or ENVIRONMENTS:
        print(ensure_environment(arguments.cache, name))


if __name__ == "__main__":
    main()
