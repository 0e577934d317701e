"""Training of the models that Octavo ships."""
