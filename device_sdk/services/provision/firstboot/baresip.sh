#!/bin/sh
# @MARK@
# Puts baresip beside Bellwire's SIP phone: Debian's own, with the settings of the card. Run again,
# it takes what the card says now.
# usage: baresip.sh CARD ROOT (empty: this machine)
set -eu
card=$1
root=${2:-}

if ! command -v baresip >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends baresip-core
fi
to=$root/etc/bellwire/baresip
install -d -m 0700 "$to"
# Releases of Debian keep its modules in different places.
modules=$(dpkg -L baresip-core | grep '/baresip/modules$' | head -n 1)
sed "s|^module_path .*|module_path $modules|" "$card/baresip/config" >"$to/config.new"
install -m 0600 "$card/baresip/accounts" "$to/accounts"
chmod 0600 "$to/config.new"
mv "$to/config.new" "$to/config"
install -m 0644 "$card/bellwire-baresip.service" "$root/etc/systemd/system/bellwire-baresip.service"
sync
