"""Compiler options of the tests: few optimisations, since most programs compile longer than they run.

conftest.py puts `FLAGS` into the environment, also for other processes. Tests that read a compiled program or
train for long use XLA's defaults: `jax.jit(function, compiler_options=AS_USERS_DO)`. An empty `XLA_FLAGS`
compiles everything with them. No test compares the bits of two programs: they depend on the processor.
"""

from importlib.metadata import version

AS_USERS_DO = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # the newest have no such flag
    AS_USERS_DO["xla_cpu_use_fusion_emitters"] = True
    QUICKLY["xla_cpu_use_fusion_emitters"] = False

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICKLY.items())
