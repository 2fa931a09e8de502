#!/usr/bin/env bash
# A training run on a SLURM cluster: one process per node, which drives all GPUs of the node.
#
#   sbatch --nodes=8 configs/cluster/slurm.sh --config=configs/full_cluster.py --workdir=OUT \
#       --config.init_from=CHECKPOINT --config.data.root=CLIPS
#
# Submit from the repository's root, where .venv is. All paths must be on storage that every node
# sees. Whether the job fits:
#
#   python experiments/plan.py --config=configs/full_cluster.py --preset=r1_10b --mesh=64xH100 \
#       --workdir=PLAN
#
#SBATCH --job-name=alpamayo
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
# SIGTERM comes this many seconds before the end: the run saves and stops by itself (exit code 0).
#SBATCH --signal=TERM@300
# A job that a failed node ended is queued again, and goes on from its newest checkpoint.
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Share of a GPU's memory for XLA (its own default is 0.75). NCCL and cuBLAS need the rest; the
# planner reckons with this number.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.92

flags=(
    # Starts a gather before the computation that comes ahead of it: hides most of its time.
    --xla_gpu_enable_latency_hiding_scheduler=true
    # Joins small messages up to these sizes. A layer of the 10B policy is 386 MB in bfloat16;
    # messages of more than a part of a layer only take memory.
    --xla_gpu_all_gather_combine_threshold_bytes=134217728
    --xla_gpu_reduce_scatter_combine_threshold_bytes=134217728
    --xla_gpu_all_reduce_combine_threshold_bytes=268435456
)
export XLA_FLAGS="${flags[*]} ${XLA_FLAGS:-}"

# NCCL says what is wrong with a fabric instead of only hanging. What else it needs (interfaces,
# adapters) is the cluster's business: most set it in a module or in the container.
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

# Compiled programs are kept here, so that a requeued job starts in seconds.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.jax_cache}"

# The processes find each other through what srun sets (alpamayo_jax/distributed.py). One that dies
# takes the others with it: without it they would wait for ever.
srun --kill-on-bad-exit=1 .venv/bin/python experiments/train.py --launch=slurm "$@"
