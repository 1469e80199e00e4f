"""A run's name and folder follow from its content."""

import pytest

from temper.config.cell import Cell, Kind, run_folder
from tests.conftest import composed


def test_kinds_are_the_quadrants() -> None:
    assert Kind.of(attacked=False, penalized=False) is Kind.STANDARD
    assert Kind.of(attacked=True, penalized=False) is Kind.ADVERSARIAL
    assert Kind.of(attacked=False, penalized=True) is Kind.REGULARIZED
    assert Kind.of(attacked=True, penalized=True) is Kind.COMBINED


def test_names() -> None:
    cell = Cell.of(composed("attack=pgd", "penalty=[l2,dropout]"))
    assert cell.name.startswith("pgd+dropout+l2-") and cell.penalty == "dropout + l2" and cell.kind == "combined"
    assert Cell.of(composed("attack=torchattacks", "attack.attack=FFGSM")).attack == "FFGSM"
    assert Cell.of(composed()).name.startswith("none+none-")


def test_modules_are_of_the_same_kind_as_their_cells() -> None:
    from temper.training.modules import CLASSIFIERS, build_module

    for overrides in (("attack=none",), ("attack=pgd",), ("penalty=l2",), ("attack=trades", "penalty=[l1,l2]")):
        config = composed(*overrides)
        assert type(build_module(config)) is CLASSIFIERS[Cell.of(config).kind]


@pytest.mark.parametrize(
    "override",
    [
        "strength=2",
        "penalty.l2.weight=1e-3",
        "attack.steps=8",
        "attack.mode=train",
        "data.threats.linf.eps=0.1",
        "data.train_size=100",
        "data.split_seed=1",
        "model.width=8",
        "optimizer.lr=0.01",
        "schedule=cosine",
        "trainer.max_epochs=3",
        "trainer.precision=bf16-mixed",
        "validation.steps=3",
    ],
)
def test_what_changes_the_result_changes_the_digest(override: str) -> None:
    base = ("attack=pgd", "penalty=l2")
    assert Cell.of(composed(*base, override)).digest != Cell.of(composed(*base)).digest


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "study=other",
        "logger=tensorboard",
        "paths.data=/elsewhere",
        "threads=2",
        "runs_per_gpu=2",
        "evaluation=quick",
        "keep_checkpoints=[]",
    ],
)
def test_what_does_not_change_it_leaves_the_digest(override: str) -> None:
    assert Cell.of(composed(override)).digest == Cell.of(composed()).digest


def test_strength_is_no_part_of_a_cell_without_penalties() -> None:
    assert Cell.of(composed("strength=2")).digest == Cell.of(composed()).digest
    assert Cell.of(composed("data.threats.l2.eps=1")).digest == Cell.of(composed()).digest, "no attack refers to it"


def test_the_folder_of_a_data_set_is_no_part_of_it() -> None:
    assert Cell.of(composed("data=mnist", "paths.data=/a")).digest == Cell.of(composed("data=mnist", "paths.data=/b")).digest


def test_the_same_penalties_in_another_order_are_one_cell() -> None:
    assert Cell.of(composed("penalty=[l2,dropout]")).name == Cell.of(composed("penalty=[dropout,l2]")).name
    assert Cell.of(composed("penalty=[none,l2]")).digest == Cell.of(composed("penalty=l2")).digest


def test_seeds_lie_together() -> None:
    folders = [run_folder(composed(f"seed={seed}")) for seed in (0, 1)]
    assert folders[0].parent == folders[1].parent and folders[1].name == "seed-1"
