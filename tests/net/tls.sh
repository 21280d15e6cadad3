#!/bin/sh
# Mutual TLS between workloads: plain outside of the DPUs, TLS between them, and nothing at all when it cannot be had.
#
#   client 192.0.2.20 -- [dpu1 wire 1] ==15008== [dpu1 wire 0] -- 192.0.2.10 web
#                                    web -- [dpu1 wire 0] ==15008== [dpu2 wire 0] -- 192.0.2.30 db
LAB=pkt$$
LAB_MTLS=yes
. "$SRCDIR/tests/net/lib.sh"
need_lab
DEMO=$SRCDIR/conf/demo

check() { # TEXT COMMAND
	ok "$1" eval "$2"
}

redis() { # FROM ADDRESS
	[ "$(in_ns "$1" timeout 3 redis-cli -h "$2" ping 2>&1)" = PONG ] && echo allow || echo deny
}

drops() { # DPU REASON
	dpuctl "$1" -j show drops | sed -n 's/.*"reason":"'"$2"'","packets":\([0-9]*\).*/\1/p'
}

dropped() { # DPU REASON: at least once
	[ "$(drops "$1" "$2")" -gt 0 ] 2>/dev/null
}

flows() { # DPU PATTERN: how many
	dpuctl "$1" -j show tls | grep -c "$2"
}

mkdir -p "$LAB_DIR"
lab_up && lab_init && lab_start || { ok 'the lab starts' false; exit; }
mkdir -p "$LAB_DIR/www/tmp"
echo 'hello from web' >"$LAB_DIR/www/index.html"
head -c 20000000 /dev/urandom >"$LAB_DIR/www/big"
cat >"$LAB_DIR/nginx.conf" <<EOT
daemon off; master_process off; pid $LAB_DIR/nginx.pid; error_log stderr;
events { worker_connections 512; }
http { access_log off; client_body_temp_path $LAB_DIR/www/tmp; proxy_temp_path $LAB_DIR/www/tmp;
	fastcgi_temp_path $LAB_DIR/www/tmp; uwsgi_temp_path $LAB_DIR/www/tmp; scgi_temp_path $LAB_DIR/www/tmp;
	server { listen 80; listen [::]:80; root $LAB_DIR/www; location /slow { alias $LAB_DIR/www/big; limit_rate 200k; } } }
EOT
chmod 755 "$LAB_DIR/www"
spawn nginx web nginx -c "$LAB_DIR/nginx.conf" -e stderr
spawn redis db redis-server --port 6379 --bind 192.0.2.30 --protected-mode no --save '' --dir "$LAB_DIR"
wait_for 10 in_ns web curl -s -o /dev/null http://192.0.2.10/
cp "$DEMO/mtls/policy.yaml" "$LAB_DIR/policy.yaml"
ok 'the policy is taken' quiet pkctl policy apply "$DEMO/policy/inventory.yaml" "$DEMO/policy/printer.yaml" "$LAB_DIR/policy.yaml"
check 'both daemons have picketd and identities' 'wait_for 20 tlsd_serves 1 && wait_for 20 tlsd_serves 2'

for mode in both hbone; do
	if [ $mode = hbone ]; then
		for n in 1 2; do end tlsd$n; start_tlsd $n -o mode=hbone; done
		wait_for 10 tlsd_serves 1 && wait_for 10 tlsd_serves 2
	fi
	check "$mode: http to a neighbour" '[ "$(http client 192.0.2.10)" = allow ]'
	check "$mode: http over IPv6" '[ "$(http client "[2001:db8::10]")" = allow ]'
	check "$mode: redis to another DPU" '[ "$(redis web 192.0.2.30)" = allow ]'
	in_ns client curl -s --max-time 60 -o "$LAB_DIR/got" http://192.0.2.10/big
	check "$mode: 20 MB arrive as they were sent" 'cmp -s "$LAB_DIR/got" "$LAB_DIR/www/big"'
	in_ns client curl -s --max-time 60 -o /dev/null http://192.0.2.10/slow &
	slow=$!
	want=direct
	[ $mode = both ] || want=hbone
	check "$mode: a live flow is seen with both identities" \
		'wait_for 5 eval "dpuctl 1 -j show tls | grep egress | grep shop/client | grep demo.example/ns/shop/sa/web | grep TLSv1.3 | grep -q $want"'
	kill $slow 2>/dev/null
	wait $slow 2>/dev/null
done

# A rule that goes takes what lives by it along.
in_ns client curl -s --max-time 60 -o "$LAB_DIR/slow" http://192.0.2.10/slow &
slow=$!
wait_for 5 test -s "$LAB_DIR/slow"
pkctl policy apply --despite-tests "$DEMO/change/quarantine.yaml" >/dev/null
sleep 0.3 # what its kernel has already is on its way to curl
then=$(stat -c %s "$LAB_DIR/slow")
sleep 1
is 'bytes of the live flow after its rule was removed' 0 "$(($(stat -c %s "$LAB_DIR/slow") - then))"
check 'and nothing new begins' '[ "$(http client 192.0.2.10)" = deny ]'
kill $slow 2>/dev/null
wait $slow 2>/dev/null
pkctl policy rollback 1 >/dev/null
check 'it is back with the rule' 'wait_for 10 eval "[ \$(http client 192.0.2.10) = allow ]"'

# Without the daemon nothing passes, and nothing in clear.
spawn dump fabric tcpdump -i fabric --immediate-mode -w "$LAB_DIR/link.pcap" -U tcp
wait_for 5 test -s "$LAB_DIR/link.pcap"
http client 192.0.2.10 >/dev/null
end tlsd1 KILL
check 'without picket-tlsd: no http' '[ "$(http client 192.0.2.10)" = deny ]'
check 'it drops as tls-gone' 'dropped 1 tls-gone'
start_tlsd 1
check 'with it again: http' 'wait_for 20 eval "[ \$(http client 192.0.2.10) = allow ]"'
end dump
check 'between the DPUs: port 15008' '[ "$(tcpdump -r "$LAB_DIR/link.pcap" port 15008 2>/dev/null | wc -l)" -gt 20 ]'
check 'and nothing else' '[ "$(tcpdump -r "$LAB_DIR/link.pcap" not port 15008 2>/dev/null | wc -l)" = 0 ]'

# One side alone does not have its way: what comes in clear is refused by name.
awk '!/encryption: mtls/ || n++' "$DEMO/mtls/policy.yaml" >"$LAB_DIR/policy.yaml"
pkctl policy apply "$LAB_DIR/policy.yaml" >/dev/null
check 'in clear to a port that wants TLS: nothing' '[ "$(http client 192.0.2.10)" = deny ]'
check 'it drops as tls-plain' 'dropped 1 tls-plain'
for n in 1 2; do
	check "dpu$n: the account balances" '[ "$(unaccounted $n)" = 0 ]'
done
