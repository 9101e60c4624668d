"""Other servers behind the sampler's interface: what `SamplerService` serves in place of its own
engine."""
