"""Coverage-guided fuzzing of the codec, the topics and the connection, with atheris (libFuzzer for Python).

    make fuzz SECONDS=3600                                  each target for its share of the time
    python -m tests.fuzz.target decoder -max_total_time=60  one target; libFuzzer's own flags go through
    python -m tests.fuzz.target decoder FILE                one input, for example a finding's
    python -m tests.fuzz.target decoder --minimise          keep in tests/fuzz/corpus what adds coverage, and no more

New inputs gather in .fuzz/<target>, findings in .fuzz/findings/. The corpus in tests/fuzz/corpus/<target> is read, and
written by --minimise alone; `make test` replays it without atheris (tests/mqtt/test_corpus.py, which also has, one by
one, what the fuzzer found and was mended). The checks themselves are in the modules beside this one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

atheris: Any = import_module("atheris")  # of the group "fuzz": no types, and not there for the tests

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
WORK = HERE.parents[1] / ".fuzz"
INPUT_BYTES_MAX = 1024


def main(name: str, *flags: str) -> None:
    if flags == ("--minimise",):
        minimise(name)
        return
    with atheris.instrument_imports(include=["recado.mqtt", "recado.broker"]):
        targets = import_module("tests.fuzz.targets")
    if not any(Path(flag).exists() or flag.startswith("-merge") for flag in flags):
        seeds = targets.TARGETS[name].seeds()
        flags = (*flags, *directories(name, seeds), f"-dict={HERE / 'mqtt.dict'}")
        flags = (*flags, f"-artifact_prefix={WORK}/findings/{name}-")
    fuzz(name, targets.TARGETS[name], flags)


def fuzz(name: str, target: Any, flags: tuple[str, ...]) -> None:
    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        """Every other time, make the packets' lengths right again: else most inputs end at the first one."""
        mutated: bytes = atheris.Mutate(data, len(data))
        if Random(seed).random() < 0.5:
            mutated = target.framed(mutated)
        return mutated[:size_max]

    again = f"{sys.executable} -m tests.fuzz.target {name}"  # libFuzzer starts itself by this to merge
    atheris.Setup(
        [again, f"-max_len={INPUT_BYTES_MAX}", "-timeout=10", "-rss_limit_mb=1024", *flags],
        target.check,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def directories(name: str, seeds: list[bytes]) -> list[str]:
    """Where new inputs go, then where the kept ones and the case table's are read."""
    found = [WORK / name, CORPUS / name, WORK / f"{name}-seeds"]
    for directory in [*found, WORK / "findings"]:
        directory.mkdir(parents=True, exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    for number, seed in enumerate(seeds):
        (found[-1] / f"{number:03}").write_bytes(seed)
    return [str(each) for each in found]


def minimise(name: str) -> None:
    """Replace the kept corpus by the smallest inputs that cover what it and the gathered ones cover."""
    with TemporaryDirectory(dir=WORK) as new:
        sources = [str(each) for each in (CORPUS / name, WORK / name, WORK / f"{name}-seeds") if each.exists()]
        subprocess.run([sys.executable, "-m", "tests.fuzz.target", name, "-merge=1", new, *sources], check=True)
        shutil.rmtree(CORPUS / name, ignore_errors=True)
        shutil.copytree(new, CORPUS / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
