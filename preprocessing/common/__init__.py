"""What every part, and lottery/, uses: storage, errors, progress, Spark."""
