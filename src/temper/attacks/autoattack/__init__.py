"""AutoAttack and its parts: APGD, FAB, Square, and the cascade that runs attacks on the examples not yet fooled."""
