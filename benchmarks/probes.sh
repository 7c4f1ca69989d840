#!/usr/bin/env bash
# Probes of a trained and of an untrained network on small real image sets: the rows of "Probes" in README.md.
#
#   benchmarks/probes.sh DATA RUN CLIP_RUN [PRESET]
#
# DATA: a folder with tinyimagenet/, coco_sample/, voc2012_sample/, clevr_like/, home_video/ and flickr8k/, each of
# NAME-train*.tar and NAME-val*.tar. RUN: of any recipe. CLIP_RUN: of a recipe with texts, trained on flickr8k.
set -euo pipefail
data=$1 run=$2 clip=$3 preset=${4:-smoke}
cd "$(dirname "$0")/.."

probe() { python recipes/probe.py "$preset" "$@" --json | tail -n 1; }

for network in "--run $run" "--run none --init $run --out $run/untrained"; do
    both() { probe $network --task "$1" --train "tar:$data/$2" --test "tar:$data/$3" "${@:4}"; }
    both classification 'tinyimagenet/tinyimagenet-train*.tar' 'tinyimagenet/tinyimagenet-val*.tar' \
        --probes knn linear logistic map decoder
    both objects coco_sample/coco_sample160-train.tar coco_sample/coco_sample160-val.tar --probes decoder
    both detection coco_sample/coco_sample160-train.tar coco_sample/coco_sample160-val.tar --probes decoder
    # No split of its own: how well the training pictures are remembered.
    both objects voc2012_sample/voc2012_sample160-train.tar voc2012_sample/voc2012_sample160-train.tar --probes decoder
    for task in count distance; do
        both $task clevr_like/clevr_like-train.tar clevr_like/clevr_like-val.tar --probes knn linear map decoder
    done
    # One film a class, cut into frames: for the pipeline, not for a score.
    both action home_video/home_video-train.tar home_video/home_video-train.tar --probes decoder
done
probe --run "$clip" --task classification --test "tar:$data/flickr8k/flickr8k-val.tar" --probes retrieval
