"""What the command line takes; nothing heavy is imported to describe it."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import NoReturn

from compiler.arguments import parse_seed
from compiler.errors import UsageError

TARGETS = ("ane", "coreai", "nnapi", "edgetpu", "neon", "metal", "onnx")
SUFFIXES = {".aimodel": "coreai", ".mlpackage": "ane"}  # of outputs that only one target writes
CHECKED = ("nnapi", "edgetpu")
# Options that are handed to the target, which checks them.
OPTIONS = (
    "precision", "deployment_target", "chip", "approximate", "units", "os", "compute_plan", "image", "io_layout",
    "opset", "external", "calibrate", "observer", "io_dtype", "repair", "weights", "block_size", "max_drop",
    "min_psnr", "feature_level", "split", "sparse", "isa", "cpu", "threads", "embed", "memory_limit", "run_on",
    "symbol", "gpu", "checks", "custom_kernels",
)  # fmt: skip
Group = argparse._ArgumentGroup


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
    p.add_argument(
        "-t", "--target", metavar="NAME", help=f"one of {', '.join(TARGETS)} (default: by the suffix of -o, else ane)"
    )
    p.add_argument(
        "-o", "--output", metavar="PATH", help="where the artifact goes (default: the model's name, in this folder)"
    )
    p.add_argument("--version", action="version", version=f"cincel {_version()}", help="print the version and exit")
    _describe_model(p.add_argument_group("model"))
    _describe_target(p.add_argument_group("target options"))
    _describe_compression(p.add_argument_group("compression (needs --calibrate)"))
    _describe_rewriting(p.add_argument_group("rewriting"))
    _describe_proof(p.add_argument_group("proof"))
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def expect_defaults(args: argparse.Namespace, free: Collection[str], reason: str) -> None:
    """UsageError with the reason for arguments other than the `free` ones that are not what they are by default."""
    parser = build_parser()
    given = [name for name, value in vars(args).items() if name not in free and value != parser.get_default(name)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{reason}: it has no use for {options}", hint=f"leave {options} away")


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
        "--precision",
        metavar="P",
        help="ane: fp16 (default), fp32, int8; coreai: fp16 (default), fp32; "
        "nnapi: fp32 (default), fp16, int8, int16x8; neon: fp32 (default), int8; onnx: fp32 (default), int8",
    )
    _describe_data(target)
    target.add_argument(
        "--io-dtype", metavar="T", help="int8: inputs and outputs int8 (nnapi's default), uint8 or float32 (onnx's)"
    )
    target.add_argument(
        "--repair",
        metavar="R",
        help="int8: what may repair the cost of rounding: auto (default: what helps on the data), off, or PASS,PASS",
    )
    target.add_argument(
        "--max-drop",
        metavar="SHARE",
        help="nnapi, int8: rows whose class may change, as 0.5%%; else layers get 16 bits or stay floats",
    )
    target.add_argument(
        "--min-psnr", type=float, metavar="DB", help="nnapi, int8: the same for the PSNR of every output, in dB"
    )
    target.add_argument(
        "--weights",
        metavar="W",
        help="weights alone are stored as int8 or int4, for ane and coreai as palette1, 2, 3, 4, 6, 8",
    )
    target.add_argument(
        "--block-size", type=int, metavar="N", help="--weights: how many weights share a scale, or channels a table"
    )
    _describe_apple(target)
    target.add_argument(
        "--feature-level", type=int, metavar="N", help="nnapi: the oldest that is to take the file, 1 to 8 (default: 8)"
    )
    target.add_argument(
        "--io-layout",
        metavar="L",
        help="nnapi: inputs and outputs nhwc (default), keep or nchw; ane, coreai: keep (default) or engine",
    )
    _describe_library(target)
    target.add_argument("--opset", type=int, metavar="N", help="onnx: opset to write (13 to 28)")
    target.add_argument(
        "--external", action="store_true", default=None, help="onnx: put the weights into a file beside the model"
    )


def _describe_library(target: Group) -> None:
    """What is asked for of a library in C."""
    target.add_argument(
        "--isa", metavar="ISA", help="neon: auto (default: the processor chooses), base, fp16, dotprod or i8mm alone"
    )
    target.add_argument("--cpu", metavar="CORE", help="neon: the core whose caches loops are cut for, as cortex-a55")
    target.add_argument("--threads", type=int, metavar="N", help="neon: how many may share the work (default: 1)")
    target.add_argument(
        "--embed", metavar="E", help="neon: weights in a file (default), in the library by incbin, or as an array of C"
    )
    target.add_argument(
        "--memory-limit", metavar="SIZE", help="neon: bytes that weights and working memory may take, as 2MB"
    )
    target.add_argument("--run-on", metavar="R", help="neon: what compares the library: auto (default), native or qemu")
    target.add_argument(
        "--symbol", metavar="NAME", help="neon, metal: what names in the source begin with (default: as the folder)"
    )
    target.add_argument("--gpu", metavar="GPU", help="metal: the family or chip to cut launches for: apple7, M3 ..")
    target.add_argument(
        "--checks", metavar="C", help="metal: whether memory is checked as the source is run: auto (default), on, off"
    )


def _describe_apple(target: Group) -> None:
    """What is asked for of Core ML."""
    target.add_argument("--deployment-target", metavar="OS", help="ane: iOS15 ... iOS26")
    target.add_argument("--units", metavar="UNITS", help="ane: all (default), cpu-and-ne, cpu-and-gpu")
    target.add_argument(
        "--approximate",
        metavar="PASSES",
        help="ane, coreai: what the engine does not run, approximately: all or PASS,PASS",
    )
    target.add_argument(
        "--os", metavar="OS", help="ane, coreai, --explain: the system, iOS15 ... iOS27, macOS12 ... macOS27"
    )
    target.add_argument(
        "--compute-plan",
        metavar="FILE.json",
        help="ane, --explain: what a device plans, to compare the prediction with",
    )
    target.add_argument("--chip", metavar="CHIP", help="ane, coreai: whose engine to write for, A14 (default) ... M6")
    target.add_argument(
        "--split", metavar="SIZE", help="ane, coreai: more weights than SIZE (500MB, 1GB, 1.5GiB): several packages"
    )
    target.add_argument(
        "--sparse", metavar="SHARE", help="ane, coreai: weights of SHARE zeros (0.25) are a mask and the rest, or off"
    )
    target.add_argument(
        "--custom-kernels",
        action="store_true",
        default=None,
        help="coreai: what Core AI has no operations for becomes Metal kernels in the asset",
    )
    target.add_argument(
        "--image",
        action="append",
        metavar="NAME[:scale=S,bias=R/G/B,color=RGB]",
        help="ane: an input that takes an image",
    )


def _describe_compression(group: Group) -> None:
    """Goals and files; the limits are --max-drop and --min-psnr."""
    group.add_argument(
        "--compress", metavar="GOAL", help="parameters that may be left: 2x, 50%%, 1.5M, auto (what the limits admit)"
    )
    group.add_argument("--size", metavar="GOAL", help="the same for the bytes of the weights: 5MB, 2x, auto")
    group.add_argument("--macs", metavar="GOAL", help="the same for multiply-accumulates: 100M, 2x, auto")
    group.add_argument(
        "--latency",
        metavar="DEVICE=GOAL",
        help="the same for time on a device, or by a table of layers: A14=5ms, Cortex-A76=2x, table.json=5ms",
    )
    group.add_argument(
        "--techniques",
        metavar="T,T",
        help="of prune-channels, low-rank, prune-weights, weight-bits (default: what suits goal and target)",
    )
    group.add_argument(
        "--multiple", metavar="N", help="channels and ranks are multiples of it, or auto: the device's, for --latency"
    )
    group.add_argument(
        "--recover", metavar="R", help="what is won back after: closed-form (default), train (TensorFlow), or none"
    )
    group.add_argument("--epochs", type=int, metavar="N", help="--recover train: how often the rows are learned from")
    group.add_argument(
        "--augment", metavar="A,A", help="--recover train: rows are changed at random by some of flip, shift, mixup"
    )
    group.add_argument("--recipe", metavar="FILE", help="compress as a recipe says; goes without --calibrate too")
    group.add_argument("--save-recipe", metavar="FILE", help="write down what was chosen")
    group.add_argument("--pareto", metavar="FILE", help="plot what is traded: FILE.html, or FILE.json for the numbers")
    group.add_argument(
        "--sensitivities", metavar="FILE", help="keep what is measured of layers, so that it is measured once"
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
    proof.add_argument(
        "--explain",
        action="store_true",
        help="ane: which processors are predicted to run the layers; int8: rank them by the accuracy that they cost",
    )
    proof.add_argument(
        "--spectrum",
        nargs="?",
        const="",
        metavar="FILE",
        help="--explain: singular values of layers, and what ranks cost; FILE.html plots them, FILE.json has numbers",
    )
    proof.add_argument(
        "--dry-run", action="store_true", help="say what would be done, with --explain where it runs; write nothing"
    )
    proof.add_argument("--seed", type=parse_seed, default=0, metavar="N", help="of the random inputs (default: 0)")


def _describe_data(group: Group) -> None:
    """Calibration data and what can be asked of it."""
    group.add_argument(
        "--calibrate",
        metavar="DATA",
        help="int8: an .npz of rows by input, a folder of images or .npy files, a saved calibration, or synthetic",
    )
    group.add_argument(
        "--observer",
        metavar="O",
        help="int8: how ranges are chosen: auto (default), minmax, average, percentile, entropy, mse",
    )
    group.add_argument("--calibrate-rows", type=int, metavar="N", help="the first N rows of --calibrate only")
    group.add_argument(
        "--calibrate-image", metavar="RULE", help="how its pixels become numbers: scale=1/255,mean=R:G:B,std=R:G:B,..."
    )
    group.add_argument("--save-calibration", metavar="FILE", help="write what was seen to an .npz or .json")
    group.add_argument("--resume-calibration", metavar="FILE", help="continue a saved one with --calibrate")


def _version() -> str:
    from compiler import __version__

    return __version__
