"""Figures draw the numbers of the records, stay legible in grayscale, and leave out missing data."""

import copy
import dataclasses
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from temper.attacks.norms import Linf
from temper.data import Batch
from temper.report import make_report
from temper.report.figures import FIGURES, available_figures
from temper.report.figures.eps_curves import broken_by_audit, radii
from temper.report.figures.filmstrip import filmstrip
from temper.report.figures.heatmap import heatmap
from temper.report.figures.image_examples import ImageExamples, examples, kept_images
from temper.report.figures.interaction import interaction
from temper.report.figures.loss_surface import directions, surfaces
from temper.report.figures.marks import axis_label
from temper.report.figures.style import COLORS, DIVERGING, SEQUENTIAL, lightness, series_styles, text_color_on
from temper.report.figures.tradeoff import cost, tradeoff
from temper.report.figures.training_curves import curves
from temper.report.figures.weight_histogram import Weights, kept_weights, weights
from temper.report.records.cell_names import sort_names
from temper.report.records.long_format import frame
from temper.report.records.representatives import representative_runs
from temper.runs.record import RunRecord, collect
from tests.conftest import QUICK, Linear
from tests.report.test_pipeline import RUNS, SUITE, finished_run, write_study


def with_metrics(record: RunRecord, audit: dict[str, float] | None = None, **metrics: float) -> RunRecord:
    """Return the run with further metrics of its last checkpoint; double underscores in names become slashes."""
    evaluations = copy.deepcopy(record.evaluations)
    last = evaluations[SUITE]["checkpoints"]["last"]
    last["metrics"] |= {name.replace("__", "/"): value for name, value in metrics.items()}
    last["audit"] = {name: {"status": "passed", "figure": figure, "meaning": ""} for name, figure in (audit or {}).items()}
    return dataclasses.replace(record, evaluations=evaluations)


def texts(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].texts]


def test_neighboring_series_differ_in_grayscale() -> None:
    shown = list(series_styles([str(number) for number in range(20)]).values())
    for one, other in pairwise(shown):
        assert one.marker != other.marker and one.linestyle != other.linestyle and one.fillstyle != other.fillstyle
    for dark, light in pairwise(COLORS):
        assert abs(lightness(dark) - lightness(light)) > 7, (dark, light)
    assert len({(style.color, style.marker) for style in shown}) == 20


@pytest.mark.parametrize("colors", [matplotlib.colormaps[SEQUENTIAL], DIVERGING], ids=["sequential", "diverging"])
def test_color_maps_are_monotone_in_lightness(colors: Any) -> None:
    steps = np.diff([lightness(color) for color in colors(np.linspace(0, 1, 64))])
    assert (steps > 0).all() or (steps < 0).all()


def test_lightness_and_text_color() -> None:
    assert lightness("black") == 0 and lightness("white") == pytest.approx(100)
    assert lightness("#777777") == pytest.approx(50, abs=0.1), "the gray with half the CIE lightness"
    assert text_color_on("#08306b") == "white" and text_color_on("#deebf7") == "black"


def test_heatmap_prints_every_cell_and_hatches_missing_ones() -> None:
    figure = heatmap(frame(RUNS, "standard"), metrics=("test/clean", "test/worst_case"))
    shown = figure.axes[0]
    assert [label.get_text() for label in shown.get_xticklabels()] == ["none", "pgd"]
    assert [label.get_text() for label in shown.get_yticklabels()] == ["none", "l2"]
    assert texts(figure) == ["97.0", "± 1.4", "97.0", "91.0", "± 1.4"], "one seed has no standard deviation"
    mesh = next(item for item in shown.collections if isinstance(item, QuadMesh))
    means = np.ma.filled(cast(Any, mesh.get_array()), np.nan)
    assert means == pytest.approx(np.array([[97, 91], [97, np.nan]]), nan_ok=True)
    assert [(patch.get_x(), patch.get_y(), patch.get_hatch()) for patch in cast(Any, shown.patches)] == [(0.5, 0.5, "////")]


def test_interaction_draws_a_line_for_each_penalty() -> None:
    clean, robust = interaction(frame([*RUNS, finished_run("pgd", "l2", 0, 0.95, 0.6)], "standard")).axes
    heights = [container.lines[0].get_ydata() for container in cast(Any, robust.containers)]
    assert heights[0] == pytest.approx([15, 71]) and heights[1] == pytest.approx([15, 60])
    assert cast(Any, clean.containers[1]).lines[0].get_ydata() == pytest.approx([97, 95])
    assert {container.lines[0].get_marker() for container in cast(Any, robust.containers)} == {"o", "s"}


def test_cost_is_drawn_on_a_logarithmic_scale() -> None:
    expensive = [
        finished_run("pgd", "none", seed, 0.9, 0.7, cost={"seconds": 30.0, "gradient_evaluations": 8.0}) for seed in (0, 1)
    ]
    seconds, evaluations = cost(frame([*RUNS[:2], *expensive], "standard")).axes
    assert seconds.get_xscale() == "log" and evaluations.get_xlabel() == axis_label("cost/gradient_evaluations")
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in cast(Any, seconds.lines) if line.get_marker() == "o"]
    assert marks == [pytest.approx((2, 15)), pytest.approx((30, 70))]


def test_eps_curves_show_the_lower_bound_of_the_audit() -> None:
    audit = {"steps": 0.02, "restarts": 0.01, "large_eps": 0.5}
    records = [with_metrics(one, audit, curve__0=0.9, curve__1=0.6, curve__2=0.1) for one in RUNS[:2]]
    broken = broken_by_audit(records, "standard", "last")
    assert list(broken.values()) == pytest.approx([0.03, 0.03]), "an attack at another radius does not count"
    curve_panel, bounds = radii(frame(records, "standard"), broken=broken).axes
    assert curve_panel.lines[0].get_ydata() == pytest.approx([90, 60, 10])
    assert bounds.lines[0].get_xdata() == pytest.approx([57, 60])
    unaudited = [with_metrics(one, curve__0=0.9, curve__1=0.6) for one in RUNS[:2]]
    assert len(radii(frame(unaudited, "standard"), broken=broken_by_audit(unaudited, "standard", "last")).axes) == 1


def test_curves_mark_the_best_and_the_last_epoch() -> None:
    records = [
        finished_run("pgd", "none", seed, 0.9, 0.7, curves={"val/clean": [0.5, 0.8, 0.9], "val/pgd": [0.2, 0.6 + d, 0.4 + d]})
        for seed, d in ((0, 0.0), (1, 0.1))
    ]
    panel = curves(records).axes[0]
    clean, robust, _, best, last = panel.lines
    assert clean.get_ydata() == pytest.approx([50, 80, 90]) and robust.get_ydata() == pytest.approx([20, 65, 45])
    assert (best.get_xdata(), best.get_ydata()) == ([2], pytest.approx([65]))
    assert (last.get_xdata(), last.get_ydata()) == ([3], pytest.approx([45]))
    assert panel.texts[0].get_text() == "20.0"
    band = panel.collections[1].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].max() == pytest.approx(65 + 100 * np.std([0.6, 0.7], ddof=1))


def test_curves_of_cells_that_share_a_name_are_not_averaged() -> None:
    records = [
        finished_run(
            "pgd", "l2", 0, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}, curves={"val/pgd": [s / 10]}
        )
        for s in (1, 2)
    ]
    shown = [panel for panel in curves(records).axes if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == ["pgd x l2 (strength=1)", "pgd x l2 (strength=2)"]
    assert [float(panel.lines[0].get_ydata()[0]) for panel in cast(Any, shown)] == pytest.approx([10, 20])


def test_marks_of_attacks_differ_in_fillstyle() -> None:
    figure = tradeoff(frame(RUNS, "standard"))
    fillstyles = {
        line.get_color(): line.get_fillstyle() for line in cast(Any, figure.axes[0].lines) if line.get_marker() in "os"
    }
    assert sorted(fillstyles.values()) == ["full", "none"]


def test_names_are_sorted() -> None:
    assert sort_names(["l2 (strength=10)", "l2 (strength=3)", "none", "dropout"]) == [
        "none",
        "dropout",
        "l2 (strength=3)",
        "l2 (strength=10)",
    ]


def test_figures_without_data_are_left_out(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    drawn, problems = available_figures(RUNS, frame(RUNS, "standard"), [study], suite="standard", checkpoint="last")
    assert list(drawn) == ["tradeoff", "heatmap", "interaction", "curves", "cost"] and not problems
    one = [finished_run("pgd", "none", 0, 0.9, 0.7, curves={}, cost={})]
    drawn, _ = available_figures(one, frame(one, "standard"), [study], suite="standard", checkpoint="last")
    assert list(drawn) == ["tradeoff", "heatmap"]


def test_figures_are_selected_by_name(tmp_path: Path, temper: Callable[..., tuple[int, str]]) -> None:
    write_study(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "figures=[heatmap,weights]")
    assert status == 0, output
    assert [path.name for path in sorted(Path("results/study").glob("*.png"))] == ["heatmap.png"]
    status, output = temper("report", "study=study", "figures=heat")
    assert status == 1 and "figures: heat does not exist. Available: tradeoff, heatmap" in output


PICTURE = np.linspace(0, 1, 2 * 8 * 8, dtype=np.float32).reshape(2, 1, 8, 8)


def image_examples(images: np.ndarray) -> ImageExamples:
    prediction = {"clean": np.array([3, 5]), "adversarial": np.array([3, 8])}
    probability = {"clean": np.array([0.9, 0.8]), "adversarial": np.array([0.6, 0.1])}
    return ImageExamples("standard", "pgd", np.array([3, 5]), images, images * 0.9, prediction, probability)


@pytest.mark.parametrize("images", [PICTURE, PICTURE.repeat(3, 1)], ids=["grayscale", "color"])
def test_image_examples_show_predictions_before_and_after_the_attack(images: np.ndarray) -> None:
    figure = examples([image_examples(images)])
    labels = texts(figure)
    assert {"label 3", "label 5", "before: 5 ✓ 80 %", "after: 3 ✓ 60 %", "after: 8 ✗ 10 %"} <= set(labels)
    # The images of the first column come first, then perturbation and perturbed image, image by image.
    original, _, change, changed = (np.asarray(image.get_array()) for image in figure.axes[0].images[:4])
    assert original == pytest.approx(images[0].transpose(1, 2, 0).squeeze())
    assert changed == pytest.approx(0.9 * original)
    if images.shape[1] == 1:
        assert change == pytest.approx(-0.1 * original, abs=1e-6)


def test_weight_histogram_shows_the_fraction_near_zero() -> None:
    values = np.concatenate([np.zeros(60), np.full(40, 0.5)])
    figure = weights([Weights("regularized: none x l1, seed 0", values)])
    heights = np.asarray(cast(Any, figure.axes[0].lines[0]).get_ydata(), dtype=float)
    assert heights[~np.isnan(heights)] == pytest.approx([60, 40]) and figure.axes[0].get_yscale() == "log"
    assert figure.legends[0].get_texts()[0].get_text() == "regularized: none x l1, seed 0; 60.0 % near zero"


def test_loss_surface_directions_are_orthogonal_and_of_length_eps() -> None:
    weight = torch.tensor([3.0, -1.0, 0.5, 2.0])
    threat = Linf(eps=0.1)
    batch = Batch.of(torch.full((1, 4), 0.5), torch.tensor([1]))
    adversarial, random = directions(Linear(weight), threat, batch)
    assert adversarial[0].tolist() == pytest.approx((-0.1 * weight.sign()).tolist()), "reduces the score of the true class"
    assert float((adversarial * random).sum()) == pytest.approx(0, abs=1e-7)
    assert threat.length(random).item() == pytest.approx(0.1)


@pytest.mark.slow
def test_figures_of_networks_use_the_files_of_the_study(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, output = temper("train", "-m", "attack=none,pgd", "penalty=none,l1", "seed=0", "study=grid", *QUICK)
    assert status == 0, output
    study, results = tmp_path / "outputs" / "grid", tmp_path / "results" / "grid"
    assert {path.stem for path in results.glob("*.png")} == set(FIGURES) - {"radii", "strength", "parts"}

    runs = representative_runs(collect(study)[0], [study])
    keys = [next(iter(run.record.evaluations)) for run in runs]
    assert [run.record.kind for run in runs] == ["standard", "adversarial", "regularized", "combined"]
    for network, run, key in zip(kept_weights(runs, "last"), runs, keys, strict=True):
        metrics = run.record.evaluations[key]["checkpoints"]["last"]["metrics"]
        assert network.near_zero == pytest.approx(metrics["weights/near_zero"]), "the fraction in the record"
    for shown in kept_images(runs, keys, "last"):
        assert np.abs(shown.adversarial - shown.clean).max() == pytest.approx(2 / 16, abs=1e-6)
    for surface in surfaces(runs, keys, "last"):
        correct = surface.margin >= 0
        assert (surface.loss[correct] <= np.log(10) + 1e-5).all(), (
            "the most probable of ten classes has a probability of at least 0.1"
        )
        assert (surface.loss[~correct] >= np.log(2) - 1e-5).all(), (
            "a class that is not the most probable has a probability of at most 0.5"
        )

    for name in ("one", "other"):
        make_report(study, tmp_path / name)
    for path in (path for path in (tmp_path / "one").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes(), path.name

    runs[1].checkpoint("last").write_bytes(b"no checkpoint")
    shutil.rmtree(runs[0].folder / "checkpoints")
    messages = [line for line in make_report(study, tmp_path / "damaged") if "left out" in str(line)]
    assert len(messages) == 2 and all("last.ckpt is damaged" in line for line in messages)
    assert (tmp_path / "damaged" / "examples.png").exists() and not (tmp_path / "damaged" / "weights.png").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_filmstrip_shows_every_step(channels: int) -> None:
    points = torch.full((3, channels, 4, 4), 0.5)
    points[1:, :, 0, 0] += torch.tensor([0.1, 0.2])[:, None]
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.25, 0.7, 0.05]])
    figure = filmstrip(points, probabilities.log(), 0)
    images, changes, bars = np.array(figure.axes).reshape(3, 3)
    assert [panel.get_title() for panel in images] == ["before", "step 1", "step 2"]
    shown = [np.ma.filled(panel.images[0].get_array(), np.nan)[0, 0].max() for panel in changes]
    assert shown == pytest.approx([0.5, 0.75, 1.0]), (
        "unchanged pixels are gray, the largest change is at the end of the color map"
    )
    assert [panel.get_xlabel() for panel in bars] == ["loss 0.36\n0 ✓", "loss 0.69\n0 ✓", "loss 1.39\n1 ✗"]
    for panel, row in zip(bars, probabilities, strict=True):
        assert [bar.get_height() for bar in panel.patches[:3]] == pytest.approx(row.tolist())
    assert [any(bar.get_hatch() for bar in panel.patches) for panel in bars] == [False, False, True]
