"""Where each written value should be enforced, what enforces it already, and what is missing."""
