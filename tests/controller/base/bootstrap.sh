#!/bin/sh
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Usage: bootstrap.sh SUITE OUTPUT.tar DIRECTORY
# Makes the root filesystem of a controller from the packages that DIRECTORY/packages lists. Needs mmdebstrap: as root, or
# (with uidmap and entries in /etc/subuid and /etc/subgid) as an ordinary user.
set -eu
suite=$1 output=$2
packages=$(sed 's/#.*//' "$3/packages" | xargs | tr ' ' ,)
exec mmdebstrap --variant=apt --format=tar --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  "$suite" "$output"
