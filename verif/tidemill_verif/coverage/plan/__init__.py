"""The coverage plan: every cover point of every block. The points are data; `sampling` has what hits them."""

from __future__ import annotations

from tidemill_verif.coverage.plan import csr, dma, frontend, matrix, memory, npu, prims, sync, vector
from tidemill_verif.coverage.point import Point

BLOCKS = {
    "prims": prims.POINTS,
    "sync": sync.POINTS,
    "frontend": frontend.POINTS,
    "matrix": matrix.POINTS,
    "memory": memory.POINTS,
    "vector": vector.POINTS,
    "dma": dma.POINTS,
    "csr": csr.POINTS,
    "npu": npu.POINTS,
}
"""The points of each block; `npu` is the whole machine."""

PLAN: dict[str, Point] = {point.name: point for points in BLOCKS.values() for point in points}
"""Every cover point by name."""

FILES = {
    "prims": ("prim/",),
    "sync": ("sync.py",),
    "frontend": ("frontend/",),
    "matrix": ("matrix/",),
    "memory": ("memory/",),
    "vector": ("vector/",),
    "dma": ("dma/",),
    "csr": ("csr/",),
    "npu": ("top.py",),
}
"""The hardware's files of each block, as the beginnings of their paths below the hardware package."""

WITHOUT_POINTS = ("sequential/",)
"""Files outside the plan: the microcode of the sequential NPU has its branches in a memory's words, which no line or
toggle shows. Random programs compare it with the simulator."""


def block_of(file: str) -> str:
    """The block that `file` belongs to. Raises `KeyError`."""
    for block, starts in FILES.items():
        if file.startswith(starts):
            return block
    raise KeyError(f"no block of the coverage plan has the file {file!r}")
