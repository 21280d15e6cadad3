#!/bin/sh
# headers.sh DIR: the public headers of libstrongswan and libcharon, which Debian has in its source package
# only, into DIR/libstrongswan and DIR/libcharon.  Run as root.  Says in one sentence why it cannot.
#
# The upstream archive in Debian's main suite is what every revision of this version is built from, security
# updates included, so its hash is pinned.  Where it is comes from apt: beside the binary packages, or, with a
# deb-src line, wherever that says.  Nothing is configured or compiled: none of Debian's patches touches a public
# header, and what a configured tree would add is in swan.h.
set -eu
dir=$1
version=5.9.8
archive=strongswan_$version.orig.tar.bz2
sum=d3303a43c0bd7b75a12b64855e8edcb53696f06190364f26d1533bde1f2e453c

refuse() {
	echo "$0: $*" >&2
	exit 1
}

[ ! -e "$dir/libcharon/daemon.h" ] || exit 0
installed=$(dpkg-query -W -f '${Version}' strongswan-libcharon 2>/dev/null) || installed=none
case $installed in
"$version"-*) ;;
*) refuse "strongswan-libcharon is $installed here, and these headers are for $version" ;;
esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

is_right() {
	[ -e $archive ] && echo "$sum  $archive" | sha256sum -c --status
}

# The main suite's revision stands last: only it is sure to have kept its source.
list() {
	apt-cache madison libstrongswan | awk -v v="$version-" 'index($3, v) == 1 { print $3 }' | tac | uniq
}
revisions=$(list)
[ -n "$revisions" ] || { apt-get -qq update >/dev/null 2>&1 || :; revisions=$(list); }
for r in $revisions; do
	uri=$(apt-get --print-uris download "libstrongswan=$r" 2>/dev/null | sed -n "s/^'\([^']*\)'.*/\1/p")
	[ -z "$uri" ] || /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file "${uri%/*}/$archive" $archive \
		"SHA256:$sum" >/dev/null 2>&1 || rm -f $archive
	is_right || apt-get source -qq -o APT::Sandbox::User=root --download-only "strongswan=$r" >/dev/null 2>&1 || :
	! is_right || break
done
is_right || refuse "the source of strongswan $version could not be fetched from where apt gets its packages"
mkdir new
tar xjf $archive -C new --strip-components=2 --wildcards "strongswan-$version/src/libstrongswan/*.h" \
	"strongswan-$version/src/libcharon/*.h"
chmod -R u=rwX,go=rX new
chown -R 0:0 new
mkdir -p "${dir%/*}"
rm -rf "$dir.new"
mv new "$dir.new"
mv "$dir.new" "$dir"
