"""Claims about training methods and their verdicts."""
