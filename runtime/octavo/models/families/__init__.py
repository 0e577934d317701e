"""Families of models, one file each: what its config.json says, its products and their names, its forward."""
