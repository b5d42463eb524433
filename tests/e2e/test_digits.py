"""The digits network on the hardware: every byte equals the simulator's and numpy's."""

from __future__ import annotations

from pathlib import Path

import pytest

import tidemill as tm
from tidemill.demo.digits.kernel import build_digits
from tidemill.demo.digits.network import load_network, load_split, quantize_images
from tidemill.demo.digits.run import draw, run_digits


@pytest.mark.parametrize("name", ["base", "large"])
def test_every_image_agrees_on_the_simulator(name: str) -> None:
    with tm.open("iss", preset=name) as dev:
        run = run_digits(dev)
    assert run.mismatches_numpy == 0
    assert run.accuracy >= 0.95


def test_every_image_agrees_on_the_hardware_and_cycles_are_foretold() -> None:
    with tm.open("rtl", preset="base") as dev:
        run = run_digits(dev)
    assert (run.mismatches_iss, run.mismatches_numpy) == (0, 0)
    assert run.accuracy >= 0.95
    assert abs(run.predicted_cycles / run.cycles - 1) < 0.05


def test_digits_agree_on_a_stalling_bus() -> None:
    with tm.open("rtl", preset="base", stall_probability=0.3, seed=9, read_latency=60) as dev:
        run = run_digits(dev, 24)
    assert (run.mismatches_iss, run.mismatches_numpy) == (0, 0)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_small_arrays_run_the_compiled_network(name: str) -> None:
    with tm.open("iss", preset=name) as dev:
        run = run_digits(dev, 8)
    assert run.mismatches_numpy == 0


def test_the_hand_written_program_refuses_a_small_array() -> None:
    with pytest.raises(tm.ConfigError, match="16 x 16 or more"):
        build_digits(tm.preset("small"), load_network(), 8)


def test_picture_is_written(tmp_path: Path) -> None:
    split = load_split()
    logits = load_network().forward(quantize_images(split.test_images[:40]))
    draw(split, logits, tmp_path / "new" / "digits.png")
    assert (tmp_path / "new" / "digits.png").read_bytes().startswith(b"\x89PNG")
