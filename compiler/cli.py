"""The command line: `compile MODEL.onnx --target ane -o MODEL.mlpackage`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors import CompileError, UsageError

if TYPE_CHECKING:
    from compiler.api import Compiled
    from compiler.tensor import Array

TARGETS = ("ane", "onnx")
OPTIONS = ("precision", "deployment_target", "image", "opset", "external")  # handed to the target, which checks them
INTERNAL_ERROR = 70  # EX_SOFTWARE: a defect of this program, not of the model


def build_parser() -> argparse.ArgumentParser:
    """The arguments; nothing heavy is imported to describe them."""
    p = argparse.ArgumentParser(prog="compile", description="Compile a trained ONNX model into what a phone runs fast.")
    p.add_argument("model", metavar="MODEL.onnx", help="the model to compile")
    p.add_argument("-t", "--target", default="ane", metavar="NAME", help=f"one of {', '.join(TARGETS)} (default: ane)")
    p.add_argument("-o", "--output", metavar="PATH", help="where the artifact goes (default: beside the working folder's name of the model)")
    model = p.add_argument_group("model")
    model.add_argument("--input", action="append", default=[], metavar="NAME=1x3x224x224", help="shape of an input with dynamic dimensions")
    model.add_argument("--freeze", action="append", default=[], metavar="NAME=VALUE", help="make an input a constant; VALUE is a number, numbers with commas, true, false or @FILE.npy")
    target = p.add_argument_group("target options")
    target.add_argument("--precision", metavar="P", help="ane: fp16 (default) or fp32")
    target.add_argument("--deployment-target", metavar="OS", help="ane: iOS15 ... iOS26")
    target.add_argument("--image", action="append", metavar="NAME[:scale=S,bias=R/G/B,color=RGB]", help="ane: an input that takes an image")
    target.add_argument("--opset", type=int, metavar="N", help="onnx: opset to write (13 to 28)")
    target.add_argument("--external", action="store_true", default=None, help="onnx: put the weights into a file beside the model")
    rewriting = p.add_argument_group("rewriting")
    rewriting.add_argument("--passes", metavar="LIST", help='pipeline instead of the target\'s own, e.g. "fold,fuse"')
    rewriting.add_argument("--skip", action="append", default=[], metavar="PASS", help="leave a pass out")
    rewriting.add_argument("--emit-ir", metavar="P", help="write the layer graph as text: the final one to a file, or after every pass into a folder (P ends with /)")
    rewriting.add_argument("--emit-onnx", metavar="P", help="the same as ONNX")
    proof = p.add_argument_group("proof")
    proof.add_argument("--verify", choices=("off", "final", "each"), default="final", help="compare with ONNX Runtime: not at all, the executed artifact, or every rewrite too")
    proof.add_argument("--verify-data", metavar="FILE.npz", help="inputs to compare on, by name (default: seeded random ones)")
    proof.add_argument("--strict", action="store_true", help="fail where a pass breaks its promise, instead of taking it back")
    proof.add_argument("--bisect", action="store_true", help="find the first rewrite that breaks the model and write a small ONNX reproducer")
    proof.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object on standard output and nothing else")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 1 cannot compile, 2 usage, 3 verification failed)."""
    args = build_parser().parse_args(argv)
    try:
        return run_bisect(args) if args.bisect else run_compile(args)
    except CompileError as e:
        if args.debug:
            raise
        return _fail(args, str(e), e.exit_code)
    except KeyboardInterrupt:
        return _fail(args, "interrupted", 130)
    except (OSError, MemoryError) as e:
        if args.debug:
            raise
        return _fail(args, f"the system refused: {str(e) or type(e).__name__}", 1)
    except Exception as e:  # the last line of defence: a sentence instead of a traceback
        if args.debug:
            raise
        return _fail(args, f"internal error: {type(e).__name__}: {e}\n  hint: --debug shows where; please report it", INTERNAL_ERROR)


def run_compile(args: argparse.Namespace) -> int:
    """Compile, then print the summary."""
    from compiler.api import compile_model
    from compiler.emit_stages import stage_writer, write_final

    options = {name: getattr(args, name) for name in OPTIONS}
    output = args.output or default_output(args)
    with progress_bar(enabled=not (args.json or args.quiet)) as tell:
        compiled = compile_model(
            args.model,
            args.target,
            output,
            passes=args.passes,
            skip=args.skip,
            inputs=parse_shapes(args.input),
            freeze=parse_frozen(args.freeze),
            verify=args.verify,
            verify_data=_load_npz(args.verify_data),
            strict=args.strict,
            seed=args.seed,
            dump=stage_writer(args.emit_ir, args.emit_onnx),
            progress=tell,
            **options,
        )
    write_final(compiled.graph, args.emit_ir, args.emit_onnx)
    return _finish(args, compiled)


def run_bisect(args: argparse.Namespace) -> int:
    """Name the first rewrite that breaks the model, and write the reproducer."""
    from compiler.api import PassManager, find_culprit
    from compiler.bisect import write_reproducer
    from compiler.target import make_target
    from targets import find_target

    target = make_target(find_target(args.target), {name: getattr(args, name) for name in OPTIONS})
    manager = PassManager(target.pipeline() if args.passes is None else args.passes, skip=args.skip)
    culprit = find_culprit(
        args.model,
        manager,
        inputs=parse_shapes(args.input),
        freeze=parse_frozen(args.freeze),
        verify_data=_load_npz(args.verify_data),
        seed=args.seed,
    )
    if culprit is None:
        if args.json:
            print(json.dumps({"culprit": None}))
        elif not args.quiet:
            print("no rewrite breaks the model")
        return 0
    path = Path(args.output or Path(args.model).stem + ".bisect.onnx").with_suffix(".onnx")
    written = write_reproducer(culprit, path)
    if args.json:
        print(json.dumps({"culprit": {"number": culprit.number, **culprit.entry.as_json()}, "reproducer": [str(p) for p in written]}))
    elif not args.quiet:
        e = culprit.entry
        print(f"rewrite {culprit.number}, {e.rule} of pass {e.pass_name}, breaks the model at {', '.join(sorted(e.origin))}")
        print(f"  {' '.join(e.before)} -> {' '.join(e.after) or 'an existing value'}; reproducer: {written[0]}")
    return 3


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME=1x3x224x224` by name; the name may hold `=`."""
    shapes = {}
    for text in texts:
        name, found, dims = text.rpartition("=")
        try:
            shapes[name] = tuple(int(d) for d in dims.lower().replace(",", "x").split("x")) if dims else ()
        except ValueError:
            found = ""
        if not found or not name:
            raise UsageError(f"--input {text!r} is not NAME=SHAPE", hint="for example --input image=1x3x224x224")
    return shapes


def parse_frozen(texts: Sequence[str]) -> dict[str, Array]:
    """`NAME=VALUE` or `NAME=@FILE.npy` by name, as arrays."""
    if not texts:
        return {}
    import numpy as np  # not needed to answer --help

    frozen: dict[str, Array] = {}
    for text in texts:
        name, found, value = text.rpartition("=")
        if not found or not name or not value:
            raise UsageError(f"--freeze {text!r} is not NAME=VALUE", hint="for example --freeze sr=16000 or --freeze table=@table.npy")
        try:
            if value.startswith("@"):
                frozen[name] = np.load(value[1:], allow_pickle=False)
            else:
                numbers = [_number(v) for v in value.split(",")]
                frozen[name] = np.array(numbers if len(numbers) > 1 else numbers[0])
        except (ValueError, OSError, EOFError) as e:
            raise UsageError(f"--freeze {text!r}: {e}") from None
    return frozen


def _number(text: str) -> int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)


def _load_npz(path: str | None) -> dict[str, Array] | None:
    if path is None:
        return None
    import numpy as np  # not needed to answer --help

    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, AttributeError) as e:
        raise UsageError(f"--verify-data {path!r} cannot be read: {e}", hint="save it with numpy.savez(path, NAME=array, ...)") from None


def default_output(args: argparse.Namespace) -> str:
    """The model's name with the target's suffix, in the working folder."""
    from targets import find_target

    suffix = find_target(args.target).suffix
    stem = Path(args.model).stem
    return f"{stem}.{args.target}{suffix}" if suffix == ".onnx" else f"{stem}{suffix}"


def progress_bar(enabled: bool) -> Any:  # Any: a context manager of two kinds that gives a function
    """A context whose value is called with the name of each step; a live line on a terminal, silent elsewhere."""
    from contextlib import nullcontext

    if not enabled or not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from compiler.show import live_progress

    return live_progress()


def _finish(args: argparse.Namespace, compiled: Compiled) -> int:
    report = compiled.report
    if args.json:
        print(json.dumps(report.as_json(), allow_nan=False))
    elif not args.quiet:
        from compiler.show import summary

        summary(report)
    if report.passed:
        return 0
    from compiler.api import worst

    c = worst(report.verification or ())
    assert c is not None
    print(
        f"compile: verification failed: output {c.name!r} is {c.psnr_db:.1f} dB from ONNX Runtime (max-abs {c.max_abs:.3g}), "
        f"{report.tolerance_db:.0f} dB are required\n  hint: --bisect names the rewrite; --precision fp32 tells rounding from errors",
        file=sys.stderr,
    )
    return 3


def _fail(args: argparse.Namespace, message: str, code: int) -> int:
    if args.json:
        print(json.dumps({"error": message, "exit_code": code, "model": args.model, "target": args.target}))
    print(f"compile: {message}", file=sys.stderr)
    return code
