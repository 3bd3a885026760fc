"""The shipped models, a file per family: builders of fresh, uncompiled Keras models that end in logits."""
