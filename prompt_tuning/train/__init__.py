"""Training: partition, optimizers, step, loop, checkpoints."""
