"""How what reads thinned channels is solved anew: activations run in stages, moments, least squares reader by reader."""
