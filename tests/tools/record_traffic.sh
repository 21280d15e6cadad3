#!/bin/bash
# Record what Debian's servers and clients say to each other, for App-ID to be tried on versions nobody labelled.
#
#   record_traffic.sh PICKETCTL [DIRECTORY]
#
# Each protocol is spoken in a network namespace of its own, over its loopback, and captured there; a server that is not
# installed is skipped.  One line per protocol: what was expected, what App-ID said of the flows.  Captures stay in
# DIRECTORY when it is given.  Needs root, tcpdump and python3; everything it starts ends with it.
set -u
picketctl=$(readlink -f "$1")
keep=${2:-}
work=$(mktemp -d)
pids=()
finish() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
	ip netns pids "$ns" 2>/dev/null | while read -r p; do kill -9 "$p" 2>/dev/null; done
	ip netns del "$ns" 2>/dev/null
	rm -rf "$work"
}
ns=picket-record-$$
trap finish EXIT INT TERM
ip netns add "$ns" && ip -n "$ns" link set lo up || exit 1
chmod 755 "$work"
in_ns() { ip netns exec "$ns" "$@"; }
right=0 wrong=0 silent=0

# record NAME APP[,APP...] PORT SERVER CLIENT: SERVER runs in the background (may be empty), CLIENT may take 15 s.
record() {
	local name=$1 want=$2 port=$3 server=$4 client=$5 pcap=$work/$1.pcap tcpdump_pid server_pid="" n=0
	in_ns tcpdump -i lo -U -q -w "$pcap" "port $port" >/dev/null 2>&1 &
	tcpdump_pid=$!
	mkdir -p "$work/$name"
	chmod 777 "$work/$name"
	if [ -n "$server" ]; then
		(cd "$work/$name" && exec ip netns exec "$ns" timeout 40 bash -c "$server") >"$work/$name.log" 2>&1 &
		server_pid=$!
		while [ $n -lt 50 ] && ! in_ns ss -lntu 2>/dev/null | grep -q ":$port "; do sleep 0.2; n=$((n + 1)); done
	fi
	sleep 0.5
	(cd "$work/$name" && in_ns timeout 15 bash -c "$client") >>"$work/$name.log" 2>&1 </dev/null
	sleep 0.7
	kill "$tcpdump_pid" 2>/dev/null
	[ -n "$server_pid" ] && kill "$server_pid" 2>/dev/null
	wait 2>/dev/null
	ip netns pids "$ns" | while read -r p; do kill -9 "$p" 2>/dev/null; done
	[ -n "$keep" ] && mkdir -p "$keep" && cp "$pcap" "$keep"
	# Flows without payload say nothing; no answer is counted apart from a wrong one.
	said=$("$picketctl" dpi test-pcap "$pcap" -j 2>/dev/null | python3 -c '
import collections, json, sys
n = collections.Counter(f["app"] for f in map(json.loads, sys.stdin) if f.get("type") == "flow" and f["bytes"] > 0)
print(" ".join(f"{a}:{k}" for a, k in n.most_common()))')
	local verdict=right
	[ -z "$said" ] && verdict="no traffic"
	for s in $said; do
		case ",$want," in
		*,"${s%:*}",*) ;;
		*) [ "${s%:*}" = unknown ] && verdict=unknown || { verdict=WRONG; break; } ;;
		esac
	done
	case $verdict in right) right=$((right + 1)) ;; "no traffic") silent=$((silent + 1)) ;; *) wrong=$((wrong + 1)) ;; esac
	printf '%-18s %-12s want %-20s got %s\n' "$name" "$verdict" "$want" "$said"
}
have() { command -v "$1" >/dev/null 2>&1; }

have redis-server && record redis redis 16379 "redis-server --port 16379 --save ''" \
	"redis-cli -p 16379 set a b; redis-cli -p 16379 -3 hset h f v; redis-cli -p 16379 --pipe < /dev/null; printf 'GET a\r\n' | timeout 1 nc 127.0.0.1 16379"
have memcached && record memcached memcached 11299 "memcached -u nobody -p 11299 -U 11299" \
	"printf 'set k 0 0 3\r\nabc\r\nget k\r\nquit\r\n' | timeout 2 nc 127.0.0.1 11299; printf 'mg k v\r\nquit\r\n' | timeout 1 nc 127.0.0.1 11299"
have mariadbd && record mysql mysql 13306 \
	"mysql_install_db --no-defaults --user=root --datadir=\$PWD/d --auth-root-authentication-method=normal >/dev/null; mariadbd --no-defaults --user=root --datadir=\$PWD/d --port=13306 --socket=\$PWD/s --pid-file=\$PWD/p" \
	"mariadb --no-defaults -h 127.0.0.1 -P 13306 --skip-ssl -u root -e 'select 1; show databases'; mariadb --no-defaults -h 127.0.0.1 -P 13306 -u nobody -pwrong -e 'select 1'"
have mosquitto && record mqtt mqtt 11883 "mosquitto -p 11883" \
	"(timeout 3 mosquitto_sub -p 11883 -V mqttv5 -t a/b &); sleep 1; mosquitto_pub -p 11883 -V mqttv31 -t a/b -m hello; mosquitto_pub -p 11883 -q 2 -t a/b -m hello; sleep 2"
have etcd && record etcd http,http2,grpc 12379 \
	"etcd --data-dir \$PWD/e --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 --listen-peer-urls http://127.0.0.1:12380" \
	"ETCDCTL_API=3 etcdctl --endpoints=127.0.0.1:12379 put a b; ETCDCTL_API=3 etcdctl --endpoints=127.0.0.1:12379 get a; curl -s http://127.0.0.1:12379/version"
have nginx && record http http 18080 "nginx -p \$PWD -c /dev/stdin -g 'daemon off;' <<< 'pid p; error_log e; events {} http { access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path f; server { listen 18080; location / { return 200 ok; } } }'" \
	"curl -s http://127.0.0.1:18080/; curl -s --http1.0 -X POST -d a=b http://127.0.0.1:18080/x"
have nghttpd && record http2 http2,grpc 18081 "nghttpd --no-tls -d \$PWD 18081" \
	"curl -s --http2-prior-knowledge http://127.0.0.1:18081/; nghttp -n http://127.0.0.1:18081/"
have haproxy && record haproxy haproxy 18083 \
	"haproxy -d -f /dev/stdin <<< \$'defaults\n mode tcp\n timeout connect 1s\n timeout client 3s\n timeout server 3s\nfrontend f\n bind 127.0.0.1:18082\n default_backend b\nbackend b\n server s 127.0.0.1:18083 send-proxy-v2\n'" \
	"(timeout 4 nc -l -p 18083 >/dev/null &); sleep 1; printf 'GET / HTTP/1.0\r\n\r\n' | timeout 2 nc 127.0.0.1 18082"
have sshd || [ -x /usr/sbin/sshd ] && record ssh ssh 10022 \
	"mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f \$PWD/k; /usr/sbin/sshd -D -e -p 10022 -h \$PWD/k" \
	"ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -p 10022 nobody@127.0.0.1 true; ssh-keyscan -p 10022 127.0.0.1"
have slapd && record ldap ldap 10389 \
	"mkdir db; printf 'include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nsuffix dc=x\nrootdn cn=a,dc=x\nrootpw s\ndirectory %s/db\n' \$PWD > c; slapd -d 0 -f c -h ldap://127.0.0.1:10389" \
	"ldapsearch -x -H ldap://127.0.0.1:10389 -b dc=x; ldapwhoami -x -H ldap://127.0.0.1:10389 -D cn=a,dc=x -w s"
have named && record dns dns 10053 \
	"printf 'options { directory \"%s\"; pid-file none; listen-on port 10053 {127.0.0.1;}; listen-on-v6 {none;}; recursion no; session-keyfile none; };' \$PWD > c; named -g -c \$PWD/c -p 10053" \
	"dig @127.0.0.1 -p 10053 example.org A; dig @127.0.0.1 -p 10053 +tcp . NS; dig @127.0.0.1 -p 10053 version.bind CH TXT"
have vsftpd && record ftp ftp,ftp-data 10021 \
	"mkdir -p s; printf 'listen=YES\nlisten_port=10021\nanonymous_enable=YES\nanon_root=%s/s\nsecure_chroot_dir=%s/s\nbackground=NO\n' \$PWD \$PWD > c; vsftpd \$PWD/c" \
	"curl -s ftp://127.0.0.1:10021/; curl -s --user a:b ftp://127.0.0.1:10021/"
[ -x /usr/sbin/in.tftpd ] && record tftp tftp 10069 "mkdir -m 777 t; head -c 2000 /dev/urandom > t/f; chmod 644 t/f; in.tftpd -L -a 127.0.0.1:10069 -s \$PWD/t" \
	"curl -s -o /dev/null tftp://127.0.0.1:10069/f; curl -s -o /dev/null tftp://127.0.0.1:10069/none"
have chronyd && record ntp ntp 10123 "printf 'port 10123\nallow\nlocal stratum 8\ncmdport 0\nbindaddress 127.0.0.1\npidfile %s/p\n' \$PWD > c; chronyd -x -d -U -u root -f c" \
	"printf 'server 127.0.0.1 port 10123 iburst\ncmdport 0\nport 0\npidfile %s/q\n' \$PWD > d; timeout 8 chronyd -x -q -U -u root -f d"
have snmpd && record snmp snmp 10161 "printf 'rocommunity public\n' > c; snmpd -f -Lo -C -c c -p p udp:127.0.0.1:10161" \
	"snmpget -v2c -c public 127.0.0.1:10161 .1.3.6.1.2.1.1.1.0; snmpwalk -v1 -c public 127.0.0.1:10161 .1.3.6.1.2.1.1; snmpget -v3 -u u -l noAuthNoPriv 127.0.0.1:10161 .1.3.6.1.2.1.1.1.0"
have openvpn && record openvpn openvpn 11194 \
	"openvpn --genkey secret k; openssl req -x509 -newkey rsa:2048 -nodes -keyout y -out x -days 2 -subj /CN=a 2>/dev/null; openssl dhparam -dsaparam -out dh 1024 2>/dev/null; openvpn --dev null --ifconfig-noexec --server 10.9.0.0 255.255.255.0 --proto udp --port 11194 --local 127.0.0.1 --ca x --cert x --key y --dh none --tls-crypt k" \
	"cd ../openvpn; sleep 3; timeout 6 openvpn --dev null --ifconfig-noexec --client --nobind --proto udp --remote 127.0.0.1 11194 --ca x --cert x --key y --tls-crypt k"
have rsync && record rsync rsync 10873 "mkdir m; printf '[m]\npath=%s/m\nuse chroot=no\n' \$PWD > c; rsync --daemon --no-detach --port 10873 --config c" \
	"rsync rsync://127.0.0.1:10873/; rsync -r rsync://127.0.0.1:10873/m/ o/"
have git && record git git 19418 "git init -q --bare r; touch r/git-daemon-export-ok; git daemon --port=19418 --base-path=\$PWD" \
	"git ls-remote git://127.0.0.1:19418/r; git -c protocol.version=2 clone git://127.0.0.1:19418/r c"
have nats-server && record nats nats 14222 "nats-server -p 14222" \
	"printf 'CONNECT {\"verbose\":true}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n' | timeout 2 nc 127.0.0.1 14222"
have gearmand && record gearman gearman 14730 "gearmand -u root -p 14730 -l stderr" "(timeout 3 gearman -p 14730 -w -f t -- cat &); sleep 1; echo x | timeout 2 gearman -p 14730 -f t"
have prosody && record xmpp xmpp 15222 "printf 'daemonize=false; pidfile=\"%s/p\"; data_path=\"%s\"; c2s_ports={15222}; interfaces={\"127.0.0.1\"}; s2s_ports={}; run_as_root=true; modules_disabled={\"s2s\"}; VirtualHost \"localhost\"' \$PWD \$PWD > c.lua; prosody -F --config \$PWD/c.lua" \
	"printf \"<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>\" | timeout 2 nc 127.0.0.1 15222"
have ngircd && record irc irc 16667 "printf '[Global]\nName=irc.example\nInfo=i\nListen=127.0.0.1\nPorts=16667\nPidFile=%s/p\n[Options]\nIdent=no\nDNS=no\nPAM=no\n' \$PWD > c; ngircd -n -f \$PWD/c" \
	"printf 'NICK joe\r\nUSER joe 0 * :Joe\r\nJOIN #a\r\nQUIT\r\n' | timeout 3 nc 127.0.0.1 16667"
have turnserver && record stun stun 13478 "turnserver -n -p 13478 -L 127.0.0.1 --no-tls --no-dtls --no-cli -a -u u:p -r x --pidfile p --log-file stdout" \
	"timeout 3 turnutils_stunclient -p 13478 127.0.0.1; timeout 5 turnutils_uclient -p 13478 -u u -w p -y -n 3 127.0.0.1"
have sipp && record sip sip,rtp 15060 "timeout 8 sipp -sn uas -i 127.0.0.1 -p 15060 -bg -nostdin; sleep 9" "timeout 5 sipp -sn uac -i 127.0.0.1 -p 15061 -m 2 -nostdin 127.0.0.1:15060"
have freeradius && record radius radius 11812 "mkdir -m 700 r; cp -r /etc/freeradius/3.0/. r/; sed -i 's/port = 0/port = 11812/' r/sites-available/default; chown -R freerad: r .; freeradius -f -l stdout -d \$PWD/r" \
	"sleep 3; radtest bob hello 127.0.0.1:11812 0 testing123; echo 'Message-Authenticator=0x00' | timeout 4 radclient 127.0.0.1:11812 status testing123"
have danted && record socks socks,http 11080 "printf 'internal: 127.0.0.1 port = 11080\nexternal: lo\nsocksmethod: none\nclientmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\nclient pass { from: 0/0 to: 0/0 }\nsocks pass { from: 0/0 to: 0/0 }\n' > c; danted -f \$PWD/c" \
	"curl -s -m 3 --socks5 127.0.0.1:11080 http://127.0.0.1:1/; curl -s -m 3 --socks4 127.0.0.1:11080 http://127.0.0.1:1/"
have Xtigervnc && record vnc vnc 15901 "Xtigervnc :77 -rfbport 15901 -SecurityTypes None" "printf 'RFB 003.008\n' | timeout 2 nc 127.0.0.1 15901"
have smbd && record smb smb,netbios 10445 "mkdir p s; printf '[global]\nsmb ports = 10445\npid directory = %s/p\nlock directory = %s/p\nprivate dir = %s/p\nstate directory = %s/p\ncache directory = %s/p\nncalrpc dir = %s/p\nmap to guest = bad user\n[s]\npath = %s/s\nguest ok = yes\n' \$PWD \$PWD \$PWD \$PWD \$PWD \$PWD \$PWD > c; smbd -F --no-process-group -s \$PWD/c" \
	"smbclient -p 10445 -N -L 127.0.0.1; smbclient -p 10445 -N -m SMB2 //127.0.0.1/s -c ls"
have socat && record tls tls 18443 "openssl req -x509 -newkey rsa:2048 -nodes -keyout y -out x -days 2 -subj /CN=a 2>/dev/null; openssl s_server -quiet -accept 18443 -cert x -key y -www" \
	"curl -sk https://127.0.0.1:18443/; curl -sk --tls-max 1.2 https://127.0.0.1:18443/; openssl s_client -connect 127.0.0.1:18443 -tls1_2 </dev/null"
record dtls dtls 18444 "openssl req -x509 -newkey rsa:2048 -nodes -keyout y -out x -days 2 -subj /CN=a 2>/dev/null; openssl s_server -dtls -quiet -accept 18444 -cert x -key y" \
	"echo hello | timeout 3 openssl s_client -dtls -connect 127.0.0.1:18444"
have ovs-testcontroller && record openflow openflow 16653 "ovs-testcontroller ptcp:16653:127.0.0.1" \
	"printf '\1\0\0\10\0\0\0\1' | timeout 2 nc 127.0.0.1 16653"
have munin-node && record munin munin 14949 "printf 'host 127.0.0.1\nport 14949\nallow .*\nbackground 0\nsetsid 0\nuser root\ngroup root\npid_file %s/p\nlog_file %s/l\n' \$PWD \$PWD > c; munin-node --config c" \
	"printf 'list\nquit\n' | timeout 2 nc 127.0.0.1 14949"
have telnetd || [ -x /usr/sbin/telnetd ] && have socat && record telnet telnet 10023 "socat TCP-LISTEN:10023,fork,reuseaddr EXEC:/usr/sbin/telnetd,nofork" "(sleep 1; echo quit) | timeout 3 telnet 127.0.0.1 10023"
have tgtd && record iscsi iscsi 13260 "tgtd -f -C 9 --iscsi portal=127.0.0.1:13260" "timeout 4 iscsiadm -m discovery -t st -p 127.0.0.1:13260 -I default || printf '\103\207\0\0\0\0\0\47\200\0\1\67\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0InitiatorName=iqn.a:b\0SessionType=Disc\0' | timeout 2 nc 127.0.0.1 13260"
have rabbitmq-server && record amqp amqp 15672 "RABBITMQ_NODE_PORT=15672 RABBITMQ_NODENAME=r@localhost RABBITMQ_MNESIA_BASE=\$PWD RABBITMQ_LOG_BASE=\$PWD RABBITMQ_ENABLED_PLUGINS_FILE=\$PWD/e HOME=\$PWD rabbitmq-server" \
	"python3 -c 'import pika; c=pika.BlockingConnection(pika.ConnectionParameters(\"127.0.0.1\",15672)); h=c.channel(); h.queue_declare(\"q\"); h.basic_publish(\"\",\"q\",b\"x\"); c.close()' || printf 'AMQP\0\0\11\1' | timeout 2 nc 127.0.0.1 15672"
have dovecot && record imap imap,imaps,pop3,pop3s 10143 "printf 'base_dir=%s/b\nlog_path=/dev/stderr\nprotocols=imap\nssl=no\ndisable_plaintext_auth=no\ndefault_internal_user=nobody\ndefault_login_user=nobody\ndefault_internal_group=nogroup\nservice imap-login {\n chroot=\n inet_listener imap {\n port=10143\n }\n}\npassdb {\n driver=static\n args=password=x\n}\nuserdb {\n driver=static\n args=uid=nobody gid=nogroup home=/tmp\n}\n' \$PWD > c; dovecot -F -c \$PWD/c" \
	"printf 'a CAPABILITY\r\nb LOGIN u x\r\nc LOGOUT\r\n' | timeout 3 nc 127.0.0.1 10143"
echo "right $right, not $wrong, without traffic $silent"
