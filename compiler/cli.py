"""The command line: `compile MODEL.onnx --target ane -o MODEL.mlpackage`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from compiler.arguments import (
    compression_of,
    default_output,
    load_arrays,
    parse_frozen,
    parse_shapes,
    requests_of,
    target_options,
)
from compiler.errors import CompileError, UsageError
from compiler.options import OPTIONS, SUFFIXES, build_parser, expect_defaults

if TYPE_CHECKING:
    from compiler.bisect import Culprit
    from compiler.job import Progress
    from compiler.report import Report

VERIFICATION_FAILED = 3
INTERRUPTED = 130
WRITING = {"output", "verify", "verify_data", "emit_ir", "emit_onnx", "bisect"}  # what --dry-run does not do
REPORTED = {"os", "compute_plan", "spectrum"}  # what only --explain looks at
CHECKING = ("model", "target", "check", "strict", "json", "quiet", "debug")  # arguments that --check looks at


def run() -> NoReturn:
    """Be the process: the command, and then an end that does not take apart what the system frees at once."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody listens
            stream.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 1 cannot compile, 2 usage, 3 verification failed)."""
    words = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    try:
        with _short_lived():
            args = build_parser().parse_args(words)
            args.target = args.target or SUFFIXES.get("." + (args.output or "").rpartition(".")[2], "ane")
            if args.check:
                return run_check(args)
            if not args.explain:
                expect_defaults(args, vars(args).keys() - REPORTED, "what --explain tells is not asked for")
            if args.dry_run:
                return run_dry(args)
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

    options = target_options(args, OPTIONS)
    spectrum, compression = requests_of(args, options)
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
            explain=args.explain,
            dump=stages and stages.after,
            progress=tell,
            compression=compression,
            spectrum=spectrum,
        )
    if stages:
        stages.finish(compiled.graph)
    return _finish(args, compiled.report)


def run_dry(args: argparse.Namespace) -> int:
    """Print the summary of what a compilation would do. UsageError for options that say what to write or run."""
    expect_defaults(args, vars(args).keys() - WRITING, "--dry-run writes nothing and compares nothing")
    from compiler.api import dry_run
    from compiler.target import make_target
    from targets import find_target

    options = target_options(args, OPTIONS)
    spectrum, compression = requests_of(args, options)
    target = make_target(find_target(args.target), options)
    with progress_bar(enabled=not (args.json or args.quiet)) as tell:
        report = dry_run(
            args.model,
            target,
            passes=args.passes,
            skip=args.skip,
            inputs=parse_shapes(args.input),
            freeze=parse_frozen(args.freeze),
            strict=args.strict,
            explain=args.explain,
            progress=tell,
            compression=compression,
            spectrum=spectrum,
        )
    return _finish(args, report)


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

    options = target_options(args, OPTIONS)
    if compression_of(args, options) is not None:
        raise UsageError("--bisect looks for rewrites that break a model, and compression is to change it")
    target = make_target(find_target(args.target), options)
    manager = PassManager(target.pipeline() if args.passes is None else args.passes, skip=args.skip)
    path = reproducer_path(args.model, args.output)
    with progress_bar(enabled=not (args.json or args.quiet)) as tell:
        tell("bisect", 0)
        culprit, left_out = find_culprit(
            args.model,
            manager,
            target=target,
            own=args.passes is None,
            inputs=parse_shapes(args.input),
            freeze=parse_frozen(args.freeze),
            verify_data=load_arrays(args.verify_data),
            seed=args.seed,
        )
    report = {"target": args.target, "model": args.model, "left_out": list(left_out), "culprit": None}
    left = [f"left out, because losses are what to expect of them: {', '.join(left_out)}"] if left_out else []
    if culprit is None:
        _say(args, report, ["no rewrite breaks the model", *left])
        return 0
    written = [str(p) for p in write_reproducer(culprit, path)] if culprit.entry.before else []
    found = {"number": culprit.number, **culprit.entry.as_json()}
    _say(args, {**report, "culprit": found, "reproducer": written}, [*_describe_culprit(culprit, written), *left])
    return VERIFICATION_FAILED


def run_check(args: argparse.Namespace) -> int:
    """Check a .tflite file, whoever wrote it. UsageError for options that say how to compile."""
    expect_defaults(args, CHECKING, "--check checks a file, and compiles nothing")
    from targets.tflite.check import check

    report = check(args.model, args.target, strict=args.strict)
    _say(args, report.as_json(), report.text().splitlines())
    return report.exit_code


def _describe_culprit(culprit: Culprit, written: Sequence[str]) -> list[str]:
    e = culprit.entry
    at = f" at {', '.join(sorted(e.origin))}" if e.origin else ""
    after = " ".join(e.after) or "an existing value"
    change = f"{' '.join(e.before)} -> {after}" if e.before else "many layers at once"
    told = f"reproducer: {written[0]}" if written else "no reproducer, because the rewrite names no layers"
    return [f"rewrite {culprit.number}, {e.rule} of pass {e.pass_name}, breaks the model{at}", f"  {change}; {told}"]


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


def _finish(args: argparse.Namespace, report: Report) -> int:
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
