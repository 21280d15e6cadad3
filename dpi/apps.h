#pragma once

#include <stdint.h>

/*
 * The applications Picket can tell apart, and the names by which policy, events and `picketctl` call
 * them.  Numbers are the order of this list and leave the process nowhere; names do, so they stay.  Where a
 * number has to travel or to be kept, it is that of dpi_app_id().
 */
// clang-format off
#define DPI_APPS(X) \
	X(AFP, "afp") X(AJP, "ajp") X(AMQP, "amqp") X(BACNET, "bacnet") X(BECKHOFF_ADS, "beckhoff-ads") \
	X(BFD, "bfd") X(BGP, "bgp") X(BITCOIN, "bitcoin") X(BITTORRENT, "bittorrent") X(BRPC, "brpc") \
	X(C1222, "c1222") X(CAPWAP, "capwap") X(CASSANDRA, "cassandra") X(CEPH, "ceph") \
	X(CHECKMK, "checkmk") X(CITRIX, "citrix") X(COAP, "coap") X(COLLECTD, "collectd") \
	X(CORBA, "corba") X(DB2, "db2") X(DCERPC, "dcerpc") X(DHCP, "dhcp") X(DHCPV6, "dhcpv6") \
	X(DIAMETER, "diameter") X(DNP3, "dnp3") X(DNS, "dns") X(DNSCRYPT, "dnscrypt") \
	X(DROPBOX_LAN, "dropbox-lan") X(DTLS, "dtls") X(DUBBO, "dubbo") \
	X(ELASTICSEARCH, "elasticsearch") X(ENIP, "enip") X(FASTCGI, "fastcgi") X(FIX, "fix") \
	X(FTP, "ftp") X(FTP_DATA, "ftp-data") X(GEARMAN, "gearman") X(GENEVE, "geneve") X(GIT, "git") X(GNUTELLA, "gnutella") X(GRPC, "grpc") \
	X(GTP, "gtp") X(H323, "h323") X(HAPROXY, "haproxy") X(HART_IP, "hart-ip") X(HISLIP, "hislip") \
	X(HL7, "hl7") X(HSRP, "hsrp") X(HTTP, "http") X(HTTP2, "http2") X(IAX, "iax") \
	X(IEC104, "iec104") X(IMAP, "imap") X(IMAPS, "imaps") X(IPMI, "ipmi") X(IPSEC, "ipsec") X(IRC, "irc") \
	X(ISCSI, "iscsi") X(JAVA_RMI, "java-rmi") X(JSONRPC, "jsonrpc") X(KAFKA, "kafka") \
	X(KERBEROS, "kerberos") X(KNXIP, "knxip") X(L2TP, "l2tp") X(LDAP, "ldap") X(LDP, "ldp") X(LISP, "lisp") \
	X(LLMNR, "llmnr") X(LUSTRE, "lustre") X(MEGACO, "megaco") X(MDNS, "mdns") X(MEMCACHED, "memcached") \
	X(MGCP, "mgcp") X(MINING, "mining") X(MODBUS, "modbus") X(MONGODB, "mongodb") X(MPEGTS, "mpegts") X(MQTT, "mqtt") \
	X(MSSQL, "mssql") X(MUNIN, "munin") X(MYSQL, "mysql") X(NATPMP, "natpmp") X(NATS, "nats") \
	X(NETBIOS, "netbios") X(NETFLOW, "netflow") X(NFS, "nfs") X(NNTP, "nntp") X(NTP, "ntp") \
	X(NVME_TCP, "nvme-tcp") X(OPCUA, "opcua") X(OPENFLOW, "openflow") X(OPENVPN, "openvpn") \
	X(OPENWIRE, "openwire") X(ORACLE, "oracle") X(PFCP, "pfcp") X(POP3, "pop3") X(POP3S, "pop3s") \
	X(POSTGRESQL, "postgresql") X(PPTP, "pptp") X(PTP, "ptp") X(PULSAR, "pulsar") X(QUIC, "quic") X(RAFT, "raft") \
	X(RADIUS, "radius") X(RDP, "rdp") X(REDIS, "redis") X(ROCKETMQ, "rocketmq") \
	X(RSH, "rsh") X(RSYNC, "rsync") X(RTCP, "rtcp") X(RTMP, "rtmp") X(RTP, "rtp") X(RTPS, "rtps") \
	X(RTSP, "rtsp") X(RX_AFS, "rx-afs") X(S7COMM, "s7comm") X(SFLOW, "sflow") X(SIP, "sip") \
	X(SKINNY, "skinny") X(SMB, "smb") X(SMPP, "smpp") X(SMTP, "smtp") X(SNMP, "snmp") \
	X(SOAP, "soap") X(SOCKS, "socks") X(SOFARPC, "sofarpc") X(SOMEIP, "someip") \
	X(SRVLOC, "srvloc") X(SSDP, "ssdp") X(SSH, "ssh") X(STOMP, "stomp") X(STUN, "stun") \
	X(SYNCTHING, "syncthing") X(SYNPHASOR, "synphasor") X(SYSLOG, "syslog") X(TACACS, "tacacs") X(TARS, "tars") \
	X(TEAMVIEWER, "teamviewer") X(TELNET, "telnet") X(TEREDO, "teredo") X(TFTP, "tftp") \
	X(THRIFT, "thrift") X(TLS, "tls") X(VNC, "vnc") X(VXLAN, "vxlan") X(WEBSOCKET, "websocket") X(WHOIS, "whois") \
	X(WIREGUARD, "wireguard") X(XDMCP, "xdmcp") X(XMPP, "xmpp") X(ZABBIX, "zabbix") \
	X(ZEROMQ, "zeromq") X(ZOOKEEPER, "zookeeper")
// clang-format on

enum dpi_app {
	DPI_APP_UNKNOWN = 0,
#define DPI_APP_ENUM(id, slug) DPI_APP_##id,
	DPI_APPS(DPI_APP_ENUM)
#undef DPI_APP_ENUM
	DPI_NB_APPS
};

/*
 * The number of a name on the wire and on disk: FNV-1a of 32 bits.  The same in every version, whatever else is in
 * its list; tests/unit/dpi_app_test.c sees to it that no two names share one.  Never 0.
 */
static inline uint32_t
dpi_app_id(const char *slug)
{
	uint32_t h = UINT32_C(2166136261);

	for (; *slug != '\0'; slug++)
		h = (h ^ (uint8_t)*slug) * UINT32_C(16777619);
	return h != 0 ? h : 1;
}
