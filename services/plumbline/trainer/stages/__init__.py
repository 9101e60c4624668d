"""One file per stage: load the inputs, train, write the artifact's files."""
