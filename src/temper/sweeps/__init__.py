"""Which cells run, and where: a grid, a tuned grid, or a search; composed and checked, launched, and followed."""
