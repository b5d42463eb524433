"""The checker: unordered accesses, deadlocks, semaphores."""

from __future__ import annotations

import time

import pytest

from tidemill.asm import assemble
from tidemill.checker import check

HEAD = """.preset tiny
.sem s, t, u
.buffer A, int8, [64, 4]
.buffer C, int8, [64, 4]
"""


def kinds(source: str) -> list[str]:
    return [finding.kind for finding in check(assemble(HEAD + source, bounds=False))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ld.run spad[0], A, 4\nst.run spad[3], C, 4\nhalt", ["unordered access"]),
        ("ld.run spad[0], A, 4\nst.run spad[4], C, 4\nhalt", []),
        ("ld.run spad[0], A, 4, signal=s\nst.run spad[3], C, 4, wait=s\nhalt", []),
        ("ld.run spad[0], A, 4\nfence load\nst.run spad[3], C, 4\nhalt", []),
        ("ld.run spad[0], A, 4\nfence store\nst.run spad[3], C, 4\nhalt", ["unordered access"]),
        ("st.run spad[0], A, 4\nld.run spad[8], A + 12, 4\nhalt", ["unordered access"]),
        ("st.run spad[0], A, 4\nld.run spad[8], A + 16, 4\nhalt", []),
        ("ld.dst d1=2\nld.run spad[0], A, 1, 4\nst.run spad[1], C, 1\nhalt", []),
        ("ld.dst d1=2\nld.run spad[0], A, 1, 4\nst.run spad[6], C, 1\nhalt", ["unordered access"]),
        ("vx.add acc[0], spad[0], 1, signal=s\nmx.sync wait=s, signal=t\nst.run acc[0], C, 1, wait=t\nhalt", []),
    ],
)
def test_only_accesses_that_nothing_orders_are_reported(source: str, expected: list[str]) -> None:
    assert kinds(source) == expected


def test_wload_runs_ahead_of_the_matrix_engine() -> None:
    start = "mx.wload spad[0]\nmx.run spad[8], acc[0]\n"
    assert kinds(start + "mx.wload spad[4], signal=s\nst.run acc[0], C, 1, wait=s\nhalt") == ["unordered access"]
    assert kinds(start + "mx.wload spad[4]\nmx.sync signal=s\nst.run acc[0], C, 1, wait=s\nhalt") == []
    assert kinds(start + "mx.wload spad[4], signal=s\nld.run spad[4], A, 1, wait=s\nhalt") == []
    assert kinds(start + "mx.wload spad[4], signal=s\nld.run spad[8], A, 1, wait=s\nhalt") == ["unordered access"]


def test_errors_of_the_hardware_are_found() -> None:
    assert kinds("mx.wload spad[0]\nmx.wload spad[4]\nhalt") == ["ILLEGAL_OPERAND"]
    assert kinds("mx.run spad[0], acc[0]\nhalt") == ["ILLEGAL_OPERAND"]
    assert kinds("nop") == ["PC_RANGE"]


def test_deadlocks_are_found() -> None:
    assert kinds("st.sync wait=s\nhalt") == ["deadlock"]
    assert kinds("st.sync wait=s, signal=t\nld.sync wait=t, signal=s\nhalt") == ["deadlock"]
    crowded = "ld.sync wait=s\n" + "ld.sync\n" * 8 + "st.sync signal=s\nhalt"
    assert kinds(crowded) == ["deadlock"]
    assert kinds(crowded.replace("ld.sync\n" * 8, "ld.sync\n" * 7)) == []


def test_semaphores_are_counted() -> None:
    assert kinds("loop 64\nld.sync signal=s\nendloop\nloop 64\nst.sync wait=s\nendloop\nhalt") == ["SEM_OVERFLOW"]
    assert kinds("loop 63\nld.sync signal=s\nendloop\nloop 63\nst.sync wait=s\nendloop\nhalt") == []
    assert kinds("loop 200\nld.sync signal=s\nst.sync wait=s\nendloop\nhalt") == []
    assert kinds("ld.sync signal=s\nhalt") == ["leftover s"]


def test_two_signallers_order_both_only_when_all_signals_are_in() -> None:
    both = "ld.run spad[0], A, 1, signal=s\nvx.add spad[1], acc[0], 0, signal=s\nst.sync wait=s\n"
    assert "unordered access" in kinds(both + "st.run spad[0], C, 2\nst.sync wait=s\nhalt")
    assert "unordered access" not in kinds(both + "st.run spad[0], C, 2, wait=s\nhalt")


def test_credits_order_a_double_buffer_within_seconds() -> None:
    body = "ld.run spad[0], A, 32, wait=t, signal=s\nst.run spad[0], C, 32, wait=s, signal=t\n"
    start = time.monotonic()
    assert kinds(f"ld.sync signal=t\nloop 10000\n{body}endloop\nhalt") == ["leftover t"]
    assert time.monotonic() - start < 30
    assert kinds(f"ld.sync signal=t\nld.sync signal=t\nloop 8\n{body}endloop\nhalt").count("unordered access") == 1
