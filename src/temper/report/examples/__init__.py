"""Test examples that an evaluation kept, in readable form."""
