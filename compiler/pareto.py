"""The Pareto front of a compression as a file: numbers in JSON, or a page with a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from compiler.errors import UsageError

AXES = {
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "bytes": "bytes of weights",
    "seconds": "estimated seconds",
}
LOST = {"drop": "share of rows lost", "snr_db": "SNR in dB"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body><h1>{title}</h1>
<p>Each point is a model that was compressed and measured as a whole on the rows of the data.</p>
{plots}
<h2>Recipes</h2>
{recipes}
</body></html>
"""


def write_front(front: Sequence[Mapping[str, Any]], model: str, path: Path) -> None:
    """Write the points, as JSON if the path says so. UsageError if that cannot be done."""
    text = json.dumps({"model": model, "points": front}, indent=1) if path.suffix == ".json" else _page(front, model)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise UsageError(f"the front cannot be written to {str(path)!r}: {reason}") from None


def _page(front: Sequence[Mapping[str, Any]], model: str) -> str:
    title = escape(f"What the compression of {Path(model).name} trades")
    details = [
        f"<details><summary>{n}: {p['parameters']:,} parameters, {p['macs']:,} MACs</summary>"
        f"<pre>{escape(json.dumps(p['recipe'], indent=1))}</pre></details>"
        for n, p in enumerate(front)
    ]
    return PAGE.format(title=title, plots=_plots(front), recipes="\n".join(details))


def _plots(front: Sequence[Mapping[str, Any]]) -> str:
    import plotly.graph_objects as go  # for --pareto alone
    from plotly.subplots import make_subplots

    known = {axis: name for axis, name in AXES.items() if all(p.get(axis) is not None for p in front)}
    lost = {axis: name for axis, name in LOST.items() if all(p.get(axis) is not None for p in front)}
    figure = make_subplots(rows=max(len(lost), 1), cols=max(len(known), 1))
    for row, (y, what) in enumerate(lost.items(), 1):
        for column, (x, axis) in enumerate(known.items(), 1):
            points = go.Scatter(
                x=[p[x] for p in front],
                y=[p[y] for p in front],
                mode="lines+markers",
                text=[str(n) for n in range(len(front))],
                hovertemplate=f"%{{text}}: %{{x:,}} {axis}, %{{y}} {what}<extra></extra>",
                showlegend=False,
            )
            figure.add_trace(points, row=row, col=column)
            figure.update_xaxes(title_text=axis, row=row, col=column)
            figure.update_yaxes(title_text=what, row=row, col=column)
    figure.update_layout(height=400 * max(len(lost), 1))
    page: str = figure.to_html(full_html=False, include_plotlyjs=True)
    return page
