"""What trained the dense run: which model, and which versions of the libraries that compute it."""

from __future__ import annotations

import msgspec

from preprocessing.common.errors import InputError


class Provenance(msgspec.Struct, frozen=True):
    """`dense/provenance.json` of a run directory."""

    model: str  # the model fingerprint: a hash of its structure and code, by `lottery.models.fingerprint`
    tensorflow: str
    keras: str
    python: str
    hardware: str = ""  # of the machine that began it; empty if an earlier version did


def changes(before: Provenance, now: Provenance, model: str) -> str:
    """A note for the reader of a result on the software that has changed since the dense run; "" if none has.

    Another version of TensorFlow may compute slightly differently, but tickets stay tickets; with another model they do
    not. Other versions of Keras or Python describe a model differently, so that fingerprints cannot be compared.

    Raises InputError if the model itself has changed.
    """
    described = (before.keras, before.python) == (now.keras, now.python)
    if described and before.model != now.model:
        raise InputError(
            f"model {model}: its structure or code has changed since the dense run, and its weights and masks are of "
            "the model as it was; restore the model, or give it another name"
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
