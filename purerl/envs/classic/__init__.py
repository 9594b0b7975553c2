"""Classic control in pure JAX, step for step as Gymnasium's."""
