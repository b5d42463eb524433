"""Third-party networks through the compiler: every tensor equals TFLite Micro's. Few inputs;
`python -m tidemill_verif.model_acceptance` runs many."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tidemill.models import ModelNotFound, find, load_manifest
from tidemill.models.store import FOLDER_VARIABLE
from tidemill_verif import model_acceptance, model_results
from tidemill_verif.model_acceptance import check_network, main
from tidemill_verif.model_inputs import NETWORKS, synthetic
from tidemill_verif.runtimes.whole_models import TfliteModel

FOLDER = os.environ.get(FOLDER_VARIABLE)
STREAMS = [name for name, network in NETWORKS.items() if network.stream]
TINY = [("tiny", name) for name in ("kws_dscnn_int8", "micro_speech_quantized", *STREAMS)]
SMALL = [("small", name) for name in ("kws_dscnn_int8", "okay_nabu")]


def outcome_of(name: str, device: str, preset: str, count: int, batch: int = 0) -> model_acceptance.Outcome:
    if load_manifest()[name].repository and not FOLDER:
        pytest.skip(f"{FOLDER_VARIABLE} names no folder of models")
    outcome = check_network(NETWORKS[name], device, preset, count, seed=7, batch=batch, download=False).outcome
    assert outcome.problem == "", outcome
    assert outcome.tensors == outcome.reference_tensors > 0
    assert outcome.inputs == count
    assert outcome.cycles > 0
    return outcome


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_agrees_on_the_simulator(name: str) -> None:
    outcome_of(name, "iss", "base", 4 if NETWORKS[name].stream else 1)


@pytest.mark.parametrize(("name", "count"), [("kws_dscnn_int8", 1), ("okay_nabu", 3)])
def test_every_tensor_agrees_on_the_hardware(name: str, count: int) -> None:
    outcome = outcome_of(name, "rtl", "base", count)
    predicted = outcome_of(name, "iss", "base", count).cycles
    assert abs(outcome.cycles - predicted) < 0.06 * predicted, (
        "engines that share a scratchpad bank wait for each other"
    )


@pytest.mark.parametrize(("preset", "name"), TINY + SMALL)
def test_small_networks_run_on_small_presets(preset: str, name: str) -> None:
    outcome_of(name, "iss", preset, 2 if NETWORKS[name].stream else 1)


def test_words_get_their_class() -> None:
    classes = outcome_of("micro_speech_quantized", "iss", "small", 4).classes
    assert [line.split(" (")[0] for line in classes] == [
        "yes_wav: yes", "no_wav: no", "noise_wav: silence", "silence_wav: silence"
    ]  # fmt: skip


def test_a_wake_word_is_heard() -> None:
    try:
        find("alexa_wav", download=False)
    except ModelNotFound as error:
        pytest.skip(str(error))
    assert outcome_of("alexa", "iss", "base", 70).classes == ["alexa_wav: heard in step 42"]


def test_a_batch_takes_fewer_cycles_an_input() -> None:
    outcome = outcome_of("micro_speech_quantized", "iss", "base", 4, batch=4)
    assert 0 < outcome.batch_cycles < outcome.cycles


def test_a_wrong_byte_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TfliteModel.__call__

    def wrong(self: TfliteModel, *values: Any) -> dict[int, Any]:
        result = honest(self, *values)
        index = next(index for index in sorted(result) if index not in self.outputs)
        result[index].reshape(-1)[-1] ^= 1
        return result

    monkeypatch.setattr(TfliteModel, "__call__", wrong)
    outcome = check_network(NETWORKS["alexa"], "iss", "base", 2, download=False).outcome
    assert outcome.problem == "2 bytes differ"
    assert list(outcome.differing.values()) == [2]


def test_the_command_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--inputs", "1", "--steps", "2", "--pictures", str(tmp_path / "new")]
    assert main(["--model", "alexa", *options, "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert (outcome["model"], outcome["inputs"], outcome["problem"]) == ("alexa", 2, "")
    assert (tmp_path / "new" / "wake_words.png").read_bytes().startswith(b"\x89PNG")
    assert main(["--model", "alexa", *options]) == 0
    assert "wrote" in capsys.readouterr().out


def test_a_network_that_is_nowhere_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("tidemill.models.store.cache_folder", lambda: tmp_path)
    outcome = check_network(NETWORKS["resnet8_int8"], "iss", "base", 1, download=False).outcome
    assert outcome.problem.startswith("ModelNotFound: resnet8_int8 is not in ")
    with pytest.raises(SystemExit):
        main(["--model", "other"])
    assert "invalid choice: 'other'" in capsys.readouterr().err


def test_synthetic_sound_is_the_same_for_a_seed() -> None:
    first, again = (b"".join(part.tobytes() for part in synthetic(3, 9000)) for _ in range(2))
    assert first == again
    assert len(first) >= 2 * 9000


def test_results_become_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = model_results.Job("iss", "small", "alexa", 2)
    run = job.run()
    runs = {model_results.Job(device, preset, "alexa", 2): run for device, preset in model_results.INPUTS}
    run.outcome.differing["program: tensor 3"] = 7
    page = model_results.page(runs, [tmp_path / "models" / "a.png"], tmp_path)
    assert page.count(" | 32 of 32 | 7 of ") == 2
    assert "![a](models/a.png)\n" in page
    monkeypatch.setattr(model_results, "jobs", lambda quick: [])
    with pytest.raises(SystemExit):
        model_results.main(["-o", str(tmp_path / "nowhere" / "page.md")])
