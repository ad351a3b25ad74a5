#!/bin/sh
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Usage: bootstrap.sh SUITE OUTPUT.tar DIRECTORY
# Makes the root filesystem of a container node from the packages that DIRECTORY/packages lists. Needs mmdebstrap: as
# root, or (with uidmap and entries in /etc/subuid and /etc/subgid) as an ordinary user.
set -eu
suite=$1 output=$2
packages=$(sed 's/#.*//' "$3/packages" | xargs | tr ' ' ,)

# The excluded programs are a tenth of the whole and none that the engine calls. The group of the engine's socket has a
# fixed number, for containers that are let in by it. Single quotes: $1 is the new root.
# shellcheck disable=SC2016
exec mmdebstrap --variant=apt --format=tar --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/bin/ctr' \
  --dpkgopt='path-exclude=/usr/bin/dnet' \
  --dpkgopt='path-exclude=/usr/sbin/ovrouter' \
  --customize-hook='chroot "$1" update-alternatives --set iptables /usr/sbin/iptables-legacy' \
  --customize-hook='chroot "$1" update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy' \
  --customize-hook='chroot "$1" groupmod --gid 2375 docker' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
  "$suite" "$output"
