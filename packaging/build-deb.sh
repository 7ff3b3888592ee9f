#!/usr/bin/env bash
# Builds the agent's Debian package from this checkout: farmhand-agent_VERSION_amd64.deb.
#
# usage: build-deb.sh BUILD_PYTHON OUTPUT_DIR
# The same checkout gives the same bytes (SOURCE_DATE_EPOCH; by default the last commit's time).
set -euo pipefail
build_python=$1 output=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
prefix=/usr/lib/farmhand
doc=/usr/share/doc/farmhand-agent

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null ||
  stat -c %Y "$root/pyproject.toml")}
export SOURCE_DATE_EPOCH
umask 022

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 0755 "$stage"

put() { install -D -m 0644 "$root/$1" "$stage$2"; }

"$here/lay-agent.sh" "$build_python" "$stage" "$prefix"
# An environment of its own over Debian's interpreter.
ln -s ../../../bin/python3.11 "$stage$prefix/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n' \
  > "$stage$prefix/pyvenv.cfg"
mkdir -p "$stage/usr/bin"
ln -s ../lib/farmhand/bin/farmhand-agent "$stage/usr/bin/farmhand-agent"

for unit in farmhand-agent.service farmhand-kernel-log.socket farmhand-kernel-log@.service \
  run-farmhand-work.mount; do
  put "systemd/$unit" "/lib/systemd/system/$unit"
done
put systemd/sysusers.d/farmhand.conf /usr/lib/sysusers.d/farmhand.conf
put systemd/tmpfiles.d/farmhand.conf /usr/lib/tmpfiles.d/farmhand.conf
put packaging/agent.toml /etc/farmhand/agent.toml
put docs/deploy.md "$doc/deploy.md"
put docs/examples/agent.toml "$doc/examples/agent.toml"
put packaging/debian/copyright "$doc/copyright"
put CHANGELOG.md "$doc/CHANGELOG.md"

dist_info=("$stage$prefix"/lib/python3.11/site-packages/farmhand-*.dist-info)
version=$(sed -n 's/^Version: //p' "${dist_info[0]}/METADATA")
# 1.0rc1 comes before 1.0 for Debian too.
version=$(sed -E 's/(a|b|rc|\.dev)([0-9]+)/~\1\2/' <<< "$version")

maintainer=$(sed -n 's/^Maintainer: //p' "$here/debian/control")
gzip -9n > "$stage$doc/changelog.gz" <<END
farmhand-agent ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

mkdir -p "$stage/DEBIAN"
for script in postinst prerm postrm; do
  install -m 0755 "$here/debian/$script" "$stage/DEBIAN/$script"
done
echo /etc/farmhand/agent.toml > "$stage/DEBIAN/conffiles"
kib=$(find "$stage" -path "$stage/DEBIAN" -prune -o -type f -printf '%s\n' |
  awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
sed -e "s/@VERSION@/$version/" -e "s/@KIB@/$kib/" "$here/debian/control" > "$stage/DEBIAN/control"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z |
  xargs -0 md5sum > DEBIAN/md5sums)
find "$stage" -type d -exec chmod 0755 {} +
find "$stage" -type f ! -perm -u+x -exec chmod 0644 {} +

mkdir -p "$output"
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$stage" \
  "$output/farmhand-agent_${version}_amd64.deb"
