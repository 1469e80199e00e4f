"""What a study measured, for conclusions to be drawn from: one suite, and what the others and validation add to it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from temper.records import RunRecord
from temper.report.frame import COLUMNS, evaluated, frame

RUN = ["study", "digest", "suite", "seed", "checkpoint"]


def evidence(records: Sequence[RunRecord], suite: str) -> pd.DataFrame:
    """Rows as `frame` gives them: all of this suite; of the others the metrics that it lacks; and validation accuracy and loss
    at the epoch of each checkpoint."""
    data = frame(records, suite)
    validation = _validation(records, data)
    for other in sorted({key.rpartition("-")[0] for record in records for key in evaluated(record)} - {suite}):
        more = frame(records, other)
        data = pd.concat([data, more[~more.metric.isin(data.metric)]], ignore_index=True)
    return pd.concat([data, validation], ignore_index=True)


def _validation(records: Sequence[RunRecord], data: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for record in records:
        curves = {name: values for name, values in record.curves.items() if name.startswith("val/")}
        for key in evaluated(record):
            for name, checkpoint in record.evaluations[key]["checkpoints"].items():
                run, epoch = (record.study, record.digest, key, record.seed, name), checkpoint.get("epoch")
                known = {} if epoch is None else {m: values[epoch] for m, values in curves.items() if epoch < len(values)}
                rows += [(*run, metric, value) for metric, value in known.items()]
    found = pd.DataFrame(rows, columns=[*RUN, "metric", "value"]).astype({"value": float})
    found = found.assign(value=found.value.where(np.isfinite(found.value)))
    runs = data[data.columns.difference(["metric", "value"])].drop_duplicates(RUN)
    return runs.merge(found, on=RUN)[COLUMNS]
