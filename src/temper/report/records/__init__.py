"""Loading and naming the runs of a study."""
