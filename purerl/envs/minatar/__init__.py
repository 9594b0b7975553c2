"""The MinAtar games (Young & Tian 2019, arXiv:1903.03176) in pure JAX, step for step as the original."""
