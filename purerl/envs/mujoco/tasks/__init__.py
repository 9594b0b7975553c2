"""The MuJoCo tasks: observation, reward, termination and reset noise, after Gymnasium v5."""
