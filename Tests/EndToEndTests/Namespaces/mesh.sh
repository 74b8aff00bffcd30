#!/usr/bin/env bash
# A router, a server and a client. Each has its own network namespace, so that paths can be added and removed.
#
#   unshare --user --map-root-user --net --mount --pid --fork --mount-proc \
#       Tests/EndToEndTests/Namespaces/mesh.sh CHANSERV PLUGIN FOLDER
#
# CHANSERV is the chanserv program, PLUGIN the Echo library, FOLDER an empty folder for files. The script prints a line
# for each step and ends with exit code 0 if all steps succeed.
set -euo pipefail

chanserv=$1 plugin=$2 folder=$3
children=()
finish() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    for log in "$folder"/*.log; do [[ -s $log ]] && sed "s|^|$(basename "$log"): |" "$log" | tail -n 200 >&2; done
    wait
}
trap finish EXIT

# Swift's thread pool reads its threads in /proc. The processes end with SIGILL if /proc is that of another namespace.
read -r pid _ </proc/self/stat
[[ $pid == "$$" ]] || { echo "/proc is not that of this process namespace" >&2 && exit 1; }

mount -t tmpfs none /run
for name in client router server; do
    ip netns add "$name"
    ip -n "$name" link set lo up
done
# cable A ADDRESS B ADDRESS: connects two namespaces. Each interface has the name of the other namespace.
cable() {
    ip link add "to-$3" netns "$1" type veth peer name "to-$1" netns "$3"
    ip -n "$1" addr add "$2/24" dev "to-$3"
    ip -n "$3" addr add "$4/24" dev "to-$1"
    ip -n "$1" link set "to-$3" up
    ip -n "$3" link set "to-$1" up
}
cable client 10.9.1.2 router 10.9.1.1
cable server 10.9.2.2 router 10.9.2.1
cable client 10.9.3.1 server 10.9.3.2

cat >"$folder/chanserv.yaml" <<YAML
node: {listen: "0.0.0.0:5555", join: ["10.9.2.1:10000"]}
plugins: {echo: {path: "$plugin"}}
routes: [{vaddr: echo, plugin: echo}]
YAML
ip netns exec router "$chanserv" router --listen 0.0.0.0:10000 2>"$folder/router.log" &
children+=($!)
ip netns exec server "$chanserv" serve --config "$folder/chanserv.yaml" 2>"$folder/server.log" &
children+=($!)

# Whether the router and the server run. If one has ended, waiting is useless: the log at the end has the reason.
all_live() {
    for child in "${children[@]}"; do kill -0 "$child" 2>/dev/null || return 1; done
}
# within SECONDS COMMAND…: repeats the command until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        all_live && ((SECONDS < end)) || return 1
        # Limits the rate of the attempts.
        sleep 0.2
    done
}
posted() {
    local answer
    answer=$(ip netns exec client "$chanserv" post echo --join 10.9.1.1:10000 --body "$1" --timeout 5s --output raw 2>/dev/null) &&
        [[ $answer == "$1" ]]
}
path_is() {
    ip netns exec client "$chanserv" mesh --join 10.9.1.1:10000 --output json 2>/dev/null | grep -q "$1"
}

within 60 posted "through the router"
! path_is '"address":"10.9.2.2:5555"'
echo "ok: a client that can reach only the router is served through it"

# The mesh knows the server by the address that the router sees. From now on the client has a route to it.
ip -n client route add 10.9.2.2/32 via 10.9.3.2
within 60 path_is '"address":"10.9.2.2:5555"'
within 60 posted "directly"
echo "ok: the direct path appears and is taken"

ip -n client route del 10.9.2.2/32
ip -n server link set to-router down
# The length of the partition. No event reports its end.
sleep 30
ip -n server link set to-router up
within 150 posted "after the partition"
echo "ok: a partition of 30 s heals by itself"
