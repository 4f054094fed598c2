# Arguments: work folder, old package, new package, simulated device.
work=$1 old=$2 new=$3 device=$4
mkdir -p "$work/upper" "$work/work" "$work/root"
# An overlay cannot have its upper folder on another overlay; a tmpfs always works.
mount -t tmpfs -o size=1g tmpfs "$work/work"
mkdir "$work/work/upper" "$work/work/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/work/upper,workdir=$work/work/work" "$work/root"
root=$work/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/mnt/pkg"
mount --bind "$(dirname "$old")/.." "$root/mnt/pkg"
pkg() { echo "/mnt/pkg/${1#"$work/"}"; }
in_root() { chroot "$root" "$@"; }
say() { echo "package: $*"; }

say install
in_root dpkg --force-unsafe-io -i "$(pkg "$old")"
in_root ota-gatewayd --version
in_root ota-admin --version
[ -s "$root/usr/share/man/man8/ota-gatewayd.8.gz" ]
[ -s "$root/usr/share/man/man1/ota-admin.1.gz" ]
[ -s "$root/usr/share/bash-completion/completions/ota-admin" ]
[ "$(stat -c %a "$root/var/lib/ota-gateway")" = 700 ]
in_root systemd-analyze verify ota-gatewayd.service
# The configuration that is shipped is read; it names no real board, and says so.
if in_root ota-gatewayd check-config 2>"$work/complaint"; then
    echo "the shipped configuration must not pass for a board's own" >&2
    exit 1
fi
cat "$work/complaint"

say start
cp -a "$device" "$root/srv/device"
sed "s|$device|/srv/device|g" "$device/gateway.toml" >"$root/etc/ota-gateway/gateway.toml"
start() {
    in_root ota-gatewayd check-config
    in_root ota-gatewayd run >"$work/log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        [ -s "$root/srv/device/url" ] && break
        in_root curl -sf "$(address)/healthz" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    in_root curl -sf "$(address)/healthz" >/dev/null
}
address() { cat "$root/srv/device/state/address" 2>/dev/null | sed 's|^|http://|'; }
start
kill "$daemon" && wait "$daemon" || true

say upgrade
in_root dpkg --force-unsafe-io --force-confold -i "$(pkg "$new")"
grep -q /srv/device "$root/etc/ota-gateway/gateway.toml"
start
kill "$daemon" && wait "$daemon" || true

say remove and purge
in_root dpkg -r ota-gateway
[ ! -e "$root/usr/bin/ota-gatewayd" ]
[ -e "$root/etc/ota-gateway/gateway.toml" ]
in_root dpkg -P ota-gateway
[ ! -e "$root/etc/ota-gateway/gateway.toml" ]
[ -d "$root/srv/device/state" ]
