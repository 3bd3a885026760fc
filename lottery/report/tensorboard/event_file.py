"""One TensorBoard event file: evaluations as scalars, and what the HParams plugin wants to know of a training."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

# Columns of metrics.jsonl, and what TensorBoard calls them.
TAGS = {
    "top1": "evaluation/top1",
    "top5": "evaluation/top5",
    "loss": "evaluation/loss",
    "training_loss": "training/loss",
}
_STATUS = {"done": api_pb2.STATUS_SUCCESS, "diverged": api_pb2.STATUS_FAILURE, "failed": api_pb2.STATUS_FAILURE}

Value = str | float


@dataclass(frozen=True)
class TrainingEvents:
    """One training, for TensorBoard."""

    rows: Iterable[Mapping[str, Any]]  # of metrics.jsonl
    hparams: Mapping[str, Value] = field(default_factory=dict)  # by name
    group: str = ""  # equal for trainings that differ in their seeds alone
    status: str = ""  # done, diverged or failed; empty if it has not ended
    begin: float = 0.0  # seconds since 1970; 0 if not known
    end: float = 0.0


def training_file(training: TrainingEvents) -> bytes:
    """The event file of a training: the same for the same training.

    Of evaluations it is not known when they were: their times are spread evenly by their steps.
    """
    rows = list(training.rows)
    start = SessionStartInfo(group_name=training.group, start_time_secs=training.begin)
    for name, value in training.hparams.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    events = [_hparams(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start), training.begin)]
    last = max((row["step"] for row in rows), default=0) or 1
    for row in rows:
        time = training.begin + (training.end - training.begin) * row["step"] / last
        values = [Summary.Value(tag=TAGS[key], simple_value=row[key]) for key in TAGS if row.get(key) is not None]
        events.append(Event(wall_time=time, step=row["step"], summary=Summary(value=values)))
    if training.status:
        end = SessionEndInfo(status=_STATUS[training.status], end_time_secs=training.end)
        events.append(_hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end), training.end))
    return _file(events, training.begin)


def experiment_file(hparams: Mapping[str, list[Value]], description: str) -> bytes:
    """The event file of the whole grid, which lies above those of its trainings.

    Args:
        hparams: the values that each hyperparameter has.
    """
    infos = []
    for name, values in hparams.items():
        texts = all(isinstance(value, str) for value in values)
        info = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING if texts else api_pb2.DATA_TYPE_FLOAT64)
        for value in values:
            if isinstance(value, str):
                info.domain_discrete.values.add(string_value=value)
            else:
                info.domain_discrete.values.add(number_value=value)
        infos.append(info)
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in TAGS.values()]
    experiment = api_pb2.Experiment(description=description, hparam_infos=infos, metric_infos=metrics)
    return _file([_hparams(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment), 0.0)], 0.0)


def _hparams(tag: str, content: HParamsPluginData, time: float) -> Event:
    described = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
    return Event(wall_time=time, summary=Summary(value=[value]))


def _file(events: Iterable[Event], time: float) -> bytes:
    sink = io.BytesIO()
    writer = RecordWriter(sink)
    for event in (Event(wall_time=time, file_version="brain.Event:2"), *events):
        writer.write(event.SerializeToString(deterministic=True))
    return sink.getvalue()
