#!/bin/sh
# Ports of every kind that this machine can hold: picketd starts on them, says so, and starts again
# after a kill that left no time to tidy up.
LAB=pkp$$ # a name of its own: two runs may share a machine
. "$SRCDIR/tests/net/lib.sh"
need_lab
mkdir -p "$LAB_DIR"
: >"$LAB_DIR/pids"
ip netns add "$LAB-dpu1"
for n in p0 p1; do
	ip -n "$LAB-dpu1" link add $n type veth peer name ${n}x
	ip -n "$LAB-dpu1" link set dev $n up
	ip -n "$LAB-dpu1" link set dev ${n}x up
done
try() { # KIND INSIDE OUTSIDE
	: >"$LAB_DIR/picketd.log"
	spawn picketd dpu1 "$BIN/picketd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o huge=no -o memory=128m \
		-o buffers=8191 -o sessions=4096 -o lcores='0@0-1,1@0-1' -o wire="$2 $3"
	ok "$1: starts" wait_for 30 grep -q ' ready$' "$LAB_DIR/picketd.log"
	is "$1: shows the wire" 1 "$(dpuctl 1 -j show wires | grep -c "\"inside\":\"$2\",\"outside\":\"$3\"")"
}
mkdir -p "$LAB_DIR/run-dpu1"
m="role=server,socket=$LAB_DIR/memif.sock,socket-abstract=no"
for kind in 'af_packet af_packet:p0 af_packet:p1' 'af_xdp af_xdp:p0 af_xdp:p1' 'tap tap:pkt0 tap:pkt1' \
	"memif vdev:net_memif0,$m vdev:net_memif1,id=1,$m" \
	"vhost-user vdev:net_vhost0,iface=$LAB_DIR/v0 vdev:net_vhost1,iface=$LAB_DIR/v1"; do
	set -- $kind
	if [ "$1" = af_xdp ] && grep -q '^HAVE_AF_XDP = no' "$BUILDDIR/config.mk"; then
		tap_n=$((tap_n + 1))
		echo "ok $tap_n - af_xdp # SKIP built without libbpf"
		continue
	fi
	try "$@"
	end picketd KILL
	rm -f "$LAB_DIR"/v[01] "$LAB_DIR/memif.sock"
	try "$1 after a kill" "$2" "$3"
	end picketd
done
: >"$LAB_DIR/picketd.log"
in_ns dpu1 "$BIN/picketd" -c /dev/null -o run-dir="$LAB_DIR/run-dpu1" -o huge=no -o memory=128m -o lcores='0@0-1,1@0-1' \
	-o buffers=8191 -o wire='af_packet:nosuch af_packet:p0' >"$LAB_DIR/picketd.log" 2>&1
is 'an interface that is not there: exit status' 1 $?
ok '... and one sentence that names it' grep -q 'picketd: port "af_packet:nosuch": ' "$LAB_DIR/picketd.log"
