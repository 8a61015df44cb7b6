"""Puts a run on machines: create, install, run, watch, stop, delete.

One program a target, all with the same verbs, and with the same flags where
they mean the same; docs/launching.md shows each from nothing to deleted.

  python -m launch.tpu_vm     one TPU VM
  python -m launch.tpu_slice  a slice of several hosts, queued
  python -m launch.slurm      GPU nodes under Slurm
  python -m launch.xm         a GPU machine of Vertex AI, by XManager
  python -m launch.local      several processes on this machine

A verb is planned first, as a list of commands, and then either printed
(`--dry_run`) or run: both show the same text. Nothing here imports JAX or the
library, so it starts at once and on a machine that has neither.
"""
