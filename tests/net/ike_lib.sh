# Debian's charon with kernel-libipsec, A, against picket-iked, B: sourced by tests/net/ike*.sh.
#
#       10.1.0.1                                                    10.2.0.1
#       ipsec0 A charon  192.0.2.1 ---- [ NAT, if asked for ] ---- 192.0.2.2  B picket-iked, and a plane
#
# The plane is tests/tools/ike_plane, which answers pings to 10.2.0.0/16 that come by a tunnel, with the keys that
# picket-iked gave it: a ping that comes back has been encrypted and decrypted on both sides.
set -u
BIN=$BUILDDIR/bin
dir=$(mktemp -d)
pids="$dir/pids"
: >"$pids"
nsA=pkikeA$$ nsB=pkikeB$$ nsN=pkikeN$$
n=0 bad=0
# Short times: a test waits for what is lost, not for minutes.
RETRANSMIT=${RETRANSMIT:-300ms}

skip() {
	echo "1..0 # SKIP $*"
	exit 0
}
[ -x "$BIN/picket-iked" ] || skip 'picket-iked is not built: configure found no headers of libcharon'
[ "$(id -u)" = 0 ] || skip 'network namespaces need root'
for f in /usr/lib/ipsec/charon /usr/sbin/swanctl /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so; do
	[ -e $f ] || skip "$f is not here; configure --install-deps gets it"
done
[ -c /dev/net/tun ] || skip 'there is no /dev/net/tun, which the peer needs'
ip netns add $nsA 2>/dev/null || skip 'network namespaces cannot be made here'

finish() {
	trap '' EXIT INT TERM
	while read -r p; do kill "$p" 2>/dev/null; done <"$pids"
	sleep 0.1
	while read -r p; do kill -9 "$p" 2>/dev/null; done <"$pids"
	for ns in $nsA $nsB $nsN; do ip netns del $ns 2>/dev/null; done
	rm -rf "$dir"
	echo "1..$n"
	exit $((bad > 0))
}
trap finish EXIT
trap 'exit 1' INT TERM

check() { # "what" command...
	n=$((n + 1))
	what=$1
	shift
	if "$@" >"$dir/check.out" 2>&1; then
		echo "ok $n - $what"
	else
		bad=$((bad + 1))
		echo "not ok $n - $what"
		tail -n 5 "$dir/check.out" | sed 's/^/#   /'
		[ -e "$dir/iked.log" ] && tail -n 6 "$dir/iked.log" | cut -c 1-250 | sed 's/^/#   iked: /'
		[ -e "$dir/A/log" ] && tail -n 6 "$dir/A/log" | sed 's/^/#   peer: /'
		[ -e "$dir/dump" ] && sed 's/^/#   plane: /' "$dir/dump" | head -12
	fi
}

soon() { # SECONDS command...
	left=$(($1 * 20))
	shift
	while ! "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		sleep 0.05
	done
}

not() { ! "$@"; }

# ---- network -------------------------------------------------------------------------------------------

direct() {
	ip netns add $nsB
	ip link add v0 netns $nsA type veth peer name v0 netns $nsB
	ip -n $nsA addr add 192.0.2.1/24 dev v0
	ip -n $nsB addr add 192.0.2.2/24 dev v0
	ip -n $nsB addr add 192.0.2.3/24 dev v0
	ip -n $nsA addr add 2001:db8::1/64 dev v0 nodad
	ip -n $nsB addr add 2001:db8::2/64 dev v0 nodad
	ends
}

# A behind a NAT, which is seen as 192.0.2.9: 198.51.100.1 -> 198.51.100.9 | 192.0.2.9 -> 192.0.2.2
natted() {
	ip netns add $nsB
	ip netns add $nsN
	ip link add v0 netns $nsA type veth peer name va netns $nsN
	ip link add v0 netns $nsB type veth peer name vb netns $nsN
	ip -n $nsA addr add 198.51.100.1/24 dev v0
	ip -n $nsN addr add 198.51.100.9/24 dev va
	ip -n $nsN addr add 192.0.2.9/24 dev vb
	ip -n $nsB addr add 192.0.2.2/24 dev v0
	for i in va vb lo; do ip -n $nsN link set $i up; done
	ip netns exec $nsN sysctl -qw net.ipv4.ip_forward=1
	ends
	ip -n $nsA route add default via 198.51.100.9
	nat_to 40000
}

# Masquerade from this port upwards: another one is what a NAT does that has forgotten
nat_to() {
	printf 'flush ruleset\ntable ip t { chain c { type nat hook postrouting priority 100; oif "vb" meta l4proto udp masquerade to :%d-%d; }; }\n' \
		"$1" $(($1 + 1000)) | ip netns exec $nsN nft -f -
}

ends() {
	for ns in $nsA $nsB; do
		ip -n $ns link set lo up
		ip -n $ns link set v0 up
	done
	ip -n $nsA addr add 10.1.0.1/32 dev lo
	ip -n $nsA addr add 10.3.0.1/32 dev lo
}

# ---- A: Debian's ---------------------------------------------------------------------------------------

peer_conf() {
	mkdir -p "$dir/A"
	cat >"$dir/A/strongswan.conf" <<-END
		charon {
		  load = random nonce openssl kdf pem pkcs1 pkcs8 x509 pubkey constraints hmac kernel-libipsec kernel-netlink socket-default vici
		  install_routes = no
		  delete_rekeyed_delay = 1
		  retransmit_timeout = 0.3
		  retransmit_base = 1.3
		  retransmit_tries = 4
		  fragment_size = 700
		  plugins {
		    vici { socket = unix://$dir/A/vici }
		    kernel-libipsec { allow_peer_ts = yes }
		  }
		  filelog { log { path = $dir/A/log
		    default = 1
		    flush_line = yes } }
		}
		swanctl { load = pem pkcs1 pkcs8 x509 openssl random constraints }
	END
}

start_peer() {
	peer_conf
	# Where its pid file is, is compiled in: so it gets a /run of its own.
	ip netns exec $nsA unshare -m sh -c "mount -t tmpfs tmpfs /run
		export STRONGSWAN_CONF=$dir/A/strongswan.conf
		exec /usr/lib/ipsec/charon" >"$dir/A/out" 2>&1 &
	echo $! >>"$pids"
	peer_pid=$!
	soon 10 test -S "$dir/A/vici"
}

swan() { STRONGSWAN_CONF=$dir/A/strongswan.conf timeout 20 swanctl "$@" --uri "unix://$dir/A/vici" </dev/null; }

# What differs is in variables: LOCAL REMOTE of A's end, IKE ESP proposals, AUTH psk|CERTNAME, EXTRA lines
load_peer() {
	mkdir -p "$dir/A/private"
	rm -f "$dir/A/private/"*
	if [ "${AUTH:-psk}" = psk ]; then
		local_auth='auth = psk' remote_auth='auth = psk'
	else
		local_auth="auth = pubkey
			certs = $dir/ca/a-$AUTH.crt"
		cp "$dir/ca/a-$AUTH.key" "$dir/A/private/"
		remote_auth="auth = pubkey
			cacerts = $dir/ca/ca-$AUTH.crt"
	fi
	cat >"$dir/A/swanctl.conf" <<-END
		connections { t { version = 2
		  local_addrs = ${LOCAL:-192.0.2.1}
		  remote_addrs = ${REMOTE:-192.0.2.2}
		  proposals = ${IKE:-aes256gcm16-prfsha384-x25519}
		  fragmentation = yes
		  ${EXTRA:-}
		  local { $local_auth
		    id = a.example.org }
		  remote { $remote_auth
		    id = b.example.org }
		  children { c { local_ts = 10.1.0.0/16
		      remote_ts = 10.2.0.0/16
		      esp_proposals = ${ESP:-aes256gcm16-x25519}
		      mode = tunnel
		      rekey_time = 1h
		      ${CHILD:-} } } } }
		secrets { ike-1 { secret = "namespace test"
		    id = b.example.org } }
	END
	swan --load-all -f "$dir/A/swanctl.conf" --noprompt >"$dir/A/load" 2>&1
}

peer_up() { swan --initiate --child c --timeout 10 >"$dir/A/initiate" 2>&1; }
peer_down() { swan --terminate --ike t --timeout 5 >/dev/null 2>&1; }
peer_pings() { # [COUNT]: through the tunnel
	ip -n $nsA route replace 10.2.0.0/16 dev ipsec0 src 10.1.0.1 &&
		ip netns exec $nsA ping -q -c "${1:-2}" -i "${INTERVAL:-0.1}" -W 1 -I 10.1.0.1 10.2.0.1
}
peer_has() { swan --list-sas | grep -q "$1"; }

# ---- B: ours --------------------------------------------------------------------------------------------

start_plane() { # ADDRESS...

	rm -f "$dir/words"
	mkfifo "$dir/words"
	ip netns exec $nsB "$BUILDDIR/tests/tools/ike_plane" "$dir/run/sadb.sock" "$dir/dump" "$@" <>"$dir/words" >"$dir/plane.log" 2>&1 &
	echo $! >>"$pids"
	plane_pid=$!
	soon 5 test -S "$dir/run/sadb.sock"
}
words() { echo "$*" >"$dir/words"; }

start_iked() { # OPTION...
	"$BIN/picket-iked" -v -c /dev/null -o run-dir="$dir/run" -o credentials-dir="$dir/ca" -o retransmit=$RETRANSMIT \
		-o retransmit-tries=4 -o rekeyed-delay=1s -o threads=8 "$@" >>"$dir/iked.log" 2>&1 &
	echo $! >>"$pids"
	iked_pid=$!
	soon 10 test -S "$dir/run/picket-iked.ctl"
}
ctl() { "$BIN/picketctl" -r "$dir/run" "$@"; }

# The same variables, from the other end; STARTS none|trap|start, PEER lines of spec, CHILDB lines of the child
write_peer() { # FILE
	if [ "${AUTH:-psk}" = psk ]; then
		auth_l='auth: psk' auth_r='auth: psk' secret='secret: {file: psk}'
	else
		auth_l="auth: certificate, certificate: b-$AUTH.crt, key: b-$AUTH.key"
		auth_r="auth: certificate, authorities: [ca-$AUTH.crt]"
		secret=
	fi
	cat >"$1" <<-END
		apiVersion: picket.io/v1
		kind: IkePeer
		metadata: {name: a}
		spec:
		  local: {addresses: [${BLOCAL:-192.0.2.2}], identity: b.example.org, $auth_l}
		  remote: {addresses: ${BREMOTE:-[192.0.2.1]}, identity: a.example.org, $auth_r}
		  $secret
		  proposals: ["${IKE:-aes256gcm16-prfsha384-x25519}"]
		  ${PEER:-dpd: 0}
		  children:
		    - name: net
		      local: [10.2.0.0/16]
		      remote: [10.1.0.0/16]
		      proposals: ["${ESP:-aes256gcm16-x25519}"]
		      start: ${STARTS:-none}
		      ${CHILDB:-mode: tunnel}
	END
}
load_iked() {
	write_peer "$dir/peers.yaml"
	ctl ipsec load "$dir/peers.yaml" >"$dir/load.out" 2>&1
}
load_both() { load_peer && load_iked; }
established() { ctl -j show ike | grep -q '"state":"ESTABLISHED"'; }
nothing_left() { [ -z "$(ctl -j show ike)" ] && not grep -q '^sa ' "$dir/dump" && not grep -q '^policy ' "$dir/dump"; }
counter() { ctl -j show ike-counters | sed -n "s/.*\"name\":\"$1\",\"value\":\([0-9]*\).*/\1/p"; }
sas() { grep -c '^sa ' "$dir/dump"; }

# Certificates of both ends: kind rsa|ecdsa|ed25519
make_certificates() {
	mkdir -p "$dir/ca"
	for kind; do
		case $kind in
		rsa) alg='RSA -pkeyopt rsa_keygen_bits:2048' ;;
		ecdsa) alg='EC -pkeyopt ec_paramgen_curve:P-256' ;;
		ed25519) alg=ED25519 ;;
		esac
		for who in ca a b; do
			openssl genpkey -quiet -algorithm $alg -out "$dir/ca/$who-$kind.key" 2>/dev/null ||
				openssl genpkey -algorithm $alg -out "$dir/ca/$who-$kind.key" 2>/dev/null
		done
		openssl req -x509 -new -key "$dir/ca/ca-$kind.key" -subj "/CN=test $kind" -days 2 \
			-addext basicConstraints=critical,CA:TRUE -out "$dir/ca/ca-$kind.crt" 2>/dev/null
		for who in a b; do
			printf 'subjectAltName=DNS:%s.example.org\nbasicConstraints=CA:FALSE\n' $who >"$dir/ca/ext"
			openssl req -new -key "$dir/ca/$who-$kind.key" -subj "/CN=$who.example.org" 2>/dev/null |
				openssl x509 -req -CA "$dir/ca/ca-$kind.crt" -CAkey "$dir/ca/ca-$kind.key" -days 2 \
					-extfile "$dir/ca/ext" -out "$dir/ca/$who-$kind.crt" 2>/dev/null
		done
	done
}
mkdir -p "$dir/ca" "$dir/run"
echo 'namespace test' >"$dir/ca/psk"
