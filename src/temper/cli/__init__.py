"""Command-line entry points: temper-train, temper-evaluate, temper-report, temper-status and temper-dashboard."""
