"""`events/`: the sweep as TensorBoard reads it, written without TensorFlow."""
