# A server, two agents and two planes that enforce nothing: sourced by tests/net/distribution.sh and others.
# Each plane writes what it enforces to $dir/dumpN.  HEARTBEAT is the agents'.
set -u
build=${BUILDDIR:-.}
bin=$build/bin
plane=$build/tests/tools/fake_plane
dir=$(mktemp -d)
port=$((20000 + $$ % 20000))
n=0 bad=0

[ -x "$plane" ] || { echo "1..0 # SKIP tests/tools/fake_plane is not built"; exit 0; }

cleanup() {
	for p in "$dir"/*.pid; do
		[ -e "$p" ] && kill -9 "$(cat "$p")" 2>/dev/null
	done
	wait 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

check() { # "what" command...
	n=$((n + 1))
	what=$1
	shift
	if "$@"; then
		echo "ok $n - $what"
	else
		bad=$((bad + 1))
		echo "not ok $n - $what"
		for l in policyd agentd1 agentd2 plane1 plane2; do
			[ -e "$dir/$l.log" ] && tail -n 4 "$dir/$l.log" | sed "s/^/#   $l: /"
		done
	fi
}

quiet() { "$@" >/dev/null; }
into() { # FILE command...
	out=$1
	shift
	"$@" >"$out"
}

until_true() { # SECONDS command...
	left=$(($1 * 20))
	shift
	while ! "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		sleep 0.05
	done
}

spawn() { # name command...
	name=$1
	shift
	"$@" >>"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
}
kill9() {
	for name; do
		kill -9 "$(cat "$dir/$name.pid")"
		wait "$(cat "$dir/$name.pid")" 2>/dev/null
		rm "$dir/$name.pid"
	done
}
policyd() {
	spawn policyd "$bin/picket-policyd" -c /dev/null -o state-dir="$dir/policyd" -o listen=127.0.0.1:$port \
		-o run-dir="$dir/run"
}
agentd() {
	spawn agentd$1 "$bin/picket-agentd" -c /dev/null -o identity="$dir/dpu$1.id" -o server=127.0.0.1:$port \
		-o state-dir="$dir/state$1" -o run-dir="$dir/run$1" -o reconnect-min=20ms -o reconnect-max=100ms \
		-o heartbeat="${HEARTBEAT:-500ms}"
}
start_plane() {
	spawn plane$1 "$plane" "$dir/run$1/picketd.sock" "$dir/dump$1" "$dir/transactions$1"
}
ctl() { "$bin/picketctl" -s 127.0.0.1:$port -i "$dir/operator" "$@" 2>>"$dir/ctl.log"; }
# value of a member in a DPU's row of `status -j`
status() { ctl -j status | sed -n "/\"dpu\":\"dpu$1\"/s/.*\"$2\":\"\{0,1\}\([^,}\"]*\).*/\1/p"; }
is() { [ "$1" = "$2" ] || { echo "# got \"$1\", want \"$2\""; return 1; }; }
connected() { [ "$(status $1 connected)" = true ]; }
generation_of() { sed -n '1s/generation //p' "$dir/dump$1"; }
realised() { [ "$(status $1 realised)" = "$2" ] && [ "$(generation_of $1)" = "$2" ]; }
last() { tail -n 1 "$dir/transactions$1"; }

# The variant is in the name of a rule in each of two files: a mixture would show both.
write_policy() { # VARIANT
	for side in web db; do
		cat >"$dir/policy/$side.yaml" <<-END
			apiVersion: picket.io/v1
			kind: Policy
			metadata: {name: $side, tenant: shop}
			spec:
			  tier: application
			  priority: $([ $side = web ] && echo 100 || echo 110)
			  appliesTo: {workloads: {app: $side}}
			  ingress:
			    - {name: variant$1, action: allow, from: [{workloads: {app: [web, db]}}], services: [tcp/$((1000 + $1 % 5000))]}
			  egress:
			    - {name: variant$1, action: allow, services: [tcp/$((1000 + $1 % 5000))]}
		END
	done
}
variants() { grep -o 'variant[0-9]*' "$1" | sort -u | tr '\n' ' ' | sed 's/ $//'; }

mkdir -p "$dir/run" "$dir/run1" "$dir/run2" "$dir/policy"
cat >"$dir/policy/inventory.yaml" <<'END'
apiVersion: picket.io/v1
kind: Tenant
metadata: {name: shop}
spec: {default: deny}
---
apiVersion: picket.io/v1
kind: Workload
metadata: {name: web, tenant: shop, labels: {app: web}}
spec: {addresses: [192.0.2.10, "2001:db8::10"], dpu: dpu1, wire: 0}
---
apiVersion: picket.io/v1
kind: Workload
metadata: {name: db, tenant: shop, labels: {app: db}}
spec: {addresses: [192.0.2.30, "2001:db8::30"], dpu: dpu2, wire: 0}
---
apiVersion: picket.io/v1
kind: Workload
metadata: {name: aside, tenant: shop, labels: {app: aside}}
spec: {addresses: [192.0.2.99], dpu: dpu2, wire: 1}
END
