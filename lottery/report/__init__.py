"""Results -> table, picture, results.parquet."""
