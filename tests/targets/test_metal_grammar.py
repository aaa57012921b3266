"""The grammar check: what C++ takes and Metal does not."""

from __future__ import annotations

import pytest

from targets.metal.execute import faults
from targets.metal.execute.text import kernels, tokens
from tests.targets.metal_examples import GEMM, SOFTMAX
from tests.targets.metal_source import HEADER

KERNEL = """
constant float table[2] = {1.0f, 2e-3};
template <typename T> T larger(T a, T b) { return a < b ? b : a; }
struct pair { float a; float b; };
float sum(device const pair *p, thread float &carry) { return larger(p->a, p->b) + (carry *= 2); }

[[max_total_threads_per_threadgroup(64)]]
kernel void f(device const pair *x [[buffer(0)]], device float *y [[buffer(1)]], constant uint &n [[buffer(2)]],
              threadgroup float *t [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {
    float carry = 0x10u * 1.5h;
    threadgroup float4 *wide = (threadgroup float4 *)t;
    vec<half, 4> h = vec<half, 4>(*(device const half4 *)x) * 2.0h;
    if (i < n) y[i] = sum(x + i, carry) + precise::exp(table[i % 2]) + wide[0].x + h.x * float(i * n);
}
"""


@pytest.mark.parametrize("text", [KERNEL, GEMM, SOFTMAX])
def test_a_right_text_has_no_faults(text: str) -> None:
    assert faults(HEADER + text) == []


CHANGES = [
    ("float carry = 0x10u", "double carry = 0x10u", "line 10: double is no type of Metal"),
    ("float carry = 0x10u", "long long carry = 0x10u", "line 10: long long is no type of Metal"),
    ("1.5h", "1.5l", "line 10: literal 1.5l has a suffix that Metal does not know"),
    ("0x10u", "10ll", "line 10: literal 10ll has a suffix"),
    ("precise::exp", "std::exp", "line 13: the C++ standard library is not there"),
    ("precise::exp", "erf", "line 13: function erf is unknown"),
    ("[[thread_position_in_grid]]", "[[thread_in_grid]]", "attribute thread_in_grid is unknown"),
    ("device const pair *p", "const pair *p", "line 5: a pointer to pair does not say its address space"),
    ("thread float &carry", "float &carry", "line 5: a reference to float does not say its address space"),
    ("(device const half4 *)", "(const half4 *)", "line 12: a pointer to half4 does not say its address space"),
    ("(threadgroup float4 *)t", "(threadgroup float4 *)y", "line 11: a pointer to threadgroup memory is made of y"),
    ("*wide = (threadgroup float4 *)t", "*wide = t; device float *z = t + 1", "line 11: a pointer to device memory"),
    ("(device const half4 *)x", "(device const half4 *)(&t[1] + i)", "line 12: a pointer to device memory"),
    ("(device const half4 *)x", "reinterpret_cast<device half4 *>(t)", "line 12: a pointer to device memory"),
    ("constant float table", "const float table", "line 2: variable const at program scope is not constant"),
    ("float carry = ", "threadgroup float tile[8]; float carry = ", "line 10: threadgroup memory comes as a parameter"),
    ("kernel void", "kernel float", "line 8: kernel f returns float, not void"),
    ("[[buffer(1)]]", "[[buffer(0)]]", "line 8: kernel f has one buffer index twice"),
    ("[[buffer(2)]]", "[[buffer(31)]]", "line 8: kernel f has a buffer index beyond 30"),
    ("uint i [[thread_position_in_grid]]", "uint i", "parameter i of kernel f has no attribute"),
    ("uint i [[", "device float *u [[threadgroup(1)]], uint i [[", "line 9: parameter u of kernel f is no threadgroup"),
    ("larger(p->a", "sum(p, carry) + larger(p->a", "line 5: function sum calls itself"),
    ("float carry = ", "goto end; float carry = ", "line 10: goto is not supported"),
    ("float carry = ", "auto g = [&](float v) { return v; }; float carry = ", "line 10: a lambda expression"),
    ("struct pair {", "struct one { float c; }; struct pair : one {", "line 4: struct pair is derived from another"),
    ("float carry = ", "float fragment = 1; float carry = ", "line 10: fragment is a word of the language"),
    ("constant float table", "#include <cmath>\nconstant float table", "line 2: cmath is no header of Metal"),
]


@pytest.mark.parametrize(("old", "new", "said"), CHANGES)
def test_each_fault_has_its_line(old: str, new: str, said: str) -> None:
    assert old in KERNEL
    found = faults(KERNEL.replace(old, new, 1))
    assert any(said in f for f in found), found
    assert len(found) == 1, found


def test_signatures() -> None:
    (f,) = kernels(tokens(KERNEL))
    assert (f.name, f.returns, f.max_threads, f.line) == ("f", "void", 64, 8)
    assert [(p.name, p.ctype, p.space, p.slot, p.is_const, p.is_reference) for p in f.parameters] == [
        ("x", "pair", "device", 0, True, False),
        ("y", "float", "device", 1, False, False),
        ("n", "uint", "constant", 2, True, True),
        ("t", "float", "threadgroup", 0, False, False),
        ("i", "uint", "", -1, False, False),
    ]


def test_comments_and_strings_are_no_words() -> None:
    text = "// double *p;\n/* goto\nstd:: */\n" + KERNEL
    assert faults(text) == []
    assert faults(text + "double x;\n")[0].startswith(f"line {text.count(chr(10)) + 1}: ")
