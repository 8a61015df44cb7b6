"""Reading and writing the checkpoints of this project and of others."""
