"""The command line: `compile MODEL.onnx --target ane -o MODEL.mlpackage`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from compiler.arguments import default_output, load_arrays, parse_frozen, parse_seed, parse_shapes
from compiler.errors import CompileError, UsageError

if TYPE_CHECKING:
    from compiler.api import Compiled, Progress
    from compiler.bisect import Culprit

TARGETS = ("ane", "nnapi", "onnx")
CHECKED = ("nnapi", "edgetpu")
# Options that are handed to the target, which checks them.
OPTIONS = ("precision", "deployment_target", "image", "io_layout", "opset", "external", "calibrate", "observer",
           "io_dtype")  # fmt: skip
VERIFICATION_FAILED = 3
INTERRUPTED = 130


class Help(argparse.HelpFormatter):
    """Of one width, so that the terminal need not be asked for each argument."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class Parser(argparse.ArgumentParser):
    """Raises UsageError where the base class would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help lists the arguments")


def build_parser() -> Parser:
    """The arguments; nothing heavy is imported to describe them."""
    p = Parser(
        prog="compile",
        description="Compile a trained ONNX model into what a phone runs fast.",
        epilog="exit codes: 0 done, 1 cannot compile, 2 wrong usage, 3 verification failed",
        formatter_class=Help,
        allow_abbrev=False,
    )
    p.add_argument("model", metavar="MODEL.onnx", help="the model to compile")
    p.add_argument("-t", "--target", default="ane", metavar="NAME", help=f"one of {', '.join(TARGETS)} (default: ane)")
    p.add_argument(
        "-o", "--output", metavar="PATH", help="where the artifact goes (default: the model's name, in this folder)"
    )
    p.add_argument("--version", action="version", version=f"cincel {_version()}", help="print the version and exit")
    _describe_model(p.add_argument_group("model"))
    _describe_target(p.add_argument_group("target options"))
    _describe_rewriting(p.add_argument_group("rewriting"))
    _describe_proof(p.add_argument_group("proof"))
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


Group = argparse._ArgumentGroup


def _describe_model(model: Group) -> None:
    model.add_argument(
        "--input", action="append", default=[], metavar="NAME=1x3x224x224", help="shape of an input with dynamic dims"
    )
    model.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="make an input a constant; VALUE is a number, numbers with commas, true, false or @FILE.npy",
    )


def _describe_target(target: Group) -> None:
    target.add_argument(
        "--precision", metavar="P", help="ane: fp16 (default) or fp32; nnapi: fp32 (default), fp16 or int8"
    )
    target.add_argument(
        "--calibrate",
        metavar="DATA",
        help="nnapi, int8: an .npz of rows for each input, a folder of images or .npy files, or synthetic",
    )
    target.add_argument(
        "--observer",
        metavar="O",
        help="nnapi, int8: how ranges are chosen: auto (default), minmax, average, percentile, entropy, mse",
    )
    target.add_argument(
        "--io-dtype", metavar="T", help="nnapi, int8: inputs and outputs int8 (default), uint8 or float32"
    )
    target.add_argument("--deployment-target", metavar="OS", help="ane: iOS15 ... iOS26")
    target.add_argument("--io-layout", metavar="L", help="nnapi: inputs and outputs nhwc (default), keep or nchw")
    target.add_argument(
        "--image",
        action="append",
        metavar="NAME[:scale=S,bias=R/G/B,color=RGB]",
        help="ane: an input that takes an image",
    )
    target.add_argument("--opset", type=int, metavar="N", help="onnx: opset to write (13 to 28)")
    target.add_argument(
        "--external", action="store_true", default=None, help="onnx: put the weights into a file beside the model"
    )


def _describe_rewriting(rewriting: Group) -> None:
    rewriting.add_argument("--passes", metavar="LIST", help='pipeline instead of the target\'s own, e.g. "fold,fuse"')
    rewriting.add_argument("--skip", action="append", default=[], metavar="PASS", help="leave a pass out")
    rewriting.add_argument(
        "--emit-ir",
        metavar="P",
        help="write the layer graph as text: the final one to a file, or each stage into a folder (P ends with /)",
    )
    rewriting.add_argument("--emit-onnx", metavar="P", help="the same as ONNX")


def _describe_proof(proof: Group) -> None:
    proof.add_argument(
        "--verify",
        choices=("off", "final", "each"),
        default="final",
        help="compare with ONNX Runtime: not at all, the executed artifact (default), or every rewrite too",
    )
    proof.add_argument(
        "--verify-data", metavar="FILE.npz", help="inputs to compare on, by name (default: seeded random ones)"
    )
    proof.add_argument(
        "--strict", action="store_true", help="fail where a pass breaks its promise, instead of taking it back"
    )
    proof.add_argument(
        "--check",
        action="store_true",
        help=f"check a .tflite file instead of compiling: where it runs, and what breaks the int8 contract of "
        f"--target {' or '.join(CHECKED)}; --strict asks it of float files too",
    )
    proof.add_argument(
        "--bisect", action="store_true", help="find the first rewrite that breaks the model; write a small reproducer"
    )
    proof.add_argument("--seed", type=parse_seed, default=0, metavar="N", help="of the random inputs (default: 0)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 1 cannot compile, 2 usage, 3 verification failed)."""
    words = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    try:
        with _short_lived():
            args = build_parser().parse_args(words)
            if args.check:
                return run_check(args)
            return run_bisect(args) if args.bisect else run_compile(args)
    except SystemExit as e:  # --help and --version
        _print("")
        return int(e.code or 0)
    except KeyboardInterrupt:
        return _fail("--json" in words, CompileError("interrupted"), INTERRUPTED)
    except Exception as e:  # noqa: BLE001  # the last line of defence: a sentence instead of a traceback
        if "--debug" in words:
            import traceback  # not needed to answer --help

            traceback.print_exc()
        error = _as_compile_error(e)
        return _fail("--json" in words, error, error.exit_code)


def run_compile(args: argparse.Namespace) -> int:
    """Compile, then print the summary."""
    from compiler.api import compile_model
    from compiler.target import make_target
    from targets import find_target

    options = {name: getattr(args, name) for name in OPTIONS}
    target = make_target(find_target(args.target), options)
    stages = _stages(args)
    with progress_bar(enabled=not (args.json or args.quiet)) as tell:
        compiled = compile_model(
            args.model,
            target,
            args.output or default_output(args.model, target.suffix),
            passes=args.passes,
            skip=args.skip,
            inputs=parse_shapes(args.input),
            freeze=parse_frozen(args.freeze),
            verify=args.verify,
            verify_data=load_arrays(args.verify_data),
            strict=args.strict,
            seed=args.seed,
            dump=stages and stages.after,
            progress=tell,
        )
    if stages:
        stages.finish(compiled.graph)
    return _finish(args, compiled)


def _stages(args: argparse.Namespace) -> Any:  # Any: a StageWriter, or None if no stage is asked for
    if not (args.emit_ir or args.emit_onnx):
        return None
    from compiler.emit_stages import StageWriter

    return StageWriter(args.emit_ir, args.emit_onnx)


def run_bisect(args: argparse.Namespace) -> int:
    """Name the first rewrite that breaks the model, and write the reproducer."""
    from compiler.api import PassManager, find_culprit
    from compiler.bisect import reproducer_path, write_reproducer
    from compiler.target import make_target
    from targets import find_target

    target = make_target(find_target(args.target), {name: getattr(args, name) for name in OPTIONS})
    manager = PassManager(target.pipeline() if args.passes is None else args.passes, skip=args.skip)
    path = reproducer_path(args.model, args.output)
    with progress_bar(enabled=not (args.json or args.quiet)) as tell:
        tell("bisect", 0)
        culprit = find_culprit(
            args.model,
            manager,
            inputs=parse_shapes(args.input),
            freeze=parse_frozen(args.freeze),
            verify_data=load_arrays(args.verify_data),
            seed=args.seed,
        )
    if culprit is None:
        _say(args, {"target": args.target, "model": args.model, "culprit": None}, ["no rewrite breaks the model"])
        return 0
    written = [str(p) for p in write_reproducer(culprit, path)]
    found = {"number": culprit.number, **culprit.entry.as_json()}
    report = {"target": args.target, "model": args.model, "culprit": found, "reproducer": written}
    _say(args, report, _describe_culprit(culprit, written[0]))
    return VERIFICATION_FAILED


def run_check(args: argparse.Namespace) -> int:
    """Check a .tflite file, whoever wrote it."""
    from targets.tflite.check import check

    report = check(args.model, args.target, strict=args.strict)
    _say(args, report.as_json(), report.text().splitlines())
    return report.exit_code


def _describe_culprit(culprit: Culprit, path: str) -> list[str]:
    e = culprit.entry
    return [
        f"rewrite {culprit.number}, {e.rule} of pass {e.pass_name}, breaks the model at {', '.join(sorted(e.origin))}",
        f"  {' '.join(e.before)} -> {' '.join(e.after) or 'an existing value'}; reproducer: {path}",
    ]


@contextmanager
def progress_bar(enabled: bool) -> Iterator[Progress]:
    """Gives a function that is told the name of each step and how many there are; a live line on a terminal."""
    if enabled and sys.stderr.isatty():
        from compiler.show import live_progress

        with live_progress() as tell:
            yield tell
    else:
        yield _tell_nobody


def _tell_nobody(step: str, total: int) -> None:  # the form of Progress
    pass


def _finish(args: argparse.Namespace, compiled: Compiled) -> int:
    report = compiled.report
    if args.json:
        _print_json(report.as_json())
    elif not args.quiet:
        from compiler.show import summary

        _print(summary(report))
    failure = report.failure
    if failure is None:
        return 0
    with suppress(OSError):  # nobody listens
        print(f"compile: {failure}", file=sys.stderr, flush=True)
    return VERIFICATION_FAILED


def _say(args: argparse.Namespace, report: dict[str, Any], lines: Sequence[str]) -> None:
    if args.json:
        _print_json(report)
    elif not args.quiet:
        _print("\n".join(lines) + "\n")


def _print_json(report: dict[str, Any]) -> None:
    import json  # not needed to answer --help

    _print(json.dumps(report, allow_nan=False) + "\n")


def _print(text: str) -> None:
    """To standard output. That nobody reads any more is no reason to fail; OSError if it cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or what is left would fail again at exit
        if not isinstance(e, BrokenPipeError):
            raise


def _as_compile_error(error: Exception) -> CompileError:
    if isinstance(error, CompileError):
        return error
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f": {str(error.filename)!r}"
        return CompileError(f"the system refused: {error.strerror.lower()}{where}")
    if isinstance(error, OSError | MemoryError):
        return CompileError(f"the system refused: {str(error) or 'there is not enough memory'}")
    what = f"internal error: {type(error).__name__}: {error}"
    return CompileError(what, hint="--debug shows where; please report it")


def _fail(as_json: bool, error: CompileError, code: int) -> int:
    with suppress(OSError):  # nobody listens
        print(f"compile: {error}", file=sys.stderr, flush=True)
    if as_json:
        with suppress(OSError):
            _print_json({"error": error.message, "where": error.where, "hint": error.hint, "exit_code": code})
    return code


@contextmanager
def _short_lived() -> Iterator[None]:
    """Without cyclic garbage collection, not even of what is left at the end: the process ends with it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _open_streams() -> None:
    """Standard streams that take any text, whatever the terminal's encoding, and exist even where they were closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # stands in for a stream of the process


def _version() -> str:
    from compiler import __version__

    return __version__
