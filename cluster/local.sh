#!/usr/bin/env bash
# A Ray cluster on this machine, as separate processes: a head, two workers, an S3 server,
# Prometheus and Grafana where they are installed, and raffect's board. All of it listens on loopback or asks for
# a token. `down` ends what `up` started, and nothing else.
#
#   cluster/local.sh up [FOLDER]      FOLDER is ./raffect-cluster
#   source raffect-cluster/env        for raffect and ray in this shell
#   cluster/local.sh status [FOLDER]
#   cluster/local.sh down [FOLDER]    what is in FOLDER/s3 stays
set -euo pipefail

verb=${1:-}
folder=${2:-raffect-cluster}
python=${PYTHON:-python}
head_port=${RAFFECT_LOCAL_HEAD_PORT:-6399}
dashboard_port=${RAFFECT_LOCAL_DASHBOARD_PORT:-8265}
board_port=${RAFFECT_LOCAL_BOARD_PORT:-8266}
s3_port=${RAFFECT_LOCAL_S3_PORT:-9100}
prometheus_port=${RAFFECT_LOCAL_PROMETHEUS_PORT:-9090}
grafana_port=${RAFFECT_LOCAL_GRAFANA_PORT:-3000}
host=127.0.0.1

fail() {
  printf 'Error: %s\n' "$1" >&2
  exit 2
}

# start NAME COMMAND...: in a session of its own, its process noted, its output in a log.
start() {
  local name=$1
  shift
  # Here, not by the process: who reads it next must not see what an earlier one wrote.
  : >"$folder/logs/$name.log"
  setsid "$@" >>"$folder/logs/$name.log" 2>&1 </dev/null &
  echo "$! $(started $!)" >"$folder/processes/$name"
}

# When a process began, in the kernel's count: numbers of processes come again.
started() {
  sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

is_alive() {
  local number began
  read -r number began <"$folder/processes/$1"
  [ -n "$began" ] && [ "$(started "$number")" = "$began" ]
}

listens() {
  (exec 3<>"/dev/tcp/$host/$1") 2>/dev/null
}

# await NAME PORT: until the process listens.
await() {
  local name=$1 port=$2
  for _ in $(seq 240); do
    listens "$port" && return
    is_alive "$name" || break
    sleep 0.25
  done
  give_up "$name"
}

give_up() {
  tail -n 5 "$folder/logs/$1.log" >&2
  down
  fail "$1 did not start; its log is $folder/logs/$1.log"
}

check() {
  [ -d "$folder/processes" ] && [ -n "$(ls -A "$folder/processes")" ] &&
    fail "$folder holds a cluster that runs, or did. Next: cluster/local.sh down $folder"
  "$python" -c 'import raffect, aiohttp_cors, moto, uvicorn' 2>/dev/null ||
    fail "$python has no raffect with its extras [cluster,dashboard,local]. Next: make install, then put .venv/bin first in PATH; without a clone: pip install 'RAFFECT.whl[cluster,dashboard,local]'"
  for port in "$head_port" "$dashboard_port" "$board_port" "$s3_port" "$prometheus_port" "$grafana_port"; do
    listens "$port" && fail "port $port is taken. Next: end what listens there, or set RAFFECT_LOCAL_..._PORT"
  done
  return 0
}

secret() {
  "$python" -c 'import secrets; print(secrets.token_hex(32))'
}

# What a shell needs, and what the nodes have; the secrets are in files of their own.
write_environment() {
  (
    umask 077
    secret >"$folder/token"
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
      "$(secret | cut -c1-20)" "$(secret)" >"$folder/credentials"
  )
  cat >"$folder/env" <<END
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$folder/token
export RAY_ADDRESS=$host:$head_port
export RAY_API_SERVER_ADDRESS=http://$host:$dashboard_port
export RAFFECT_STORE=s3://raffect/store
export RAFFECT_BOARD=http://$host:$board_port
export AWS_ENDPOINT_URL=http://$host:$s3_port
export AWS_SHARED_CREDENTIALS_FILE=$folder/credentials
export AWS_DEFAULT_REGION=us-east-1
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required
export AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
END
  # shellcheck disable=SC1091
  source "$folder/env"
  # The nodes are the cluster; whoever starts one with an address set joins it.
  unset RAY_ADDRESS
  # Ray writes its own boards beside it.
  mkdir -p "$folder/grafana"
  cp "$(dirname "$0")/grafana/raffect.json" "$folder/grafana/"
  export RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR="$folder/grafana"
  export RAY_TRAIN_ENABLE_STATE_TRACKING=1 RAY_PROMETHEUS_HOST="http://$host:$prometheus_port"
  export RAY_GRAFANA_HOST="http://$host:$grafana_port"
  # A busy machine takes its time.
  export RAY_raylet_start_wait_time_s=60 RAY_USAGE_STATS_ENABLED=0
}

start_s3() {
  local key secret
  key=$(sed -n 's/aws_access_key_id = //p' "$folder/credentials")
  secret=$(sed -n 's/aws_secret_access_key = //p' "$folder/credentials")
  AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret \
    start s3 "$python" -m raffect.testing.durable "$folder/s3" "$s3_port"
  await s3 "$s3_port"
  "$python" -c 'import boto3; boto3.client("s3").create_bucket(Bucket="raffect")'
}

# A busy machine may be too slow for a node's patience: it is started once more.
start_node() {
  try_node "$@" || try_node "$@" || give_up "$1"
}

try_node() {
  ray_node "$@"
  for _ in $(seq 480); do
    grep -q 'Ray runtime started' "$folder/logs/$1.log" && return
    is_alive "$1" || break
    sleep 0.25
  done
  end "$1"
  return 1
}

free_port() {
  "$python" -c 'from raffect.testing.ports import free_ports; print(*free_ports(1))'
}

# Each with an agent port of its own: nodes of one machine would quarrel over Ray's only one, and
# jobs find no agent on a head that lost.
ray_node() {
  local name=$1
  shift
  start "$name" "$python" -m ray.scripts.scripts start --block --disable-usage-stats \
    --node-ip-address "$host" --dashboard-agent-listen-port "$(free_port)" "$@"
}

start_ray() {
  start_node head --head --port "$head_port" --num-cpus 0 --temp-dir "$temporary" \
    --dashboard-host "$host" --dashboard-port "$dashboard_port" --include-dashboard true \
    --ray-client-server-port "$(free_port)"
  await head "$dashboard_port"
  # One after the other: nodes that start at once on one machine take the same socket.
  # Each with a folder of its own, as machines have: a node that unpacks a job's code first deletes
  # what lies there, and with it the folder that the job's driver is at home in.
  for number in 1 2; do
    mkdir -p "$temporary/$number"
    start_node "worker-$number" --address "$host:$head_port" --num-cpus "$cpus" \
      --temp-dir "$temporary/$number"
  done
}

start_prometheus() {
  command -v prometheus >/dev/null || {
    echo "Prometheus is not installed: no metrics over time (Debian: apt-get install prometheus)."
    return 0
  }
  cat >"$folder/prometheus.yml" <<END
global: {scrape_interval: 5s, evaluation_interval: 5s}
scrape_configs:
  - job_name: ray
    file_sd_configs: [{files: ["$temporary/prom_metrics_service_discovery.json"]}]
END
  start prometheus prometheus --config.file "$folder/prometheus.yml" \
    --storage.tsdb.path "$folder/prometheus" --web.listen-address "$host:$prometheus_port"
  await prometheus "$prometheus_port"
}

# By the configuration and the boards that Ray has written. The cluster does without it, too.
start_grafana() {
  local server
  server=$(command -v grafana-server) || {
    echo "Grafana is not installed: the dashboard's Metrics page stays empty (https://grafana.com/grafana/download)."
    return 0
  }
  start grafana "$server" --homepath "${GRAFANA_HOME:-/usr/share/grafana}" \
    --config "$temporary/session_latest/metrics/grafana/grafana.ini" \
    cfg:server.http_addr="$host" cfg:server.http_port="$grafana_port" \
    cfg:paths.data="$folder/grafana/data" cfg:paths.logs="$folder/logs"
  for _ in $(seq 120); do
    listens "$grafana_port" && return
    is_alive grafana || break
    sleep 0.25
  done
  end grafana
  echo "Grafana did not start, and the cluster runs without; its log is $folder/logs/grafana.log."
}

up() {
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
  check
  mkdir -p "$folder/logs" "$folder/processes" "$folder/s3" "$folder/prometheus"
  # Ray's sockets want a short path.
  temporary=$(mktemp -d /tmp/raffect-ray-XXXXXX)
  echo "$temporary" >"$folder/temporary"
  # Jobs start `python` by that name.
  PATH=$(dirname "$(command -v "$python")"):$PATH
  cpus=$(($(nproc) / 2 > 0 ? $(nproc) / 2 : 1))
  write_environment
  trap 'down; exit 130' INT TERM
  start_s3
  start_ray
  start_prometheus
  start_grafana
  start board "$python" -m raffect board --host "$host" --port "$board_port"
  await board "$board_port"
  trap - INT TERM
  cat <<END
A head and two workers with $cpus CPUs each run on this machine.
  Ray dashboard   http://$host:$dashboard_port   (asks for the token: ray get-auth-token)
  raffect's board http://$host:$board_port
  Prometheus      http://$host:$prometheus_port
  S3 server       http://$host:$s3_port
Next:
  source $folder/env
  raffect doctor
End it: cluster/local.sh down $folder
END
}

# A process with what it started.
end() {
  local number _
  if is_alive "$1"; then
    read -r number _ <"$folder/processes/$1"
    kill -TERM -- "-$number" 2>/dev/null || true
    for _ in $(seq 40); do
      is_alive "$1" || break
      sleep 0.25
    done
    kill -KILL -- "-$number" 2>/dev/null || true
  fi
  rm -f "$folder/processes/$1"
}

# The last that was started first.
down() {
  local name
  for name in board grafana prometheus worker-2 worker-1 head s3; do
    if [ -e "$folder/processes/$name" ]; then end "$name"; fi
  done
  if [ -e "$folder/temporary" ]; then
    rm -rf "$(cat "$folder/temporary")"
    rm -f "$folder/temporary" "$folder/token" "$folder/env" "$folder/credentials"
  fi
}

status() {
  local name
  [ -d "$folder/processes" ] || fail "$folder holds no cluster. Next: cluster/local.sh up $folder"
  for name in s3 head worker-1 worker-2 prometheus grafana board; do
    [ -e "$folder/processes/$name" ] || continue
    if is_alive "$name"; then echo "$name runs"; else echo "$name has ended: $folder/logs/$name.log"; fi
  done
}

case $verb in
up) up ;;
down)
  [ -d "$folder" ] || fail "$folder is not there: nothing to end."
  folder=$(cd "$folder" && pwd)
  down
  echo "Ended. What the S3 server holds stays in $folder/s3."
  ;;
status) status ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
