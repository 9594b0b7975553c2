"""A MuJoCo task: observation, reward, termination and reset noise, after Gymnasium v5."""
