"""onnxscript's optimizer and rewriter, which have no command of their own: `onnxscript_driver.py IN OUT [--external]`.

Runs inside the environment of the peers. It takes the cheapest documented way: read as IR (weights memory-mapped where
they are external), `optimizer.optimize_ir`, `rewriter.rewrite`, write; with `--external` weights go beside OUT.
"""

import sys
from pathlib import Path

import onnx_ir
import onnxscript.optimizer
import onnxscript.rewriter


def main(source: str, target: str, external: str = "") -> None:
    model = onnx_ir.load(source)
    onnxscript.optimizer.optimize_ir(model)
    model = onnxscript.rewriter.rewrite(model)
    onnx_ir.save(model, target, external_data=Path(target).name + ".data" if external else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
