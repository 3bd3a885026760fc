"""The child process of a task: trains what it is told."""
