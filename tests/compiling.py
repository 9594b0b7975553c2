"""How the tests compile: quickly, since most programs here run for microseconds and compile for seconds.

conftest.py puts `FLAGS` into the environment, where other processes find them too. Tests that hold two
programs to the same bits, look into a compiled program, or train for long ask for what XLA does by default:
`jax.jit(function, compiler_options=AS_USERS_DO)`. An empty `XLA_FLAGS` compiles everything so.
"""

from importlib.metadata import version

AS_USERS_DO = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # the newest have no such flag
    AS_USERS_DO["xla_cpu_use_fusion_emitters"] = True
    QUICKLY["xla_cpu_use_fusion_emitters"] = False

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICKLY.items())
