"""Names of persons and addresses."""
