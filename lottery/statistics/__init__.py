"""What accuracies of several seeds, or answers on many images, allow to conclude; pure."""
