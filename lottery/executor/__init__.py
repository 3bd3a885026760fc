"""What a gang's task runs on an executor, outside TensorFlow."""
