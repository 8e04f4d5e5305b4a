# Hosts in network namespaces of their own, in a user namespace, with a gateway each: east – relay – west. Does what its input says,
# and says `done` after each. Arguments: the gateway's program, and the directories of the domains of east, relay and west.
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
for host in east relay west; do ip netns add "$host"; ip -n "$host" link set lo up; done
up() { # host, its interface and address
    ip -n "$1" addr add "$3/24" dev "$2"; ip -n "$1" link set "$2" up
}
join() { # host, its interface and address, and the same of the other
    ip link add "$2" netns "$1" type veth peer name "$5" netns "$4"
    up "$1" "$2" "$3"; up "$4" "$5" "$6"
}
overtake() { # the same, then the program, and a file for the number of packets that were overtaken
    # The program opens the device of the second host itself, and gets that of the first.
    nsenter --net="/run/netns/$1" sh -c 'exec nsenter --net="/run/netns/$0" python3 "$@" 3<> /dev/net/tun' "$4" "$7" "$2" "$5" "$8" &
    for end in "$1 link show $2" "$4 link show $5"; do timeout 60 sh -c "until ip -n $end; do sleep 0.02; done" > /dev/null 2>&1; done
    up "$1" "$2" "$3"; up "$4" "$5" "$6"
}
if [ $# -gt 4 ]; then
    overtake east east0 10.9.1.2 relay relay0 10.9.1.1 "$5" "$2/overtaken"
else
    join east east0 10.9.1.2 relay relay0 10.9.1.1
fi
join west west0 10.9.2.2 relay relay1 10.9.2.1
gateway() { # host, program, directory, and where it listens or whom it connects to
    host=$1 program=$2 directory=$3
    shift 3
    # In the background a shell gives it no input; it ends with this namespace of processes.
    nsenter --net="/run/netns/$host" "$program" run --config "$directory/gateway.toml" --machine "$host" --directory "$directory" "$@" 2>> "$directory/gateway.log" &
    eval "pid_$host=$!"
}
gateway relay "$1" "$3" --listen tcp/10.9.1.1:7447 --listen tcp/10.9.2.1:7447
gateway east "$1" "$2" --connect tcp/10.9.1.1:7447
gateway west "$1" "$4" --connect tcp/10.9.2.1:7447
echo ready
while read -r command; do
    case $command in
    cut) ip -n east link set east0 down ;;
    heal) ip -n east link set east0 up ;;
    lose)
        for host in east west; do
            nsenter --net="/run/netns/$host" nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in numgen random mod 100 < 5 drop'
        done
        ;;
    discover)
        kill -9 "$pid_east" "$pid_relay" "$pid_west" 2> /dev/null || true
        gateway east "$1" "$2" --discover
        gateway relay "$1" "$3" --discover
        ;;
    kill-relay) kill -9 "$pid_relay" ;;
    start-relay) gateway relay "$1" "$3" --listen tcp/10.9.1.1:7447 --listen tcp/10.9.2.1:7447 ;;
    disorder) # how many segments have come to the relay before those that were sent before them, as TCP counts
        nsenter --net=/run/netns/relay awk '/^TcpExt:/ { for (i = 1; i <= NF; i++) if ($i == "TCPOFOQueue") at = i; number = $at } END { print number }' /proc/net/netstat
        ;;
    run-west\ *) # a program, with its arguments
        # shellcheck disable=SC2086
        nsenter --net=/run/netns/west ${command#run-west } > /dev/null 2>&1 &
        pid_program=$!
        ;;
    kill-west) # without a good-bye
        ip -n west link set west0 down
        kill -9 "$pid_west" "$pid_program"
        ;;
    start-west)
        ip -n west link set west0 up
        gateway west "$1" "$4" --connect tcp/10.9.2.1:7447
        ;;
    stop-west) kill -STOP "$pid_west" ;;
    go-west) kill -CONT "$pid_west" ;;
    esac
    echo done
done
