"""The names of the shipped models, known without loading Keras."""

from __future__ import annotations

from lottery.experiment import user_code
from preprocessing.common.errors import InputError

# Name -> module:function of a builder (shape, classes, **options) -> uncompiled Keras model that ends in logits.
MODELS = {
    "conv2": "lottery.architectures.conv:conv2",
    "conv4": "lottery.architectures.conv:conv4",
    "conv6": "lottery.architectures.conv:conv6",
    "conv_small": "lottery.architectures.small:conv_small",
    "lenet_300_100": "lottery.architectures.small:lenet_300_100",
    "mobilenet_v2": "lottery.architectures.mobilenet:mobilenet_v2",
    "resnet8": "lottery.architectures.resnet:resnet8",
    "resnet18": "lottery.architectures.resnet:resnet18",
    "resnet20": "lottery.architectures.resnet:resnet20",
    "resnet50": "lottery.architectures.resnet:resnet50",
    "vgg16": "lottery.architectures.vgg:vgg16",
}


def locate(name: str) -> tuple[str, str]:
    """(module, function) of the builder of a model: a registered name, or a user's own `module:function`.

    Raises InputError if the name is unknown or the module cannot be found.
    """
    path = MODELS.get(name, name)
    if not path.partition(":")[2]:
        known = ", ".join(sorted(MODELS))
        raise InputError(f"model.name: {name} is not a known model; give {known}, or your own as module:function")
    return user_code.locate("model.name", path)
