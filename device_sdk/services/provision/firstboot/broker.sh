#!/bin/sh
# @MARK@
# Makes DIR the broker's directory: the one on the card if there is one, else a new one. Once:
# afterwards it is changed where it is, with bellwire-broker. The settings come last, so that a
# power cut in the middle costs a boot.
# usage: broker.sh CARD DIR PROGRAM USER
set -eu
card=$1
state=$2
program=$3
user=$4
name=$(uname -n)

if [ -e "$state/broker.toml" ]; then
    [ ! -d "$card/broker" ] || echo "bellwire install: $state is set up; what is on the card is left out"
elif [ -e "$card/broker/broker.toml" ]; then
    mkdir -p "$state/tls" "$state/data"
    cp "$card"/broker/tls/* "$state/tls/"
    cp "$card/broker/devices.json" "$state/devices.json"
    # The laptop's certificate is for the laptop's names.
    [ ! -e "$state/tls/ca.key" ] ||
        "$program" renew "$state" --name "$name" --name "$name.local"
    cp "$card/broker/broker.toml" "$state/broker.toml.new"
    chmod -R go= "$state"
    chown -R "$user" "$state"
    sync
    mv "$state/broker.toml.new" "$state/broker.toml"
else
    "$program" init "$state" --name "$name" --name "$name.local"
    chown -R "$user" "$state"
fi
sync
# Its keys have left the card; the authority's certificate is for everybody, so it stays there.
rm -rf "$card/broker"
cp "$state/tls/ca.crt" "$card/ca.crt"
