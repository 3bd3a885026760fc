"""The card of an exported network: README.md, with its numbers, where it comes from, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.experiment import config
from lottery.export.choice import Chosen
from lottery.export.sizes import Sizes
from lottery.protocol import CompactFacts, Exported
from lottery.run import origin as origins
from lottery.run.dataset_record import DatasetRecord
from lottery.run.provenance import Provenance
from lottery.run.results import TicketResult
from lottery.tickets.masks import Mask


@dataclass(frozen=True)
class Card:
    """All that a card says. `versions` are of what has exported the network, `trained` of what has trained it."""

    chosen: Chosen
    dataset: DatasetRecord
    mask: Mask | None
    facts: Exported
    sizes: Sizes
    files: Mapping[str, int]  # bytes by name
    versions: Mapping[str, str]
    trained: Provenance | None


def text(card: Card) -> str:
    """The card as Markdown."""
    parts = [_title(card), _numbers(card), _loading(card), _files(card), *_compact(card), *_layers(card)]
    return "\n\n".join([*parts, _provenance(card), _licence(card)]) + "\n"


def _title(card: Card) -> str:
    experiment, chosen = card.chosen.origin.experiment, card.chosen
    if chosen.ticket is None or card.mask is None:
        return f"# The dense network of {experiment.name}\n\n{experiment.model.name}, not pruned."
    kept, prunable = _kept(card.mask), sum(kernel.size for kernel in card.mask.values())
    kind = "A lottery ticket" if chosen.ticket.control == "none" else f"The control {chosen.ticket.control}"
    return (
        f"# Ticket {chosen.name} of {experiment.name}\n\n"
        f"{kind}: {experiment.model.name} with {kept:,} of its {prunable:,} prunable weights ({kept / prunable:.2%}), "
        f"reset to step {chosen.ticket.step:,} and trained to the end. Chosen: {chosen.why}."
    )


def _numbers(card: Card) -> str:
    result, facts = card.chosen.result, card.facts
    split = card.chosen.origin.experiment.data.evaluate
    dense = card.chosen.run.dense_result()
    rows = [(f"top-1 on `{split}`", _share(result.top1)), ("top-5", _share(result.top5)), ("loss", _share(result.loss))]
    if facts.top1 is not None:
        rows.append(("top-1 of the exported file", f"{_share(facts.top1)}, measured on {facts.device}"))
    if isinstance(result, TicketResult) and dense is not None:
        rows.append(("top-1 of the dense network", _share(dense.top1)))
    if dense is not None:
        rows.append((f"images of `{split}` that were evaluated", f"{dense.evaluated:,}"))
    rows += [
        ("parameters", f"{facts.parameters:,}"),
        ("multiply-adds for an image", f"{facts.multiply_adds:,}"),
        ("of them with a weight that is not 0", f"{facts.alive_multiply_adds:,}"),
        ("size of the variables, dense", f"{card.sizes.dense:,} bytes"),
        ("with sparse kernels", f"{card.sizes.sparse:,} bytes"),
        ("compressed", f"{card.sizes.compressed:,} bytes"),
    ]
    notes = (
        "Sparse: each prunable kernel as compressed sparse rows, a row for each output, with 4 bytes for a weight that "
        "is not 0, 4 for its column and 4 for a row; or dense, if that is smaller. All else is dense. Compressed: "
        "`weights.safetensors` by zlib, level 9; measured."
    )
    note = f"\n\nNote of the sweep: {_cell(result.note)}" if result.note else ""
    return f"{_table(('', ''), rows)}\n\n{notes}{note}"


def _loading(card: Card) -> str:
    size, classes = card.dataset.size, len(card.dataset.classes)
    precision = card.chosen.origin.experiment.training.precision
    path = next(iter(card.facts.layouts), "conv1/kernel")
    lines = ["## How to load it", ""]
    if "ticket.keras" in card.files:
        lines += [
            "```python",
            "import json",
            "import keras",
            *(f"import {name.rpartition('.')[0]}  # the model's own code" for name in card.facts.foreign),
            "",
            f'model = keras.saving.load_model("ticket.keras"{_custom(card.facts.foreign)})',
            f"logits = model.predict(images)  # uint8 [n, {size}, {size}, 3], RGB -> float32 [n, {classes}]",
            'names = [json.load(open("classes.json"))[index] for index in logits.argmax(-1)]',
            "```",
            "",
            f"Images are as the dataset has them: {size} x {size} pixels, 0 to 255. The central crop and the "
            "normalisation are inside.",
        ]
        needs = "It needs the model's own code, as above." if card.facts.foreign else "Keras alone opens the file."
        lines.append(needs)
    if precision != "float32":
        lines.append(f"Weights are float32; layers compute in {precision}, as in training; logits are float32.")
    if "weights.safetensors" in card.files:
        lines += [
            "",
            f"`weights.safetensors` has each variable under its path in the Keras model, such as `{path}`. Its "
            "metadata has, as JSON, the order of each kernel's axes (`layouts`), and what an image needs first "
            "(`input`): crop the centre to `crop` pixels a side, subtract `mean` and divide by `std`, per channel. "
            "`weights-architecture.json` is the network as Keras describes it.",
        ]
    if card.mask is not None:
        lines += [
            "",
            "`mask.safetensors` has a boolean array for each prunable kernel, true for a weight that is kept.",
        ]
    return "\n".join(lines)


def _custom(foreign: Sequence[str]) -> str:
    if not foreign:
        return ""
    classes = ", ".join(f'"{_last(name)}": {name}' for name in foreign)
    return f", custom_objects={{{classes}}}"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _files(card: Card) -> str:
    rows = [(f"`{name}`", f"{size:,}") for name, size in sorted(card.files.items())]
    return f"## Files\n\n{_table(('file', 'bytes'), rows)}"


def _compact(card: Card) -> list[str]:
    facts = card.facts.compact
    return [] if facts is None else [f"## The compact network\n\n{compact_line(facts, card.facts)}"]


def compact_line(facts: CompactFacts, whole: Exported) -> str:
    """What `--compact` has found, in words."""
    faster = facts.images_per_second / facts.images_per_second_before
    return (
        f"Without the channels that nothing reads or feeds, {facts.channels:,} of {facts.channels_before:,} channels, "
        f"{facts.parameters:,} of {whole.parameters:,} parameters and {facts.multiply_adds:,} of "
        f"{whole.multiply_adds:,} multiply-adds are left. Its outputs differ by at most {facts.difference:.1e} of the "
        f"largest one, in float32, on {facts.compared} images. On {whole.device} it computes "
        f"{facts.images_per_second:,.0f} images/s in batches of {facts.batch}, {faster:.2f} times as many as the whole "
        f"network ({facts.images_per_second_before:,.0f})."
    )


def _layers(card: Card) -> list[str]:
    if card.mask is None:
        return []
    rows = [
        (
            f"`{path}`",
            f"{list(kernel.shape)}",
            card.facts.layouts.get(path, ""),
            f"{kernel.sum():,}",
            f"{kernel.mean():.2%}",
        )
        for path, kernel in card.mask.items()
    ]
    return [f"## Prunable kernels\n\n{_table(('kernel', 'shape', 'axes', 'weights kept', 'density'), rows)}"]


def _provenance(card: Card) -> str:
    chosen, origin, trained = card.chosen, card.chosen.origin, card.trained
    rows = [
        ("run directory", f"`{_cell(chosen.run.describe())}`"),
        ("identity of the experiment on the dataset", f"`{origin.identity}`"),
        ("dataset", f"`{_cell(card.dataset.place)}`, content hash `{origin.dataset_hash}`"),
        ("dataset's mean and deviation", f"{list(card.dataset.mean)}, {list(card.dataset.std)}"),
        ("seed of the replicate", f"{origin.experiment.seed}"),
        ("mask by", f"`{origin.experiment.masks.method}`"),
    ]
    source = origin.experiment.transfer
    if source is not None:
        rows[-1] = ("mask and first weights", f"of {source.ticket} in `{_cell(source.run)}`, hash `{source.source}`")
    if trained is not None:
        software = f"TensorFlow {trained.tensorflow}, Keras {trained.keras}, Python {trained.python}"
        rows += [("trained by", software), ("model fingerprint", f"`{trained.model}`")]
    rows.append(("exported by", "; ".join(f"{name} {version}" for name, version in card.versions.items())))
    experiment = origins.text(config.to_tree(origin.experiment)).strip()
    return (
        f"## Where it comes from\n\n{_table(('', ''), rows)}\n\nThe experiment, which `jobs/lottery_sweep.py` runs on "
        f"the dataset to make the same:\n\n```yaml\n{experiment}\n```"
    )


def _licence(card: Card) -> str:
    return (
        "## Licence\n\nlottery-trellis is under Apache-2.0. Whether the weights may be used, and for what, depends on "
        "the images that they were trained on: the dataset's terms apply (ImageNet's: research and teaching, not for "
        "profit). This card grants nothing beyond them."
    )


def _kept(mask: Mask) -> int:
    return sum(int(kernel.sum()) for kernel in mask.values())


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("`", "'")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
