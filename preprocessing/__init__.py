"""Raw images to a dataset: Parquet-backed tensors and a manifest. Knows Spark and JPEG, never TensorFlow."""

import os

# Arrow's default allocator gives large blocks back to the kernel at once, so that a row group takes up to ten times as
# long to read. Arrow looks here when it first allocates; who has chosen another is left alone.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
