"""Lightning logger for Weights & Biases (W&B): curves and final results of a run, closed with its exit status."""

import contextlib
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from temper.config.types import checked
from temper.runs.record import RunRecord
from temper.training.wandb_summary import final_numbers, final_tables

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("temper")
SUPERSEDED = "superseded"  # folder for the files of interrupted offline runs, once a new run has logged all of their epochs


class WandbLogger(Logger):
    """Log a run to W&B.

    Lightning's own logging calls are ignored: the curves are logged as a whole after every epoch, from the values that the
    record will hold.

    All files are in the run's folder, under `wandb`, including those that W&B would stage elsewhere. The study's own `wandb`
    folder links to them, for `wandb leet` and `wandb sync`.

    An offline run cannot know which epochs an earlier attempt has logged: if that was killed, W&B may not have written a single
    one. The new file, with the same id, therefore logs every epoch again, and the old one is moved to `wandb/superseded`, where
    `wandb sync` does not look. An online run continues after the last epoch on the server.

    Args:
        save_dir: the run's folder.
        project, entity, name, id, group, job_type, tags, notes, resume: as for `wandb.init`.
        content: values for those of them that are None, derived from the run's config.
        offline: log without a login. If a server is expected and cannot be reached, the run is logged offline with a warning.
        settings: settings of W&B.
    """

    reachable: ClassVar[bool] = True  # False once a server did not answer, so that a sweep waits for it only once

    @checked
    def __init__(
        self,
        *,
        save_dir: str,
        project: str,
        content: Mapping[str, str],
        id: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        resume: str | None = "allow",
        offline: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.offline = Path(save_dir).resolve(), offline
        explicit = {"id": id, "name": name, "group": group, "job_type": job_type}
        self.options: dict[str, Any] = {
            **content,
            **{key: value for key, value in explicit.items() if value is not None},
            "project": project,
            "entity": entity,
            "tags": list(tags),
            "notes": notes,
            "resume": resume,
            "settings": dict(settings or {}),
        }
        self.logged_epochs = 0  # number of epochs that W&B has
        self._run: wandb.Run | None = None
        self._defined: set[str] = set()

    @property
    def name(self) -> str:
        return str(self.options["project"])

    @property
    def version(self) -> str:
        return str(self.options["id"])

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> "wandb.Run":
        """The W&B run, started at the first access."""
        if self._run is None:
            self._run = self._start()
            self.logged_epochs = self._run.step  # 0, unless the server already has epochs of this run
            self._run.define_metric("epoch", hidden=True)
            self._run.define_metric("*", step_metric="epoch")
        return self._run

    def _start(self) -> "wandb.Run":
        import wandb

        self._supersede_old_files()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._staging_in_run_folder():
            try:
                online = WandbLogger.reachable and not self.offline
                run = wandb.init(dir=str(self.folder), mode="online" if online else "offline", **self.options)
            except (wandb.errors.CommError, wandb.errors.AuthenticationError) as error:
                log.warning("warning: W&B cannot be reached; runs are logged offline (%s)", str(error).splitlines()[0])
                WandbLogger.reachable = False
                wandb.teardown()  # W&B's service would keep the id of the failed run reserved
                run = wandb.init(dir=str(self.folder), mode="offline", **self.options)
        self._link(Path(run.settings.sync_dir))
        location = run.settings.sync_dir if run.offline else run.url
        log.info("W&B: %s%s", location, " (offline: `wandb leet` shows it, `wandb sync` uploads it)" if run.offline else "")
        return run

    def _supersede_old_files(self) -> None:
        """Move the files of earlier offline attempts away: this one logs everything, and syncing both would repeat epochs."""
        for old in sorted((self.folder / "wandb").glob(f"offline-run-*-{self.version}")):
            new = old.parent / SUPERSEDED / old.name
            new.parent.mkdir(exist_ok=True)
            old.rename(new)
            link = self._study_folder() / old.name
            if link.is_symlink():
                link.unlink()

    def _study_folder(self) -> Path:
        """Return the folder that links to all W&B runs of the study."""
        return self.folder.parents[1] / "wandb"

    def _link(self, sync_dir: Path) -> None:
        if self.folder.name.startswith("seed-"):
            study = self._study_folder()
            with contextlib.suppress(OSError):  # a file system without links, or a concurrent run made the link
                study.mkdir(exist_ok=True)
                (study / sync_dir.name).symlink_to(os.path.relpath(sync_dir, study))

    @contextlib.contextmanager
    def _staging_in_run_folder(self) -> Iterator[None]:
        """Stage the files of tables in the run's folder until upload, instead of in the user's data folder."""
        before = os.environ.get("WANDB_DATA_DIR")
        os.environ["WANDB_DATA_DIR"] = str(self.folder / "wandb" / "staged")
        try:
            yield
        finally:
            if before is None:
                del os.environ["WANDB_DATA_DIR"]
            else:
                os.environ["WANDB_DATA_DIR"] = before

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        values = vars(params) if isinstance(params, Namespace) else params
        self.experiment.config.update(values, allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Do nothing; `log_curves` logs the metrics."""

    @rank_zero_only
    def log_curves(self, curves: Mapping[str, Sequence[float]]) -> None:
        """Log every epoch that W&B does not have yet; the step is the epoch.

        Args:
            curves: by metric, one value per epoch, from the first epoch on.
        """
        run = self.experiment
        self._define(curves, "last")
        for epoch in range(self.logged_epochs, max(map(len, curves.values()), default=0)):
            row = {name: values[epoch] for name, values in curves.items() if epoch < len(values)}
            run.log({**row, "epoch": epoch}, step=epoch, commit=True)
            self.logged_epochs = epoch + 1

    @rank_zero_only
    def log_final(self, record: RunRecord, suite: str) -> None:
        """Log the final metrics as the summary, and the tables, images and plots of one evaluation.

        Args:
            record: record of the run, already written.
            suite: key of the evaluation suite.
        """
        self.log_curves(record.curves)
        numbers = final_numbers(record, suite)
        self._define(numbers)
        with self._staging_in_run_folder():
            self.experiment.log(final_tables(record, suite, self.folder), step=self.logged_epochs, commit=True)
        self.experiment.summary.update(numbers)

    @rank_zero_only
    def finish(self, status: int, error: str | None = None) -> None:
        """Finish the W&B run, so that the next job of this process starts a new one.

        Args:
            status: exit status of the run.
            error: error message, whose first line is added to the summary.
        """
        if self._run is not None:
            with self._staging_in_run_folder():
                if error:
                    self._run.summary["error"] = error.splitlines()[0]
                self._run.finish(exit_code=status)
            self._run = None

    def _define(self, names: Mapping[str, object], *also: str) -> None:
        """Declare the better direction of new metrics; W&B then summarizes a curve by its best value.

        Args:
            names: names of the metrics.
            also: further summaries of a curve, e.g. "last".
        """
        for name in sorted(set(names) - self._defined):
            self._defined.add(name)
            if better := direction(name):
                self.experiment.define_metric(name, step_metric="epoch", summary=",".join([better, *also]))


# Metrics for which lower is better and metrics without a better direction, by the last part of their name. The others are
# accuracies.
LOWER = ("loss", "gap", "ece", "seconds", "gradient_evaluations", "peak_memory", "lipschitz", "risk", "loss_instability")
NEITHER = ("zero_gradients", "near_zero", "norm")


def direction(metric: str) -> Literal["max", "min"] | None:
    """Return the better direction of a metric, or None if it has none.

    Args:
        metric: name of a curve or summary value, e.g. `val/pgd`, `last/test/clean`, `last/gap/robust`, `cost/seconds`.
    """
    *groups, name = metric.split("/")
    group = groups[-1] if groups else ""
    if name in NEITHER or "penalty" in metric or group in ("ratio", "weight", "audit"):
        return None
    if name in LOWER or name.endswith("_loss") or name.startswith(("sensitivity", "overfitting")) or group in ("gap", "cost"):
        return "min"
    return "max" if group in ("test", "val", "curve", "corruptions") else None
