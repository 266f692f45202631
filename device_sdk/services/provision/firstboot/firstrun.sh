#!/bin/sh
# @MARK@
# Run once by the first boot of a card, before the network: host name and WiFi. Bellwire itself is
# installed in the boot that follows.
set -u
hostname=@HOSTNAME@
ssid=@SSID@
keyfile_ssid=@KEYFILESSID@
psk=@PSK@
hidden=@HIDDEN@
country=@COUNTRY@
boot=/boot/firmware
custom=/usr/lib/raspberrypi-sys-mods/imager_custom

if [ -x "$custom" ]; then
    "$custom" set_hostname "$hostname"
    if [ -n "$ssid" ]; then
        "$custom" set_wlan ${hidden:+-h} "$ssid" "$psk" "$country"
    fi
else
    former=$(cat /etc/hostname)
    echo "$hostname" >/etc/hostname
    sed -i "s/127\.0\.1\.1.*$former/127.0.1.1\t$hostname/" /etc/hosts
    if [ -n "$ssid" ]; then
        file=/etc/NetworkManager/system-connections/preconfigured.nmconnection
        (
            umask 077
            printf '[connection]\nid=preconfigured\ntype=wifi\n[wifi]\nmode=infrastructure\nssid=%s\n' \
                "$keyfile_ssid"
            [ -z "$hidden" ] || printf 'hidden=true\n'
            [ -z "$psk" ] || printf '[wifi-security]\nkey-mgmt=wpa-psk\npsk=%s\n' "$psk"
            printf '[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\n'
        ) >"$file"
        chmod 0600 "$file"
        raspi-config nonint do_wifi_country "$country" || true
    fi
fi

sh "$boot/bellwire/install.sh" --later

rm -f "$boot/firstrun.sh"
sed -i 's| systemd\.run=[^ ]*||; s| systemd\.run_success_action=[^ ]*||; s| systemd\.unit=kernel-command-line\.target||' \
    "$boot/cmdline.txt"
sync
exit 0
