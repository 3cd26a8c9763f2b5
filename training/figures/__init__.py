"""Pictures of an evaluation, each with the numbers that it shows."""
