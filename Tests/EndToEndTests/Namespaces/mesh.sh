#!/usr/bin/env bash
# A router, a server behind it and a client, each in a network namespace of its own, so that paths can be cut and made.
#
#   unshare --user --map-root-user --net --mount --pid --fork --mount-proc Tests/EndToEndTests/Namespaces/mesh.sh CHANSERV PLUGIN FOLDER
#
# CHANSERV is the command, PLUGIN the Echo library, FOLDER an empty one for files. Prints one line for each step, and ends
# with 0 when all of them went well.
set -euo pipefail

chanserv=$1 plugin=$2 folder=$3
children=()
finish() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    for log in "$folder"/*.log; do [[ -s $log ]] && sed "s|^|$(basename "$log"): |" "$log" | tail -n 200 >&2; done
    wait
}
trap finish EXIT

# Swift's thread pool looks its threads up in /proc, and the processes end with SIGILL where that knows them by other numbers.
read -r pid _ </proc/self/stat
[[ $pid == "$$" ]] || { echo "/proc is not that of this process namespace" >&2 && exit 1; }

mount -t tmpfs none /run
for name in client router server; do
    ip netns add "$name"
    ip -n "$name" link set lo up
done
# join A ADDRESS B ADDRESS: a cable between two namespaces; its ends are called after the other side.
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

# A router or a server that has ended is never waited for: its log, printed at the end, says why.
all_live() {
    for child in "${children[@]}"; do kill -0 "$child" 2>/dev/null || return 1; done
}
# within SECONDS COMMAND…: tries it again until it goes well.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        all_live && ((SECONDS < end)) || return 1
        # Not to wait for something to be so, but not to ask a thousand times a second.
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

# The server is known at the address at which the router sees it; now there is a way there.
ip -n client route add 10.9.2.2/32 via 10.9.3.2
within 60 path_is '"address":"10.9.2.2:5555"'
within 60 posted "directly"
# Without the cable to the router the direct path alone is left, for whoever has it.
echo "ok: the direct path appears and is taken"

ip -n client route del 10.9.2.2/32
ip -n server link set to-router down
# As long as the issue of a partition lasts: no event says that it is over.
sleep 30
ip -n server link set to-router up
within 150 posted "after the partition"
echo "ok: a partition of 30 s heals by itself"
