"""Nothing is reused whose cell, seed, code or starting checkpoint differs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from temper.config.cell import Cell
from temper.config.errors import ConfigError
from temper.runs.identity import PACKAGE, RESULT_CODE, RunIdentity
from temper.runs.record import RunRecord
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]
TINY = (*QUICK, "trainer.max_epochs=1", "data.train_size=64", "data.test_size=32")


def test_every_spelling_of_a_seed_is_one_run(temper: Temper) -> None:
    status, _ = temper("train", *TINY, 'seed="3"')
    (folder,) = Path("outputs/default").glob("*/seed-*")
    assert status == 0 and folder.name == "seed-3" and RunRecord.read(folder).seed == 3
    for spelling in ("seed=3", "seed=3.0"):
        status, output = temper("train", *TINY, spelling)
        assert status == 0 and "already finished" in output
    assert len(list(Path("outputs/default").glob("*/seed-*"))) == 1


def test_equal_values_of_an_axis_are_one_cell(temper: Temper) -> None:
    axes = ("penalty=l2", "penalty.l2.weight=1,1.0,2/2", "trainer.precision=32,32-true", "seed=3,3.0", "dry_run=true", "-m")
    status, output = temper("train", *TINY, *axes)
    assert status == 0 and "1 cells, 1 runs" in output


def test_a_folder_of_another_run_is_refused(temper: Temper) -> None:
    assert temper("train", *TINY, "hydra.run.dir=mine", "seed=0", "optimizer.lr=0.1")[0] == 0
    before = (Path("mine") / "result.json").read_bytes()
    status, output = temper("train", *TINY, "hydra.run.dir=mine", "seed=5", "optimizer.lr=0.001")
    assert status == 1 and "hydra.run.dir=" in output and "holds another run" in output and "seed 5" in output
    assert (Path("mine") / "result.json").read_bytes() == before
    status, output = temper("train", *TINY, "hydra.run.dir=mine", "seed=0", "optimizer.lr=1e-1")
    assert status == 0 and "already finished" in output


def test_a_checkpoint_of_another_run_is_not_resumed(temper: Temper) -> None:
    """Leave a folder as an interruption does, with checkpoints and no record, and run another seed in it."""
    assert temper("train", *TINY, "hydra.run.dir=mine", "seed=0")[0] == 0
    (Path("mine") / "result.json").unlink()
    assert temper("train", *TINY, "hydra.run.dir=undisturbed", "seed=5")[0] == 0
    status, output = temper("train", *TINY, "hydra.run.dir=mine", "seed=5")
    assert status == 0 and "of another run" in output and "resuming" not in output
    outcome, undisturbed = (RunRecord.read(Path(folder)) for folder in ("mine", "undisturbed"))
    assert outcome.curves == undisturbed.curves
    assert list(Path("mine").glob("checkpoints.of-another-run*")), "set aside, not deleted"


def test_a_starting_checkpoint_counts_by_its_content(tmp_path: Path) -> None:
    for name, content in {"a.ckpt": b"1", "same.ckpt": b"1", "other.ckpt": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    plain, a, same, other = (
        Cell.of(composed(*(() if name is None else (f"ckpt_path={tmp_path / name}",)))).digest
        for name in (None, "a.ckpt", "same.ckpt", "other.ckpt")
    )
    assert a == same and len({plain, a, other}) == 3
    shutil.copy(tmp_path / "other.ckpt", tmp_path / "a.ckpt")
    assert Cell.of(composed(f"ckpt_path={tmp_path / 'a.ckpt'}")).digest == other
    with pytest.raises(ConfigError, match=r"ckpt_path=nowhere\.ckpt: there is no such file"):
        Cell.of(composed("ckpt_path=nowhere.ckpt"))


def test_values_that_interpolations_share_are_no_part_of_the_identity() -> None:
    shared = ("+vars.eps=1/4", "data.threats.linf.eps=${vars.eps}", "attack=pgd")
    direct = ("data.threats.linf.eps=0.25", "attack=pgd")
    assert Cell.of(composed(*shared)) == Cell.of(composed(*direct))


def test_the_code_that_counts_exists() -> None:
    """An entry of the list that matches no file would let an edit go unnoticed."""
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert all(any(file.startswith(entry) for file in files) for entry in RESULT_CODE)
    presentation = ("report/", "sweeps/", "cli/", "training/progress_bar.py", "training/wandb_logger.py", "runs/terminal.py")
    assert not any(entry.startswith(presentation) for entry in RESULT_CODE)


def test_the_identity_of_other_seeds_follows_from_one() -> None:
    first = RunIdentity.of(composed("attack=pgd", "seed=0"))
    assert first.with_seed(7) == RunIdentity.of(composed("attack=pgd", "seed=7"))
