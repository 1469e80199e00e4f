#!/usr/bin/env bash
# Run a single-node SLURM cluster on this machine to test jobs: no accounting, no system service.
#   scripts/slurm_cluster.sh start FOLDER    writes configuration, keys, logs and state to FOLDER; prints the SLURM_CONF to export
#   scripts/slurm_cluster.sh stop FOLDER
#   scripts/slurm_cluster.sh controller-stop FOLDER     simulates a failed controller: jobs continue
#   scripts/slurm_cluster.sh controller-start FOLDER    restarts the controller
# Requires Debian's slurm-wlm and munge, and root. The ports are PORT (default 16817) and PORT + 1.
set -euo pipefail

command=${1:?start, stop, controller-stop or controller-start}
folder=$(realpath -m "${2:?folder for the configuration and state of the cluster}")
export SLURM_CONF=$folder/slurm.conf
port=${PORT:-16817}
host=$(hostname -s)

need() { command -v "$1" >/dev/null || { echo "error: $1: not found. Install it: apt-get install slurm-wlm munge" >&2; exit 1; }; }

configure() {
  mkdir -p "$folder"/{state,spool}
  chmod 755 "$folder"
  # munged runs as the user munge, in a folder that no other user can replace.
  install -d -o munge -g munge -m 755 "$folder/munge"
  [ -s "$folder/munge/key" ] || { head -c 128 /dev/urandom >"$folder/munge/key"; chown munge: "$folder/munge/key"; chmod 400 "$folder/munge/key"; }
  cat >"$SLURM_CONF" <<CONF
ClusterName=temper
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
MpiDefault=none
KillWait=5
OverTimeLimit=0
InactiveLimit=0
MinJobAge=300
SlurmctldTimeout=300
SlurmdTimeout=300
Waittime=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CPUS:-2} RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

start_controller() { slurmctld -f "$SLURM_CONF" >>"$folder/slurmctld.out" 2>&1; }

wait_until() { # seconds, name of what is waited for, command that checks it
  local last=$((SECONDS + $1)) # the command itself may take many seconds
  while ((SECONDS < last)); do "${@:3}" >/dev/null 2>&1 && return; sleep 0.2; done
  echo "error: $2 did not start within $1 s. See $folder/*.log." >&2
  exit 1
}

idle() { sinfo --noheader --format=%T | grep -Eq 'idle|mixed|allocated'; }

alive() { [[ $(ps -o stat= -p "$1") == [!Z]* ]]; } # a zombie, which containers may keep forever, is not alive

end() { # stop the daemon of a pid file
  [ -f "$1" ] || return 0
  local process
  process=$(cat "$1")
  kill "$process" 2>/dev/null || true
  for _ in $(seq 300); do alive "$process" || break; sleep 0.1; done
  ! alive "$process" || kill -KILL "$process" 2>/dev/null || true
  rm -f "$1"
}

case $command in
  start)
    for program in munged slurmctld slurmd srun; do need $program; done
    configure
    runuser -u munge -- munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
      --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    start_controller
    slurmd -N "$host" -f "$SLURM_CONF" >>"$folder/slurmd.out" 2>&1
    wait_until 120 "the node" idle
    echo "export SLURM_CONF=$SLURM_CONF"
    ;;
  stop)
    scancel --quiet --user=root 2>/dev/null || true
    end "$folder/slurmd.pid"
    end "$folder/slurmctld.pid"
    end "$folder/munge/pid"
    ;;
  controller-stop) end "$folder/slurmctld.pid" ;;
  controller-start)
    start_controller
    wait_until 120 "the controller" idle
    ;;
  *)
    echo "error: $command: unknown command. Use start, stop, controller-stop or controller-start." >&2
    exit 1
    ;;
esac
