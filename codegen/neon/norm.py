"""Normalisations of rows of floats, and of channels by their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Plain
from codegen.neon.stored import Stored
from codegen.program import Kernel, Parameter


class NormRows(Stored):
    """Rows of n floats of a type that lie one after the other: (x - mean) / sqrt(variance + eps) * w + b, or
    x / sqrt(mean(x^2) + eps) * w if `is_rms`.

    has_bias  whether there is b
    """

    family = "norm"
    template = "neon/norm_rows.c.j2"
    is_rms: bool = False
    has_bias: bool = False

    @property
    def name(self) -> str:
        return f"{'rms' if self.is_rms else 'layer'}_norm_rows{'_bias' * self.has_bias}{self.stored_name}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        parameters = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w", *"b" * self.has_bias)]
        parameters += [Parameter(f"{self.ctype} *", "y"), Parameter("size_t", "rows"), Parameter("size_t", "n")]
        return [*parameters, Parameter("float", "eps")]


class LocalResponse(Kernel):
    """y = x / (bias + alpha * sum(x^2)) ^ beta, with sums over the channels from `before` before to `after` after each
    one. Neighbouring channels are `inner` elements apart."""

    family = "norm"
    template = "neon/local_response.c.j2"
    ctype: str
    before: int
    after: int
    beta: float

    @property
    def name(self) -> str:
        beta = f"{self.beta:g}".replace(".", "_").replace("-", "minus_")
        return f"local_response_{self.before}_{self.after}_beta_{beta}_{self.ctype.removesuffix('_t')}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", "x"), Parameter(f"{self.ctype} *", "y")]
        sizes = [Parameter("size_t", name) for name in ("outer", "channels", "inner")]
        return [*pointers, *sizes, Parameter("double", "bias"), Parameter("double", "alpha")]

    @property
    def is_vector(self) -> bool:
        """Whether it is computed on vectors of floats."""
        return self.ctype == "float"

    @property
    def computed(self) -> str:
        """The type in which it is computed."""
        return Plain.computed(self.ctype)

    def load(self, text: str) -> str:
        """An element in that type."""
        return Plain.load(self.ctype, text)

    def store(self, text: str) -> str:
        """A number of that type as an element."""
        return Plain.store(self.ctype, text)
