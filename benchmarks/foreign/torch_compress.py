"""Compression of an ONNX model by way of torch, run in the peer's environment:
MODEL.onnx ROWS.npz OUT.onnx METHOD SHARE.

The model is read with onnx2torch and written with torch's exporter at a batch of one. SHARE is what is left: of the
parameters for METHOD aimet-weight-svd, aimet-spatial-svd and tensorly, of the multiply-accumulates for torch-pruning
(METHOD pruning-IMPORTANCE, or pruning-IMPORTANCE-global: by one threshold). ROWS has the input and `labels`, which
AIMET's greedy search and the Taylor importance use. No training.
"""

import copy
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch


def import_torchvision():
    """onnx2torch and AIMET import it for operators that are not used here; its wheel for CUDA beside a torch for CPUs
    lacks their registrations, which are declared in their stead."""
    while True:
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            missing = re.search(r"torchvision::(\w+) does not exist", str(error))
            if not missing:
                raise
            DECLARED.define(f"{missing[1]}(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return


DECLARED = torch.library.Library("torchvision", "FRAGMENT")
import_torchvision()
from onnx2torch import convert  # noqa: E402

SCORED = 256  # rows by which a greedy search judges
BATCH = 64


def main(source, rows, target, method, share):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = dict(np.load(rows))
    labels = torch.from_numpy(data.pop("labels").astype(np.int64))
    (name, images), *_ = data.items()
    images = torch.from_numpy(images)
    model = convert(onnx.load(source)).eval()
    if method.startswith("pruning-"):
        compressed = pruned(model, images, labels, method.split("-")[1:], float(share))
    elif method == "tensorly":
        compressed = decomposed(model, float(share))
    elif method not in ("aimet-weight-svd", "aimet-spatial-svd"):
        raise SystemExit(f"there is no method {method}")
    else:
        compressed = aimet(model, images, labels, method, float(share))
    names = {"input_names": [name], "output_names": ["scores"]}
    torch.onnx.export(compressed.eval(), images[:1], target, opset_version=17, dynamo=False, **names)


def likelihood(model, images, labels):
    """The geometric mean of the probabilities of the right classes: unlike top-1 it has no ties, by which a greedy
    search would fall far below the share that it is given."""
    with torch.no_grad():
        scores = torch.cat([model(part) for part in images.split(BATCH)])
    return float((-loss(scores, labels) / len(labels)).exp())


def aimet(model, images, labels, method, share):
    """AIMET's greedy search over ratios of layers, each judged on the rows, within parameters."""
    from decimal import Decimal

    from aimet_torch import defs
    from aimet_torch.common.defs import CompressionScheme, CostMetric, GreedySelectionParameters, RankSelectScheme
    from aimet_torch.compress import ModelCompressor

    greedy = GreedySelectionParameters(Decimal(share), num_comp_ratio_candidates=10)
    if method == "aimet-weight-svd":
        kind, scheme = defs.WeightSvdParameters, CompressionScheme.weight_svd
        mode = kind.AutoModeParams(RankSelectScheme.greedy, greedy)
    else:
        kind, scheme = defs.SpatialSvdParameters, CompressionScheme.spatial_svd
        mode = kind.AutoModeParams(greedy)

    def score(candidate, *_, **__):
        return likelihood(candidate.eval(), images[:SCORED], labels[:SCORED])

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # it writes its scores below the current folder
        os.chdir(folder)
        try:
            found, _ = ModelCompressor.compress_model(
                model, score, None, tuple(images[:1].shape), scheme, CostMetric.memory, kind(kind.Mode.auto, mode)
            )
        finally:
            os.chdir(here)
    return found


def decomposed(model, share):
    """The textbook: every convolution by Tucker-2 and every dense layer by SVD, plain, at one share of its
    parameters; layers for which no rank saves anything stay."""
    import tensorly
    from tensorly.decomposition import partial_tucker

    tensorly.set_backend("pytorch")
    for name, layer in list(model.named_modules()):
        parts = None
        if isinstance(layer, torch.nn.Linear):
            parts = linear_parts(layer, share)
        elif isinstance(layer, torch.nn.Conv2d) and layer.groups == 1:
            parts = tucker_parts(layer, share, partial_tucker)
        if parts:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, torch.nn.Sequential(*parts))
    return model


def linear_parts(layer, share):
    rank = int(share * layer.weight.numel() / sum(layer.weight.shape))
    if not 0 < rank < min(layer.weight.shape):
        return None
    u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    first = torch.nn.Linear(layer.in_features, rank, bias=False)
    second = torch.nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    first.weight.data, second.weight.data = v[:rank], u[:, :rank] * s[:rank]
    if layer.bias is not None:
        second.bias.data = layer.bias.data
    return first, second


def tucker_parts(layer, share, partial_tucker):
    """Ranks in proportion to the channels: the largest that fit into the share."""
    weight = layer.weight.detach()
    filters, channels, *kernel = weight.shape
    area = int(np.prod(kernel))
    budget = share * weight.numel()
    fits = None
    for step in range(1, 100):
        r, s = max(1, step * filters // 100), max(1, step * channels // 100)
        if r * filters + s * channels + r * s * area <= budget:
            fits = (r, s)
    if fits is None:
        return None
    (core, (u, v)), _ = partial_tucker(weight, rank=list(fits), modes=[0, 1])
    r, s = fits
    first = torch.nn.Conv2d(channels, s, 1, bias=False)
    shape = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    middle = torch.nn.Conv2d(s, r, layer.kernel_size, bias=False, **shape)
    last = torch.nn.Conv2d(r, filters, 1, bias=layer.bias is not None)
    first.weight.data, middle.weight.data, last.weight.data = v.T[:, :, None, None], core, u[:, :, None, None]
    if layer.bias is not None:
        last.bias.data = layer.bias.data
    return first, middle, last


def pruned(model, images, labels, words, share):
    """torch-pruning at the smallest ratio that leaves the share of multiply-accumulates, by bisection."""
    import torch_pruning as tp

    whole, _ = tp.utils.count_ops_and_params(model, images[:1])
    low, high, best = 0.0, 0.95, None
    for _ in range(9):
        ratio = (low + high) / 2
        candidate = cut(tp, copy.deepcopy(model), images, labels, words, ratio)
        left, _ = tp.utils.count_ops_and_params(candidate, images[:1])
        if left <= share * whole:
            high, best = ratio, candidate
        else:
            low = ratio
    if best is None:
        raise SystemExit(f"no ratio leaves {share:.0%} of the multiply-accumulates")
    return best


def loss(outputs, labels):
    """Cross entropy of scores, or of probabilities where the model ends with a softmax."""
    is_probability = bool((outputs >= 0).all()) and torch.allclose(outputs.sum(1), torch.ones(len(outputs)), atol=1e-3)
    logs = outputs.clamp_min(1e-9).log() if is_probability else outputs.log_softmax(1)
    return torch.nn.functional.nll_loss(logs, labels, reduction="sum")


def cut(tp, model, images, labels, words, ratio):
    kinds = {
        "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "lamp": lambda: tp.importance.LAMPImportance(p=2),
        "fpgm": lambda: tp.importance.FPGMImportance(p=2),
        "taylor": tp.importance.GroupTaylorImportance,
    }
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    for p in model.parameters():
        p.requires_grad_(True)
    if words[0] == "taylor":
        for part, right in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            loss(model(part), right).backward()
    pruner = tp.pruner.BasePruner(
        model,
        images[:1],
        importance=kinds[words[0]](),
        pruning_ratio=ratio,
        global_pruning="global" in words[1:],
        ignored_layers=weighted[-1:],
    )
    pruner.step()
    return model


if __name__ == "__main__":
    main(*sys.argv[1:6])
