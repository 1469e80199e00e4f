"""End-to-end tests on texts: from a file to the table, with attacks on embeddings and on words."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from temper.config.errors import ConfigError
from temper.sweeps.preflight import validate
from tests.config.test_options import BY_EPOCH, NEEDS, _outside_of_a_trainer, options, trajectory
from tests.conftest import FILES, composed

__all__ = ["_outside_of_a_trainer"]  # a fixture

TEXTS = (
    "data=csv_text",
    f"data.source.path={FILES / 'reviews.csv'}",
    "data.length=10",
    "data.threats.l2.eps=0.2",
    "data.val_fraction=0.2",
    "model=text_cnn",
    "model.dim=8",
    "model.filters=8",
    "optimizer=adam",
    "optimizer.lr=1e-2",
    "trainer.max_epochs=10",
    "data.batch_size=16",
)
WORDS = ("evaluation=text", f"evaluation.attacks.substitution.wordnet={FILES / 'wordnet'}", "evaluation.attacks.pgd.steps=5")
CASCADE = "+evaluation.attacks.all={_target_:temper.attacks.Cascade}"


@pytest.mark.slow
def test_attacks_on_embeddings_and_words_and_saved_texts(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    grid = ("attack=none,fgm", "penalty=none,dropout", "seed=0", "study=texts")
    status, output = temper("train", *TEXTS, *WORDS, *grid, "evaluation.checkpoints=[last]", "-m")
    assert status == 0, output
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/texts/*/seed-0/result.json")]
    assert sorted(record["kind"] for record in records) == ["adversarial", "combined", "regularized", "standard"]
    for record in records:
        (evaluation,) = record["evaluations"].values()
        metrics = evaluation["checkpoints"]["last"]["metrics"]
        assert metrics["test/clean"] >= metrics["test/substitution"] >= metrics["test/worst_case"]
        assert record["cost"]["gradient_evaluations"] == (3 if record["attack"] == "fgm" else 1), (
            "one attack step, and the clean and adversarial losses"
        )
        assert metrics["test/clean"] > 0.6 and metrics["test/pgd"] <= metrics["test/fgsm"]
    (arrays,) = (np.load(path) for path in tmp_path.glob("outputs/texts/none+none-*/seed-0/evaluations/*/last.npz"))
    before, after = arrays["texts/clean"], arrays["texts/substitution"]
    assert len(before) == len(after) == 8
    for one, other in zip(before, after, strict=True):
        words = list(zip(one.split(), other.split(), strict=True))
        assert sum(a != b for a, b in words) <= max(1, 0.2 * sum(a.isalnum() for a, _ in words))
    table = (tmp_path / "results/texts/table.md").read_text()
    assert "combined: fgm x dropout, seed 0 under substitution: " in table, "examples of substituted words"
    assert "substitution %" in table and "average precision" in table.lower()
    status, output = temper("evaluate", f"path={tmp_path}/outputs/texts", "evaluation=quick", "evaluation.norm=l2")
    assert status == 0 and "None" not in output, "infinite bounds are read back"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("penalty=[noise]",), r"penalty.noise: does not work with this data and model: inputs are tokens"),
        (("penalty=[mixup]",), r"penalty.mixup: does not work with this data and model: inputs are tokens"),
        (("penalty=[cutout]", "+data.mean=[0]"), r"penalty.cutout: does not work .* are not images"),
        (("evaluation=corruptions",), r"evaluation.corruptions: need images, but inputs have shape \[10\]"),
        (
            ("model=mlp", "+data.mean=[0]", "+data.std=[1]"),
            r"inputs are tokens, but this network does not embed them. Use model=",
        ),
        (("model=cnn",), r"model.mean: refers to data.mean, which this config does not have"),
        (("attack=torchattacks",), r"attack.*\[0, 1\]"),
        (("evaluation=autoattack",), r"AutoAttack is defined for linf and l2 on inputs in \[0, 1\]"),
        (("evaluation=full",), r"AutoAttack is defined for"),
        (("model.vocabulary=5",), r"model\.vocabulary=5: the data has token \d+"),
        (
            (*WORDS, "evaluation.attacks.substitution.wordnet=/nowhere"),
            r"substitution: does not work .*apt-get install wordnet-base",
        ),
        (
            (CASCADE, "+evaluation.attacks.all.attacks={a:{_target_:temper.attacks.FreeLB,threat:${evaluation.threat}}}"),
            r"evaluation.attacks.all.attacks.a: FreeLB is for training only",
        ),
        (
            (CASCADE, "+evaluation.attacks.all.attacks={a:{_target_:temper.attacks.Substitution,wordnet:/nowhere}}"),
            r"evaluation.attacks.all.attacks.a: does not work .*apt-get install wordnet-base",
        ),
        ((*WORDS, "attack={_target_:temper.attacks.Substitution}"), "attack: Substitution is for evaluation only"),
        (
            ("attack._target_=temper.attacks.Cascade", "+attack.attacks={a:{_target_:temper.attacks.Substitution}}"),
            "attack.attacks.a: Substitution is for evaluation only",
        ),
        (("data.source.path=/nowhere.csv",), r"/nowhere\.csv was not found in"),
    ],
)
def test_options_incompatible_with_texts_are_errors(overrides: tuple[str, ...], message: str) -> None:
    short = [text for text in TEXTS if not ("model" in text and any(o.startswith("model=") for o in overrides))]
    with pytest.raises(ValueError, match=message):
        validate(composed(*short, *overrides))


FOR_IMAGES = ("crop_flip", "cutmix", "cutout", "mixup", "noise", "rotation")
RESIDUAL = ("stochastic_depth",)  # text_cnn has no residual branches


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("option", [o for _, o in options("penalty") if o not in (*BY_EPOCH, *FOR_IMAGES, *RESIDUAL)])
def test_penalties_train_on_texts(option: str) -> None:
    needed = [override for override in NEEDS.get(option, []) if "model" not in override]
    weights = trajectory(*TEXTS, "attack=fgm", f"penalty=[{option}]", *needed)
    assert torch.isfinite(weights).all()
    assert option == "none" or not torch.equal(weights, trajectory(*TEXTS, "attack=fgm"))


@pytest.mark.parametrize("option", FOR_IMAGES)
def test_image_penalties_are_errors(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"penalty.{option}.*"):
        validate(composed(*TEXTS, f"penalty=[{option}]"))


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("option", [o for _, o in options("attack") if o not in ("none", "torchattacks")])
def test_attacks_train_on_texts(option: str) -> None:
    weights = trajectory(*TEXTS, f"attack={option}")
    assert torch.isfinite(weights).all() and not torch.equal(weights, trajectory(*TEXTS))


def test_substitution_is_for_texts_only() -> None:
    attack = "+evaluation.attacks.words={_target_:temper.attacks.Substitution}"
    with pytest.raises(ConfigError, match=r"evaluation.attacks.words: does not work .*the inputs are not texts"):
        validate(composed(attack))
