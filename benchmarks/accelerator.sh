#!/usr/bin/env bash
# What to run when there is a GPU: its tests, the cost of n at the paper's size, and AB-SimCLR beside SimCLR at equal
# views on the shards given. Figures and logs go to a folder; rows for benchmarks/README.md come from there.
#
#   benchmarks/accelerator.sh OUT 'tar:train-*.tar' 'tar:val-*.tar' [STEPS]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1 train=$2 val=$3 steps=${4:-20000}
mkdir -p "$out"

python -c 'import jax; print(jax.__version__, jax.devices())' | tee "$out/device.txt"
JAX_PLATFORMS=cuda python -m pytest -m gpu | tee "$out/tests.txt"

size="--width 384 --depth 12 --heads 6 --size 224 --patch 16 --hidden 4096"
decoder="--decoder.width 384 --decoder.heads 6 --decoder.mlp 1536"
python benchmarks/views.py $size $decoder --views 512 --ns 1 2 4 8 16 --remat full | tee "$out/views.txt"
python benchmarks/views.py $size $decoder --views 512 --ns 4 8 --remat full --attention fused --no-naive | tee "$out/views-fused.txt"
python benchmarks/views.py $size $decoder --views 512 --ns 4 8 --remat dots --no-naive | tee "$out/views-dots.txt"

evaluation="--eval.test $val --eval.train-images 5000 --eval.test-images 2500 --eval.every $((steps / 10))"
workers="--data.workers $(($(nproc) - 2))"
python recipes/ab_simclr.py small --data.reward "$train" --data.value "$train" --steps "$steps" $evaluation $workers --out "$out/ab_simclr"
python recipes/simclr.py small --data.train "$train" --steps "$steps" $evaluation $workers --out "$out/simclr"
