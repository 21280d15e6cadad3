#!/bin/sh
# What distribution costs with many agents: simulated ones that speak the real protocol over mutual TLS,
# each on a connection of its own, with a workload behind each.
#
#   agents.sh BUILDDIR NAME...     policy.push policy.relabel policy.streams policy.updates attest.follow; prints JSON lines
set -u
bin=$1/bin sim=$1/tests/tools/sim_agents
shift
dir=$(mktemp -d) port=17443
trap 'kill $server $agents 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
server='' agents=''
many=${MANY:-10000} some=${SOME:-1000}

say() { # NAME VALUE UNIT
	printf '{"name":"%s","value":%s,"unit":"%s","better":"lower","runs":[]}\n' "$1" "$2" "$3"
}

field() { # NAME, from a JSON line
	sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" | tail -n 1
}

ctl() {
	"$bin/picketctl" -s "127.0.0.1:$port" -i "$dir/operator" "$@"
}

policyd() { # COMMAND...
	"$bin/picket-policyd" -c /dev/null -o state-dir="$dir/policyd" -o run-dir="$dir" "$@"
}

policy() { # PORT: what it says concerns every DPU
	for i in 0 1 2 3; do
		printf -- '---\napiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: sim}\n' $i
		printf 'spec:\n  tier: application\n  priority: %d\n  appliesTo: {workloads: {app: a%d}}\n' $i $i
		printf '  ingress:\n    - {name: in, action: allow, from: [{networks: [192.0.2.0/24]}], '
		printf 'services: [tcp/%d]}\n' "$1"
	done
}

up() { # AGENTS: a server, and its store filled
	rm -rf "$dir/policyd" "$dir/operator" "$dir/dpus"
	mkdir -p "$dir/policyd"
	policyd init --domain test.example --server localhost,127.0.0.1 >/dev/null || exit 1
	policyd issue operator perf "$dir/operator" >/dev/null || exit 1
	"$sim" issue "$dir/policyd/ca" "$dir/dpus" "$1" || exit 1
	"$bin/picket-policyd" -c /dev/null -o state-dir="$dir/policyd" -o run-dir="$dir" \
		-o listen=127.0.0.1:$port 2>"$dir/policyd.log" &
	server=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		ctl status >/dev/null 2>&1 && break
		sleep 0.3
	done
	policy 443 >"$dir/policy.yaml"
	ctl policy apply --no-wait "$dir/policy.yaml" >/dev/null || exit 1
	"$sim" update 127.0.0.1:$port "$dir/operator" "$1" $(($1 * 2)) 1 >/dev/null || exit 1
}

connect() { # AGENTS SECONDS [again]
	"$sim" run 127.0.0.1:$port "$dir/dpus" "$@" >"$dir/agents.out" 2>"$dir/agents.err" &
	agents=$!
	n=0
	until [ -s "$dir/agents.out" ] || [ $n -ge 600 ]; do
		n=$((n + 1))
		sleep 0.1
	done
}

down() {
	kill "$agents" "$server" 2>/dev/null
	wait "$agents" "$server" 2>/dev/null
}

ticks() {
	awk '{ print $14 + $15 }' "/proc/$server/stat"
}

for name; do
	case $name in
	policy.push) # apply to realised, over all DPUs
		up "$some"
		connect "$some" 60
		for p in 444 445 446 447 448; do
			policy $p >"$dir/policy.yaml"
			ctl -j policy apply "$dir/policy.yaml" | tr '{' '\n' | sed -n 's/.*"stage":"realised".*"ms":\([0-9.]*\).*/\1/p'
		done | sort -n >"$dir/took"
		nb=$(wc -l <"$dir/took")
		[ "$nb" -eq $((5 * some)) ] || echo "agents.sh: $nb answers of $((5 * some))" >&2
		say policy.push.p99_ms.1k "$(sed -n "$((nb * 99 / 100))p" "$dir/took" | awk '{ printf "%.1f", $1 }')" ms
		down
		;;
	policy.updates) # a thousand relabels a second
		up "$some"
		connect "$some" 14
		before=$(ticks)
		out=$("$sim" update 127.0.0.1:$port "$dir/operator" "$some" 1000 10)
		say policy.updates.late_ms "$(echo "$out" | field worst_ms)" ms
		say policy.updates.cpu "$(awk -v t=$(($(ticks) - before)) -v hz="$(getconf CLK_TCK)" \
			'BEGIN { printf "%.0f", 100 * t / hz / 10 }')" %
		echo "$out" >&2
		wait $agents
		say policy.relabel.bytes "$(tail -n 1 "$dir/agents.out" | field bytes_max)" B
		down
		;;
	attest.follow) # one server following the postures of many, issuing to them and revoking
		up "$many"
		"$sim" attest 127.0.0.1:$port "$dir/dpus" "$many" >"$dir/agents.out" 2>"$dir/agents.err" &
		agents=$!
		n=0
		until grep -q svids_per_s "$dir/agents.out" || [ $n -ge 1700 ]; do
			n=$((n + 1))
			sleep 0.1
		done
		printf '{"name":"attest.svids","value":%s,"unit":"1/s","better":"higher","runs":[]}\n' \
			"$(field svids_per_s <"$dir/agents.out")"
		say attest.revoke.p99_ms.10k "$(field revoke_p99_ms <"$dir/agents.out")" ms
		say attest.revoke.1k_of_10k_ms "$(field tenth_ms <"$dir/agents.out")" ms
		say attest.follow.10k_mb "$(awk '/^VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status")" MB
		down
		;;
	policy.streams) # memory of the server, and everybody coming back
		up "$many"
		connect "$many" 120 again
		say policy.streams.10k_mb "$(awk '/^VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status")" MB
		n=0
		until [ "$(wc -l <"$dir/agents.out")" -ge 2 ] || [ $n -ge 600 ]; do
			n=$((n + 1))
			sleep 0.1
		done
		say policy.reconnect.10k_s "$(sed -n 2p "$dir/agents.out" | field in_sync_s)" s
		say policy.reconnect.10k_bytes "$(sed -n 2p "$dir/agents.out" | field resource_bytes)" B
		down
		;;
	esac
done
cat "$dir"/agents.err >&2 2>/dev/null
exit 0
