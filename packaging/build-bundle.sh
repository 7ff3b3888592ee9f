#!/usr/bin/env bash
# Builds the agent with a Python of its own, for nodes that have none of version 3.11:
# farmhand-agent_VERSION_linux-x86_64.tar.gz, to be unpacked at / of a system with glibc 2.31 or newer
# (Debian 11, Ubuntu 20.04). Takes root rights, mmdebstrap, dpkg-dev and some minutes.
#
# usage: build-bundle.sh BUILD_PYTHON OUTPUT_DIR
# Python is Debian 12's, with its security fixes, compiled on Debian 11. Built anew, a bundle has the
# fixes of that day; a system's own updates do not reach it.
set -euo pipefail
build_python=$1 output=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
prefix=/opt/farmhand

# What Python's modules are built from, and the libraries of it that come along.
develop=build-essential,zlib1g-dev,libssl-dev,libsqlite3-dev,libffi-dev,libbz2-dev,liblzma-dev
develop+=,libexpat1-dev,uuid-dev
libraries=(libssl.so.1.1 libcrypto.so.1.1 libsqlite3.so.0 libffi.so.7 libz.so.1 libbz2.so.1.0
  liblzma.so.5 libexpat.so.1 libuuid.so.1)
# Without these it is not whole; make leaves out what it cannot build.
modules="bz2 ctypes hashlib lzma sqlite3 ssl uuid xml.etree.ElementTree zlib _elementtree"
# Of the standard library, what no service uses.
unused=(ensurepip idlelib lib2to3 pydoc_data tkinter turtledemo 'config-3.11-*')

[ "$(id -u)" = 0 ] || { echo "packaging: a bundle is built in a chroot: root rights needed" >&2; exit 1; }
for tool in mmdebstrap dpkg-source; do
  command -v "$tool" >/dev/null || { echo "packaging: $tool is missing" >&2; exit 1; }
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null ||
  stat -c %Y "$root/pyproject.toml")}
export SOURCE_DATE_EPOCH
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
builder=$work/builder stage=$work/stage
mkdir -p "$stage$prefix"

old_debian() {
  mmdebstrap --quiet --variant=minbase --include="$develop" bullseye "$builder"
}

# Its source, checked by apt against Debian's keys.
python_source() {
  local apt=(-o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o "Dir::Etc::trustedparts=$builder/etc/apt/trusted.gpg.d")
  mkdir -p "$work/lists/partial" "$work/source"
  sed -n 's/^deb \(.*\) bullseye .*/deb-src \1 bookworm main/p' \
    "$builder/etc/apt/sources.list" > "$work/sources.list"
  apt-get -qq "${apt[@]}" update
  (cd "$work/source" && apt-get -qq "${apt[@]}" source --download-only python3.11)
  dpkg-source --no-copy --no-check -x "$work"/source/*.dsc "$builder/build" > "$work/patches.log"
}

compiled_python() {
  local flags="--prefix=$prefix/python --without-ensurepip --disable-test-modules"
  flags+=" --without-static-libpython --with-system-expat --with-system-ffi"
  cat > "$builder/make.sh" <<END
set -e
cd /build
# A security fix of Debian's made it use what only the interpreter itself may.
echo 'pyexpat pyexpat.c -DPy_BUILD_CORE_BUILTIN -lexpat' > Modules/Setup.local
./configure $flags LDFLAGS=-Wl,-rpath,$prefix/python/lib
make -j "\$(nproc)"
./python -c 'import ${modules// /, }'
make install DESTDIR=/stage
cd /usr/lib/x86_64-linux-gnu
mkdir -p /stage/lib
for library in ${libraries[*]}; do
  cp -L "\$library" /stage/lib/ 2>/dev/null || cp -L "/lib/x86_64-linux-gnu/\$library" /stage/lib/
done
strip --strip-unneeded /stage/lib/* /stage$prefix/python/bin/python3.11 \
  /stage$prefix/python/lib/python3.11/lib-dynload/*.so
END
  nice unshare --mount --pid --fork --kill-child --mount-proc="$builder/proc" \
    chroot "$builder" /bin/bash /make.sh > "$work/make.log" 2>&1 ||
    { tail -n 40 "$work/make.log" >&2; exit 1; }
}

laid_python() {
  local python=$stage$prefix/python library=$stage$prefix/python/lib/python3.11 name
  mkdir -p "$python/bin" "$python/lib"
  cp "$builder/stage$prefix/python/bin/python3.11" "$python/bin/"
  cp -R "$builder/stage$prefix/python/lib/python3.11" "$python/lib/"
  cp "$builder"/stage/lib/* "$python/lib/"
  for name in "${unused[@]}"; do
    # A pattern:
    # shellcheck disable=SC2086
    rm -rf "${library:?}"/$name
  done
  find "$library" -type d -name __pycache__ -prune -exec rm -rf {} +
  python3.11 -m compileall -q -j 2 --invalidation-mode unchecked-hash -s "$stage" -p / "$library"
  # Its licence, and those of the libraries.
  local licences=$stage$prefix/share/licences package
  mkdir -p "$licences"
  cp "$builder/build/LICENSE" "$licences/python"
  for package in libssl1.1 libsqlite3-0 libffi7 zlib1g libbz2-1.0 liblzma5 libexpat1 libuuid1; do
    cp "$builder/usr/share/doc/$package/copyright" "$licences/$package"
  done
}

laid_agent() {
  "$here/lay-agent.sh" "$build_python" "$stage" "$prefix"
  ln -s ../python/bin/python3.11 "$stage$prefix/bin/python3"
  printf 'home = %s/python/bin\ninclude-system-site-packages = false\nversion = 3.11\n' "$prefix" \
    > "$stage$prefix/pyvenv.cfg"
  mkdir -p "$stage$prefix/systemd"
  cp -R "$root"/systemd/{farmhand-agent.service,farmhand-kernel-log.socket} \
    "$root"/systemd/{farmhand-kernel-log@.service,run-farmhand-work.mount,sysusers.d,tmpfiles.d} \
    "$stage$prefix/systemd/"
  sed -i "s|/usr/lib/farmhand/|$prefix/|" "$stage$prefix"/systemd/*.service
  install -m 0644 "$here/agent.toml" "$stage$prefix/share/agent.toml"
  install -m 0644 "$root/docs/examples/agent.toml" "$stage$prefix/share/example.toml"
  install -m 0644 "$root/docs/deploy.md" "$stage$prefix/share/deploy.md"
  sed -i "s|/usr/share/doc/farmhand-agent/examples/agent.toml|$prefix/share/example.toml|" \
    "$stage$prefix/share/agent.toml"
  install -m 0755 "$here/bundle/install" "$here/bundle/remove" "$stage$prefix/"
}

packed() {
  local metadata version
  metadata=("$stage$prefix"/lib/python3.11/site-packages/farmhand-*.dist-info/METADATA)
  version=$(sed -n 's/^Version: //p' "${metadata[0]}")
  mkdir -p "$output"
  tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    -cf - opt/farmhand | gzip -9n > "$output/farmhand-agent_${version}_linux-x86_64.tar.gz"
  echo "$output/farmhand-agent_${version}_linux-x86_64.tar.gz"
}

old_debian
python_source
compiled_python
laid_python
laid_agent
packed
