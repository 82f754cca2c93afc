"""Numbers on the command line that do not fit."""

from __future__ import annotations

import importlib

import pytest

from gan_inversion import cli

NUMBERS = {
    "heads": ("--steps", "--samples"),
    "directions": ("--samples", "--judge-faces"),
    "pairs": ("--threads", "--count"),
    "dh-net": ("--threads", "--batch", "--learning-rate", "--minutes"),
    "ef-net": ("--threads", "--steps", "--minutes"),
    "stylegan2": ("--threads", "--steps", "--checkpoint-every"),
}


@pytest.mark.parametrize(
    ("network", "option"),
    [(network, option) for network, options in NUMBERS.items() for option in options],
)
@pytest.mark.parametrize("value", ["0", "-2", "nan", "²"])
def test_training_refuses_a_number_in_one_line(
    network: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = importlib.import_module(f"gan_inversion.training.{cli.TRAINERS[network]}")
    with pytest.raises(SystemExit) as stop:
        trainer.main([option, value])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert f"argument {option}: expected a " in said and said.endswith(f"got '{value}'")


@pytest.mark.parametrize("arguments", [["edit", "a.jpg", "--face", "-1"], ["demo", "--steps", "0"]])
def test_so_do_the_other_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert f"argument {arguments[-2]}: expected a whole number" in capsys.readouterr().err
