"""Non-maximum suppression."""

from __future__ import annotations

import numpy as np

from targets.coreml.evaluate.registry import Tensor, mil


@mil("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool,
    score_threshold: float | None = None,
) -> tuple[Tensor, ...]:
    """Greedy suppression by the best class score; boxes are centre x, centre y, width, height.

    With `score_threshold` (up to iOS 16) boxes are (n, B, 4), scores (n, B, K), and a fourth result counts them; since
    iOS 17 the box axis is last and there is no threshold. Free places hold zeros and index -1; at least the best box is
    kept.
    """
    last = score_threshold is None
    if last:
        boxes, scores = np.swapaxes(boxes, 1, 2), np.swapaxes(scores, 1, 2)
    batch, _, classes = scores.shape
    out_boxes = np.zeros((batch, max_boxes, 4), np.float32)
    out_scores = np.zeros((batch, max_boxes, classes), np.float32)
    out_index = np.full((batch, max_boxes), -1, np.int32)
    counts = np.zeros(batch, np.int32)
    for n in range(batch):
        best = scores[n].max(axis=1)
        labels = scores[n].argmax(axis=1) if per_class_suppression else np.zeros(len(best), np.int64)
        floor = -np.inf if score_threshold is None else score_threshold
        kept = _select(boxes[n], best, labels, iou_threshold, floor)[:max_boxes] or [int(best.argmax())]
        counts[n] = len(kept)
        out_boxes[n, : len(kept)], out_scores[n, : len(kept)] = boxes[n, kept], scores[n, kept]
        out_index[n, : len(kept)] = kept
    if last:
        return np.swapaxes(out_boxes, 1, 2), np.swapaxes(out_scores, 1, 2), out_index
    return out_boxes, out_scores, out_index, counts


def _select(boxes: Tensor, score: Tensor, label: Tensor, iou_threshold: float, floor: float) -> list[int]:
    """Indices of the boxes kept, best first; boxes of other labels do not suppress."""
    half = boxes[:, 2:] / 2
    low, high = boxes[:, :2] - half, boxes[:, :2] + half
    area = np.prod(boxes[:, 2:], axis=1)
    alive = score >= floor
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if not alive[i]:
            continue
        kept.append(int(i))
        overlap = np.prod(np.maximum(0, np.minimum(high, high[i]) - np.maximum(low, low[i])), axis=1)
        union = area + area[i] - overlap
        alive &= (overlap <= iou_threshold * union) | (label != label[i])
    return kept
