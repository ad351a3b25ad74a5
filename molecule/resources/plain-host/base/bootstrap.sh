#!/bin/sh
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Usage: bootstrap.sh SUITE OUTPUT.tar DIRECTORY
# Makes the root filesystem of a plain host from the packages that DIRECTORY/packages lists. What may be installed on it
# later lies beside, as a repository of files: hosts on an engine of the tests' own have no way out to the Internet.
set -eu
suite=$1 output=$2
packages=$(sed 's/#.*//' "$3/packages" | xargs | tr ' ' ,)

# Single quotes: $1 is the new root.
# shellcheck disable=SC2016
exec mmdebstrap --variant=apt --format=tar --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --customize-hook='chroot "$1" apt-get clean' \
  --customize-hook='chroot "$1" apt-get --quiet --yes --download-only install docker.io nftables' \
  --customize-hook='mkdir -p "$1/srv/packages" && mv "$1"/var/cache/apt/archives/*.deb "$1/srv/packages/"' \
  --customize-hook='cd "$1/srv/packages" && for deb in *.deb; do
      dpkg-deb --field "$deb"
      echo "Filename: ./$deb"
      echo "Size: $(stat --format=%s "$deb")"
      echo "SHA256: $(sha256sum "$deb" | cut -d " " -f 1)"
      echo
    done >Packages' \
  --customize-hook='echo "deb [trusted=yes] file:/srv/packages ./" >"$1/etc/apt/sources.list"' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id' \
  "$suite" "$output"
