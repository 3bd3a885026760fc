"""What the Spark driver runs: the sweep from dense run to report."""
