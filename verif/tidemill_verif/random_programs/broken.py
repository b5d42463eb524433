"""Shows that random programs find bugs: hardware that is broken on purpose, in a copy, must be caught.

`python -m tidemill_verif.random_programs.broken [--preset tiny] [--programs 300] [NAME ...]` prints for each bug the
first seed that fails. Each needs a build of its own, which the cache keeps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tidemill_hdl
from tidemill.config import PRESETS, preset

MODULE = "tidemill_verif.random_programs.broken"


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in `file` of the hardware; `old` stands there once."""

    file: str
    old: str
    new: str


BUGS: dict[str, Bug] = {
    "requantizer: tflite rounds negative ties up": Bug("vector/requantizer.py", "(tflite & ~neg)", "tflite"),
    "requantizer: onnx forgets the sticky bit": Bug(
        "vector/requantizer.py", "(onnx & (sticky | value[1]))", "(onnx & value[1])"
    ),
    "semaphores: one of two signals in a cycle is lost": Bug(
        "sync.py",
        "added.eq(_sum([port.valid & port.signal[s] for port in self.done]))",
        "added.eq(_sum([Cat(port.valid & port.signal[s] for port in self.done).any()]))",
    ),
    "semaphores: a wait for several takes them when one is there": Bug(
        "sync.py", "~(masks[i] & ~above_zero).any()", "(~masks[i] | above_zero).any()"
    ),
    "banks: a write that loses its bank is dropped": Bug(
        "memory/banked.py",
        'self._head(m, f"w{p}", port, grant, first=not requesters)',
        'self._head(m, f"w{p}", port, Value.cast(1), first=not requesters)',
    ),
    "loops: the second iteration of three is the last": Bug(
        "frontend/loops.py", "top.last.eq(top.count == 2)", "top.last.eq(top.count <= 3)"
    ),
    "DMA: the burst after a border repeats its block": Bug(
        "dma/walk.py", "(beat[block_bits:] + 1)", "(beat[block_bits:] | 1)"
    ),
}
"""By what is wrong."""


def first_failure(name: str, configuration: str, programs: int, save: Path | None = None) -> int | None:
    """The first seed below `programs` that fails on hardware with the bug called `name`; None where none does. `save`:
    shrink its program into this folder. Raises `ValueError` where the hardware does not have the text that the bug
    replaces."""
    bug = BUGS[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tidemill_hdl"
        shutil.copytree(Path(tidemill_hdl.__path__[0]), copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / bug.file
        text = file.read_text(encoding="utf-8")
        if text.count(bug.old) != 1:
            raise ValueError(f"bug {name!r}: {bug.file} has {bug.old!r} {text.count(bug.old)} times, not once")
        file.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
        path = os.pathsep.join([folder, *(entry for entry in sys.path if entry)])
        command = [sys.executable, "-m", MODULE, "--inside", "--preset", configuration, "--programs", str(programs)]
        command += ["--save", str(save.resolve())] if save else []
        result = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise RuntimeError(f"bug {name!r}: {result.stderr.strip()[-2000:]}")
    return int(result.stdout) if result.stdout.strip() else None


def _inside(configuration: str, programs: int, save: Path | None) -> None:
    """Print the first failing seed; runs with the broken hardware."""
    from tidemill_verif.random_programs.campaign import Campaign, run_seed
    from tidemill_verif.random_programs.lockstep import Lockstep

    config = preset(configuration)
    with Lockstep(config) as lockstep:
        for seed in range(programs):
            if run_seed(lockstep, config, seed).failure:
                print(seed)
                break
        else:
            return
    if save:
        Campaign(config, 0).preserve(seed, save)


def main() -> int:
    """Run from the command line; 1 where a bug is not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="bugs; all of them without")
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="shrink the programs that fail into this folder")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(options.preset, options.programs, options.save)
        return 0
    unknown = [name for name in options.names if name not in BUGS]
    if unknown:
        parser.error(f"no bug {unknown[0]!r}; there are: {'; '.join(BUGS)}")
    missed = 0
    for name in options.names or BUGS:
        seed = first_failure(name, options.preset, options.programs, options.save)
        missed += seed is None
        print(f"{name}: {'not found' if seed is None else f'seed {seed}'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
