"""What a run would cost on a TPU slice, from programs compiled without one."""
