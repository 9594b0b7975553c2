"""MuJoCo tasks, one file each, over a physics engine that runs inside the XLA program."""
