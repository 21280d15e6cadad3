# Three members of etcd on the loopback with mutual TLS: sourced by conf/demo/lab.sh and tests/net/etcd.sh, which have
# spawn NAME [NAMESPACE] COMMAND...; the lab says ETCD_IN=NAMESPACE.  A real cluster has its members on different machines.

etcd_cert() { # DIR NAME
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1/$2.key" \
		-out "$1/$2.csr" 2>/dev/null &&
		printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >"$1/$2.ext" &&
		openssl x509 -req -in "$1/$2.csr" -CA "$1/ca.crt" -CAkey "$1/ca.key" -CAcreateserial -days 30 \
			-extfile "$1/$2.ext" -out "$1/$2.crt" 2>/dev/null
}

etcd_url() { # PORT N KIND: client or peer
	echo "https://127.0.0.1:$(($1 + 2 * $2 - ($3)))"
}

etcd_store() { # PORT: the value of the server's option store
	echo "etcd:$(etcd_url $1 1 1),$(etcd_url $1 2 1),$(etcd_url $1 3 1)"
}

etcd_member() { # DIR PORT N
	spawn etcd$3 ${ETCD_IN:-} etcd --name m$3 --data-dir "$1/m$3" --log-level error \
		--listen-client-urls "$(etcd_url $2 $3 1)" --advertise-client-urls "$(etcd_url $2 $3 1)" \
		--listen-peer-urls "$(etcd_url $2 $3 0)" --initial-advertise-peer-urls "$(etcd_url $2 $3 0)" \
		--initial-cluster "m1=$(etcd_url $2 1 0),m2=$(etcd_url $2 2 0),m3=$(etcd_url $2 3 0)" \
		--cert-file "$1/member.crt" --key-file "$1/member.key" --trusted-ca-file "$1/ca.crt" --client-cert-auth \
		--peer-cert-file "$1/member.crt" --peer-key-file "$1/member.key" --peer-trusted-ca-file "$1/ca.crt" \
		--peer-client-cert-auth
}

etcd_ctl() { # PORT COMMAND...
	base=$1
	shift
	${ETCD_IN:+in_ns $ETCD_IN} env ETCDCTL_API=3 etcdctl --cacert "$ETCD_DIR/ca.crt" --cert "$ETCD_DIR/client.crt" \
		--key "$ETCD_DIR/client.key" --endpoints "$(etcd_url $base 1 1),$(etcd_url $base 2 1),$(etcd_url $base 3 1)" "$@"
}

etcd_leader() { # PORT: number of the member that leads, 1 if that is not to be learnt
	for m in 1 2 3; do
		if ETCDCTL_API=3 etcdctl --cacert "$ETCD_DIR/ca.crt" --cert "$ETCD_DIR/client.crt" --key "$ETCD_DIR/client.key" \
			--endpoints "$(etcd_url $1 $m 1)" endpoint status -w fields 2>/dev/null |
			awk -F' : ' '/"MemberID"/ { m = $2 } /"Leader"/ { l = $2 } END { exit m != l }'; then
			echo $m
			return
		fi
	done
	echo 1
}

etcd_up() { # DIR PORT: returns when the cluster answers
	ETCD_DIR=$1
	mkdir -p "$1"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=etcd of the lab' \
		-keyout "$1/ca.key" -out "$1/ca.crt" 2>/dev/null && etcd_cert "$1" member && etcd_cert "$1" client || return 1
	for m in 1 2 3; do
		etcd_member "$1" $2 $m
	done
	tries=150
	until etcd_ctl $2 endpoint health >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.2
	done
}
