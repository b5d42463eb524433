"""The cycle model keeps the bounds that follow from the machine's widths."""

from __future__ import annotations

import pytest

from tidemill.config import preset
from tidemill.iss.timing import DmaTimeline, MatrixTimeline, Timing, Transfer, VectorTimeline, split_bursts

CONFIG = preset("base")
TIMING = Timing()


def transfer(lines: int, nbytes: int) -> Transfer:
    return Transfer(tuple(tuple(split_bursts(CONFIG, 4096 * line, nbytes)) for line in range(lines)), 0)


@pytest.mark.parametrize(
    ("first", "nbytes", "bursts"),
    [(0, 1, [1]), (7, 2, [2]), (0, 512, [32, 32]), (4088, 16, [1, 1]), (4000, 256, [12, 20]), (3, 257, [32, 1])],
)
def test_bursts_are_whole_beats_within_pages(first: int, nbytes: int, bursts: list[int]) -> None:
    assert split_bursts(CONFIG, first, nbytes) == bursts


@pytest.mark.parametrize("beats", [64, 512, 8192])
def test_long_loads_run_at_the_bandwidth(beats: int) -> None:
    for bandwidth in (1.0, 0.5):
        timeline = DmaTimeline(CONFIG, TIMING.with_memory(20, bandwidth), store=False)
        complete, _ = timeline.begin(0, transfer(1, 8 * beats))
        ideal = beats / bandwidth
        assert ideal < complete < ideal + 60


def test_short_lines_are_bound_by_latency_over_outstanding_bursts() -> None:
    lines, latency = 200, 100
    timeline = DmaTimeline(CONFIG, TIMING.with_memory(latency, 1.0), store=False)
    complete, waited = timeline.begin(0, transfer(lines, 8))
    around = TIMING.load_burst + TIMING.load_command + latency + 1 + TIMING.load_slot
    assert complete == pytest.approx(lines * around / CONFIG.max_outstanding, rel=0.03)
    assert waited > 0


def test_consecutive_loads_hide_the_latency() -> None:
    timeline = DmaTimeline(CONFIG, TIMING, store=False)
    first, _ = timeline.begin(0, transfer(1, 256))
    second, _ = timeline.begin(timeline.ready, transfer(1, 256))
    assert second - first < 32 + TIMING.load_setup + 2


def test_weight_loads_hide_behind_runs() -> None:
    timeline = MatrixTimeline(CONFIG, TIMING)
    time, rows, count = 0, 64, 10
    for _ in range(count):
        timeline.begin_wload(time := max(time + 1, timeline.ready("mx.wload")))
        complete = timeline.begin_run(time := max(time + 1, timeline.ready("mx.run")), rows, True)
    assert count * rows < complete < count * (rows + TIMING.run_gap) + 3 * CONFIG.rows + 40


def test_the_requantizer_bounds_the_vector_unit() -> None:
    rows, cycles = 100, CONFIG.cols // CONFIG.requant_lanes
    plain = VectorTimeline(CONFIG, TIMING).begin(0, rows)
    narrow = VectorTimeline(CONFIG, TIMING).begin(0, rows, post=True)
    pooled = VectorTimeline(CONFIG, TIMING).begin(0, rows, window=9, post=True)
    assert rows < plain < rows + 40
    assert rows * cycles < narrow < rows * cycles + 60
    assert rows * 9 < pooled < rows * 9 + 60
