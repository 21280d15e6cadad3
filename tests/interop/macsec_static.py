#!/usr/bin/python3
"""Keys by hand, in place of picket-mkad: macsec_static.py SOCKET SUITE KEY SALT PN OUR_SSCI PEER_SCI PEER_SSCI

SUITE is the number of enum macsec_suite; messages are those of ipsec/macsec/msg.h.  Stays until it is ended.
"""
import signal
import socket
import struct
import sys

path, suite, key, salt, pn, ssci, peer, peer_ssci = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(path)


def say(kind, body):
    s.send(struct.pack('=HHHHII', 1, kind, 0, 0, kind, 0) + body)
    status = s.recv(2000)
    error = struct.unpack('=i', status[16:20])[0]
    if error:
        sys.exit('request %d: %s' % (kind, status[20:].split(b'\0')[0].decode()))


def which(sci, receive):
    return struct.pack('=QQBB6x', sci, 0, receive, 0)


def association(sci, receive, number):
    return which(sci, receive) + struct.pack('=BBxxIQ32s12s4x16s', int(suite), 1, int(number), int(pn, 0),
                                             bytes.fromhex(key), bytes.fromhex(salt), b'by hand')


peer = int(peer, 16)
say(4, which(peer, 1))
say(6, association(peer, 1, peer_ssci))
say(6, association(0, 0, ssci))
say(8, which(0, 0))
say(10, struct.pack('=B7x64s', 1, b'static'))
signal.pause()
