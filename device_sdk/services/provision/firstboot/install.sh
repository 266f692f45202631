#!/bin/sh
# @MARK@
# Makes this machine what its card says; run again, it does only what is left to do.
# What it makes: /opt/bellwire/venv-N (the last two are kept), the link /opt/bellwire/venv to the
# newest, one systemd unit. The power may go at any moment: what others build on is on the card
# before they do, and until all is done the next boot goes on with it.
# With --later: only see to it that the next boot does it.
set -eu
role=@ROLE@
online=@ONLINE@
timezone=@TIMEZONE@
psk=@PSK@
beside=@BESIDE@
here=$(dirname "$(readlink -f "$0")")
home=/opt/bellwire
unit=bellwire-$role.service
units=/etc/systemd/system
again=bellwire-install.service

say() { echo "bellwire install: $*"; }
ended() {
    code=$?
    [ "$code" -eq 0 ] || say "failed with code $code; see the lines above"
}
trap ended EXIT

# One at a time: the system's own first boot and the unit below may both have been told to.
exec 9>/run/bellwire-install.lock
flock 9
if [ ! -s "$units/$again" ]; then
    cat >"$units/$again" <<UNIT
[Unit]
Description=Install Bellwire from the boot partition
Wants=network-online.target
After=network-online.target
RequiresMountsFor=/boot/firmware
ConditionPathExists=$here/install.sh

[Service]
Type=oneshot
ExecStart=/bin/sh $here/install.sh
Restart=on-failure
RestartSec=30

[Install]
WantedBy=multi-user.target
UNIT
    sync
fi
systemctl enable --quiet "$again"
sync
[ "${1:-}" != --later ] || exit 0

extra=@EXTRAS@

# One environment for each set of wheels: an update is a new one, the way back is the old one.
number=$(cd "$here" && cat wheels/*.whl install.sh 2>/dev/null | sha256sum | cut -c1-12)
venv=$home/venv-$number
if [ ! -e "$venv/.complete" ]; then
    say "making $venv"
    rm -rf "$venv"
    mkdir -p "$home"
    # The pins' library may come from the system's packages. pip itself stays outside where the
    # system has one: copying it in takes longer than all the rest.
    packed=$(find /usr/share/python-wheels -name 'pip-*.whl' 2>/dev/null | head -n 1)
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m venv --system-site-packages --without-pip "$venv"
        pip() { python3 -m pip --python "$venv/bin/python" "$@"; }
    elif [ -n "$packed" ]; then
        python3 -m venv --system-site-packages --without-pip "$venv"
        pip() { python3 "$packed/pip" --python "$venv/bin/python" "$@"; }
    else
        python3 -m venv --system-site-packages "$venv"
        pip() { "$venv/bin/pip" "$@"; }
    fi
    offline=--no-index
    [ -z "$online" ] || offline=
    # shellcheck disable=SC2086 # nothing at all when online
    pip install --quiet --no-cache-dir --disable-pip-version-check $offline \
        --find-links "$here/wheels" "bellwire[$extra]"
    sync
    touch "$venv/.complete"
fi
if [ "$(readlink "$home/venv" 2>/dev/null)" != "$venv" ]; then
    former=$(readlink "$home/venv" 2>/dev/null || true)
    [ -z "$former" ] || ln -sfn "$former" "$home/venv-former"
    ln -sfn "$venv" "$home/venv.new"
    mv -T "$home/venv.new" "$home/venv"
fi
for old in "$home"/venv-*; do
    case $old in
    "$venv" | "$home/venv-former" | "$(readlink "$home/venv-former" 2>/dev/null || true)") ;;
    *) rm -rf "$old" ;;
    esac
done

if [ -s "$here/authorized_keys" ]; then
    id pi >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups sudo pi
    echo "pi ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/010_bellwire
    chmod 0440 /etc/sudoers.d/010_bellwire
    install -d -m 0700 -o pi -g pi /home/pi/.ssh
    install -m 0600 -o pi -g pi "$here/authorized_keys" /home/pi/.ssh/authorized_keys
    systemctl enable --now ssh || say "no ssh server on this system"
fi

if [ "$role" = broker ]; then
    id bellwire-broker >/dev/null 2>&1 ||
        useradd --system --home-dir /var/lib/bellwire-broker --shell /usr/sbin/nologin bellwire-broker
    state=/var/lib/bellwire-broker
    install -d -m 0700 -o bellwire-broker -g bellwire-broker $state
    sh "$here/broker.sh" "$here" $state "$home/venv/bin/bellwire-broker" bellwire-broker
    # Who administers it types `sudo bellwire-broker device add …`, as on any other machine.
    cat >/usr/local/bin/bellwire-broker <<COMMAND
#!/bin/sh
export BELLWIRE_BROKER_DIR="\${BELLWIRE_BROKER_DIR:-$state}"
exec $home/venv/bin/bellwire-broker "\$@"
COMMAND
    chmod 0755 /usr/local/bin/bellwire-broker
else
    getent group gpio >/dev/null || groupadd --system gpio
    getent group audio >/dev/null || groupadd --system audio
fi
[ "$role" != sip ] || sh "$here/baresip.sh" "$here"

if [ -z "$timezone" ]; then
    : # the system's own
elif [ -e "/usr/share/zoneinfo/$timezone" ]; then
    ln -sfn "/usr/share/zoneinfo/$timezone" /etc/localtime
    echo "$timezone" >/etc/timezone
else
    say "no time zone $timezone on this system: quiet hours are those of $(date +%Z)"
fi

install -m 0644 "$here/$unit" "$units/$unit"
mkdir -p "$units/$unit.d"
rm -f "$units/$unit.d/ca.conf"
# Systemd hands the service copies of what lies beside its settings.
{
    echo '[Service]'
    for name in $beside; do
        [ ! -s "$here/$name" ] || echo "LoadCredential=$name:$here/$name"
    done
} >"$units/$unit.d/credentials.conf"

# The network knows the WiFi password by now: what stays on a partition that any laptop reads is the
# key that is made of it, which opens this network and nothing else.
network=$(dirname "$here")/network-config
if [ -n "$psk" ] && [ -s "$network" ]; then
    sed -i 's/"password": "\([^"\\]\|\\.\)*"/"password": "'"$psk"'"/' "$network"
fi
sync
systemctl daemon-reload
systemctl enable "$unit"
[ "$role" != sip ] || systemctl enable bellwire-baresip.service
sync
systemctl disable --quiet "$again"
sync
# Not waited for: this may run before the network is up, and the service waits for that itself.
[ "$role" != sip ] || systemctl restart --no-block bellwire-baresip.service
systemctl restart --no-block "$unit"
say "done: $unit"
