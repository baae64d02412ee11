#!/usr/bin/env bash
# One sweep on Slurm: Ray on all nodes of the job, the command on the first of them.
#
#   RAFFECT_STORE=/shared/raffect-store sbatch cluster/slurm.sh tune va --trials 200
#
# Given again, it continues, also after the time limit. sbatch's options go before the script's
# name (--nodes 4 --time 24:00:00); what follows the name is a raffect command.
#SBATCH --job-name=raffect
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=0
#SBATCH --time=12:00:00
# Three minutes before the end the sweep is stopped as by Ctrl-C; trials go on from checkpoints.
#SBATCH --signal=B:USR1@180
#SBATCH --output=raffect-%j.log
#SBATCH --open-mode=append
set -euo pipefail

: "${RAFFECT_STORE:?Set it to a folder that all nodes see, or to s3://bucket/prefix.}"
[ $# -gt 0 ] || set -- tune va --trials 200
# The environment that `make install` made, where sbatch was called.
PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH"
# srun does not take it from sbatch by itself.
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
# Other Rays on these nodes, if any, have other jobs' numbers.
port=$((20000 + 4 * (SLURM_JOB_ID % 3000)))
dashboard=$((port + 1))
folder=/tmp/raffect-$SLURM_JOB_ID
token=
driver=
signalled=
steps=()

# The command ends in order, and Ray after it.
# shellcheck disable=SC2317,SC2329 # called by a trap
stop() {
  signalled=yes
  [ -n "$driver" ] || exit 143
  kill -INT "$driver" 2>/dev/null || true
}

# shellcheck disable=SC2317,SC2329
finish() {
  trap - EXIT USR1 TERM INT
  # All that is worth keeping is in the store: srun ends its processes at once.
  for step in "${steps[@]}"; do kill -TERM "$step" 2>/dev/null || true; done
  wait || true
  srun --ntasks-per-node=1 rm -rf "$folder" || true
  rm -f "$token"
}
trap finish EXIT
trap stop USR1 TERM INT

# The token of this job's Ray lies where all nodes see it and nobody else may read it; processes'
# arguments and Slurm's records show its path only.
umask 077
token=$(mktemp "$HOME/.raffect-token-XXXXXX")
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token"

# The batch script runs on the first node.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(hostname -I | awk '{print $1}')
# Ray's own messages go into a file beside the job's.
into=(--output="$SLURM_SUBMIT_DIR/raffect-%j-ray.log" --open-mode=append)
common=(
  --num-cpus="$SLURM_CPUS_PER_TASK" --metrics-export-port=$((port + 2)) --disable-usage-stats
  --block
)

srun --nodes=1 --ntasks=1 --nodelist="$head" "${into[@]}" \
  ray start --head --node-ip-address="$ip" --port="$port" \
  --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" \
  --ray-client-server-port=$((port + 3)) --temp-dir="$folder" "${common[@]}" &
steps+=($!)
until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
  kill -0 "${steps[0]}" 2>/dev/null || exit 1
  sleep 1
done

workers=$((SLURM_JOB_NUM_NODES - 1))
if [ "$workers" -gt 0 ]; then
  srun --nodes="$workers" --ntasks="$workers" --exclude="$head" "${into[@]}" \
    ray start --address="$ip:$port" "${common[@]}" &
  steps+=($!)
fi

echo "Ray's dashboard: ssh -L 8265:127.0.0.1:$dashboard $head, with the token in $token"
raffect "$@" --address "$ip:$port" &
driver=$!
# A signal ends `wait`, not the command: it is waited for again.
while :; do
  if wait "$driver"; then code=0; else code=$?; fi
  [ -n "$signalled" ] || break
  signalled=
done
exit "$code"
