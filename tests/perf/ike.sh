#!/bin/sh
# Tunnels that picket-iked sets up, per second of one core and of one side: two of them, with a relay for picketd.
#
#   ike.sh BUILDDIR RESULT      ipsec.ike.psk: IKE SA and child, with a secret; ipsec.ike.cert: with ECDSA certificates;
#                               ipsec.ike.child: a further child on an IKE SA, without a key exchange of its own
#
# CPU time is counted, not the clock's, so that two processes on one core, and a relay beside them, do not matter.  The limit is what
# OpenSSL takes for the public-key operations alone.
set -eu
build=$(cd "$1" && pwd)
name=$2
N=${N:-1500}
dir=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
[ -x "$build/bin/picket-iked" ] || {
	echo "{\"name\":\"$name\",\"value\":null,\"unit\":\"1/s\",\"better\":\"higher\",\"note\":\"configured without headers of libcharon\"}"
	exit 0
}
mkdir -p "$dir/i" "$dir/r" "$dir/ca"
echo 'a secret' >"$dir/ca/psk"
for who in ca i r; do
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$dir/ca/$who.key" 2>/dev/null
done
openssl req -x509 -new -key "$dir/ca/ca.key" -subj /CN=ca -days 2 -out "$dir/ca/ca.crt" 2>/dev/null
for who in i r; do
	printf 'subjectAltName=DNS:%s.example.org\n' $who >"$dir/ca/ext"
	openssl req -new -key "$dir/ca/$who.key" -subj /CN=$who.example.org 2>/dev/null |
		openssl x509 -req -CA "$dir/ca/ca.crt" -CAkey "$dir/ca/ca.key" -days 2 -extfile "$dir/ca/ext" -out "$dir/ca/$who.crt" 2>/dev/null
done
"$build/tests/tools/ike_relay" "$dir/i/sadb.sock" 192.0.2.1 "$dir/r/sadb.sock" 192.0.2.2 &
pids="$pids $!"
iked() { # SIDE: its process is in $pid
	"$build/bin/picket-iked" -c /dev/null -o run-dir="$dir/$1" -o credentials-dir="$dir/ca" -o dos-protection=no \
		-o half-open-max=0 -o threads=12 -o retransmit=20s >"$dir/$1/log" 2>&1 &
	pid=$!
	pids="$pids $pid"
	for _ in $(seq 100); do [ -S "$dir/$1/picket-iked.ctl" ] && break; sleep 0.05; done
}
ctl() { side=$1; shift; "$build/bin/picketctl" -r "$dir/$side" "$@"; }
cpu() { awk '{ print $14 + $15 }' /proc/"$1"/stat; }
count() { ctl "$1" -j show ike-counters | sed -n "s/.*\"$2\",\"value\":\([0-9]*\).*/\1/p"; }

# peer NAME ME THEM ADDRESS-ME ADDRESS-THEM: the head of a document
peer() {
	if [ "$name" = ipsec.ike.cert ]; then
		me="identity: $2.example.org, auth: certificate, certificate: $2.crt, key: $2.key"
		them="identity: $3.example.org, auth: certificate, authorities: [ca.crt]"
		secret=
	else
		me="identity: $2.example.org, auth: psk" them="identity: \"$3.example.org\", auth: psk" secret='secret: {file: psk}'
	fi
	cat <<-END
		---
		apiVersion: picket.io/v1
		kind: IkePeer
		metadata: {name: $1}
		spec:
		  local: {addresses: [$4], $me}
		  remote: {addresses: [$5], $them}
		  $secret
		  proposals: [aes128gcm16-prfsha256-x25519]
		  unique: never
		  dpd: 0
		  mobike: false
		  children:
	END
}
child() { printf '    - {name: %s, local: ["%s"], remote: ["%s"], proposals: [aes128gcm16], start: %s}\n' "$@"; }

wild='*'
[ "$name" != ipsec.ike.cert ] || wild=i
peer r r "$wild" 192.0.2.2 192.0.2.1 >"$dir/r.yaml"
child c 172.16.0.0/12 10.0.0.0/8 none >>"$dir/r.yaml"
if [ "$name" = ipsec.ike.child ]; then
	each=300
	nb_peers=$((N / each))
	i=0
	while [ $i -lt $nb_peers ]; do
		peer p$i p$i r 192.0.2.1 192.0.2.2
		k=0
		while [ $k -lt $each ]; do
			child c$k "10.$i.$((k / 250)).$((k % 250))/32" 172.16.0.0/12 start
			k=$((k + 1))
		done
		i=$((i + 1))
	done >"$dir/i.yaml"
	N=$((nb_peers * each))
else
	i=0
	while [ $i -lt "$N" ]; do
		[ "$name" = ipsec.ike.cert ] && who=i || who=p$i
		peer p$i $who r 192.0.2.1 192.0.2.2
		child c "10.0.$((i / 250)).$((i % 250))/32" 172.16.0.0/12 start
		i=$((i + 1))
	done >"$dir/i.yaml"
fi
runs=
for _ in 1 2 3; do
	iked r
	r=$pid
	iked i
	i=$pid
	ctl r ipsec load "$dir/r.yaml" >/dev/null
	c0=$(($(cpu "$r") + $(cpu "$i")))
	s0=$(date +%s)
	ctl i ipsec load "$dir/i.yaml" >/dev/null
	while [ "$(count i child_up)" -lt "$N" ]; do
		sleep 0.2
		[ $(($(date +%s) - s0)) -lt 60 ] || break
	done
	up=$(count i child_up)
	used=$(($(cpu "$r") + $(cpu "$i") - c0))
	runs="$runs $(awk -v n="$up" -v t="$used" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.0f", n / (t / hz / 2) }')"
	[ "$up" = "$N" ] || { echo "$0: only $up of $N" >&2; tail -n 3 "$dir/i/log" >&2; break; }
	rss=$(awk '/VmRSS/ { print $2 }' /proc/"$r"/status)
	kill -9 "$r" "$i"
	wait "$r" "$i" 2>/dev/null || :
	rm -f "$dir"/?/picket-iked.ctl
done
# X25519 or ECDSA operations a second; a side makes one key and derives one secret, which cost about the same
x=$(openssl speed -seconds 1 -mr ecdhx25519 2>/dev/null | awk -F: '/^[+]F5:/ { print $4 }')
limit=$(awk -v x="$x" 'BEGIN { printf "%.0f", x / 2 }')
what='X25519 alone'
if [ "$name" = ipsec.ike.cert ]; then
	ecdsa=$(openssl speed -seconds 1 -mr ecdsap256 2>/dev/null | awk -F: '/^[+]F4:/ { print $4, $5 }')
	# sign once, verify the peer and its certificate
	limit=$(echo "$x $ecdsa" | awk '{ printf "%.0f", 1 / (2 / $1 + 1 / $2 + 2 / $3) }')
	what='X25519 and ECDSA alone'
fi
median=$(printf '%s\n' $runs | sort -n | sed -n 2p)
list=$(echo $runs | tr ' ' ',')
if [ "$name" = ipsec.ike.child ]; then
	limits= note="$N children on $nb_peers IKE SAs"
else
	limits="\"limit\":{\"name\":\"$what\",\"value\":$limit}," note="$N IKE SAs with a child; $((rss * 1024 / N)) bytes each on the answering side"
fi
echo "{\"name\":\"$name\",\"value\":$median,\"unit\":\"1/s\",\"better\":\"higher\",\"runs\":[$list],$limits\"note\":\"$note; CPU time of both sides, per side\"}"
