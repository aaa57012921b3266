"""What is measured: the names of the models, the suites they belong to, and the bars they are held to. Plain data."""

from dataclasses import dataclass
from pathlib import Path

LIGHT = (
    "light_squeezenet",
    "light_shufflenet",
    "light_inception_v1",
    "light_densenet121",
    "light_inception_v2",
    "light_resnet50",
    "light_bvlc_alexnet",
    "light_zfnet512",
    "light_vgg19",
)
TORCH = ("lstm", "mobilenet_v2", "mobilenet_v1", "vit_tiny", "resnet18", "resnet50", "alexvgg", "bert_base")
DECODER = "decoder_1b_fp16"

FORMS = ("chain", "wide")
KINDS = ("elementwise", "conv", "shapes")
SIZES = (1_000, 10_000, 100_000)


def scaling_name(form: str, kind: str, size: int) -> str:
    return f"{form}_{kind}_{size}"


SCALING = tuple(scaling_name(form, kind, size) for form in FORMS for kind in KINDS for size in SIZES)

INT8, CALIBRATION = "int8", "calibration"
COMPRESSION = "compression"
NEON = "neon"  # run by benchmarks.neon
COMPRESSED = ("alexnet32_cifar10_dyn", "mobilenetv2s_cifar10_b1", "mlperf_tiny_resnet8")
CALIBRATED = "mobilenet_v2"
OBSERVED = (
    ("minmax", 1000),
    ("entropy", 1000),
    ("percentile", 1000),
    ("auto", 1000),
    ("entropy", 30),
    ("percentile", 30),
)
"""Observers and rows. The peer keeps what it makes histograms of, some 90 MB a row, and runs on fewer."""
SUITES: dict[str, tuple[str, ...]] = {
    "onnx": LIGHT + TORCH,
    "coreml": LIGHT + TORCH,
    "coreai": LIGHT + TORCH,
    "tflite": LIGHT + TORCH,
    "latency": LIGHT + TORCH,
    INT8: LIGHT + TORCH,  # and every float model of this repository, and of folders that are given
    CALIBRATION: (CALIBRATED,),
    COMPRESSION: COMPRESSED,  # those that are in this repository or in folders that are given
    "scaling": SCALING,
    "decoder": (DECODER,),
}


@dataclass(frozen=True, slots=True)
class Bars:
    """What our own command is held to."""

    onnx_cpu_ratio: float = 0.7  # to the fastest peer, every model
    onnx_cpu_geomean: float = 0.4
    onnx_rss_per_file: float = 2.0
    onnx_psnr_db: float = 100.0
    coreml_cpu_ratio: float = 0.5  # to the better peer, every model
    coreml_psnr_db: float = 45.0  # fp16
    coreai_cpu_ratio: float = 0.5  # to the peer, every model
    coreai_psnr_db: float = 90.0  # fp32
    apple_rss_per_file: float = 1.3  # of both, plus the next
    apple_rss_base: int = 300_000_000
    tflite_cpu_ratio: float = 0.5  # to the peer, every model
    tflite_cpu_geomean: float = 0.25
    tflite_rss_per_file: float = 1.3  # plus the next
    tflite_rss_base: int = 150_000_000
    tflite_psnr_db: float = 90.0
    latency_ratio: float = 1.0  # to the peer, every model
    latency_geomean: float = 0.9
    latency_lstm_ratio: float = 1 / 8
    scaling_cpu_s: tuple[float, ...] = (0.5, 2.0, 15.0)  # of SIZES
    scaling_decade: float = 11.0
    int8_size_ratio: float = 0.27  # to our own file of floats
    int8_drop: float = 0.5  # points of top-1 against floats
    calibration_rss: int = 1_500_000_000
    decoder_rss: int = 500_000_000
    dense_gone: tuple[float, float] = (0.4, 0.6)  # of the parameters in dense layers, without and with recovery,
    compressed_drop: float = 0.5  # for at most so many points of top-1
    dense_speedup: float = 1.6  # of the dense layers alone
    macs_ratio: float = 2.0  # at most `macs_drop` points lost, with recovery
    macs_drop: float = 1.0


BARS = Bars()


def model_path(cache: Path, name: str) -> Path:
    """Where the model called `name` is kept; the decoder has a folder of its own for its weight file."""
    models = cache / "models"
    return models / name / "model.onnx" if name == DECODER else models / f"{name}.onnx"
