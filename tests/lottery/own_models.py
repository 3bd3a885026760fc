"""A user's own models, which an experiment names as `module:function`."""

import keras
from keras import layers


def two_layers(shape, classes, units=6, regularize=0.0):
    """The model that the NumPy re-implementation trains."""
    penalty = keras.regularizers.L2(regularize) if regularize else None
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(classes, name="classifier", kernel_regularizer=penalty),
        ]
    )


def all_kinds_of_state(shape, classes):
    """Batch norm's statistics, and the seed generators of two dropouts."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(momentum=0.9, name="bn"),
            layers.Activation("relu", name="relu"),
            layers.Dropout(0.3, name="dropout1"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Dense(classes, name="classifier"),
        ]
    )


def with_batch_norm(shape, classes):
    """Without dropout, so that replicas differ only in their statistics."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(momentum=0.9, name="bn"),
            layers.Activation("relu", name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(classes, name="classifier"),
        ]
    )


class Branch(layers.Layer):
    """Code that AutoGraph would rewrite."""

    def __init__(self, always):
        super().__init__()
        self.always = always

    def call(self, images, training=False):
        if (self.always or training) and keras.ops.mean(images) > 0:
            return images
        return -images


def decides_in_training(shape, classes, always=False):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), Branch(always), layers.Dense(classes)])


def always_decides(shape, classes):
    return decides_in_training(shape, classes, always=True)


class Subclassed(keras.Model):
    """A model that has no variables before it is called."""

    def __init__(self, classes, activation="relu"):
        super().__init__(name="subclassed")
        self.flatten = layers.Flatten(name="flatten")
        self.hidden = layers.Dense(6, activation=activation, name="hidden")
        self.classifier = layers.Dense(classes, name="classifier")

    def call(self, images):
        return self.classifier(self.hidden(self.flatten(images)))


def subclassed(shape, classes, activation="relu"):
    return Subclassed(classes, activation)


def softmax(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes, activation="softmax")])


def not_flat(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Dense(classes)])


def breaks(shape, classes):
    raise ZeroDivisionError("my own\nmistake")


def no_model(shape, classes):
    return "a model"


def nothing_to_prune(shape, classes):
    return keras.Sequential([keras.Input(shape), layers.Flatten(name="flatten"), layers.Dense(classes, name="only")])


class EndsIn(keras.Model):
    """A function, not a layer's activation, changes the outputs."""

    def __init__(self, classes, bend, **head):
        super().__init__()
        self.flatten, self.bend = layers.Flatten(name="flatten"), bend
        self.classifier = layers.Dense(classes, name="classifier", **head)

    def call(self, images):
        return self.bend(self.classifier(self.flatten(images)))


def softmax_by_ops(shape, classes):
    return EndsIn(classes, keras.ops.softmax)


def sigmoid_by_ops(shape, classes):
    return EndsIn(classes, keras.ops.sigmoid, kernel_initializer="zeros")


def softmax_layer(shape, classes, kernel_initializer="glorot_uniform", dtype=None):
    head = layers.Dense(classes, kernel_initializer=kernel_initializer)
    return keras.Sequential([keras.Input(shape), layers.Flatten(), head, layers.Softmax(dtype=dtype)])


def starts_at_zero(shape, classes, use_bias=True):
    """Its logits are all 0 before training, but they are logits."""
    head = layers.Dense(classes, kernel_initializer="zeros", use_bias=use_bias, name="classifier")
    return keras.Sequential([keras.Input(shape), layers.Flatten(), head])


def starts_positive(shape, classes):
    """Its first logits lie within [0, 1], but they are logits."""
    small, quarter = keras.initializers.RandomUniform(0.0, 1e-5), keras.initializers.Constant(0.25)
    return EndsIn(classes, lambda logits: 2 * logits, kernel_initializer=small, bias_initializer=quarter)


def always_zero(shape, classes):
    """Useless, but no softmax."""
    return EndsIn(classes, lambda logits: 0 * logits)


def convolution_for_a_head(shape, classes, batch_norm=False):
    """A squeeze-and-excite layer is the last dense one; the head is a convolution."""
    inputs = keras.Input(shape)
    features = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    gate = layers.GlobalAveragePooling2D(name="squeeze")(features)
    gate = layers.Dense(4, activation="sigmoid", name="excite")(gate)
    features = layers.Multiply(name="scale")([features, layers.Reshape((1, 1, 4), name="gate")(gate)])
    features = layers.Conv2D(classes, 1, name="head")(features)
    if batch_norm:
        features = layers.BatchNormalization(name="bn")(features)
    return keras.Model(inputs, layers.Flatten(name="flatten")(layers.GlobalAveragePooling2D(keepdims=True)(features)))


def nested_head(shape, classes):
    """Its head is inside a nested model, which is made before the layers that feed it."""
    features = keras.Input((16,))
    head = keras.Model(features, layers.Dense(classes, name="head")(features), name="top")
    body = [layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(16, name="hidden")]
    return keras.Sequential([keras.Input(shape), *body, head])


class HeadMadeFirst(keras.Model):
    """Layers are made in another order than they are called."""

    def __init__(self, classes):
        super().__init__()
        self.head = layers.SeparableConv2D(classes, 1, name="head")
        self.hidden = layers.Dense(6, activation="relu", name="hidden")

    def call(self, images):
        return keras.ops.max(self.head(self.hidden(images)), axis=(1, 2))


def head_made_first(shape, classes):
    return HeadMadeFirst(classes)


class OwnHead(layers.Layer):
    """A dense layer that is not one of Keras' classes, and so is not pruned."""

    def __init__(self, classes):
        super().__init__(name="own_head")
        self.classes = classes

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], self.classes), name="matrix")

    def call(self, features):
        return keras.ops.matmul(features, self.matrix)


def own_head(shape, classes):
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(6, activation="relu", name="hidden"), OwnHead(classes)]
    )


def two_heads(shape, classes):
    inputs = keras.Input(shape)
    features = layers.Flatten()(inputs)
    return keras.Model(inputs, layers.Add()([layers.Dense(classes, name=name)(features) for name in ("one", "two")]))


class Noise(layers.Layer):
    """Adds noise, in evaluation too."""

    def __init__(self, name):
        super().__init__(name=name)
        self.seed_generator = keras.random.SeedGenerator(7)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator)


def noise_in_evaluation(shape, classes):
    """Scores depend on how often noise was drawn before."""
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(name="flatten"),
            layers.Dense(16, activation="relu", name="hidden"),
            Noise("noise"),
            layers.Dense(classes, name="classifier"),
        ]
    )


class OneNameTwice(keras.Model):
    """Keras lets a subclassed model have two layers of one name."""

    def __init__(self, classes):
        super().__init__()
        self.flatten = layers.Flatten(name="flatten")
        self.first, self.second = (layers.Dense(classes, name="twice") for _ in range(2))

    def call(self, images):
        features = self.flatten(images)
        return self.first(features) + self.second(features)


def one_name_twice(shape, classes):
    return OneNameTwice(classes)


def double(shape, classes):
    dense = layers.Dense(classes, dtype="float64", name="wide")
    return keras.Sequential([keras.Input(shape), layers.Flatten(name="flatten"), dense])


class NotForXla(layers.Layer):
    """Operations that run on the host."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def call(self, images):
        import tensorflow as tf

        if self.how == "numpy_function":
            return images + tf.ensure_shape(
                tf.numpy_function(lambda pixels: pixels * 0, [images], tf.float32), images.shape
            )
        text = tf.strings.as_string(tf.stop_gradient(tf.reduce_mean(images)))
        return images + 0.0 * tf.strings.to_number(text)


def not_for_xla(shape, classes, how="numpy_function"):
    """Trains as usual, but XLA compiles none of it."""
    return keras.Sequential([keras.Input(shape), NotForXla(how), layers.Flatten(), layers.Dense(classes, name="out")])
