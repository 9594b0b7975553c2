"""Protocols of the learning runs, fixed before the runs: settings, seeds, and the bar to reach.

The on-policy runs on MuJoCo share one form: 10 seeds, 1,000,000 steps, and a bar for the mean over seeds of
the mean of the last 10 evaluations. Their settings are presets, tuned on other seeds (root 9000) for five
tasks, and taken over untuned for the six of the queue.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import purerl


class Protocol(NamedTuple):
    """One learning run and the bar that it must reach."""

    algo: str
    env: str
    seeds: int
    fields: dict[str, Any]
    """Fields of the config, over those of the preset."""
    bar: float | None
    """Each seed's mean evaluation return must reach this at some evaluation. None: there is no bar."""
    success: float | None = None
    """And its last policy must have success in this share of 500 fresh episodes."""
    last: int = 0
    """Instead, the mean over seeds of the mean of this many last evaluations must reach the bar."""
    preset: str | None = None
    """Name of the preset that gives the other settings; the algorithm's defaults if None."""
    read_at: tuple[int, ...] = ()
    """Steps at which the mean of the `last` evaluations up to there is recorded."""
    bar_at: int | None = None
    """The one of these steps that the bar is for; the end of the run if None."""
    published: tuple[tuple[int, float, str], ...] = ()
    """Published returns to stand beside: step, value, source."""


CARTPOLE = {"total_timesteps": 200_000, "eval_interval": 10_000, "eval_episodes": 20}
SWING = {"total_timesteps": 300_000, "gamma": 0.9, "eval_interval": 20_000, "eval_episodes": 20}
SHORT_SWING = {"eval_interval": 2_000, "eval_episodes": 20}
MASKED = {"env_kwargs": {"mask_velocity": True}}
WITHOUT_RNN = {
    "num_envs": 16,
    "num_steps": 64,
    "num_minibatches": 4,
    "learning_rate": 1e-3,
    "normalize_reward": True,
}
"""Fields that give PPO the settings of recurrent PPO's defaults."""
PROTOCOLS = {
    # Classic settings: 1 environment, 1 update a step, the defaults of SACConfig.
    "sac-half_cheetah-100k": Protocol("sac", "half_cheetah", 2, {"total_timesteps": 100_000}, 3_000),
    # One of those two seeds stayed at 1,200; a third, from another root, before anything is changed.
    "sac-half_cheetah-100k-another": Protocol(
        "sac", "half_cheetah", 1, {"total_timesteps": 100_000, "seed": 1}, 3_000
    ),
    "sac-pendulum-20k": Protocol(
        "sac", "pendulum", 3, {"total_timesteps": 20_000, "eval_interval": 2_000, "eval_episodes": 20}, -200
    ),
    "ppo-cartpole-150k": Protocol(
        "ppo", "cartpole", 5, {"total_timesteps": 150_000, "eval_interval": 10_000, "eval_episodes": 20}, 475
    ),
    # The defaults of each algorithm.
    "ppo-cartpole-200k": Protocol("ppo", "cartpole", 5, CARTPOLE, 475),
    "a2c-cartpole-200k": Protocol("a2c", "cartpole", 5, CARTPOLE, 475),
    "trpo-cartpole-200k": Protocol("trpo", "cartpole", 5, CARTPOLE, 475),
    "vpg-cartpole-500k": Protocol("vpg", "cartpole", 5, CARTPOLE | {"total_timesteps": 500_000}, 475),
    # A task that needs an RNN state, with one and, from the same settings, without.
    "recurrent_ppo-masked-cartpole-200k": Protocol("recurrent_ppo", "cartpole", 5, CARTPOLE | MASKED, 475),
    "ppo-masked-cartpole-200k": Protocol(
        "ppo",
        "cartpole",
        5,
        CARTPOLE | MASKED | WITHOUT_RNN | {"num_epochs": 4},
        475,
    ),
    # The settings of its preset, and the same without an RNN.
    "recurrent_ppo-masked-pendulum-300k": Protocol(
        "recurrent_ppo", "pendulum", 5, SWING | MASKED | {"num_epochs": 10}, -300
    ),
    "ppo-masked-pendulum-300k": Protocol(
        "ppo",
        "pendulum",
        5,
        SWING | MASKED | WITHOUT_RNN | {"num_epochs": 10},
        -300,
    ),
    # The settings of its preset, and the same without an RNN, with as many rows in a batch.
    "recurrent_sac-masked-pendulum-30k": Protocol(
        "recurrent_sac", "pendulum", 3, SHORT_SWING, -250, preset="recurrent_sac-pendulum-masked"
    ),
    "sac-masked-pendulum-30k": Protocol(
        "sac",
        "pendulum",
        3,
        SHORT_SWING
        | MASKED
        | {"total_timesteps": 30_000, "gamma": 0.95, "learning_rate": 1e-3}
        | {"batch_size": 384, "hidden_sizes": (64, 64)},
        -250,
    ),
    # Settings common elsewhere, not tuned here; Gymnasium calls 200 solved.
    "ppo-gym-lunar_lander-1m": Protocol(
        "ppo",
        "gym:LunarLander-v3",
        3,
        {"total_timesteps": 1_000_000, "num_envs": 16, "num_steps": 1_024, "num_minibatches": 256}
        | {"num_epochs": 4, "gamma": 0.999, "gae_lambda": 0.98, "ent_coef": 0.01}
        | {"log_interval": 16_384, "eval_interval": 50_000, "eval_episodes": 20},
        200,
    ),
    # Settled on other roots (100 to 102), in one or two runs of one seed each.
    "ppo-rover-1m": Protocol(
        "ppo",
        "rover",
        3,
        {"total_timesteps": 1_000_000, "num_envs": 32, "num_steps": 128}
        | {"eval_interval": 200_000, "eval_episodes": 100},
        13,
        0.9,
    ),
    "sac-rover-120k": Protocol(
        "sac",
        "rover",
        3,
        {"total_timesteps": 120_000, "num_envs": 4, "updates_per_step": 2, "learning_starts": 2_000}
        | {"learning_rate": 1e-3, "hidden_sizes": (128, 128), "eval_interval": 20_000, "eval_episodes": 100},
        13,
        0.9,
    ),
}

FINAL_BARS = {
    "vpg": (496.8, 420.2, 360.9, 429.8, 63.6),
    "a2c": (1882.0, 1212.6, 1145.2, 9123.6, 37.1),
    "trpo": (4402.6, 2020.4, 3699.2, 6731.6, 95.0),
    "ppo": (5708.2, 3022.0, 3673.6, 8763.6, 111.2),
}
"""The best published final returns after 1,000,000 steps: Tianshou's but for Hopper (VPG: Spinning Up, PPO:
Stable-Baselines3 in the MR.Q paper), Walker2d with PPO (ikostrikov), InvertedDoublePendulum with TRPO and
Swimmer (VPG: Spinning Up; TRPO, PPO: OpenAI baselines)."""
FINAL_TASKS = ("half_cheetah", "hopper", "walker2d", "inverted_double_pendulum", "swimmer")
PROTOCOLS |= {
    f"{algo}-{env}-1m": Protocol(
        algo,
        env,
        10,
        {"total_timesteps": 1_000_000, "eval_interval": 20_000, "eval_episodes": 3, "seed": 0},
        bar,
        last=10,
        preset=f"{algo}-{env}",
    )
    for algo, bars in FINAL_BARS.items()
    for env, bar in zip(FINAL_TASKS, bars, strict=True)
}

TIANSHOU = "Tianshou's benchmark of 10 seeds (v2 and v3 tasks), whose on-policy evaluations are stochastic"
TIANSHOU_2 = "Tianshou 2.x, docs/_static/js/mujoco/benchmark/Ant-v4/results.json"
BASELINES = "OpenAI baselines trpo_mpi, benchmarks_mujoco1M.htm, v2, training return"
CLEANRL = "CleanRL, docs/benchmark/ppo_continuous_action.md, v4, training return"
RLPACK = "rlpack, v2, evaluation and seeds not stated"
TIANSHOU_OFF = "Tianshou's benchmark of 10 seeds, v3"
TD3_CODE = "github.com/sfujim/TD3, a run of LQNew/LWDRL, v2"
TD3_PAPER = "arXiv:1802.09477, authors' curves of 10 seeds, v1"
HALF, WHOLE = 500_000, 1_000_000
PUBLISHED: dict[str, dict[str, dict[int, tuple[float, str]]]] = {
    "inverted_pendulum": {
        "trpo": {HALF: (764.0, TIANSHOU), WHOLE: (905.1, BASELINES)},
        "ppo": {HALF: (902.0, TIANSHOU), WHOLE: (963.1, CLEANRL)},
        "a2c": {HALF: (954.0, TIANSHOU), WHOLE: (998.5, TIANSHOU)},
        "vpg": {HALF: (686.0, TIANSHOU), WHOLE: (924.7, TIANSHOU)},
    },
    "reacher": {
        "trpo": {HALF: (-6.15, TIANSHOU), WHOLE: (-4.82, BASELINES)},
        "ppo": {HALF: (-5.0, TIANSHOU), WHOLE: (-4.36, TIANSHOU)},
        "a2c": {HALF: (-9.13, TIANSHOU), WHOLE: (-7.24, TIANSHOU)},
        "vpg": {HALF: (-26.8, TIANSHOU), WHOLE: (-21.6, TIANSHOU)},
    },
    "pusher": {"trpo": {}, "ppo": {WHOLE: (-40.4, CLEANRL)}, "a2c": {}, "vpg": {}},
    "ant": {
        "trpo": {HALF: (1473.0, TIANSHOU), WHOLE: (2866.7, TIANSHOU)},
        "ppo": {HALF: (1712.0, TIANSHOU), WHOLE: (3207.4, TIANSHOU)},
        "a2c": {HALF: (2097.0, TIANSHOU), WHOLE: (3508.8, TIANSHOU)},
        "vpg": {HALF: (90.7, TIANSHOU), WHOLE: (217.9, TIANSHOU_2)},
    },
    "humanoid": {
        "trpo": {HALF: (573.0, TIANSHOU), WHOLE: (810.1, TIANSHOU)},
        "ppo": {HALF: (566.0, TIANSHOU), WHOLE: (763.1, TIANSHOU)},
        "a2c": {HALF: (557.0, TIANSHOU), WHOLE: (1549.0, TIANSHOU)},
        "vpg": {HALF: (372.0, TIANSHOU), WHOLE: (378.6, TIANSHOU)},
    },
    "humanoid_standup": {
        "trpo": {HALF: (58_716.0, RLPACK)},
        "ppo": {HALF: (81_282.0, RLPACK)},
        "a2c": {},
        "vpg": {},
    },
}
"""Best published final returns by task, algorithm and step; the cheap tasks come first, as in the queue.

The bar is the one of the latest step. OmniSafe's higher numbers are of Safety-Gymnasium's variants and set no
bar; single tuned runs and figures without a legend do not either.
"""
LIKE = {"inverted_pendulum": "inverted_double_pendulum"} | dict.fromkeys(
    ("reacher", "pusher", "ant", "humanoid", "humanoid_standup"), "half_cheetah"
)
"""The task whose presets a task takes over, untuned: Tianshou has one setting for all tasks as well.

Those of PPO, TRPO and A2C follow Tianshou and rl-baselines3-zoo, VPG's a sweep on half_cheetah. Those of the
double pendulum keep some noise besides, without which a policy forgets how to catch a bad start.
"""
QUEUED = {
    f"{algo}-{env}-1m": Protocol(
        algo,
        env,
        10,
        {"total_timesteps": WHOLE, "eval_interval": 20_000, "eval_episodes": 3, "seed": 0}
        | {"eval_stochastic": True, "checkpoint_interval": 50_000},
        published[max(published)][0] if published else None,
        last=10,
        preset=f"{algo}-{LIKE[env]}",
        read_at=(HALF, WHOLE),
        bar_at=max(published, default=None),
        published=tuple((step, *of) for step, of in published.items()),
    )
    for env, by_algo in PUBLISHED.items()
    for algo, published in by_algo.items()
}
"""In the queue after the off-policy runs, in this order."""

SIMBA = "SAC by the authors of SimBa, 10 seeds, v4, in github.com/DAVIAN-Robotics/SimbaV2"
LQN = "github.com/LQNew/LWDRL, a run of Spinning Up's code, v2"
OFF_POLICY_PUBLISHED: dict[tuple[str, str], dict[int, tuple[float, str]]] = {
    ("sac", "half_cheetah"): {100_000: (6_156.3, SIMBA), 300_000: (8_592.7, SIMBA)},
    ("td3", "half_cheetah"): {100_000: (5_114.0, LQN), 300_000: (7_816.0, LQN)},
    ("sac", "hopper"): {100_000: (1_103.0, SIMBA), 300_000: (2_160.0, SIMBA)},
    ("td3", "hopper"): {100_000: (507.0, LQN), 300_000: (2_458.0, TD3_PAPER)},
    ("ddpg", "half_cheetah"): {100_000: (5_429.0, TIANSHOU_OFF), 300_000: (8_786.0, TIANSHOU_OFF)},
    ("ddpg", "hopper"): {100_000: (675.0, TIANSHOU_OFF), 300_000: (2_053.0, TD3_CODE)},
    ("sac", "walker2d"): {100_000: (690.0, SIMBA), 300_000: (2_470.0, SIMBA)},
    ("td3", "walker2d"): {100_000: (372.0, TIANSHOU_OFF), 300_000: (2_987.0, TD3_PAPER)},
    ("sac", "ant"): {100_000: (747.0, SIMBA), 300_000: (3_532.0, SIMBA)},
    ("td3", "ant"): {100_000: (784.0, TIANSHOU_OFF), 300_000: (2_816.0, TIANSHOU_OFF)},
    ("sac", "humanoid"): {100_000: (632.0, SIMBA), 300_000: (3_015.0, SIMBA)},
    ("td3", "humanoid"): {100_000: (458.0, TIANSHOU_OFF), 300_000: (1_838.0, TIANSHOU_OFF)},
}
"""Published returns of the same algorithm at the same step: deterministic evaluations, of tasks before v5."""
OFF_POLICY = {
    f"{algo}-{env}-300k": Protocol(
        algo,
        env,
        3,
        {"total_timesteps": 300_000, "learning_starts": 10_000, "seed": 0}
        | {"eval_interval": 20_000, "eval_episodes": 10},
        published[300_000][0],
        last=1,
        read_at=(100_000, 200_000, 300_000),
        bar_at=300_000,
        published=tuple((step, *of) for step, of in published.items()),
    )
    for (algo, env), published in OFF_POLICY_PUBLISHED.items()
}
"""1 environment, 1 update a step, the defaults of each algorithm (the paper's, for SAC), but 10,000 uniform
steps at first, as most published runs have. The queue begins with these and with ABLATION."""

EFFICIENT = {
    f"sac_efficient-{env}-300k": Protocol(
        "sac",
        env,
        3,
        {"total_timesteps": 300_000, "seed": 0, "eval_interval": 20_000, "eval_episodes": 10},
        bar,
        last=1,
        preset="sac_efficient",
        read_at=(100_000, 200_000, 300_000),
        bar_at=300_000,
        published=((300_000, OFF_POLICY_PUBLISHED["sac", env][300_000][0], SIMBA), (1_000_000, bar, SIMBA)),
    )
    for env, bar in {
        "half_cheetah": 11_321.0,
        "hopper": 2_787.0,
        "walker2d": 4_536.0,
        "ant": 5_734.0,
        "humanoid": 4_826.0,
    }.items()
}
"""The bar is what plain SAC was published to reach after 1,000,000 steps, here after 300,000."""

TUNING_SEED = 9_000
"""Root of the seeds on which settings are chosen; reported runs have others."""
ABLATION = {
    f"sac-{env}-100k-{width}-{norm}-{critic}": Protocol(
        "sac",
        env,
        2,
        {"total_timesteps": 100_000, "learning_starts": 5_000, "seed": TUNING_SEED}
        | {"hidden_sizes": (width, width), "norm": norm, "critic": critic}
        | {"normalize_reward": True, "init_ent_coef": 0.01}
        | {"eval_interval": 10_000, "eval_episodes": 10},
        None,
        last=3,
        read_at=(50_000, 100_000),
    )
    for env in ("half_cheetah", "hopper")
    for norm in ("none", "layer", "batch")
    for critic in ("scalar", "categorical")
    for width in (128, 256)
}
"""Width, normalisation and kind of critic, each with each, for the settings of an efficient SAC. All else is
alike: scaled rewards and a small first temperature, without which a categorical critic has no range."""
HALF_CHEETAH_ABLATION = {name: p for name, p in ABLATION.items() if p.env == "half_cheetah"}
LARGER_STEPS = {
    f"{name}-1e-3": protocol._replace(fields=protocol.fields | {"learning_rate": 1e-3})
    for name, protocol in HALF_CHEETAH_ABLATION.items()
    if "-256-" in name
}
"""The same six of width 256 with the step size of `sac_efficient`: which of the parts it needs."""
FIRST_RUN = {"sac-half_cheetah-300k": OFF_POLICY["sac-half_cheetah-300k"]}

GAMES = ("breakout", "asterix", "space_invaders", "freeway", "seaquest")
REVISITING = "Obando-Ceron and Castro 2021 (arXiv:2011.14826), read off a figure, training return"
MINATAR_PAPER = "Young and Tian 2019 (arXiv:1903.03176), 30 seeds, read off a figure, training return"
MINATAR_PUBLISHED: dict[tuple[str, str], dict[int, tuple[float, str]]] = {
    ("dqn", "breakout"): {5_000_000: (10.0, MINATAR_PAPER), 10_000_000: (7.4, REVISITING)},
    ("dqn", "asterix"): {5_000_000: (16.8, MINATAR_PAPER), 10_000_000: (28.0, REVISITING)},
    ("dqn", "space_invaders"): {5_000_000: (43.8, MINATAR_PAPER), 10_000_000: (34.0, REVISITING)},
    ("dqn", "freeway"): {5_000_000: (50.1, MINATAR_PAPER), 10_000_000: (60.0, REVISITING)},
    ("dqn", "seaquest"): {5_000_000: (19.9, MINATAR_PAPER), 10_000_000: (5.4, REVISITING)},
    ("rainbow", "breakout"): {10_000_000: (11.3, REVISITING)},
    ("rainbow", "asterix"): {10_000_000: (42.0, REVISITING)},
    ("rainbow", "space_invaders"): {10_000_000: (92.5, REVISITING)},
    ("rainbow", "freeway"): {10_000_000: (57.0, REVISITING)},
    ("rainbow", "seaquest"): {10_000_000: (10.0, REVISITING)},
    ("c51", "breakout"): {10_000_000: (7.3, REVISITING)},
    ("c51", "asterix"): {10_000_000: (37.5, REVISITING)},
}
"""Published returns; none of them is at our number of steps, and so none sets a bar."""
MINATAR_DQN = {
    "total_timesteps": 2_000_000,
    "learning_rate": 2.5e-4,
    "adam_eps": 3.125e-4,
    "batch_size": 32,
    "buffer_size": 100_000,
    "hidden_sizes": (128,),
}
ATOMS = {"critic": "categorical", "v_min": -100.0, "v_max": 100.0}
PARTS: dict[str, dict[str, Any]] = {
    "dqn": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "prioritised": {"prioritised": True},
    "n_step": {"n_step": 3},
    "noisy": {"noisy": True},
    "munchausen": {"munchausen": True},
    "c51": ATOMS,
    "qr_dqn": {"critic": "quantile", "num_quantiles": 51},
    "iqn": {"critic": "implicit", "num_quantiles": 32},
}
"""DQN, and each part by itself."""
WITHOUT: dict[str, dict[str, Any]] = {
    "double": {"double": False},
    "dueling": {"dueling": False},
    "prioritised": {"prioritised": False},
    "n_step": {"n_step": 1},
    "noisy": {"noisy": False},
    "c51": {"critic": "scalar", "v_min": None, "v_max": None},
}
"""Rainbow, but one of its parts."""
PLAYED = {"eval_interval": 100_000, "eval_episodes": 10}


def _minatar(
    name: str, algo: str, game: str, fields: dict[str, Any], preset: str | None = None, millions: int = 2
) -> Protocol:
    total = 1_000_000 * millions
    return Protocol(
        algo,
        game,
        5,
        fields | {"total_timesteps": total},
        None,
        last=5,
        preset=preset,
        read_at=(total // 2, total),
        published=tuple((step, *of) for step, of in MINATAR_PUBLISHED.get((name, game), {}).items()),
    )


PQN_MINATAR = {"num_envs": 128, "num_steps": 32, "num_minibatches": 32}
MINATAR = {
    f"{name}-{game}-{millions}m": _minatar(name, algo, game, fields, preset, millions)
    for game in GAMES
    for name, algo, fields, preset, millions in (
        ("pqn", "pqn", PQN_MINATAR | PLAYED | {"eval_interval": 500_000}, None, 10),
        ("dqn", "dqn", MINATAR_DQN | PLAYED, None, 2),
        ("rainbow", "dqn", PLAYED, "rainbow", 2),
    )
}
"""The authors' settings for PQN; those of Obando-Ceron and Castro for the others. 5 seeds, not tuned here."""
MINATAR_PARTS = {
    f"{name}-{game}-2m": _minatar(name, "dqn", game, MINATAR_DQN | PLAYED | fields)
    for game in GAMES[:2]
    for name, fields in PARTS.items()
    if name != "dqn"
} | {
    f"rainbow-without-{part}-{game}-2m": _minatar("", "dqn", game, PLAYED | fields, "rainbow")
    for game in GAMES[:2]
    for part, fields in WITHOUT.items()
}
"""What each part does: added to DQN by itself, and taken from Rainbow."""
CARTPOLE_DQN = {
    "total_timesteps": 100_000,
    "learning_rate": 5e-4,
    "batch_size": 64,
    "buffer_size": 100_000,
    "updates_per_step": 1,
    "target_period": 100,
    "layer_norm": True,
}
CARTPOLE_PARTS = PARTS | {
    "c51": {"critic": "categorical", "v_min": 0.0, "v_max": 100.0},
    "iqn": {"critic": "implicit", "num_quantiles": 8},
}
CARTPOLE_RAINBOW = {
    name: value
    for part in ("double", "dueling", "prioritised", "n_step", "noisy", "c51")
    for name, value in CARTPOLE_PARTS[part].items()
}
CARTPOLE_PQN = {"total_timesteps": 100_000, "num_envs": 16, "num_steps": 16, "num_minibatches": 4}
CARTPOLE_PQN |= {"num_epochs": 4, "learning_rate": 2e-3}
CARTPOLE_VALUES = {
    f"{name}-cartpole-100k": Protocol(
        "pqn" if name == "pqn" else "dqn",
        "cartpole",
        5,
        fields | {"eval_interval": 5_000, "eval_episodes": 20, "seed": 0},
        475,
    )
    for name, fields in {
        **{name: CARTPOLE_DQN | fields for name, fields in CARTPOLE_PARTS.items()},
        "rainbow": CARTPOLE_DQN | CARTPOLE_RAINBOW,
        "pqn": CARTPOLE_PQN,
    }.items()
}
"""Settings chosen on seeds of another root, 5 for DQN and 24 for PQN; each part is added to those of DQN."""
MOUNTAIN_CAR_DQN = {
    "total_timesteps": 300_000,
    "learning_rate": 1e-3,
    "learning_starts": 1_000,
    "batch_size": 128,
    "buffer_size": 100_000,
    "updates_per_step": 0.5,
    "target_period": 600,
    "n_step": 5,
    "layer_norm": True,
}
MOUNTAIN_CAR_RAINBOW = CARTPOLE_RAINBOW | {"n_step": 5, "v_min": -100.0, "v_max": 0.0}
LUNAR_LANDER_DQN = MOUNTAIN_CAR_DQN | {"learning_rate": 5e-4, "target_period": 500, "n_step": 3}
OFTEN = {"eval_interval": 10_000, "eval_episodes": 20, "seed": 0}
LESS_OFTEN = OFTEN | {"eval_interval": 25_000}
CLASSIC_VALUES = {
    "dqn-acrobot-200k": Protocol(
        "dqn", "acrobot", 5, CARTPOLE_DQN | {"total_timesteps": 200_000} | OFTEN, -90
    ),
    "n_step-mountain_car-300k": Protocol(
        "dqn", "mountain_car", 5, MOUNTAIN_CAR_DQN | {"epsilon_fraction": 0.15} | OFTEN, -115
    ),
    "rainbow-mountain_car-300k": Protocol(
        "dqn", "mountain_car", 5, MOUNTAIN_CAR_DQN | MOUNTAIN_CAR_RAINBOW | OFTEN, -115
    ),
    "n_step-gym-lunar_lander-500k": Protocol(
        "dqn", "gym:LunarLander-v3", 5, LUNAR_LANDER_DQN | {"total_timesteps": 500_000} | LESS_OFTEN, 200
    ),
}
"""Acrobot has cartpole's settings. The others were tried on 3 seeds of another root. Mountain car: at the bar
by 70,000 steps (DQN) and 100,000 (Rainbow); without layer normalisation none of DQN's seeds left -200 in
150,000. Lunar lander, with an `epsilon_fraction` of 0.2 of 300,000 steps: at the bar by 75,000 to 150,000."""
VALUE_BASED = MINATAR | MINATAR_PARTS | CARTPOLE_VALUES | CLASSIC_VALUES
OFF_POLICY_RUNS = FIRST_RUN | HALF_CHEETAH_ABLATION | OFF_POLICY | EFFICIENT | LARGER_STEPS | ABLATION
PROTOCOLS = OFF_POLICY_RUNS | VALUE_BASED | QUEUED | PROTOCOLS


def config_of(protocol: Protocol) -> purerl.Config:
    """Return the configuration of a protocol's run."""
    if protocol.preset is not None:
        return purerl.from_preset(protocol.preset, env=protocol.env, **protocol.fields)
    return purerl.make_config(protocol.algo, env=protocol.env, **protocol.fields)
