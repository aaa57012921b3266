"""Eight networks written in plain torch and exported to ONNX: `torch_zoo.py NAME OUT.onnx`.

Runs inside the environment that has torch. Weights are random with a sane scale, BatchNormalization holds the
statistics of a random batch and stays a node of its own, so that folding it is left to the tools that are compared.
"""

import math
import sys
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

OPSET = 17
CLASSES = 1000
IMAGE = (1, 3, 224, 224)
TOKENS = 128
VOCABULARY = 30522


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Classifier(nn.Module):
    """Features, global average pooling, one linear layer."""

    def __init__(self, features: list[nn.Module], width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.features(image), 1), 1))


def mobilenet_v1() -> nn.Module:
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    layers = [*conv_norm(3, 32, 3, 2), nn.ReLU6()]
    for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [*conv_norm(inputs, inputs, 3, stride, groups=inputs), nn.ReLU6()]
        layers += [*conv_norm(inputs, outputs, 1), nn.ReLU6()]
    return Classifier(layers, 1024)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [*conv_norm(inputs, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*conv_norm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
        self.body = nn.Sequential(*expand, *depthwise, *conv_norm(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2() -> nn.Module:
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    layers: list[nn.Module] = [*conv_norm(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    for expansion, outputs, repeats, stride in stages:
        for index in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
            inputs = outputs
    return Classifier([*layers, *conv_norm(inputs, 1280, 1), nn.ReLU6()], 1280)


class Residual(nn.Module):
    """A ResNet block: `body`, a projection where the shape changes, addition, ReLU."""

    def __init__(self, body: list[nn.Module], inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else nn.Sequential(*conv_norm(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def basic(inputs: int, width: int, stride: int) -> tuple[Residual, int]:
    body = [*conv_norm(inputs, width, 3, stride), nn.ReLU(), *conv_norm(width, width, 3)]
    return Residual(body, inputs, width, stride), width


def bottleneck(inputs: int, width: int, stride: int) -> tuple[Residual, int]:
    body = [*conv_norm(inputs, width, 1), nn.ReLU(), *conv_norm(width, width, 3, stride), nn.ReLU()]
    body += conv_norm(width, 4 * width, 1)
    return Residual(body, inputs, 4 * width, stride), 4 * width


def resnet(block, repeats: tuple[int, ...]) -> nn.Module:
    layers = [*conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), repeats, strict=True)):
        for index in range(count):
            layer, inputs = block(inputs, width, 2 if stage and not index else 1)
            layers.append(layer)
    return Classifier(layers, inputs)


def alexnet_like() -> nn.Module:
    convs = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    layers: list[nn.Module] = []
    for index, (inputs, outputs, kernel, stride, pad) in enumerate(convs):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, pad), nn.ReLU()]
        if index in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, 2))
    dense = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(4096, CLASSES))


class Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, width = x.shape
        per_head = (batch, tokens, self.heads, width // self.heads)
        q, k, v = (f(x).reshape(per_head).transpose(1, 2) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        if mask is not None:
            scores = scores + mask
        return self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, tokens, width))


class Layer(nn.Module):
    """A transformer layer that normalises before (ViT) or after (BERT) each part."""

    def __init__(self, width: int, heads: int, norm_first: bool) -> None:
        super().__init__()
        self.attention, self.norm1, self.norm2 = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm_first = norm_first

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm_first:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.feed_forward(x))


class Bert(nn.Module):
    def __init__(self, width: int = 768, heads: int = 12, layers: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads, norm_first=False) for _ in range(layers))
        self.pool = nn.Linear(width, width)
        self.register_buffer("position", torch.arange(TOKENS)[None])

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.words(ids) + self.places(self.position))
        bias = (1.0 - mask[:, None, None, :]) * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        return x, torch.tanh(self.pool(x[:, 0]))


class Vit(nn.Module):
    def __init__(self, width: int = 192, heads: int = 3, layers: int = 12, patch: int = 16) -> None:
        super().__init__()
        count = (IMAGE[-1] // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, count + 1, width))
        self.layers = nn.Sequential(*(Layer(width, heads, norm_first=True) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.layers(x))[:, 0])


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(128, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


NETWORKS = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": lambda: resnet(basic, (2, 2, 2, 2)),
    "resnet50": lambda: resnet(bottleneck, (3, 4, 6, 3)),
    "alexvgg": alexnet_like,
    "bert_base": Bert,
    "vit_tiny": Vit,
    "lstm": Lstm,
}


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """He-scaled convolutions, linear layers that keep the variance, normalisations near one."""
    for module in model.modules():
        match module:
            case nn.Conv2d():
                module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.normal_(0, 0.05)
            case nn.Linear():
                module.weight.normal_(0, math.sqrt(1 / module.in_features))
                module.bias.normal_(0, 0.05)
            case nn.LayerNorm() | nn.BatchNorm2d():
                module.weight.normal_(1, 0.1)
                module.bias.normal_(0, 0.1)


@torch.no_grad()
def calibrate(model: nn.Module) -> None:
    """Fill the running statistics of BatchNormalization from one random batch."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    if norms:
        model.train()
        model(torch.randn(4, *IMAGE[1:]))
    model.eval()


def example(name: str) -> tuple[Tensor, ...]:
    match name:
        case "bert_base":
            return torch.randint(0, VOCABULARY, (1, TOKENS)), torch.ones(1, TOKENS)
        case "lstm":
            return (torch.randn(1, 64, 128),)
        case _:
            return (torch.randn(IMAGE),)


def main(name: str, path: str) -> None:
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    model = NETWORKS[name]()
    randomise(model)
    calibrate(model)
    keep_norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    mode = torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        model,
        example(name),
        path,
        opset_version=OPSET,
        dynamo=False,
        training=mode,
        input_names=["ids", "mask"] if name == "bert_base" else ["input"],
        output_names=["hidden", "pooled"] if name == "bert_base" else ["output"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
