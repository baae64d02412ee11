"""What fine-tuning and temporal training share: workers, checkpoints, optimisation, devices."""
