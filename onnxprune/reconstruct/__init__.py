"""How what reads thinned channels is solved anew: activations in stages, moments, least squares reader by reader."""
