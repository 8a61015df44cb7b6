"""Tasks and Mixtures; importing a module of this package registers them."""
