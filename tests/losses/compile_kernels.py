"""Compiles every variant of the Triton kernels for a GPU that need not be there; run by ``test_triton.py``."""

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from taid_vlm.losses import triton_kernels, triton_tile

TYPES = {
    **dict.fromkeys(("student", "teacher", "student_bias", "teacher_bias"), "*bf16"),
    **dict.fromkeys(("figures", "sums", "shares"), "*fp32"),
    **{"labels": "*i64", "written": "*i8", "stride_s": "i64", "stride_t": "i64", "columns_V": "i32"},
}


def compile_kernel(capability: int, kernel: Any, **constants: Any) -> None:
    """Compile one kernel to machine code."""
    common = {"T_BIAS": False, "T_CAP": False, "COUNT": len(triton_tile.FIGURES), "BLOCK": triton_tile.BLOCK}
    constants |= common
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "fp32") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
    assert made.asm["cubin"]


def main(capability: int) -> None:
    """Every divergence, with and without a mixed target."""
    for mixed in (False, True):
        heads = {"MIXED": mixed, "S_BIAS": mixed, "S_CAP": mixed}
        compile_kernel(capability, triton_kernels.row_figures, HAS_TEACHER=True, **heads)
        for name, kind in triton_tile.KINDS.items():
            written = name == "distillm2"
            if kind > triton_tile.KINDS["rkl"]:
                compile_kernel(capability, triton_kernels.row_divergence, WRITTEN=written, KIND=kind, **heads)
            compile_kernel(
                capability, triton_kernels.store_gradient, HAS_TEACHER=True, WRITTEN=written, KIND=kind, **heads
            )
    alone = {"MIXED": False, "S_BIAS": False, "S_CAP": False, "HAS_TEACHER": False}
    compile_kernel(capability, triton_kernels.row_figures, **alone)
    compile_kernel(capability, triton_kernels.store_gradient, WRITTEN=False, KIND=0, **alone)
    print("compiled")


if __name__ == "__main__":
    main(int(sys.argv[1]))
