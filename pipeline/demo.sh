#!/bin/sh
# make demo: from nothing to a one-shot table, in the current folder. Interrupted, it goes on.
# DEMO=quick is the same with a handful of samples and hardly any training (the tests run it).
set -eu
say() { printf '\n\033[1m== %s\033[0m\n' "$1" >&2; }

world="" transfer="--epochs 25" episodic="--episodes 120 --set episodic.epoch_episodes=20"
encoder="--encoder agcn --width 0.125 --frames 32 --body-pool masked_mean"
if [ "${DEMO:-}" = quick ]; then
    world="--option subjects=2 --option views=1"
    transfer="--epochs 1 --batch 16" episodic="--episodes 2 --queries 1"
    encoder="--encoder ctrgcn --width 0.125 --frames 8 --body-pool masked_mean"
fi

train() { # NAME OPTIONS...: start the run, or go on with it
    name=$1
    shift
    if [ -d "runs/$name" ]; then
        skelfew-train --resume "runs/$name" >/dev/null
    else
        skelfew-train --run "runs/$name" "$@" $encoder $episodic >/dev/null
    fi
}

say "1/5  A small world: performers, cameras, skeletons, and a video of each performance"
[ -f data/demo.h5 ] || skelfew-prepare demo $world >/dev/null

say "2/5  The teacher watches every video once: f_v and f_t go to cache/demo.zarr"
skelfew-extract demo --teacher xclip-demo --untrained --preview previews/demo

say "3/5  With transfer: the encoder learns to say what the teacher said, then trains in episodes"
train demo-transfer --cache cache/demo.zarr $transfer

say "4/5  Without: episodes alone"
train demo-episodic --cache cache/demo.zarr --stages episodic

say "5/5  One exemplar each of twelve actions that neither encoder has seen"
skelfew-eval --shots 1 --run runs/demo-transfer --run runs/demo-episodic --raw
printf '\nWhat the teacher saw: previews/demo/   The runs: runs/demo-transfer/, runs/demo-episodic/\n' >&2
