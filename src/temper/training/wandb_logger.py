"""One W&B run for one run: the same curves, the same numbers, and an end with its exit status."""

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
from temper.training.wandb_summary import contact_sheet, final_numbers, final_tables

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("temper")
SUPERSEDED = "superseded"  # where the files of an interrupted offline run go once a new one holds all of it


class WandbLogger(Logger):
    """Shows a run in W&B. Lightning logs nothing here: curves come whole, once an epoch, from what the record will hold.

    Everything lies in the run's folder, under `wandb`, files that W&B would stage elsewhere too. The study's own `wandb` folder
    links to it, for `wandb leet` and `wandb sync`.

    An offline run cannot know what an earlier try has told: of a killed one W&B may not have written a single epoch. So the new
    file, of the same id, tells every epoch again, and the old one is moved to `wandb/superseded`, where `wandb sync` does not
    look. An online run goes on after the last epoch that the server has.

    Args:
        save_dir: the run's folder.
        project, entity, name, id, group, job_type, tags, notes, resume: as `wandb.init` takes them.
        content: of these, what the run's content gives where they are None.
        offline: without asking for a login. Where a server should be there and is not, the run is offline too, and says so.
        settings: of W&B.
    """

    reachable: ClassVar[bool] = True  # until a server did not answer: a sweep does not wait for it again and again

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
        own = {"id": id, "name": name, "group": group, "job_type": job_type}
        self.options: dict[str, Any] = {
            **content,
            **{key: value for key, value in own.items() if value is not None},
            "project": project,
            "entity": entity,
            "tags": list(tags),
            "notes": notes,
            "resume": resume,
            "settings": dict(settings or {}),
        }
        self.told = 0  # epochs that W&B has
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
        """W&B's own run, begun when it is first asked for."""
        if self._run is None:
            self._run = self._begin()
            self.told = self._run.step  # 0, unless a server has epochs of this run already
            self._run.define_metric("epoch", hidden=True)
            self._run.define_metric("*", step_metric="epoch")
        return self._run

    def _begin(self) -> "wandb.Run":
        import wandb

        self._set_aside()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._staged_here():
            try:
                online = WandbLogger.reachable and not self.offline
                run = wandb.init(dir=str(self.folder), mode="online" if online else "offline", **self.options)
            except (wandb.errors.CommError, wandb.errors.AuthenticationError) as error:
                log.warning("warning: W&B cannot be reached, so runs are logged offline (%s)", str(error).splitlines()[0])
                WandbLogger.reachable = False
                wandb.teardown()  # W&B's process holds the id of what it could not begin
                run = wandb.init(dir=str(self.folder), mode="offline", **self.options)
        self._link(Path(run.settings.sync_dir))
        where = run.settings.sync_dir if run.offline else run.url
        log.info("W&B: %s%s", where, " (offline: `wandb leet` shows it, `wandb sync` uploads it)" if run.offline else "")
        return run

    def _set_aside(self) -> None:
        """The files of earlier offline tries, since this one tells all of it: syncing both would tell epochs twice."""
        for old in sorted((self.folder / "wandb").glob(f"offline-run-*-{self.version}")):
            aside = old.parent / SUPERSEDED / old.name
            aside.parent.mkdir(exist_ok=True)
            old.rename(aside)
            link = self._study() / old.name
            if link.is_symlink():
                link.unlink()

    def _study(self) -> Path:
        """The folder that shows all runs of a study."""
        return self.folder.parents[1] / "wandb"

    def _link(self, own: Path) -> None:
        if self.folder.name.startswith("seed-"):
            with contextlib.suppress(OSError):  # a file system without links, or another run that was quicker
                self._study().mkdir(exist_ok=True)
                (self._study() / own.name).symlink_to(os.path.relpath(own, self._study()))

    @contextlib.contextmanager
    def _staged_here(self) -> Iterator[None]:
        """W&B keeps the files of tables in a folder of the user's until they are uploaded: here that is the run's."""
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
        """Nothing: see `tell`."""

    @rank_zero_only
    def tell(self, curves: Mapping[str, Sequence[float]]) -> None:
        """Every epoch that W&B does not have yet, at the step of its number.

        Args:
            curves: by metric, one value per epoch, from the first one on.
        """
        run = self.experiment
        self._define(curves, "last")
        for epoch in range(self.told, max(map(len, curves.values()), default=0)):
            row = {name: values[epoch] for name, values in curves.items() if epoch < len(values)}
            run.log({**row, "epoch": epoch}, step=epoch, commit=True)
            self.told = epoch + 1

    @rank_zero_only
    def conclude(self, record: RunRecord, suite: str) -> None:
        """The numbers of the record as a summary; tables, pictures and plots of one evaluation, from the run's folder.

        Args:
            record: of this run, on disk already.
            suite: key of the evaluation.
        """
        self.tell(record.curves)
        numbers = final_numbers(record, suite)
        self._define(numbers)
        with self._staged_here():
            self.experiment.log(final_tables(record, suite, self.folder), step=self.told, commit=True)
        self.experiment.summary.update(numbers)

    @rank_zero_only
    def finish(self, status: int, error: str | None = None) -> None:
        """End W&B's run with this exit status, so that the next job of this process gets one of its own."""
        if self._run is not None:
            with self._staged_here():
                if error:
                    self._run.summary["error"] = error.splitlines()[0]
                self._run.finish(exit_code=status)
            self._run = None

    def _define(self, names: Mapping[str, object], *also: str) -> None:
        """Say of new metrics which way is better: their best value is the summary of their curve."""
        for name in sorted(set(names) - self._defined):
            self._defined.add(name)
            if better := direction(name):
                self.experiment.define_metric(name, step_metric="epoch", summary=",".join([better, *also]))


# By the last part of a name, without what stands before it: all else is a share of examples that are right.
LOWER = ("loss", "gap", "ece", "seconds", "gradient_evaluations", "peak_memory", "lipschitz", "risk", "loss_instability")
NEITHER = ("zero_gradients", "near_zero", "norm")


def direction(metric: str) -> Literal["max", "min"] | None:
    """Whether more of a metric is better, or less; None where neither can be said.

    Args:
        metric: as a curve or a summary names it: `val/pgd`, `last/test/clean`, `last/gap/robust`, `cost/seconds`, …
    """
    *groups, name = metric.split("/")
    group = groups[-1] if groups else ""
    if name in NEITHER or "penalty" in metric or group in ("ratio", "weight", "audit"):
        return None
    if name in LOWER or name.endswith("_loss") or name.startswith(("sensitivity", "overfitting")) or group in ("gap", "cost"):
        return "min"
    return "max" if group in ("test", "val", "curve", "corruptions") else None


__all__ = ["WandbLogger", "contact_sheet"]
