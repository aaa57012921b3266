"""What the singular values of each layer say of how far it can be compressed, for `--explain --spectrum`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from html import escape
from importlib.util import find_spec
from math import isfinite, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.calibrate.fitting import Fitting
from compiler.compression_latency import Clock, chip_seconds, device_seconds
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.target import Target
from passes._compression import Cost, Work, layer_names, macs_of
from passes._low_rank import Option, Splits
from passes._low_rank_layers import layer_of
from passes._low_rank_spectrum import SHOWN, Spectrum, spectra
from passes._low_rank_split import work_after, work_before
from targets.calibrated import Calibrated

FORMS = ("matrix", "tucker", "spatial")
ROWS, LEAST_ROWS = 256, 16
WORK = 64 << 30  # multiply-accumulates of all rows, about
BARS = "▁▂▃▄▅▆▇█"
DECADES = 3.0  # below the first singular value, of which bars tell
WIDTH = 16  # bars of a layer
PLOTTED = 512  # singular values of a layer in a file, at most
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body><h1>{title}</h1>
<p>Singular values of each layer's weight over the first; dotted: the ranks that keep shares of the energy, dashed:
twice the dimension of the layer's results.</p>
{layers}
</body></html>
"""


class Asked(NamedTuple):
    """What to look at: rows of data for dimensions and errors of results, the device or table whose times are told
    (without one, of the target's own chip), and FILE.html or FILE.json to write (neither: nothing is written)."""

    data: object = None
    device: str | None = None
    file: str | os.PathLike[str] | None = None

    def expect_sound(self) -> None:
        """UsageError for a file that cannot be written."""
        if self.file is None:
            return
        path = Path(self.file)
        if path.suffix not in (".html", ".json"):
            raise UsageError(
                f"--spectrum {str(path)!r} is neither FILE.html nor FILE.json",
                hint="without a file, --spectrum stands behind the model or before another option",
            )
        if not path.parent.is_dir():
            raise UsageError(f"the folder of --spectrum {str(path)!r} does not exist", hint="create it first")
        if path.suffix == ".html" and find_spec("plotly") is None:
            raise UsageError(
                "a plot needs plotly, which is not installed",
                hint="pip install 'cincel[plot]', or --spectrum FILE.json for the numbers alone",
            )


class Cut(NamedTuple):
    """The cheapest split of a layer that keeps a share of its energy (with rows: of the variance of its results), and
    its work; None for both if no split saves multiply-accumulates."""

    share: float
    rank: int | None  # of the weight as a matrix
    option: Option | None
    work: Work | None


class Line(NamedTuple):
    """A layer: what is known of it, its own work, and a cut for each of SHOWN, from much to little energy. The cost in
    works is in seconds, if there is a clock."""

    found: Spectrum
    before: Work
    cuts: list[Cut]

    @property
    def bars(self) -> str:
        """Its singular values as bars, over three decades."""
        values = self.found.values
        top = max(float(values[0]), 1e-300)
        picked = values[np.linspace(0, len(values) - 1, min(WIDTH, len(values))).round().astype(int)].tolist()
        heights = (1 + log10(max(v / top, 1e-300)) / DECADES for v in picked)
        return "".join(BARS[round(max(h, 0.0) * (len(BARS) - 1))] for h in heights)


class Spectra:
    """Of a model's layers that can be split. `rows`: how many of data were run; `clock`: whose times works have."""

    def __init__(self, lines: list[Line], rows: int, clock: Clock | None) -> None:
        self.lines, self.rows, self.clock = lines, rows, clock

    def text(self) -> str:
        """A line for each layer, and one for each of its cuts."""
        return "".join(f"{line.found.layer} {line.bars}\n" + "".join(map(self._cut, line.cuts)) for line in self.lines)

    def _cut(self, cut: Cut) -> str:
        told = "no split saves work" if cut.work is None else f"{cut.option}, {cut.work.parameters:,} parameters"
        return f"  {cut.share:.1%}: rank {cut.rank}; {told}\n"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        timed = self.clock is not None
        layers = [_line_json(line, timed) for line in self.lines]
        return {"rows": self.rows, "device": self.clock.chip if self.clock is not None else None, "layers": layers}

    def save(self, model: str, path: Path) -> None:
        """Write the file that was asked for. UsageError if that cannot be done."""
        found = self.as_json()
        text = json.dumps({"model": model, **found}, indent=1) if path.suffix == ".json" else _page(found, model)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as e:
            raise UsageError(
                f"the spectrum cannot be written to {str(path)!r}: {(e.strerror or str(e)).lower()}"
            ) from None


def look(graph: Graph, target: Target, asked: Asked) -> Spectra:
    """The spectra of a graph in floats. UsageError for data that does not fit it or an unknown device."""
    clock = device_seconds(asked.device, target) if asked.device is not None else chip_seconds(None, target)
    rows = _rows(graph, asked.data)
    cost: Cost = macs_of if clock is None else clock.of
    nodes = layer_names(graph)
    lines = []
    for found in spectra(graph, rows, Splits(FORMS)):
        layer = layer_of(found.layer, nodes[found.layer])
        cuts = []
        for share, rank in zip(SHOWN, found.ranks, strict=True):
            option = _cheapest(found, share)
            biased = layer.bias is not None or rows is not None
            work = None if option is None else work_after(layer, option.form, option.ranks, cost, biased)
            cuts.append(Cut(share, rank, option, work))
        lines.append(Line(found, work_before(layer, cost), cuts))
    return Spectra(lines, 0 if rows is None else len(rows.feeds), clock)


def _cheapest(found: Spectrum, share: float) -> Option | None:
    fitting = [o for o in found.options if o.error <= 1 - share]
    return min(fitting, key=lambda o: (o.after.macs, o.after.parameters, o.error), default=None)


def _rows(graph: Graph, data: object) -> Fitting | None:
    if data is None:
        return None
    source = Calibrated(data, "auto")
    if source.saved is not None:
        raise UsageError(
            "dimensions are measured on rows, and a saved calibration holds none", hint="--calibrate the data"
        )
    work = max(sum(n.macs for n in graph.nodes), 1)
    return Fitting(source.first(graph, min(ROWS, max(LEAST_ROWS, WORK // work))))


def _line_json(line: Line, timed: bool) -> dict[str, Any]:
    found = line.found
    step = -(-len(found.values) // PLOTTED)
    return {
        "layer": found.layer,
        "shape": list(found.shape),
        "values": [float(f"{v:.6g}") for v in found.values[::step].tolist()],
        "values_step": step,
        "bars": line.bars,
        "effective_rank": round(found.effective, 3),
        "participation_ratio": _rounded(found.participation),
        "two_nn": _rounded(found.dimension),
        "before": _work_json(line.before, timed),
        "cuts": [
            {
                "energy": cut.share,
                "matrix_rank": cut.rank,
                "split": None if cut.option is None else str(cut.option),
                **({} if cut.work is None else _work_json(cut.work, timed)),
            }
            for cut in line.cuts
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else round(value, 3)


def _work_json(work: Work, timed: bool) -> dict[str, Any]:
    seconds = float(f"{work.cost:.4g}") if timed else None
    return {"parameters": work.parameters, "macs": work.macs, "seconds": seconds}


def _page(found: Mapping[str, Any], model: str) -> str:
    title = escape(f"Singular values of {Path(model).name}")
    return PAGE.format(title=title, layers="\n".join(_layers(found["layers"])))


def _layers(layers: list[dict[str, Any]]) -> Iterator[str]:
    import plotly.graph_objects as go  # for FILE.html alone

    for number, layer in enumerate(layers):
        top = max(layer["values"][0], 1e-300)
        values = [v / top for v in layer["values"]]
        places = [1 + layer["values_step"] * i for i in range(len(values))]
        figure = go.Figure(go.Scatter(x=places, y=values, mode="lines", name="singular values"))
        for cut in layer["cuts"]:
            if cut["matrix_rank"] is not None:
                figure.add_vline(x=cut["matrix_rank"], line_dash="dot", annotation_text=f"{cut['energy']:.1%}")
        for name in ("two_nn", "participation_ratio"):
            if layer[name] is not None:
                figure.add_vline(x=2 * layer[name], line_dash="dash", annotation_text=f"2 x {name}")
        name = escape(f"{layer['layer']} {layer['shape']}, effective rank {layer['effective_rank']:.1f}")
        figure.update_layout(height=320, title=name)
        figure.update_yaxes(type="log", title_text="of the first")
        figure.update_xaxes(title_text="number")
        yield figure.to_html(full_html=False, include_plotlyjs=number == 0)
        yield _costs(layer)


def _costs(layer: Mapping[str, Any]) -> str:
    rows = [{"energy": None, "matrix_rank": None, "split": "as it is", **layer["before"]}, *layer["cuts"]]
    keys = ("energy", "matrix_rank", "split", "parameters", "macs", "seconds")
    head = "".join(f"<th>{k.replace('_', ' ')}</th>" for k in keys)
    body = "".join(
        "<tr>" + "".join(f"<td>{'' if r.get(k) is None else escape(str(r[k]))}</td>" for k in keys) + "</tr>"
        for r in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
