"""Random single layers through the front ends give the bytes of TFLite Micro and ONNX Runtime."""

from __future__ import annotations

import pytest

from tidemill_verif import layer_sweep
from tidemill_verif.layer_sweep import MODES, main, sweep


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("preset", "layers"), [("base", 40), ("small", 10)])
def test_random_layers_equal_the_outside_runtimes(mode: str, preset: str, layers: int) -> None:
    outcomes = sweep([mode], layers, 50_000, preset, "iss")
    assert not [outcome for outcome in outcomes if outcome.problem]
    assert {outcome.kind for outcome in outcomes} == {"conv", "depthwise", "dense"}


def test_a_layer_that_differs_is_counted_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(seed: int) -> layer_sweep.Case:
        case = layer_sweep.tflite_case(seed)
        case.expected.flat[0] ^= 1
        return case

    monkeypatch.setitem(MODES, "tflite", wrong)
    assert main(["--layers", "1", "--seed", "7", "--mode", "tflite"]) == 1
    assert "tflite seed 7" in (out := capsys.readouterr().out)
    assert "1 of" in out
