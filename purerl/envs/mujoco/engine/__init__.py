"""Physics engines that fill the named fields a MuJoCo task reads."""
