"""Where raw images are: the layouts that people have."""
