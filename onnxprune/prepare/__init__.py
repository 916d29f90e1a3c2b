"""What makes a network plain before it is looked at: each step leaves a network that computes the same."""
