#!/usr/bin/env bash
# Gather the wheels for a machine that has JAX with its GPU, but no package registry.
#
#     scripts/gpu_wheels.sh [FOLDER] [PYTHON]      (default: wheels 3.12)
#
# Takes what purerl needs beside JAX, flax, optax, chex, scipy, PyYAML and rich, which such images
# have: 46 MB. On the other machine, beside this repository:
#
#     python3 -m pip install --no-index --no-deps wheels/*.whl
#     python3 -m pip install --no-index --no-deps --no-build-isolation -e .   # or PYTHONPATH=$PWD
#
# The native MuJoCo engine is compiled there at first use and needs a C++ compiler.
set -euo pipefail
folder=${1:-wheels} python=${2:-3.12}
packages=(
  distrax tfp-nightly                                # and what they import
  gymnasium farama-notifications cloudpickle
  mujoco glfw PyOpenGL websockets absl-py etils
  mujoco-mjx trimesh
  typing-extensions
  decorator gast dm-tree wrapt attrs six
)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$folder"
# Pins hold versions of every package; markers in them are read for the Python that runs pip.
python3 -m pip download --quiet --dest "$folder" --no-deps --only-binary=:all: \
  --python-version "$python" --implementation cp \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
  --platform manylinux_2_17_x86_64 \
  --constraint "$root/constraints/pins.txt" "${packages[@]}"
du -sh "$folder"
ls "$folder"
