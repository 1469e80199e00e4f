"""Training of one run: the four classifiers, callbacks, checkpoints and loggers."""
