"""The models that are measured, made where they are missing: `python -m benchmarks.models [--cache DIR] [NAME ...]`."""

import argparse
import subprocess
import sys
from pathlib import Path

import onnx

from benchmarks import decoder, light_models, synthetic
from benchmarks.catalogue import DECODER, FORMS, KINDS, LIGHT, SIZES, SUITES, TORCH, model_path, scaling_name
from benchmarks.peers import DEFAULT_CACHE, HERE, ensure_environment


def write_model(name: str, cache: Path) -> Path:
    """The file of model `name`, generated unless it exists; it appears under its name only when complete."""
    path = model_path(cache, name)
    if path.exists():
        return path
    print(f"generating {name}", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    _generate(name, partial, cache)
    return partial.rename(path)


def _generate(name: str, path: Path, cache: Path) -> None:
    scaling = {scaling_name(f, k, s): (f, k, s) for f in FORMS for k in KINDS for s in SIZES}
    if name in LIGHT:
        light_models.write(name, path)
    elif name in TORCH:
        python = ensure_environment(cache, "torch")
        subprocess.run([str(python), str(HERE / "foreign" / "torch_zoo.py"), name, str(path)], check=True)
    elif name in scaling:
        onnx.save(synthetic.build(*scaling[name]), path)
    elif name == DECODER:
        decoder.write(path, decoder.Config())
    else:
        known = ", ".join(dict.fromkeys(n for names in SUITES.values() for n in names))
        raise SystemExit(f"no model is called {name!r}; there are {known}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    arguments = parser.parse_args()
    for name in arguments.names or dict.fromkeys(n for names in SUITES.values() for n in names):
        print(write_model(name, arguments.cache))


if __name__ == "__main__":
    main()
