"""Raw images to a dataset: Parquet-backed tensors and a manifest. Knows Spark and JPEG, never TensorFlow."""
