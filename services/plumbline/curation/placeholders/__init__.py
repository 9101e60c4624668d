"""Values in place of `{{name}}` in conversations."""
