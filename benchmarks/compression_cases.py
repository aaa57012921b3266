"""What the suite `compression` measures: plain data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.catalogue import COMPRESSED

DENSE, CONVOLUTIONS, EQUAL, PRUNING, INTEGERS = "dense", "convolutions", "equal parameters", "pruning", "int8"
PARTS = (DENSE, CONVOLUTIONS, EQUAL, PRUNING, INTEGERS)
ALEXNET, MOBILENET, RESNET = COMPRESSED
RECOVERIES = ("none", "closed-form", "train")
ENVIRONMENT = "torch-compression"

COMMAND, API, PEER = "command", "api", "peer"


@dataclass(frozen=True, slots=True)
class Case:
    """One compression of one model.

    how    COMMAND: `words` are options of the command; API: `compression_own`; PEER: `foreign/torch_compress.py`; of
           the latter two `words` is the method. Commands that say nothing of recovery do what is their default
    left   share of parameters, or of multiply-accumulates, that the method is given
    """

    part: str
    model: str
    tool: str
    how: str
    words: tuple[str, ...]
    left: float = 0.0

    @property
    def is_int8(self) -> bool:
        return self.part == INTEGERS


_BUDGETS = {
    ALEXNET: (("--compress", "2x"), ("--compress", "3x"), ("--compress", "5x")),
    MOBILENET: (("--macs", "1.5x"), ("--macs", "2x")),
    RESNET: (("--macs", "1.25x"), ("--macs", "1.5x"), ("--macs", "2x")),
}
_LIMITED = {ALEXNET: (("--compress", "auto", "--max-drop", "0.5%"),)}
_INT8 = {
    ALEXNET: ((), ("--compress", "3x"), ("--compress", "5x")),
    MOBILENET: ((), ("--macs", "1.5x")),
    RESNET: ((), ("--macs", "1.25x")),
}

CONVOLUTIONS_ALONE = "AIMET spatial SVD"  # of which no ranks leave that few parameters of a net of dense layers
SPLITS: dict[str, tuple[str, str]] = {
    "cincel, plain": (API, "plain"),
    "cincel, data, same ranks": (API, "same-ranks"),
    "cincel, data": (API, "data"),
    "cincel, data, in 0.88 of it": (API, "less"),
    "cincel --compress": (COMMAND, "--recover none --compress"),
    "cincel --compress, recovered": (COMMAND, "--recover closed-form --compress"),
    "AIMET weight SVD": (PEER, "aimet-weight-svd"),
    CONVOLUTIONS_ALONE: (PEER, "aimet-spatial-svd"),
    "tensorly Tucker, SVD": (PEER, "tensorly"),
}
"""Low rank within a share of the parameters."""

PRUNERS: dict[str, tuple[str, str]] = {
    "cincel l2, no data": (API, "prune-l2"),
    "cincel reconstruction": (API, "prune-auto"),
    "cincel --macs": (COMMAND, "--recover none --macs"),
    "cincel --macs, recovered": (COMMAND, "--recover closed-form --macs"),
    "torch-pruning l2": (PEER, "pruning-l2"),
    "torch-pruning l2, global": (PEER, "pruning-l2-global"),
    "torch-pruning LAMP, global": (PEER, "pruning-lamp-global"),
    "torch-pruning FPGM": (PEER, "pruning-fpgm"),
    "torch-pruning Taylor": (PEER, "pruning-taylor"),
    "torch-pruning Taylor, global": (PEER, "pruning-taylor-global"),
}
"""Channels within a share of the multiply-accumulates; the one with --macs may split layers too."""

SHARES: dict[str, dict[str, tuple[float, ...]]] = {
    EQUAL: {ALEXNET: (0.5,), MOBILENET: (0.75,), RESNET: (0.75,)},
    PRUNING: {MOBILENET: (0.8,), RESNET: (0.8,)},
}


def cases(recoveries: Sequence[str], parts: Sequence[str], peers: bool) -> Iterator[Case]:
    """All of the parts, model by model."""
    for model in COMPRESSED:
        for case in (*_budgets(model, recoveries), *_compared(model), *_integers(model)):
            if case.part in parts and (peers or case.how != PEER):
                yield case


def _budgets(model: str, recoveries: Sequence[str]) -> Iterator[Case]:
    part = DENSE if model == ALEXNET else CONVOLUTIONS
    for words in (*_BUDGETS[model], *_LIMITED.get(model, ())):
        for name in recoveries:
            yield _command(part, model, (*words, "--recover", name))


def _command(part: str, model: str, words: tuple[str, ...]) -> Case:
    return Case(part, model, " ".join(("cincel", *words)), COMMAND, words)


def _compared(model: str) -> Iterator[Case]:
    splits = {tool: SPLITS[tool] for tool in SPLITS if not (model == ALEXNET and tool == CONVOLUTIONS_ALONE)}
    for part, tools in ((EQUAL, splits), (PRUNING, PRUNERS)):
        for left in SHARES[part].get(model, ()):
            for tool, (how, method) in tools.items():
                words = (*method.split(), f"{left:.0%}") if how == COMMAND else (method,)
                yield Case(part, model, f"{tool} at {left:.0%}", how, words, left)


def _integers(model: str) -> Iterator[Case]:
    for words in _INT8[model]:
        yield _command(INTEGERS, model, ("--precision", "int8", *words))
