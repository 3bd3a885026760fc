"""Overrides that make the digits experiment small enough for a test."""

# 160 training images make 10 steps an epoch.
SMALL = (
    "data.batch=16",
    "model.options={filters: 4, units: 16}",
    "training.length=3ep",
    "training.learning_rate={peak: 0.05, warmup: 4, decay: linear, decay_start: 1.5ep}",
    "training.evaluate_every=1ep",
    "trellis=[0ep, 0.5ep, 1ep]",
    "masks.densities=[0.5, 0.1]",
    "tickets.controls=[reinit, shuffle]",
)
