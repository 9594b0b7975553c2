"""How the tests compile: quickly, since most programs here run for microseconds and compile for seconds.

conftest.py puts `FLAGS` into the environment, where other processes find them too. Tests that hold two
programs to the same bits, look into a compiled program, or train for long ask for `AS_USERS_DO`, as in
`jax.jit(function, compiler_options=AS_USERS_DO)`. An empty `XLA_FLAGS` compiles everything so.
"""

from importlib.metadata import version

USUAL = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones know no such flag
    USUAL["xla_cpu_use_fusion_emitters"] = True
    QUICK["xla_cpu_use_fusion_emitters"] = False

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())
AS_USERS_DO = USUAL
"""Compiler options: what is XLA's own default."""
