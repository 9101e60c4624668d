"""The OpenAI-compatible HTTP front of a SamplerService: a stateless client that knows no model."""
