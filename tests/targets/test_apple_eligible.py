"""What the Neural Engine may run: every rule at its edge, with its source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import UsageError
from targets.apple import engine
from targets.apple.placement.conditions import MEASURES, TESTS, TOLD
from targets.apple.placement.eligible import judge
from targets.apple.placement.operation import Operation
from targets.apple.placement.systems import System
from tests.targets.apple_operations import conv, operation, tensor

DATA = ("operations", "limits", "substitutions", "costs", "families", "chips", "rules")
CONFIDENCES = {"documented", "measured-by-third-party", "inferred"}


def runs(op: Operation, chip: str) -> bool:
    return judge(op, engine.chip(chip).family).ane


def pool(kind: str, *window: int) -> Operation:
    return operation(kind, tensor("y", 1, 8, 32, 32), tensor("x", 1, 8, 32, 32), kernel_sizes=list(window))


def product(inner: int, **given: Any) -> Operation:
    return operation("matmul", tensor("y", 8, 8), tensor("a", 8, inner), tensor("b", inner, 8), **given)


@pytest.mark.parametrize(
    ("op", "chip", "expected"),
    [
        (conv((1, 13)), "A14", True),
        (conv((1, 14)), "A14", False),
        (conv((1, 15)), "M4", True),
        (conv((1, 16)), "M4", False),
        (conv((29, 1)), "M1", True),
        (conv((30, 1)), "M1", False),
        (conv((31, 1)), "M6", True),
        (conv((32, 1)), "M6", False),
        (conv((15, 15)), "M4", True),
        (conv((16, 16)), "M4", False),
        (conv((13,)), "A14", True),
        (conv((14,)), "A14", False),
        (product(32768), "M4", True),
        (product(40000), "M4", False),
        (product(8, transpose_x=True), "A14", True),
        (pool("max_pool", 8, 8), "A14", True),
        (pool("max_pool", 9, 9), "A14", False),
        (pool("max_pool", 9, 1), "M4", True),
        (pool("max_pool", 1, 9), "M4", False),
        (pool("avg_pool", 29, 29), "M1", True),
        (pool("avg_pool", 30, 30), "M1", False),
        (pool("avg_pool", 31, 31), "M2", True),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_sizes_at_their_edges(op: Operation, chip: str, expected: bool) -> None:
    assert runs(op, chip) is expected


@pytest.mark.parametrize(
    ("chip", "longest"), [("A14", 16384), ("A15", 16384), ("A16", 16384), ("A17 Pro", 65536), ("M6", 65536)]
)
def test_the_last_two_axes_have_another_limit_than_channels(chip: str, longest: int) -> None:
    def relu(*shape: int) -> Operation:
        return operation("relu", tensor("y", *shape), tensor("x", *shape))

    assert runs(relu(1, 1, 1, longest), chip) and runs(relu(1, 1, longest, 1), chip)
    assert not runs(relu(1, 1, 1, longest + 1), chip) and not runs(relu(1, 1, longest + 1, 1), chip)
    assert runs(relu(1, 65536, 1, 1), chip) and not runs(relu(1, 65537, 1, 1), chip)
    assert runs(relu(1, 1, 1, 1, 8), chip) and not runs(relu(1, 1, 1, 1, 1, 8), chip)


@pytest.mark.parametrize(
    ("kind", "chips"),
    [("sin", ("A14", "A15", "M2")), ("cos", ("M1", "A15")), ("lstm", ("A14", "M6")), ("cumsum", ("A14", "M6")),
     ("resample", ("A14",)), ("logical_or", ("M4",)), ("no_such_operation", ("M4",))],
)  # fmt: skip
def test_families_that_lack_an_operation(kind: str, chips: tuple[str, ...]) -> None:
    assert not any(runs(operation(kind, tensor("y", 8), tensor("x", 8)), chip) for chip in chips)


@pytest.mark.parametrize(("kind", "chip"), [("sin", "A16"), ("cos", "M3"), ("resample", "A15"), ("atan", "A14")])
def test_families_that_have_it(kind: str, chip: str) -> None:
    assert runs(operation(kind, tensor("y", 8), tensor("x", 8)), chip)


def test_what_is_said_of_an_older_family_is_inferred() -> None:
    relu = operation("relu", tensor("y", 8), tensor("x", 8))
    assert judge(relu, "H17").rule.confidence == "measured-by-third-party"
    assert judge(relu, "H18g").ane and judge(relu, "H18g").rule.confidence == "inferred"
    oldest = judge(relu, "H11")
    assert not oldest.ane and oldest.rule.says.startswith("nothing is known") and not oldest.rule.fix


def test_what_is_not_verified_counts_as_no() -> None:
    found = judge(operation("logical_and", tensor("y", 8, dtype="bool"), tensor("x", 8, dtype="bool")), "H13")
    assert not found.ane and "not verified" in found.rule.says
    assert found.rule.pass_name == "substitute-logic"
    assert (
        judge(operation("logical_not", tensor("y", 8, dtype="bool"), tensor("x", 8)), "H13").rule.confidence
        == "inferred"
    )


@pytest.mark.parametrize(
    ("dtype", "rule"),
    [("int32", "int32"), ("fp32", "fp32"), ("fp16", None), ("int8", None), ("bool", None), ("fp64", "type")],
)  # fmt: skip
def test_element_types(dtype: str, rule: str | None) -> None:
    found = judge(operation("add", tensor("y", 8, dtype=dtype), tensor("a", 8, dtype=dtype), tensor("b", 8)), "H16")
    assert (None if found.ane else found.rule.name) == rule


def test_constants_of_another_type_are_parameters() -> None:
    indices = tensor("i", 4, dtype="int32", constant=True)
    x, y = tensor("x", 1, 8), tensor("y", 1, 4)
    assert judge(operation("gather", y, x, indices=indices), "H16").ane
    found = judge(operation("gather", y, x, indices=indices._replace(constant=False)), "H16")
    assert not found.ane and found.rule.name == "gather: not_constant"


@pytest.mark.parametrize(
    ("source", "result", "expected"),
    [("fp32", "fp16", True), ("fp16", "fp32", True), ("bool", "fp16", True), ("int32", "fp16", False),
     ("fp16", "int32", False), ("fp16", "int8", False)],
)  # fmt: skip
def test_casts(source: str, result: str, expected: bool) -> None:
    op = operation("cast", tensor("y", 8, dtype=result), tensor("x", 8, dtype=source), dtype=result)
    assert judge(op, "H13").ane is expected


def test_a_convolution_needs_constant_weights_and_two_axes() -> None:
    assert judge(conv((3, 3), weight=tensor("w", 64, 64, 3, 3)), "H16").rule.name == "conv: not_constant"
    assert judge(conv((3, 3, 3), side=8), "H16").rule.name == "conv: rank_is"
    assert judge(conv((3, 3), strides=[5, 5]), "H16").remarks[0].fix == "factor_large_stride"
    assert judge(conv((3, 3), dilations=[5, 5]), "H16").remarks[0].fix == "factor_dilation"
    assert not judge(conv((3, 3), strides=[4, 4], dilations=[1, 1]), "H16").remarks


@pytest.mark.parametrize(
    ("kind", "operand", "shape", "scales", "expected"),
    [
        ("conv", "weight", (64, 64, 1, 1), (64, 1, 1, 1), True),
        ("conv", "weight", (64, 64, 1, 1), (64, 2, 1, 1), False),
        ("linear", "weight", (8, 64), (8, 1), True),
        ("linear", "weight", (8, 64), (1, 2), False),
        ("matmul", "y", (64, 8), (1, 8), True),
        ("matmul", "y", (64, 8), (2, 8), False),
        ("conv_transpose", "weight", (64, 8, 2, 2), (1, 8, 1, 1), True),
        ("conv_transpose", "weight", (64, 8, 2, 2), (64, 1, 1, 1), False),
        ("conv", "weight", (64, 64, 1, 1), (), True),
    ],
)
def test_a_scale_may_not_vary_along_the_sum(
    kind: str, operand: str, shape: tuple[int, ...], scales: tuple[int, ...], expected: bool
) -> None:
    weight = tensor("w", *shape, constant=True, form="constexpr_blockwise_shift_scale", scales=scales)
    given: dict[str, Any] = {operand: weight}
    op = operation(kind, tensor("y", 1, 8, 4, 4), tensor("x", 1, 64, 4, 4), **given)
    found = judge(op, "H16")
    assert found.ane is expected
    assert expected or found.rule.fix == "blockwise_to_per_channel"


def test_pads_slices_and_quantize() -> None:
    def pad(**given: Any) -> Operation:
        return operation("pad", tensor("y", 1, 8, 10, 10), tensor("x", 1, 8, 8, 8), **given)

    assert runs(pad(mode="constant", constant_val=0.0), "A14") and not runs(
        pad(mode="constant", constant_val=1.0), "M4"
    )
    assert (
        not runs(pad(mode="reflect"), "A14") and runs(pad(mode="reflect"), "A15") and runs(pad(mode="replicate"), "A14")
    )
    piece: dict[str, Any] = {"begin": [0, 4], "end": [8, 8]}
    cut = operation("slice_by_index", tensor("y", 8, 4), tensor("x", 8, 8), **piece)
    assert [r.fix for r in judge(cut, "H14").remarks] == ["slice_to_mask_matmul"]
    assert not judge(cut, "H15").remarks and judge(cut, "H15").ane
    other = operation("slice_by_index", tensor("y", 4, 8), tensor("x", 8, 8), begin=[4, 0], begin_mask=[False, True])
    assert not judge(other, "H13").remarks
    moving = tensor("b", 2, dtype="int32")
    assert not runs(operation("slice_by_size", tensor("y", 4), tensor("x", 8), begin=moving), "M4")
    for readers, expected in ((("dequantize",), True), (("output",), False), (("dequantize", "output"), False)):
        op = operation("quantize", tensor("y", 8, dtype="int8"), tensor("x", 8), read_by=readers)
        assert runs(op, "M4") is expected


def test_slow_and_harmful_ways_are_remarks() -> None:
    slow = judge(operation("upsample_bilinear", tensor("y", 1, 8, 8, 8), tensor("x", 1, 8, 4, 4)), "H13")
    assert slow.ane and "slower emulation" in slow.remarks[0].says
    top = judge(operation("topk", tensor("i", 8, dtype="int32"), tensor("x", 32)), "H16")
    assert top.ane and "slower than on the CPU" in top.remarks[0].says


def test_products_between_scales_are_remarked() -> None:
    def product_of(made_by: str, read_by: str) -> list[str]:
        op = operation("mul", tensor("y", 8), tensor("a", 8), tensor("b", 8), made_by=[made_by], read_by=[read_by])
        assert judge(op, "H16").ane
        return [r.pass_name for r in judge(op, "H16").remarks]

    assert product_of("dequantize", "quantize") == ["limit-product"]
    assert product_of("dequantize", "clip") == product_of("relu", "quantize") == []


def test_processors_beside_the_engine() -> None:
    assert judge(operation("lstm", tensor("y", 8), tensor("x", 8)), "H16").units == ("gpu", "cpu")
    assert judge(operation("non_zero", tensor("y", 8), tensor("x", 8)), "H16").units == ("cpu",)
    assert judge(operation("relu", tensor("y", 8), tensor("x", 8)), "H16").units == ("ane", "gpu", "cpu")


# -- the data -----------------------------------------------------------------------------------------------


def test_conditions_name_tests_limits_and_substitutions_that_exist() -> None:
    data = engine.load("operations")
    limits, known = engine.load("limits")["limits"], engine.load("substitutions")["substitutions"]
    entries = data["operations"].values()
    conditions = [*data["general"].values(), *(c for e in entries for c in e.get("conditions", ()))]
    assert len(conditions) > 30
    for c in conditions:
        assert c["test"] in TESTS and c["says"]
        assert c.get("limit", "rank") in limits and c.get("measure", "rank") in MEASURES
        assert c.get("fix", "avoid_int32") in known
        assert set(c.get("families", ())) <= set(engine.FAMILY_ORDER)
        assert c.get("confidence", "inferred") in CONFIDENCES
        assert "source" in c or "limit" in c or c["test"] == "above"
    assert {a for e in entries for a in e.get("ane_by_family", {}).values()} <= data["answers"].keys()
    assert {c["test"] for c in conditions} | {"kernel_is_one"} == TESTS.keys()
    assert not {"op", "family"} & {key for c in conditions for key in c} and "says" in TOLD


def test_no_operation_is_named_in_the_code() -> None:
    """Rules are data: no branch of the prediction asks for a kind of operation."""
    names = engine.load("operations")["operations"].keys()
    for path in sorted(Path(str(engine.__file__)).parent.joinpath("placement").glob("*.py")):
        if path.name != "macs.py":  # formulas by kind
            compared = re.findall(r"(?:==|!=| in) \(?\"(\w+)\"", path.read_text(encoding="utf-8"))
            assert not set(compared) & names, path.name


@pytest.mark.parametrize("name", ["ios18", "iOS18", "macOS 15", "MACOS15"])
def test_systems(name: str) -> None:
    assert System.of(name).ios == "iOS18"


def test_unknown_systems_and_chips_list_the_known_ones() -> None:
    with pytest.raises(UsageError) as e:
        System.of("iOS19")
    assert "iOS15" in str(e.value.hint) and "iOS27" in str(e.value.hint) and "macOS 14" in str(e.value.hint)
    with pytest.raises(UsageError) as e:
        engine.chip("M7")
    assert "A14" in str(e.value.hint) and "M6" in str(e.value.hint)
