"""Readable names and kinds of GPU kernels (on a CPU: of PyTorch's operations)."""

import re

KINDS = {  # the first pattern that matches a kernel's name decides
    "attention": r"flash|fmha|attention|softmax",
    "optimiser": r"multi_tensor|adam|foreach",
    "norm": r"layer_?norm|GammaBeta|_norm",
    "convolution": r"conv|wgrad|dgrad|fprop_implicit|nchw|nhwc",
    "matmul": r"nvjet|gemm|cutlass|xmma|splitK|::(add|b)?mm|linear",
    "compiled": r"triton",
    "copy": r"copy|memcpy|memset|CatArray|fill|_to\b|::(cat|stack|zero)",
    "sum": r"reduce|::sum",
    "elementwise": r"elementwise|::(mul|add|silu|gelu|sigmoid)",
}
DTYPES = {"BFloat16": "bf16", "Half": "fp16", "float": "fp32"}


def kind_of(name: str) -> str:
    """One of KINDS, or `other`."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "other")


def shares_by_kind(times: dict[str, float]) -> dict[str, float]:
    """Shares of the total kernel time by kind, in descending order."""
    total, kinds = sum(times.values()), {kind_of(name) for name in times}
    shares = {kind: sum(t for name, t in times.items() if kind_of(name) == kind) / total for kind in kinds}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def short_name(name: str) -> str:
    """`void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::BFloat16> ...` is
    `elementwise add bf16`; other names lose their arguments and namespaces and are cut to 48 characters."""
    if "elementwise_kernel" in name:
        found = re.findall(r"CUDAFunctor_(\w+)|(?!Binary|Unary|BUnary|AUnary)\b(\w+?)Functor|(\w+?)_kernel_cuda", name)
        functions = [next(filter(None, groups)) for groups in found]
        dtypes = [short for dtype, short in DTYPES.items() if re.search(rf"\b{dtype}\b", name)]
        return " ".join(["elementwise", *functions[-1:], *dtypes[:1]])
    bare = re.split(r"[<(]", re.sub(r"^void |\(anonymous namespace\)::", "", name))[0]
    return bare.rsplit("::", 1)[-1][:48] if "::" in bare and not bare.startswith("aten") else bare[:48]
