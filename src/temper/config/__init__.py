"""The config: from what Hydra composes to checked objects, and the identity of a run."""
