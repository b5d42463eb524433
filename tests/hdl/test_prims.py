"""Stream buffers and the address nest under random stalls and random walks."""

from __future__ import annotations

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_verif.elaborate import Prefixed
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize(
    ("name", "component", "width", "depth"),
    [
        ("skid-8", SkidBuffer(8), 8, 2),
        ("skid-struct", SkidBuffer(data.StructLayout({"a": 3, "b": signed(34)})), 37, 2),
        ("queue-2", Queue(8, 2), 8, 2),
        ("queue-3", Queue(8, 3), 8, 3),
        ("queue-5", Queue(17, 5), 17, 5),
    ],
)
def test_stream_buffers(name: str, component: SkidBuffer | Queue, width: int, depth: int) -> None:
    run_bench(
        component,
        bench="tidemill_verif.benches.stream_buffers",
        name=f"prims-{name}",
        params={"width": width, "depth": depth},
        seed=11,
    )


@pytest.mark.parametrize(
    ("name", "counts", "addresses", "stride_bits"),
    [("load", [16, 16, 16], [17, 18], 16), ("narrow", [4, 3], [6], 5), ("single", [5], [18, 32, 18], 18)],
)
def test_address_nest(name: str, counts: list[int], addresses: list[int], stride_bits: int) -> None:
    run_bench(
        Prefixed(AddressNest(counts, addresses, stride_bits), "nest"),
        bench="tidemill_verif.benches.address_nest",
        name=f"prims-nest-{name}",
        params={"counts": counts, "addresses": addresses, "stride_bits": stride_bits},
        seed=12,
    )


def test_queue_depth_must_hold_two() -> None:
    with pytest.raises(ValueError, match="at least 2, not 1"):
        Queue(8, 1)
