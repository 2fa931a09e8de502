"""The tiny policy: trains, drives and reports within minutes on two CPU cores.

By default it learns from procedural clips with rendered cameras. On recorded clips:

    python experiments/pipeline.py --config=configs/tiny.py --workdir=OUT \\
        --config.data.source=clips --config.data.root=DIR
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """All knobs of `experiments/pipeline.py`."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.preset = "tiny"

    config.data = data = ml_collections.ConfigDict()
    data.source = "procedural"  # or "clips", a folder of recorded ones; or "store", an ingested one
    data.root = ""  # of the clips
    data.labels = ""  # file of Chain-of-Causation labels: the reasoning, in place of the clips' own
    data.num_clips = 32  # procedural: how many are simulated ...
    data.num_test_clips = 8  # ... and how many more are held out; store: the last ones
    data.train_seconds = (0.0, 50.0)  # clips: windows that train lie within, on each clip's clock
    data.test_seconds = (58.0, None)  # clips: windows that test; None: to the end
    data.train_stride_s = 0.2
    data.max_train_windows = 600  # evenly spread over those; 0: all
    data.test_stride_s = 0.5
    data.num_frames = 2  # per camera, 0.1 s apart, the last at t0
    data.max_length = 320  # tokens of a conversation; shorter ones are padded
    data.mirror = True  # also train on every window seen in a mirror

    config.tokens = tokens = ml_collections.ConfigDict()  # stage 1: trajectory tokens
    tokens.components = ("traj_future",)
    tokens.mean = "two_means"  # of the loss: trajectory tokens, and the others
    tokens.steps = 150
    tokens.batch_size = 8
    tokens.learning_rate = 1e-3
    tokens.warmup_fraction = 0.1
    tokens.weight_decay = 0.05

    config.sft = sft = ml_collections.ConfigDict()  # stage 2: reasoning, then the trajectory
    sft.components = ("cot", "traj_future")
    sft.steps = 150
    sft.batch_size = 8
    sft.learning_rate = 1e-3
    sft.warmup_fraction = 0.1
    sft.weight_decay = 0.05

    config.grpo = grpo = ml_collections.ConfigDict()  # stage 3: rewards for what it says and does
    grpo.steps = 8
    grpo.batch_size = 4  # windows per step, each with a group of samples
    grpo.learning_rate = 1e-4

    config.rl = rl = ml_collections.ConfigDict()  # how stage 3 samples, and learns from it
    rl.algorithm = "grpo"  # or "paper", "dr_grpo", "gspo"
    rl.num_samples = 8  # in a group
    rl.max_reasoning_tokens = 48
    rl.constrained = True  # only whole trajectories
    rl.kl = 0.0  # weight of the divergence from the policy of stage 2
    rl.eval_windows = 16  # held-out ones on which rewards are measured before and after
    rl.eval_samples = 4  # on each
    rl.picture_every = 4  # steps between pictures of rollouts

    config.reward = reward = ml_collections.ConfigDict()  # weights
    reward.reasoning = 1.0
    reward.consistency = 1.0
    reward.imitation = 1.0
    reward.collision = 1.0

    config.expert = expert = ml_collections.ConfigDict()  # the flow, language model frozen
    expert.components = ("cot", "traj_future")
    expert.steps = 400
    expert.batch_size = 8
    expert.noises_per_row = 4
    expert.learning_rate = 1e-3
    expert.warmup_fraction = 0.1
    expert.weight_decay = 0.05

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.num_samples = 6
    evaluation.batch_size = 8
    evaluation.max_windows = 80  # evenly spread over the held-out ones; 0: all
    evaluation.max_new_tokens = 48
    evaluation.temperature = 0.6
    evaluation.pictures = 6

    config.closed_loop = loop = ml_collections.ConfigDict()  # simulated streets, never driven before
    loop.scenes = 16  # 0: none
    loop.seconds = 10.0  # of each, 1.7 of them warm-up
    loop.plan_every = 5  # steps of 0.1 s between two plans
    return config
