#!/bin/sh
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Usage: bootstrap.sh SUITE OUTPUT.tar [DIRECTORY]
# Makes the root filesystem of an image base from the packages listed in DIRECTORY/packages, or else beside this file. Needs
# mmdebstrap: as root, or (with uidmap and entries in /etc/subuid and /etc/subgid) as an ordinary user.
#
# The packages are unpacked, not configured, and without dpkg, apt and perl. This halves the bytes and the files, which is
# what loading an image costs: a machine with an emulated CPU needs about a minute for 100 MB in 6,000 files. The hooks do
# the few things of configuring that images need.
set -eu
suite=$1 output=$2
packages=$(sed 's/#.*//' "${3:-$(dirname "$0")}/packages" | xargs | tr ' ' ,)

# Modification times stay as the packages have them: Python trusts a compiled file by the time of its source.
unset SOURCE_DATE_EPOCH PYTHONDONTWRITEBYTECODE

# Single quotes: $1 is the new root, known to mmdebstrap. A pattern for the shell would be one of this system, which may
# have another Python. BusyBox as sh has its other commands built in, without a link each.
# shellcheck disable=SC2016
exec mmdebstrap --variant=extract --format=tar \
  --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/*' \
  --dpkgopt='path-include=/usr/share/base-passwd/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
  --dpkgopt='path-exclude=/usr/lib/python3*/lib2to3/*' \
  --dpkgopt='path-exclude=/usr/lib/python3*/pydoc_data/*' \
  --dpkgopt='path-exclude=/usr/lib/python3*/test/*' \
  --extract-hook='cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"' \
  --extract-hook='cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"' \
  --extract-hook='[ ! -e "$1/usr/bin/busybox" ] || ln -sf busybox "$1/usr/bin/sh"' \
  --extract-hook='[ ! -e "$1/usr/bin/python3" ] || chroot "$1" python3 -c "import compileall, glob, sys
sys.exit(not all([compileall.compile_dir(path, quiet=1) for path in glob.glob(\"/usr/lib/python3*\")]))"' \
  "$suite" "$output"
