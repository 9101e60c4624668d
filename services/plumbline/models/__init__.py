"""Model code that several services share: checkpoints, chat formats, reward models."""
