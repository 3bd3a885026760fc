"""What trained the dense run: which model, and which versions of the libraries that compute it."""

from __future__ import annotations

import msgspec

from preprocessing.common.errors import InputError


class Provenance(msgspec.Struct, frozen=True):
    """`dense/provenance.json` of a run directory."""

    model: str  # hash of the model's structure and code, by `lottery.models.fingerprint`
    tensorflow: str
    keras: str
    python: str


def changes(before: Provenance, now: Provenance, model: str) -> str:
    """What a reader of a result has to know of the software that has changed since the dense run; "" where none has.

    Numerics may differ from version to version of TensorFlow, but tickets are still tickets. Of another model they are
    none. With other versions of Keras or Python a model is described in another way, so that hashes say nothing.

    Raises InputError where the model itself has changed.
    """
    described = (before.keras, before.python) == (now.keras, now.python)
    if described and before.model != now.model:
        raise InputError(
            f"model {model}: its structure or code has changed since the dense run, whose weights and masks are of "
            "the model as it was; put it back, or give it another name"
        )
    parts = [
        f"{name} {ours}, the dense run by {theirs}"
        for name, theirs, ours in (
            ("TensorFlow", before.tensorflow, now.tensorflow),
            ("Keras", before.keras, now.keras),
            ("Python", before.python, now.python),
        )
        if theirs != ours
    ]
    return f"trained by {', '.join(parts)}" if parts else ""
