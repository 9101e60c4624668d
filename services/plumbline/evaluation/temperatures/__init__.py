"""What the sampling temperature does to rewards and to diversity."""
