#!/bin/sh
# The guest itself: what tests with guests rely on.
. "$SRCDIR/tests/vm/lib.sh"
ns=vmboot$$
vm_cleanup() {
	ip netns del $ns 2>/dev/null
}
ip netns add $ns
ip -n $ns tuntap add dev wire mode tap
ip -n $ns addr add 10.77.0.1/24 dev wire
ip -n $ns link set wire up

start host --netns $ns --net "dump=$PICKET_VM_RUN/wire.pcap,tap:wire" --tpm --ima tcb
is 'the exit status of a command is the one of exec' 7 "$(guest host 'exit 7'; echo $?)"
is 'a command that does not end is ended' 124 "$(guest -t 1 host 'sleep 60'; echo $?)"
head -c 100000 /dev/urandom >"$PICKET_VM_RUN/there"
"$vm" put host "$PICKET_VM_RUN/there" /run/there
"$vm" get host /run/there "$PICKET_VM_RUN/back"
ok 'a file goes there and back' cmp "$PICKET_VM_RUN/there" "$PICKET_VM_RUN/back"
ok 'it has what this machine lacks' guest host 'modprobe -a esp4 esp6 xfrm_user macsec tls nf_flow_table'
ok 'its TPM quotes' quiet guest host 'cd /run && tpm2_createak -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa >/dev/null &&
	tpm2_quote -c ak.ctx -l sha256:0,10 -q 01020304 -m m -s s -o p -g sha256'
is 'IMA measured its boot' boot_aggregate "$(guest host 'awk "{ print \$NF; exit }" /sys/kernel/security/ima/ascii_runtime_measurements')"
guest host 'ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up'
ok 'a namespace reaches it' quiet ip netns exec $ns ping -c 3 -i 0.2 -W 5 10.77.0.2
ok 'and the wire was recorded' test -s "$PICKET_VM_RUN/wire.pcap"
ok 'a program of this tree goes there' programs host picket-attestd
ok 'and runs, with its libraries' quiet guest host 'picket-attestd -h'
